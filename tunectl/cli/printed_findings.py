"""Findings as text: what was found, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunectl.cli.console import say, wrapped

if TYPE_CHECKING:
    from tunectl.analysis.findings.findings import Finding


def say_findings(findings: Sequence[Finding]) -> None:
    """Print all findings with what to do and the changes to the study file; warnings come first."""
    from tunectl.analysis.findings.findings import with_advice_once

    for finding in with_advice_once(findings):
        for line in _lines(finding):
            say(line)
    if findings:
        say()


def _lines(finding: Finding) -> list[str]:
    from tunectl.core.errors import dotted
    from tunectl.language.study_edit import in_flow

    head = f"{finding.level} {finding.id}: {finding.sentence}"
    sure = f" ({finding.sureness})" if finding.sureness else ""
    lines = [
        wrapped(head + sure, sys.stdout),
        wrapped(f"→ {finding.action}", sys.stdout, indent="    ", first_indent="  "),
    ]
    # Changes and commands are for copying, so they are not wrapped.
    lines += [f"    {dotted(change.path)}: {in_flow(change.value)}" for change in finding.changes]
    return [*lines, *([f"    {finding.command}"] if finding.command else [])]
