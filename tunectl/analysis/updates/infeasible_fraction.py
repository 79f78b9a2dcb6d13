"""Infeasible trials: whether they are so large a part that the search space is wrong, or that there is a bug."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Change, Finding
from tunectl.analysis.results.runs import Run
from tunectl.analysis.search.crowding import family_wise
from tunectl.analysis.updates.stability_edge import (
    MOST_NAMED,
    MOSTLY,
    StabilityEdge,
    edge_keys,
    of_setting_words,
    search_places,
    searched_along_edge,
    shown_value,
)
from tunectl.core.wording import counted
from tunectl.space.domains import Range

MANY = 0.4
"""The playbook says "a very large fraction"; of learning rates searched as widely as they should be some 20 % fail."""

COMMON = 0.2
SURE_FRACTION = 0.01
"""As many infeasible trials must have at most this probability if a fifth of all trials (COMMON) were infeasible."""


def infeasible_fraction_findings(evidence: StudyEvidence) -> list[Finding]:
    """`infeasible-fraction`: a large part of the trials is infeasible: the search space is wrong, or there is a bug.

    A setting where nearly all of them are beyond a stability edge is left out: first training must become stable there.
    """
    edges = search_places(evidence).edges
    explained = Counter[int]()
    for edge in edges:
        if edge.is_next_to_the_best(len(edges)):
            explained[edge.axis.setting] = max(explained[edge.axis.setting], edge.beyond)
    runs_of = evidence.by_setting
    lost_in = {setting: sum(not run.feasible for run in runs) for setting, runs in runs_of.items()}
    everywhere = _too_many(sum(lost_in.values()), len(evidence.searched), 1)
    concerned = {
        setting: runs
        for setting, runs in runs_of.items()
        if lost_in[setting] and explained[setting] < MOSTLY * lost_in[setting]
        if lost_in[setting] >= MANY * len(runs)
        if everywhere or _too_many(lost_in[setting], len(runs), len(runs_of))
    }
    if not concerned:
        return []
    return [_fraction_finding(evidence, concerned, [edge for edge in edges if edge.axis.setting in concerned])]


def _fraction_finding(
    evidence: StudyEvidence, concerned: Mapping[int, Sequence[Run]], edges: Sequence[StabilityEdge]
) -> Finding:
    lost = [run for runs in concerned.values() for run in runs if not run.feasible]
    shares = [_share_words(evidence, setting, runs) for setting, runs in concerned.items()]
    more = f", and the same in {len(shares) - MOST_NAMED} more settings" if len(shares) > MOST_NAMED else ""
    reasons = Counter(run.reason for run in lost).most_common()
    named = ", ".join(f"{reason} {count}" for reason, count in reasons)
    trials = sum(len(runs) for runs in concerned.values())
    all_lost, listed = not evidence.closest_first(evidence.searched), "; ".join(shares[:MOST_NAMED])
    return Finding(
        id="infeasible-fraction",
        level="warning",
        sentence=f"{listed[0].upper()}{listed[1:]}{more} ({named}).",
        action=_fraction_action(edges, all_lost=all_lost),
        settings=tuple(concerned),
        hyperparameters=edge_keys(edges),
        trials=tuple(run.plan.trial for run in lost),
        numbers={
            "infeasible": len(lost),
            "trials": trials,
            "share": len(lost) / trials,
            "reasons": dict(reasons),
            "by_setting": {
                setting: {"infeasible": sum(not run.feasible for run in runs), "trials": len(runs)}
                for setting, runs in concerned.items()
            },
        },
        sureness=f"{len(lost)} of {trials} trials",
        changes=_narrower(evidence, edges),
    )


def _too_many(lost: int, trials: int, tests: int) -> bool:
    """Whether `lost` of the trials are a large part, and no accident in one of `tests` settings."""
    if trials == 0 or lost < MANY * trials:
        return False
    # The binomial probability of `lost` or more, each term from the one before it.
    term, found = (1 - COMMON) ** trials, 0.0
    for count in range(trials + 1):
        found += term if count >= lost else 0.0
        term *= (trials - count) / (count + 1) * COMMON / (1 - COMMON)
    return family_wise(found, tests) <= SURE_FRACTION


def _share_words(evidence: StudyEvidence, setting: int, runs: Sequence[Run]) -> str:
    lost = sum(not run.feasible for run in runs)
    amount = f"all {counted(len(runs), 'trial')}" if lost == len(runs) else f"{lost} of {len(runs)} trials"
    return f"{amount}{of_setting_words(evidence, setting)} are infeasible"


def _fraction_action(edges: Sequence[StabilityEdge], *, all_lost: bool) -> str:
    if all_lost:
        return "suspect a bug in the training code or the data before the search space; read the log of one trial"
    if not edges:
        return "change the search space so that it leaves such trials out, or look for a bug in the training code"
    where = [
        f"{edge.axis.hyperparameter.key} {'from' if edge.end == 'high' else 'up to'} "
        f"{shown_value(edge.first_infeasible)} {'on' if edge.end == 'high' else ''}".strip()
        for edge in edges[:MOST_NAMED]
    ]
    return f"leave out the values where they are ({'; '.join(where)}), or make training stable there"


def _narrower(evidence: StudyEvidence, edges: Sequence[StabilityEdge]) -> list[Change]:
    """The ranges cut off at the threshold, unless the best trials are next to it in some setting."""
    best_next = {edge.axis.hyperparameter.path for edge in edges if edge.is_next_to_the_best(len(edges))}
    by_path: dict[tuple[str | int, ...], list[StabilityEdge]] = {}
    for edge in edges:
        if isinstance(edge.axis.hyperparameter.domain, Range):
            by_path.setdefault(edge.axis.hyperparameter.path, []).append(edge)
    changes = []
    for path, own in by_path.items():
        domain = own[0].axis.hyperparameter.domain
        if own[0].slant is not None:
            changes += searched_along_edge(evidence, own) if path not in best_next else []
            continue
        if path in best_next or len({edge.end for edge in own}) > 1 or not isinstance(domain, Range):
            continue
        at = [float(edge.last_feasible) for edge in own]
        cut = [_short(number, domain) for number in at]
        low, high = (domain.low, max(cut)) if own[0].end == "high" else (min(cut), domain.high)
        if domain.low <= low < high <= domain.high:
            reason = f"beyond it {sum(e.beyond for e in own)} of {sum(e.trials_beyond for e in own)} are infeasible"
            changes.append(Change((*path, "range"), [low, high], reason))
    return changes


def _short(number: float, domain: Range) -> float:
    """A value within a range to three digits, of its distance from 1 on that scale; whole numbers as they are."""
    if domain.integer:
        return int(number)
    near_one = domain.scale == "one_minus_log"
    short = round(1 - float(f"{1 - number:.3g}"), 12) if near_one else float(f"{number:.3g}")
    return min(max(short, domain.low), domain.high)
