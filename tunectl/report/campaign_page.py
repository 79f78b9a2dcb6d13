"""The tables and the page of a campaign: its rounds, what was launched, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from tunectl.analysis.comparison.campaign_history import CampaignHistory
from tunectl.analysis.figures.campaign_figures import campaign_figures
from tunectl.analysis.findings.findings import Finding
from tunectl.core.table_columns import Cell, Column
from tunectl.core.wording import as_text, short_number
from tunectl.language.campaign import Campaign, Launch
from tunectl.report.page_model import PageTable, Section, StudyPage
from tunectl.report.table import Table, without_empty_columns


def rounds_table(history: CampaignHistory) -> Table:
    """One row a round: what it found by its search and by retrains, and the best until then."""
    columns = (
        Column("round", "whole"),
        Column("study", "text"),
        Column("best_trial", "whole"),
        Column("best_value", "real"),
        Column("best_so_far", "real"),
        Column("retrains", "whole"),
        Column("mean", "real"),
        Column("standard_deviation", "real"),
        Column("best_mean_so_far", "real"),
        Column("launched", "text"),
        Column("problem", "text"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            number,
            item.name,
            item.best_trial,
            item.best_value,
            best,
            len(item.retrains) or None,
            history.mean(item),
            history.deviation(item),
            mean,
            ", ".join(map(str, item.launched)) or None,
            item.problem or None,
        )
        for number, (item, best, mean) in enumerate(
            zip(history.rounds, history.best_values(), history.best_means(), strict=True), start=1
        )
    ]
    return Table(columns, rows)


def costs_table(history: CampaignHistory) -> Table:
    """One row a round: its trials, device-seconds and examples, and those of all rounds until then."""
    columns = (
        Column("round", "whole"),
        Column("study", "text"),
        Column("searches", "whole"),
        Column("trials", "whole"),
        Column("device_seconds", "real"),
        Column("examples", "whole"),
        Column("total_device_seconds", "real"),
        Column("total_examples", "whole"),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            number,
            item.name,
            item.searches,
            item.cost.trials,
            item.cost.device_seconds,
            item.cost.examples,
            total.device_seconds,
            total.examples,
        )
        for number, (item, total) in enumerate(zip(history.rounds, history.costs(), strict=True), start=1)
    ]
    return Table(columns, rows)


def launches_table(launched: Sequence[Launch]) -> Table:
    """One row a launch, in their order."""
    columns = (
        *(Column("date", "text"), Column("study", "text"), Column("trial", "whole"), Column("search_value", "real")),
        *(Column("mean_of_retrains", "real"), Column("compared_with", "text"), Column("verdict", "text")),
        *(Column("anyway", "scalar"), Column("because", "text"), Column("values", "text"), Column("commit", "text")),
    )
    rows: list[tuple[Cell, ...]] = [
        (
            item.date or None,
            item.study,
            item.trial,
            item.search_value,
            item.retrains.mean,
            item.compared_with or None,
            item.verdict or None,
            item.anyway or None,
            item.because,
            ", ".join(f"{name}={as_text(value)}" for name, value in item.values.items()) or None,
            item.commit[:8] or None,
        )
        for item in launched
    ]
    return Table(columns, rows)


def campaign_page(campaign: Campaign, history: CampaignHistory, findings: Sequence[Finding]) -> StudyPage:
    """The page of a campaign."""
    figures = campaign_figures(history)
    sections = [
        Section(
            "History",
            "The best of each round. A search's best value is lucky, since it was selected; the mean of its retrains "
            "is not. Rounds that gain less than retrains differ are not worth their cost.",
            figures,
            [PageTable("Rounds", without_empty_columns(rounds_table(history)))],
        ),
        Section(
            "Cost",
            "Training, evaluation and start-up of all trials, retrains too, on all their devices. Examples are not "
            "known for programs and functions.",
            tables=[PageTable("Cost of each round", without_empty_columns(costs_table(history)))],
        ),
    ]
    if campaign.launched:
        table = PageTable("Launched configurations", without_empty_columns(launches_table(campaign.launched)))
        sections.append(Section("Launched", "What was adopted, and on what evidence.", tables=[table]))
    return StudyPage(
        title=campaign.name,
        goal=campaign.goal,
        facts=_facts(campaign, history),
        findings=findings,
        sections=sections,
        trials=(),
        subject="campaign",
        command="tunectl history",
    )


def _facts(campaign: Campaign, history: CampaignHistory) -> list[tuple[str, str]]:
    facts = [("rounds", str(len(history.rounds)))]
    if history.objective is not None:
        facts.append(("objective", f"{history.objective.best_direction} {history.objective.title}"))
    if history.baseline_name:
        known = "" if history.baseline is None else f": {short_number(history.baseline)}"
        facts.append(("baseline", f"{history.baseline_name}{known}"))
    if campaign.launched:
        last = campaign.launched[-1]
        facts.append(("launched", f"{last.place}: {last.because}"))
    if history.rounds:
        total = history.costs()[-1]
        examples = "examples not known" if total.examples is None else f"{total.examples:,} examples"
        facts.append(("cost", f"{total.trials:,} trials, {total.device_seconds:,.0f} device-seconds, {examples}"))
    return facts
