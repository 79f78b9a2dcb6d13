"""What is to be said about a campaign: whether its last rounds still gained anything."""

from __future__ import annotations

from collections.abc import Mapping

from tunectl.analysis.comparison.campaign_gains import CampaignProgress
from tunectl.analysis.comparison.campaign_history import CampaignHistory
from tunectl.analysis.findings.findings import Finding
from tunectl.core.wording import counted, listed, short_number

RETRAINS = 5
"""The number of retrains that is proposed: with 3 of each round a clear gain is just seen, and 5 leave room."""


def campaign_findings(history: CampaignHistory, retrain: Mapping[str, str]) -> list[Finding]:
    """The findings about a campaign; `retrain` has the command that retrains the best trial of a round, by what
    campaign.yaml calls it.
    """
    progress = history.progress
    if progress.verdict == "not known":
        return [_not_known(progress, retrain)]
    assert progress.gain is not None
    assert progress.deviation is not None
    assert progress.needed is not None
    gain, deviation, needed = (short_number(value, 3) for value in (progress.gain, progress.deviation, progress.needed))
    numbers = {"gain": progress.gain, "retrain_deviation": progress.deviation, "needed_gain": progress.needed}
    last, cost = f"The last {progress.rounds} rounds", _cost_of_last(history, progress.rounds)
    if progress.verdict == "improving":
        sentence = f"{last} gained {gain}, more than the {needed} that chance gives (retrain deviation {deviation})."
        return [Finding("improving", "note", sentence, "go on: another round may gain, too", numbers=numbers)]
    if progress.gain < progress.deviation:
        sentence = f"{last} gained {gain}, less than the retrain deviation ({deviation}){cost}."
    else:
        sentence = f"{last} gained {gain}; chance gives up to {needed} (retrain deviation {deviation}){cost}."
    action = "stop, or change the model, the data or the goal: more rounds of this kind gain too little to be seen"
    return [Finding("saturated", "warning", sentence, action, numbers=numbers)]


def _cost_of_last(history: CampaignHistory, rounds: int) -> str:
    last = history.judged[-rounds:]
    return f"; they cost {sum(item.cost.device_seconds for item in last):,.0f} device-seconds"


def _not_known(progress: CampaignProgress, retrain: Mapping[str, str]) -> Finding:
    sentence = f"Whether the last rounds still gain is not known: {progress.reason}."
    commands = [retrain[name] for name in progress.lacking if name in retrain]
    if not commands:
        return Finding("saturation-not-known", "note", sentence, "run another round")
    names = listed(list(progress.lacking))
    action = f"retrain the best trial of {names} {counted(RETRAINS, 'time')}"
    return Finding("saturation-not-known", "note", sentence, action, command="\n    ".join(commands))
