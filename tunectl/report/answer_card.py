"""The answers to the questions of studies as HTML, with the best trials: the first section of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from tunectl.analysis.comparison.study_answer import BestTrial, StudyAnswer
from tunectl.core.records import Scalar
from tunectl.core.wording import short_text
from tunectl.report.finding_cards import code_html
from tunectl.report.page_model import NamedAnswer


def answer_html(answer: StudyAnswer | None) -> str:
    """The section of a study's answer, "" where there is none to show."""
    if answer is None:
        return ""
    return "\n".join(['<section class="answer" id="answer"><h2>Answer</h2>', *_parts(answer, 0, "below"), "</section>"])


def answers_html(answers: Sequence[NamedAnswer]) -> str:
    """The section of the answers of several studies, one below the other, "" without any."""
    if not answers:
        return ""
    parts = ['<section class="answer" id="answer"><h2>Answers</h2>']
    for item in answers:
        parts.append(f"<article><h3>{escape(item.name)}</h3>")
        if item.goal:
            parts.append(f'<p class="quiet">{escape(item.goal)}</p>')
        parts += [*_parts(item.answer, item.first, "in its own report"), "</article>"]
    return "\n".join([*parts, "</section>"])


def _parts(answer: StudyAnswer, first: int, place: str) -> Iterator[str]:
    """What an answer says; trial 0 of its study has the number `first` on the page, and its findings are at `place`."""
    yield f'<p class="sentence">{escape(answer.sentence)}</p>'
    if answer.doubts:
        yield f'<p class="doubts">In doubt: see {escape(", ".join(answer.doubts))} {place}.</p>'
    if answer.basis:
        lines = "".join(f"<li>{escape(line)}</li>" for line in answer.basis)
        yield f'<details class="basis"><summary>What it rests on</summary><ul>{lines}</ul></details>'
    if answer.command:
        yield code_html(answer.command)
    if answer.best is not None:
        yield from _best(answer.best, first)


def _best(best: BestTrial, first: int) -> Iterator[str]:
    chip = f'<button type="button" class="chip" data-trial="{first + best.trial}">trial {best.trial}</button>'
    yield f'<p class="best">The best is {chip} {escape(best.where)}</p>'
    yield _values("varying", best.varying)
    if best.fixed:
        yield f"<details><summary>Fixed values</summary>{_values('fixed', best.fixed)}</details>"
    if best.checkpoint:
        yield '<p class="checkpoint">Its checkpoint, from where the commands are called:</p>'
        yield code_html(best.checkpoint_path)
    if best.command:
        yield code_html(best.command)


def _values(kind: str, values: Mapping[str, Scalar]) -> str:
    pairs = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(short_text(value))}</dd></div>" for name, value in values.items()
    )
    return f'<dl class="numbers {kind}">{pairs}</dl>' if pairs else ""
