"""`history`: the path of the best over the rounds of a campaign, whether it is saturated, and what it cost."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tunectl.analysis.comparison.campaign_history import CampaignHistory, HistoryRound
from tunectl.analysis.findings.campaign_findings import campaign_findings
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.retrains import Retrained, best_searched, retrained
from tunectl.analysis.results.training_cost import StudyCost, study_cost
from tunectl.commands.comparison_sides import trial_place
from tunectl.core import real_folders, regular_files
from tunectl.core.errors import TunectlError
from tunectl.core.files import write_if_changed
from tunectl.core.folders import StudyFolder
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import request_in
from tunectl.core.path_errors import path_errors
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import PlannedTrial, TrialRequest
from tunectl.core.typed_fields import DamagedError
from tunectl.core.wording import as_text
from tunectl.language.campaign import Campaign, read_campaign
from tunectl.report.campaign_page import campaign_page, costs_table, launches_table, rounds_table
from tunectl.report.renderer import Renderer
from tunectl.report.trial_tables import write_table
from tunectl.session.campaign_folder import FoundCampaign, Round, path_in, rounds_of
from tunectl.session.repeated_searches import other_searches
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.store.provenance import backend_option

FOLDER = "history"
"""The folder below the campaign's into which the page, tables and plots are written."""


@dataclass(frozen=True, slots=True)
class CampaignReport:
    """The history of a campaign as it was written: the page, and other files; `warnings` are about plots not drawn."""

    campaign: Campaign
    found: FoundCampaign
    history: CampaignHistory
    findings: tuple[Finding, ...]
    page: Path
    paths: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The history as one JSON object."""
        history = self.history
        rounds = zip(history.rounds, history.best_values(), history.best_means(), history.costs(), strict=True)
        return {
            "campaign": self.campaign.name,
            "goal": self.campaign.goal,
            "folder": str(self.found.folder),
            "found": self.found.how,
            "objective": history.objective.to_json() if history.objective else None,
            "baseline": {"name": history.baseline_name, "value": history.baseline} if history.baseline_name else None,
            "rounds": [
                {
                    **{key: value for key, value in asdict(item).items() if key != "retrains"},
                    "retrains": [_value(history, cost) for cost in item.retrains],
                    "mean": history.mean(item),
                    "standard_deviation": history.deviation(item),
                    "best_so_far": best,
                    "best_mean_so_far": mean,
                    "total_cost": asdict(total),
                }
                for item, best, mean, total in rounds
            ],
            "progress": asdict(history.progress),
            "launched": [item.to_json() for item in self.campaign.launched],
            "findings": [item.to_json() for item in self.findings],
            "page": str(self.page),
            "files": [str(path) for path in self.paths],
            "warnings": list(self.warnings),
            "damage": list(self.damage),
        }


def _value(history: CampaignHistory, cost: float) -> float | None:
    return history.objective.value(cost) if history.objective is not None and math.isfinite(cost) else None


def campaign_report(
    found: FoundCampaign, ready: Sequence[Renderer] = (), say: Callable[[str], None] = lambda _line: None
) -> CampaignReport:
    """Read the rounds of a campaign and write their history below its folder; nothing is trained.

    A round that cannot be read is listed with the reason. `say` is called with each line about damage. Raises
    StudyError where campaign.yaml is wrong, FolderError where a file cannot be written.
    """
    # Imports pyarrow and the page, which take a while.
    from tunectl.report.page import page_html
    from tunectl.report.plots import write_figures

    campaign, damage = read_campaign(found.folder), list[str]()

    def noted(line: str) -> None:
        damage.append(line.removeprefix("warning: "))
        say(line)

    history, commands = read_history(campaign, noted)
    findings = campaign_findings(history, commands)
    page = campaign_page(campaign, history, findings)
    home = StudyFolder(found.folder / FOLDER)
    tables = {
        "rounds": rounds_table(history),
        "costs": costs_table(history),
        "launches": launches_table(campaign.launched),
    }
    html = home.path / "report.html"
    with path_errors(home.path, "created"):
        real_folders.made(home.path, found.folder)
    paths = [path for name, table in tables.items() for path in write_table(home, name, table)]
    with path_errors(home.plots, "written"):
        drawn = write_figures(home.plots, [figure for section in page.sections for figure in section.figures], ready)
    with path_errors(html, "written"):
        write_if_changed(html, page_html(page).encode("utf-8", "replace"), within=found.folder)
    warnings = (f"{drawn.warning}; the page shows them nevertheless",) if drawn.warning else ()
    files = (html, *paths, *drawn.paths)
    return CampaignReport(campaign, found, history, tuple(findings), html, files, warnings, tuple(damage))


def read_history(
    campaign: Campaign, say: Callable[[str], None] = lambda _line: None
) -> tuple[CampaignHistory, dict[str, str]]:
    """The history of a campaign, and the command that retrains the best trial of each round, by the round's name.

    A round that cannot be read has its problem in the history. `say` is called with each line about damage.
    """
    objective: Objective | None = None
    rounds: list[HistoryRound] = []
    commands: dict[str, str] = {}
    counted: dict[str, str] = {}  # what is in a round already, by the folder
    for number, named in enumerate(rounds_of(campaign), start=1):
        if named.folder is None:
            rounds.append(HistoryRound(named.named, problem=named.problem))
            continue
        place = os.path.realpath(named.folder)
        if place in counted:
            rounds.append(HistoryRound(named.named, str(named.folder), problem=counted[place]))
            continue
        counted[place] = f"is the study of round {number} already"
        try:
            with study_snapshot(named.folder, say) as study:
                objective = objective or study.spec.objective
                others = [item.folder for item in other_searches(study.folder.path, study.spec) if not item.problem]
                option = backend_option(study.folder)
                item = _round(campaign, named, study, objective, others=others, say=say)
        except (TunectlError, OSError) as error:
            rounds.append(HistoryRound(named.named, str(named.folder), problem=str(error).splitlines()[0]))
            continue
        rounds.append(item)
        for other in others:
            counted.setdefault(os.path.realpath(other), f"is another search of round {number}, which counts it")
        commands[item.named] = tunectl_command("retrain", named.folder, "--repeats", 5, *option)
    name, value = _baseline(campaign, objective, say)
    return CampaignHistory(objective, tuple(rounds), value, name), commands


def _round(
    campaign: Campaign,
    named: Round,
    study: StudySnapshot,
    objective: Objective,
    *,
    others: Sequence[Path],
    say: Callable[[str], None],
) -> HistoryRound:
    own, folder = study.spec.objective, study.folder.path
    cost = _cost(study)
    for other in others:
        with study_snapshot(other, say) as repeat:
            cost += _cost(repeat)
    best = best_searched(study.outcomes, own, 1)
    launched = tuple(
        dict.fromkeys(
            item.trial
            for item in campaign.launched
            if os.path.realpath(path_in(campaign, item.study)) == os.path.realpath(folder)
        )
    )
    again = _standing_for(retrained(study.outcomes, own), best[0].plan if best else None, launched, own)
    ended = again.ended if again else ()
    asked = (objective.metric, objective.direction, objective.steps_to)
    problem = "" if best else own.never_given
    if not any(item.plan.trial_kind == "search" for item in study.outcomes):
        problem = "has no trials of a search"
    if (own.metric, own.direction, own.steps_to) != asked:
        problem = f"is judged by {own.title} ({own.best_direction}), not by {objective.title}"
    return HistoryRound(
        named.named,
        str(folder),
        study.spec.name,
        problem,
        best_trial=best[0].plan.trial if best else None,
        best_value=best[0].best_value if best else None,
        retrained_trial=again.searched.plan.trial if again else None,
        retrains=tuple(own.cost(item.best_value) if item.state == "completed" else math.inf for item in ended),
        identical=again.identical if again else False,
        searches=1 + len(others),
        launched=launched,
        cost=cost,
    )


def _standing_for(
    found: Sequence[Retrained], best: PlannedTrial | None, launched: Sequence[int], objective: Objective
) -> Retrained | None:
    """The retrained trial by which a round is judged: the launched one, else the search's best, else the best mean.

    That is one of the best trial's stage: trials of another length are another experiment.
    """
    if best is None:
        return None
    wanted = (*reversed(launched), best.trial)
    for trial in wanted:
        for item in found:
            if item.searched.plan.trial == trial and item.values:
                return item
    known = [item for item in found if item.mean is not None and item.searched.plan.stage == best.stage]
    return min(known, key=lambda item: objective.cost(item.mean), default=None)


def _cost(study: StudySnapshot) -> StudyCost:
    return study_cost(study.outcomes, own_code=study.spec.own_code, devices=partial(_devices, study))


def _devices(study: StudySnapshot, trial: int) -> int:
    """On how many devices a trial was trained: of its last attempt, whatever the study says now."""
    now = study.spec.resources.devices_per_trial
    try:
        request = request_in(regular_files.content(study.folder.trial(trial).request, within=study.folder.path))
    except (OSError, DamagedError):
        return now
    return request.devices if isinstance(request, TrialRequest) else now  # else a part of what the study is


def _baseline(campaign: Campaign, objective: Objective | None, say: Callable[[str], None]) -> tuple[str, float | None]:
    """The name of the baseline, and the value of its trial: the mean of its retrains, else that of its search."""
    baseline = campaign.baseline
    if baseline is None:
        return "", None
    if not isinstance(baseline, str):
        return "baseline " + ", ".join(f"{name}={as_text(value)}" for name, value in baseline.items()), None
    place = trial_place(str(path_in(campaign, baseline)))
    if place is None:
        return f"baseline {baseline}", None
    try:
        with study_snapshot(place[0], say) as study:
            own = study.spec.objective
            item = next((item for item in study.outcomes if item.plan.trial == place[1]), None)
            again = next((one for one in retrained(study.outcomes, own) if one.searched is item), None)
    except (TunectlError, OSError):
        return f"baseline {baseline}", None
    comparable = objective is None or (own.metric, own.steps_to) == (objective.metric, objective.steps_to)
    if item is None or not comparable or item.state != "completed":
        return f"baseline {baseline}", None
    return f"baseline {baseline}", again.mean if again and again.mean is not None else item.best_value
