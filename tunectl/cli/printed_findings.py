"""How findings are printed: a line on what was found, one on what to do."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunectl.cli.console import console, say

if TYPE_CHECKING:
    from tunectl.analysis.findings.findings import Finding

_WIDEST = 100


def say_findings(findings: Sequence[Finding]) -> None:
    """Every finding, what to do next and the changes of the study file; the warnings first, as they come."""
    from tunectl.analysis.findings.findings import with_advice_once

    width = min(_WIDEST, console(sys.stdout).width) if sys.stdout.isatty() else _WIDEST
    for finding in with_advice_once(findings):
        for line in _lines(finding, width):
            say(line)
    if findings:
        say()


def _lines(finding: Finding, width: int) -> list[str]:
    from tunectl.core.errors import dotted
    from tunectl.language.study_edit import in_flow

    head = f"{finding.level} {finding.id}: {finding.sentence}"
    sure = f" ({finding.sureness})" if finding.sureness else ""
    lines = textwrap.wrap(head + sure, width, subsequent_indent="  ", break_on_hyphens=False)
    lines += textwrap.wrap(
        f"→ {finding.action}", width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    # A change and a command are to be copied: they are not folded.
    lines += [f"    {dotted(change.path)}: {in_flow(change.value)}" for change in finding.changes]
    return [*lines, *([f"    {finding.command}"] if finding.command else [])]
