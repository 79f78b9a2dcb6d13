"""The answer to a study's question as HTML, with the best trial: the first section of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from tunectl.analysis.comparison.study_answer import BestTrial, StudyAnswer
from tunectl.core.records import Scalar
from tunectl.core.wording import short_text
from tunectl.report.finding_cards import code_html


def answer_html(answer: StudyAnswer | None) -> str:
    """The section, "" where there is no answer to show."""
    if answer is None:
        return ""
    parts = [
        '<section class="answer" id="answer"><h2>Answer</h2>',
        f'<p class="sentence">{escape(answer.sentence)}</p>',
    ]
    if answer.doubts:
        parts.append(f'<p class="doubts">In doubt: see {escape(", ".join(answer.doubts))} below.</p>')
    if answer.basis:
        lines = "".join(f"<li>{escape(line)}</li>" for line in answer.basis)
        parts.append(f'<details class="basis"><summary>What it rests on</summary><ul>{lines}</ul></details>')
    if answer.command:
        parts.append(code_html(answer.command))
    if answer.best is not None:
        parts += _best(answer.best)
    return "\n".join([*parts, "</section>"])


def _best(best: BestTrial) -> Iterator[str]:
    chip = f'<button type="button" class="chip" data-trial="{best.trial}">trial {best.trial}</button>'
    yield f'<p class="best">The best is {chip} {escape(best.where)}</p>'
    yield _values("varying", best.varying)
    if best.fixed:
        yield f"<details><summary>Fixed values</summary>{_values('fixed', best.fixed)}</details>"
    if best.checkpoint:
        yield f'<p class="checkpoint">Checkpoint: <code>{escape(best.checkpoint)}</code></p>'
    if best.command:
        yield code_html(best.command)


def _values(kind: str, values: Mapping[str, Scalar]) -> str:
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(short_text(value))}</dd></div>" for name, value in values.items()
    )
    return f'<dl class="numbers {kind}">{pairs}</dl>' if pairs else ""
