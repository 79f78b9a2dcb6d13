"""`launch`: a configuration becomes the best one of a campaign, with the evidence for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tunectl import __version__
from tunectl.analysis.results.retrains import best_searched, retrained
from tunectl.analysis.results.training_cost import training_cost
from tunectl.commands.compare import StudyComparison, compare_studies, cost_json
from tunectl.commands.comparison_sides import asked_trial, trial_place
from tunectl.core.errors import TunectlError, UsageError
from tunectl.core.proposed_commands import tunectl_command
from tunectl.core.records import TrialOutcome
from tunectl.core.wording import as_text, listed
from tunectl.language.campaign import Campaign, Launch, LaunchCost, LaunchRetrains
from tunectl.session.campaign_folder import (
    FoundCampaign,
    add_to_campaign,
    find_campaign,
    in_campaign,
    locked_campaign,
    path_in,
    rounds_of,
)
from tunectl.session.outcome_index import has_ended
from tunectl.session.repeated_searches import searched_name
from tunectl.session.snapshot import StudySnapshot, study_snapshot
from tunectl.space.domains import same
from tunectl.store.provenance import command_of, has_uncommitted_changes, last_own_run, read_provenance

NOTHING = "nothing"
"""What the first launch of a campaign without a baseline is compared with."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """What to launch: `DIR/TRIAL`, or `DIR` for its best trial; the reason, and whether the verdict may be another than
    adopt (`anyway`). `campaign` is None where it is to be found. `now` has a time zone.
    """

    place: str
    because: str
    campaign: Path | None
    anyway: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class LaunchResult:
    """The entry that was made, and where; `added` is False where the same trial was the last one launched already.

    `comparison` is None where it was compared with nothing. `notes` are for people.
    """

    campaign: FoundCampaign
    file: Path
    launch: Launch
    added: bool
    comparison: StudyComparison | None = None
    notes: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The launch as one JSON object."""
        return {
            "campaign": str(self.campaign.folder),
            "found": self.campaign.how,
            "file": str(self.file),
            "added": self.added,
            "launch": self.launch.to_json(),
            "comparison": self.comparison.to_json() if self.comparison else None,
            "notes": list(self.notes),
            "damage": list(self.damage),
        }


def launch(request: LaunchRequest, say: Callable[[str], None] = lambda _line: None) -> LaunchResult:
    """Add the trial to the campaign's `launched`, compared with what is launched now, or with the baseline.

    The study becomes a round of the campaign where it is none. `say` is called with each line about damage. Raises
    UsageError where the verdict is not adopt and the request does not say `anyway`, and FolderError where a folder or
    file cannot be read or written; then nothing is written.
    """
    if not request.because.strip():
        raise UsageError("--because: expected the reason for the launch, in a few words")
    place = trial_place(request.place) or (Path(request.place), None)
    with study_snapshot(place[0], say) as study:
        chosen = _chosen(study, place[1], request.place)
    found = find_campaign(request.campaign, study.folder)
    with locked_campaign(found.folder, say) as campaign:
        at = in_campaign(campaign, study.folder.path)
        last = campaign.launched[-1] if campaign.launched else None
        file = Path(campaign.document.file)
        if last is not None and (last.trial, _same_folder(campaign, last.study, at)) == (chosen.plan.trial, True):
            return LaunchResult(found, file, last, added=False, damage=tuple(study.damage))
        against, notes = _against(campaign, say)
        compared, refusal = _compared(against, study.folder.path / str(chosen.plan.trial), request, say)
        entry = _entry(study, chosen, at, request)
        entry = _with_verdict(entry, against.shown, compared, refusal, anyway=request.anyway)
        added: list[tuple[str, Any]] = [("launched", entry.to_json())]
        if not _is_round(campaign, study.folder.path):
            added.insert(0, ("rounds", at))
            notes.append(f"{at} was added to the rounds of the campaign")
        notes += _open_trials(study)
        add_to_campaign(campaign, added)
    return LaunchResult(found, file, entry, True, compared, tuple(notes), tuple(study.damage))


def _chosen(study: StudySnapshot, trial: int | None, place: str) -> TrialOutcome:
    if trial is not None:
        return asked_trial(study, trial, place)
    best = best_searched(study.outcomes, study.spec.objective, 1)
    if not best:
        raise UsageError(f"{place}: {study.spec.objective.never_given}")
    return best[0]


@dataclass(frozen=True, slots=True)
class _Against:
    """What a launch is compared with, as the entry shows it, and its place; None where nothing of it was trained."""

    shown: str
    place: Path | None = None
    problem: str = ""


def _against(campaign: Campaign, say: Callable[[str], None]) -> tuple[_Against, list[str]]:
    if campaign.launched:
        last = campaign.launched[-1]
        return _Against(last.place, path_in(campaign, last.place)), []
    baseline = campaign.baseline
    if baseline is None:
        return _Against(NOTHING), ["this is the first launch, and the campaign has no baseline: compared with nothing"]
    if isinstance(baseline, str):
        return _Against(f"{baseline} (baseline)", path_in(campaign, baseline)), []
    place = _trained(campaign, baseline, say)
    values = ", ".join(f"{name}={as_text(value)}" for name, value in baseline.items())
    if place is not None:
        return _Against(f"{in_campaign(campaign, place)} (baseline {values})", place), []
    problem = (
        f"the baseline ({values}) was not trained in any round, so that there is nothing to compare with; write a "
        "study with these values, run it, retrain its trial, and add it to the rounds"
    )
    return _Against(f"baseline {values}", problem=problem), []


def _trained(campaign: Campaign, baseline: Any, say: Callable[[str], None]) -> Path | None:
    """The best trial of the rounds with this configuration, one with retrains first."""
    for item in rounds_of(campaign):
        if item.folder is None:
            continue
        with study_snapshot(item.folder, say) as study:
            objective = study.spec.objective
            like = [one for one in study.outcomes if _has(one.plan.hyperparameters, baseline)]
            again = {id(one.searched) for one in retrained(like, objective)}
            best = best_searched(like, objective, len(like))
        for one in sorted(best, key=lambda one: id(one) not in again):
            return item.folder / str(one.plan.trial)
    return None


def _has(values: Any, wanted: Any) -> bool:
    return all(name in values and same(values[name], value) for name, value in wanted.items())


def _compared(
    against: _Against, new: Path, request: LaunchRequest, say: Callable[[str], None]
) -> tuple[StudyComparison | None, str]:
    """The comparison, and why there is none; raises UsageError where that or its verdict does not allow the launch."""
    if against.shown == NOTHING:
        return None, ""
    compared, problem = None, against.problem
    if against.place is not None:
        try:
            compared = compare_studies(str(against.place), str(new), say)
        except TunectlError as error:
            problem = str(error)
    if request.anyway or (compared is not None and compared.comparison.verdict == "adopt"):
        return compared, problem
    if compared is None:
        raise UsageError(
            f"{request.place}: not launched: cannot be compared: {problem}\n--anyway launches it all the same"
        )
    found = compared.comparison
    sides = [side for side in (compared.old, compared.new) if side.candidate.lacks_retrains]
    commands = "".join(f"\n  {side.retrain_command} --repeats 5" for side in sides)
    command = tunectl_command("compare", against.place or "", new)
    raise UsageError(
        f"{request.place}: not launched: {found.verdict}: {found.reason}\n"
        f"in use: {against.shown}; `{command}` shows more{commands}\n--anyway launches it all the same"
    )


def _with_verdict(
    entry: Launch, against: str, compared: StudyComparison | None, refusal: str, *, anyway: bool
) -> Launch:
    if compared is None:
        is_first = against == NOTHING
        verdict = "" if is_first else "not compared"
        return replace(entry, compared_with=against, verdict=verdict, reason=refusal, anyway=anyway and not is_first)
    found = compared.comparison
    return replace(
        entry,
        compared_with=against,
        verdict=found.verdict,
        reason=found.reason,
        improvement=found.improvement,
        interval=found.interval or (),
        p_better=found.p_better,
        anyway=anyway and found.verdict != "adopt",
    )


def _entry(study: StudySnapshot, chosen: TrialOutcome, at: str, request: LaunchRequest) -> Launch:
    objective, spec = study.spec.objective, study.spec
    again = next((item for item in retrained(study.outcomes, objective) if item.searched is chosen), None)
    ended = again.ended if again else ()  # A failed one says nothing of the configuration.
    run = last_own_run(read_provenance(study.folder))
    cost = cost_json(training_cost(chosen, again.retrains if again else (), own_code=spec.own_code))
    length = chosen.plan.training.get("max_train_steps", spec.training.max_train_steps)
    return Launch(
        study=at,
        trial=chosen.plan.trial,
        because=request.because.strip(),
        date=request.now.isoformat(timespec="seconds"),
        objective=objective,
        search_value=chosen.best_value,
        retrains=LaunchRetrains(
            tuple(item.best_value if item.state == "completed" else None for item in ended),
            again.mean if again else None,
            again.standard_deviation if again else None,
        ),
        values=chosen.plan.trained_values,
        max_train_steps=length,
        cost=LaunchCost(**{**cost, "devices": tuple(cost["devices"])}),
        command=command_of(run),
        commit=str((run.get("git") or {}).get("commit") or ""),
        uncommitted_changes=has_uncommitted_changes(run),
        tunectl=__version__,
    )


def _same_folder(campaign: Campaign, one: str, other: str) -> bool:
    return os.path.realpath(path_in(campaign, one)) == os.path.realpath(path_in(campaign, other))


def _is_round(campaign: Campaign, folder: Path) -> bool:
    """Whether the folder, or the study that it searched again, is a round."""
    names = {os.path.realpath(folder), os.path.realpath(folder.with_name(searched_name(folder.absolute().name)))}
    return any(item.folder is not None and os.path.realpath(item.folder) in names for item in rounds_of(campaign))


def _open_trials(study: StudySnapshot) -> Sequence[str]:
    states = [item.state for item in study.outcomes if not has_ended(item)]
    if not states:
        return ()
    kinds = listed([f"{states.count(state)} {state}" for state in dict.fromkeys(states)])
    return (f"trials of the study have not ended: {kinds}",)
