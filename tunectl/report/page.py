"""The page of a study: one HTML file that opens from disk, with everything in it and nothing from a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from tunectl.core.safe_text import escaped
from tunectl.report.answer_card import answer_html, answers_html
from tunectl.report.finding_cards import count_text, findings_html, verdict_html
from tunectl.report.page_data import page_data, page_settings, script_text
from tunectl.report.page_files import FOLDER, SCRIPTS, VEGA
from tunectl.report.page_model import Section, StudyPage

_FOLDED_FACTS = frozenset({"workload", "last run", "commit", "command"})


def page_html(page: StudyPage) -> str:
    """The page as the text of an HTML file.

    What a user wrote is text in it and never code: escaped in HTML and in the data, put into the document as text by
    the script, and no part of an expression of Vega's; what acts on a terminal is shown as an
    escape. A policy in the page forbids any load from a network, and any script but its own two.
    """
    data = page_data(page.sections, page.trials)
    data |= page_settings(page)
    if page.answer is not None:
        data["answer"] = page.answer.to_json()
    vega = VEGA.read_text(encoding="utf-8")
    script = page_script()
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(vega, script)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(escaped(page.title))} · tunectl</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
    ]
    tail = [
        f'<script type="application/json" id="data">{script_text(data)}</script>',
        f"<script>{vega}</script>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join([*head, escaped("\n".join(_body(page, data))), *tail]) + "\n"


def page_script() -> str:
    """The page's own script: its parts in one scope of their own."""
    parts = [(FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "(() => {\n'use strict';\n" + "\n".join(parts) + "\n})();\n"


def _policy(*scripts: str) -> str:
    """The content security policy: it may run these exact scripts, have styles, and images in its text."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    sources = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
    return f"{sources}; base-uri 'none'; form-action 'none'"


def _body(page: StudyPage, data: dict[str, Any]) -> Iterator[str]:
    yield '<header class="top"><div class="inner">'
    made_at = f" · report of {escape(page.made_at)}" if page.made_at else ""
    yield '<button type="button" id="theme">Theme</button>'
    yield f'<p class="kind">tunectl {escape(page.subject)}{made_at}</p>'
    yield f"<h1>{escape(page.title)}</h1>"
    if page.goal:
        yield f'<p class="goal">{escape(page.goal)}</p>'
    yield from _facts_html(page.facts)
    if page.thinned:
        yield f'<p class="thinned">{escape(page.thinned)}</p>'
    yield '</div></header>\n<div class="inner columns">'
    yield _contents(page)
    yield "<main>"
    yield '<noscript><p class="thinned">The plots and tables of this page need JavaScript. The same tables are '
    yield f"files in the folder <code>tables</code> beside it; <code>{escape(page.command)}</code> writes the plots as "
    yield "files, too, into <code>plots</code>.</p></noscript>"
    yield answers_html(page.answers) if page.answers else answer_html(page.answer)
    yield verdict_html(page.verdict, page.advice) if page.verdict else findings_html(page.findings)
    yield from _sections(page.sections, data["plots"])
    yield "</main>\n</div>"
    yield '<div id="selection" role="status" hidden></div>'
    yield '<dialog id="trial" aria-labelledby="trial-title"></dialog>'
    yield '<div id="tip" hidden></div>'


def _facts_html(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Those that say how the study was run are folded."""
    folded = [fact for fact in facts if fact[0] in _FOLDED_FACTS]
    shown = [fact for fact in facts if fact not in folded]
    if shown:
        yield _pairs_html(shown)
    if folded:
        names = ", ".join(name for name, _ in folded)
        yield f'<details class="more"><summary>{escape(names)}</summary>{_pairs_html(folded)}</details>'


def _pairs_html(facts: Sequence[tuple[str, str]]) -> str:
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{pairs}</dl>'


def _contents(page: StudyPage) -> str:
    count = escape(count_text(page.findings))
    entries = []
    if page.answer is not None or page.answers:
        entries.append(f'<li><a href="#answer">{"Answers" if page.answers else "Answer"}</a></li>')
    entries += [
        '<li><a href="#conclusion">Conclusion</a></li>'
        if page.verdict
        else f'<li><a href="#findings">Findings</a> <span class="count">{count}</span></li>'
    ]
    entries += [
        f'<li><a href="#section-{number}">{escape(section.title)}</a></li>'
        for number, section in enumerate(page.sections)
    ]
    return f'<nav class="contents" aria-label="Contents"><ol>{"".join(entries)}</ol></nav>'


def _sections(sections: Sequence[Section], plots: Sequence[dict[str, Any]]) -> Iterator[str]:
    plot = table = 0
    for number, section in enumerate(sections):
        yield f'<section id="section-{number}"><h2>{escape(section.title)}</h2>'
        if section.text:
            yield f'<p class="text">{escape(section.text)}</p>'
        if section.figures:
            yield '<div class="plots">'
            for _ in section.figures:
                yield _plot_html(plot, plots[plot])
                plot += 1
            yield "</div>"
        if section.predictions:
            yield '<div class="predictions" data-predictions></div>'
        if section.files:
            yield '<div class="predictions files" data-files></div>'
        for _ in section.tables:
            yield f'<div class="table" data-table="{table}"></div>'
            table += 1
        yield "</section>"


def _plot_html(number: int, plot: dict[str, Any]) -> str:
    note = f'<p class="note">{escape(plot["note"])}</p>' if plot["note"] else ""
    wide = " wide" if plot["wide"] else ""
    return (
        f'<figure class="plot{wide}" id="plot-{number}"><figcaption><h3>{escape(plot["title"])}</h3>{note}</figcaption>'
        f'<div class="canvas" data-plot="{number}" role="img" aria-label="{escape(plot["title"])}"></div></figure>'
    )
