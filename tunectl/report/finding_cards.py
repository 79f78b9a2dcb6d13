"""Findings as HTML: what is wrong first, each with what it rests on and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from tunectl.analysis.findings.findings import Change, Finding, Level, with_advice_once
from tunectl.core.wording import short_text
from tunectl.language.study_edit import in_flow

_LEVELS: tuple[Level, ...] = ("warning", "note")
_INDENT = "  "
_MOST_IN_A_LIST = 6
_MOST_CHIPS = 10
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def findings_html(findings: Sequence[Finding]) -> str:
    """The section of the findings; says so where there are none."""
    in_order = [finding for level in _LEVELS for finding in findings if finding.level == level]
    cards = [card_html(finding) for finding in with_advice_once(in_order)]
    body = "\n".join(cards) or '<p class="quiet">There is nothing to report.</p>'
    summary = escape(count_text(findings))
    return f'<section id="findings"><h2>Findings <span class="count">{summary}</span></h2>\n{body}\n</section>'


def verdict_html(verdict: str, advice: str) -> str:
    """The section of a procedure's conclusion, with the lines of YAML to adopt, if there are any."""
    lines = f'<p class="quiet">To adopt it:</p>{code_html(advice)}' if advice else ""
    first, *rest = _SENTENCE_END.split(verdict, maxsplit=1)
    sentences = f'<p class="sentence">{escape(first)}</p>' + "".join(f"<p>{escape(text)}</p>" for text in rest)
    return f'<section class="answer" id="conclusion"><h2>Conclusion</h2>{sentences}{lines}</section>'


def count_text(findings: Iterable[Finding]) -> str:
    """How many there are of each level, in words: "2 warnings, 1 note"."""
    levels = [finding.level for finding in findings]
    counts = [(levels.count(level), level) for level in _LEVELS]
    return ", ".join(f"{number} {level}{'s' if number > 1 else ''}" for number, level in counts if number) or "none"


def card_html(finding: Finding) -> str:
    """One finding as a card; of a note only the sentence is shown until it is opened."""
    sentence = escape(finding.sentence)
    below = [
        _about_html(finding),
        _numbers_html(finding.numbers),
        f'<p class="sure"><b>How sure:</b> {escape(finding.sureness)}</p>' if finding.sureness else "",
        f'<p class="action"><b>Next:</b> {escape(finding.action)}</p>' if finding.action else "",
        code_html(finding.command) if finding.command else "",
        code_html(changes_text(finding.changes)) if finding.changes else "",
    ]
    folded = finding.level == "note"
    parts = [
        f'<article class="finding {finding.level}">',
        f'<p class="head"><span class="level">{finding.level}</span> <code>{escape(finding.id)}</code></p>',
        f'<details><summary class="sentence">{sentence}</summary>' if folded else f'<p class="sentence">{sentence}</p>',
        *below,
        "</details>" if folded else "",
        "</article>",
    ]
    return "\n".join(part for part in parts if part)


def _about_html(finding: Finding) -> str:
    """The hyperparameters and settings as tags, and the trials as buttons that open them; of many some are folded."""
    tags = [f'<span class="tag">{escape(name)}</span>' for name in finding.hyperparameters]
    tags += [f'<span class="tag">setting {setting}</span>' for setting in finding.settings]
    chips = [
        f'<button type="button" class="chip" data-trial="{trial}">trial {trial}</button>' for trial in finding.trials
    ]
    shown, rest = (chips, []) if len(chips) <= _MOST_CHIPS + 2 else (chips[:_MOST_CHIPS], chips[_MOST_CHIPS:])
    more = f'<details class="rest"><summary>and {len(rest)} more</summary> {" ".join(rest)}</details>' if rest else ""
    parts = " ".join([*tags, *shown, *([more] if more else [])])
    return f'<div class="about">{parts}</div>' if parts else ""


def _numbers_html(numbers: Mapping[str, Any]) -> str:
    """The numbers that are known and read well in a line; findings.json has all."""
    pairs = [
        f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(number_text(value))}</dd></div>"
        for name, value in numbers.items()
        if _fits(value)
    ]
    return f'<dl class="numbers">{"".join(pairs)}</dl>' if pairs else ""


def _fits(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return 0 < len(value) <= _MOST_IN_A_LIST and not any(isinstance(item, (Mapping, list, tuple)) for item in value)
    return value is not None and not isinstance(value, Mapping)


def number_text(value: Any) -> str:
    """A value of a finding for reading: numbers with four digits, lists with commas, missing as a dash."""
    match value:
        case None:
            return "–"
        case int() if not isinstance(value, bool):
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(number_text(item) for item in value)
        case _:
            return short_text(value)


def code_html(text: str) -> str:
    """A line to copy, with a button that copies it."""
    button = '<button type="button" class="copy" aria-label="copy this">copy</button>'
    return f'<div class="code"><pre><code>{escape(text)}</code></pre>{button}</div>'


def changes_text(changes: Sequence[Change]) -> str:
    """The changes as lines of a study file, each with its reason as a comment."""
    lines: list[str] = []
    open_path: tuple[str | int, ...] = ()
    for change in changes:
        parents = change.path[:-1]
        shared = 0
        while shared < min(len(parents), len(open_path)) and parents[shared] == open_path[shared]:
            shared += 1
        lines += [_INDENT * depth + _step_text(parents[depth]) for depth in range(shared, len(parents))]
        reason = f"  # {' '.join(change.reason.split())}" if change.reason else ""
        last = change.path[-1] if change.path else ""
        key = f"# entry {last + 1}: " if isinstance(last, int) else f"{in_flow(last)}: "
        lines.append(f"{_INDENT * len(parents)}{key}{in_flow(change.value)}{reason}")
        open_path = parents
    return "\n".join(lines)


def _step_text(step: str | int) -> str:
    return f"# entry {step + 1} of the list:" if isinstance(step, int) else f"{in_flow(step)}:"
