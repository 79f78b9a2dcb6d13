"""How long the page of a large study takes until it can be used, beside a page that only loads the same parts.

    python scripts/bench_page.py [--trials 5000] [--columns 50] [--times 5]

A study folder is made up as a run would leave it, with this many trials and columns, and its page is written. Chromium
opens it anew each time. `usable` is the time from the request until tables can be sorted and filtered and a click opens
a trial; `first plot` until one is drawn, `all plots` until every one is. `sort`, `filter` and `open` are the times that
a click on a heading of the table of trials, a filter of three conditions, and a click on a trial take then, with their
layout. `reference` is the time of a page with the same two things to read, Vega and the data, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from headless_browser import Page, browser, found_browser

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.results.outcomes import settings_summary
from tunectl.analysis.results.runs import Run
from tunectl.core.folders import StudyFolder
from tunectl.core.records import PlannedTrial, TrialOutcome
from tunectl.language.study_reader import parse_study
from tunectl.language.study_spec import StudySpec
from tunectl.report.page import page_html
from tunectl.report.page_files import VEGA
from tunectl.report.study_page import PageContent, study_page
from tunectl.session.internal_errors import Faults
from tunectl.session.written_tables import setting_names
from tunectl.space.trial_plan import plan_trials

GOAL_SECONDS = 3.0
INFEASIBLE_EVERY = 20
OTHER_COLUMNS = 22
"""Columns of the table of trials that are no hyperparameters and no further metrics, about as many as most have."""

STUDY = """\
study: large
workload: own:factory
objective: {metric: valid/loss, direction: minimize}
training: {max_train_steps: 1000, eval_every: 100}
hyperparameters:
  optimizer: {role: scientific, values: [sgd, adam]}
  learning_rate: {role: nuisance, range: [1e-6, 1], scale: log}
"""
ACTIONS = """(async () => {
    const tables = [...document.querySelectorAll('table.trials')];
    const table = tables[tables.length - 1];
    const field = table.closest('.table').querySelector('.filter');
    const times = {};
    const timed = async (name, work) => {
        const begin = performance.now();
        await work();
        table.offsetHeight;
        times[name] = performance.now() - begin;
    };
    await timed('sort', () => table.querySelectorAll('th button')[3].click());
    field.value = 'state=completed learning_rate<0.01 relu';
    const count = table.closest('.table').querySelector('.count');
    const before = count.textContent;
    await timed('filter', async () => {
        field.dispatchEvent(new Event('input'));
        while (count.textContent === before) await new Promise((done) => setTimeout(done, 1));
    });
    await timed('open', () => table.querySelector('[data-open]').click());
    return times;
})()"""
KINDS = ("range: [1e-5, 1], scale: log", "range: [0, 1]", "values: [relu, gelu, tanh]", "range: [1, 512], type: int")


def made_up_study(trials: int, columns: int) -> tuple[StudySpec, list[TrialOutcome]]:
    """A study of this many trials whose table has about this many columns, a third of them metrics."""
    metrics = max(2, (columns - OTHER_COLUMNS) // 3)
    hyperparameters = max(1, columns - OTHER_COLUMNS - metrics)
    lines = [f"  h{place}: {{role: nuisance, {KINDS[place % len(KINDS)]}}}" for place in range(hyperparameters)]
    text = f"{STUDY}{chr(10).join(lines)}\nsearch: {{sampler: halton, trials: {trials // 2}}}\n"
    spec = parse_study(text, Path("large.yaml"))
    return spec, [outcome(plan, metrics) for plan in plan_trials(spec)]


def outcome(plan: PlannedTrial, metrics: int) -> TrialOutcome:
    """The end of a trial: the closer its learning rate to 0.01, the lower its loss."""
    draws = random.Random(plan.seed)
    far = math.log10(float(plan.hyperparameters["learning_rate"])) + 2
    loss = 0.1 + 0.05 * far * far + 0.02 * draws.random()
    is_bad = plan.trial % INFEASIBLE_EVERY == 0
    return TrialOutcome(
        plan,
        "infeasible" if is_bad else "completed",
        "nan_loss" if is_bad else "",
        best_step=900,
        best_value=loss,
        final_step=1000,
        final_value=loss * 1.02,
        best_checkpoint=f"trials/{plan.trial:05}/checkpoints/step-00000900.pt",
        metrics_at_best={f"valid/m{place}": draws.random() for place in range(metrics)},
        infeasible_step=500 if is_bad else None,
        train_seconds=draws.uniform(5, 6),
        eval_seconds=draws.random(),
        startup_seconds=draws.random(),
        device="cpu",
        attempts=1,
    )


def written_page(trials: int, columns: int) -> tuple[str, int]:
    """The page of the made-up study, and the number of columns of its table of trials."""
    spec, outcomes = made_up_study(trials, columns)
    runs = tuple(
        Run(item.plan, item.state, item.reason, item.infeasible_step, item.best_value, item.best_step)
        for item in outcomes
    )
    evidence = StudyEvidence(spec, spec.objective, runs)
    names = setting_names(spec)
    content = PageContent(evidence, outcomes, settings_summary(outcomes, names, spec.objective), names, [])
    page = study_page(StudyFolder(Path("runs/large")), content, Faults(raises=True).attempt)
    table = page.sections[-1].tables[0]
    return page_html(page), len(table.table.columns) + len(table.constants)


def reference_page(page: str) -> str:
    """A page that reads the same data and the same library."""
    data = page.split('<script type="application/json" id="data">', 1)[1].split("</script>", 1)[0]
    work = "JSON.parse(document.getElementById('data').textContent);"
    done = "document.documentElement.dataset.usable = String(Math.round(performance.now()));"
    vega = VEGA.read_text(encoding="utf-8")
    parts = [f'<script type="application/json" id="data">{data}</script>', f"<script>{vega}</script>"]
    return "\n".join(["<!DOCTYPE html><html><body>", *parts, f"<script>{work}{done}</script></body></html>"])


def opened(page: Page, path: Path, *, with_plots: bool) -> dict[str, float]:
    """The milliseconds of one opening by what was waited for."""
    page.open(path)
    page.wait("document.documentElement.dataset.usable")
    times = {"usable": float(page.run("document.documentElement.dataset.usable"))}
    if with_plots:
        page.wait("document.documentElement.dataset.plots")
        times["first plot"] = float(page.run("Number(document.documentElement.dataset.firstplots)"))
        page.wait("(([drawn, all]) => drawn === all)(document.documentElement.dataset.plots.split(' of '))")
        times["all plots"] = float(page.run("performance.now()"))
        times |= page.run(ACTIONS)
    return times


@contextlib.contextmanager
def made(trials: int, columns: int) -> Iterator[tuple[Path, Path, int]]:
    """The page and the reference as files, with the number of columns."""
    begin = time.perf_counter()
    text, found = written_page(trials, columns)
    seconds = time.perf_counter() - begin
    with tempfile.TemporaryDirectory() as folder:
        page, reference = Path(folder, "report.html"), Path(folder, "reference.html")
        page.write_text(text, encoding="utf-8")
        reference.write_text(reference_page(text), encoding="utf-8")
        size = page.stat().st_size / 1e6
        print(f"{trials:,} trials × {found} columns: {size:.1f} MB, made in {seconds:.1f} s")
        yield page, reference, found


def main() -> int:
    """Print the times; 1 where the page takes longer than its goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    program = found_browser()
    if program is None:
        print("not measured: no Chromium or Chrome here (TUNECTL_CHROMIUM names one)", file=sys.stderr)
        return 0
    times: dict[str, list[float]] = {}
    with made(asked.trials, asked.columns) as (path, reference, _):
        for _ in range(asked.times):
            # A browser of its own each time, so that nothing is compiled already.
            with browser(program) as page:
                for name, value in opened(page, path, with_plots=True).items():
                    times.setdefault(name, []).append(value)
            with browser(program) as page:
                times.setdefault("reference", []).append(opened(page, reference, with_plots=False)["usable"])
    for name, values in times.items():
        median, ends = statistics.median(values), f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"{name:<12} {median:>7,.0f} ms (of {len(values)}: {ends})")
    usable = statistics.median(times["usable"])
    print(f"usable after {usable / statistics.median(times['reference']):.2f} times the reference")
    return 0 if usable < 1000 * GOAL_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
