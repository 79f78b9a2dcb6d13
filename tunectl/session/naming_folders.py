"""What names a study folder: campaigns, and the folders of studies and procedures beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tunectl.core import regular_files
from tunectl.core.errors import StudyError, TunectlError
from tunectl.core.folders import StudyFolder
from tunectl.core.typed_fields import DamagedError, sealed_object, text_at
from tunectl.language.campaign import CAMPAIGN_FILE, Campaign, read_campaign
from tunectl.session.campaign_folder import path_in, rounds_of
from tunectl.session.open_study import study_in
from tunectl.store.provenance import original_study_file
from tunectl.store.study_folder import is_study_folder


@dataclass(frozen=True, slots=True)
class NamingCampaign:
    """A campaign that names a study folder, with the numbers of its `rounds` and of its `launched` that do.

    `baseline`: its baseline is a trial of the study.
    """

    campaign: Campaign
    rounds: tuple[int, ...] = ()
    launched: tuple[int, ...] = ()
    baseline: bool = False

    @property
    def trials(self) -> frozenset[int]:
        """The trials of the study that it launched, or that are its baseline."""
        found = {self.campaign.launched[number].trial for number in self.launched}
        if self.baseline and isinstance(self.campaign.baseline, str):
            found.add(int(Path(self.campaign.baseline).name))
        return frozenset(found)


def naming_campaigns(folder: StudyFolder) -> tuple[list[NamingCampaign], list[str]]:
    """The campaigns that name a study folder, and a line for each that cannot be read.

    They are looked for beside the study's own file, in its folder and those above, and in the current one and above.
    """
    found, problems = [], []
    for place in _campaign_places(folder):
        try:
            campaign = read_campaign(place)
        except StudyError as error:
            problems.append(str(error).splitlines()[0])
            continue
        named = _named(campaign, folder)
        if named.rounds or named.launched or named.baseline:
            found.append(named)
    return found, problems


def _campaign_places(folder: StudyFolder) -> Iterator[Path]:
    here, original = folder.path.absolute(), original_study_file(folder)
    beside = [original.parent] if original is not None else []
    places = dict.fromkeys(path.resolve() for path in (*beside, *here.parents, Path.cwd(), *Path.cwd().parents))
    return (place for place in places if (place / CAMPAIGN_FILE).is_file())


def _named(campaign: Campaign, folder: StudyFolder) -> NamingCampaign:
    here = folder.path.resolve()
    rounds = tuple(
        number
        for number, item in enumerate(rounds_of(campaign))
        if item.folder is not None and item.folder.resolve() == here
    )
    launched = tuple(
        number for number, launch in enumerate(campaign.launched) if path_in(campaign, launch.study).resolve() == here
    )
    baseline = campaign.baseline
    is_baseline = isinstance(baseline, str) and path_in(campaign, baseline).resolve().parent == here
    return NamingCampaign(campaign, rounds, launched, is_baseline)


@dataclass(frozen=True, slots=True)
class NamingFolder:
    """A folder beside a study's that depends on it, and how; `is_finished`: it needs it for nothing more."""

    folder: StudyFolder
    how: str
    is_finished: bool = False


def naming_folders(folder: StudyFolder) -> list[NamingFolder]:
    """The study folders beside this one that name it, or its study; what cannot be read is passed over."""
    here = folder.path.resolve()
    found = []
    for path in sorted(here.parent.iterdir()):
        try:
            named = _naming(StudyFolder(path), here) if path != here and is_study_folder(path) else None
        except (TunectlError, OSError):
            continue
        if named is not None:
            found.append(named)
    return found


def _naming(other: StudyFolder, here: Path) -> NamingFolder | None:
    procedure = _procedure(other)
    measured = text_at(procedure, "options", "checkpoints_of")
    if measured and Path(measured).resolve() == here:
        return NamingFolder(other, "it measures the curvature at its checkpoints", other.conclusion.is_file())
    if procedure:
        return None
    spec = study_in(other)
    after = Path(spec.search.after).expanduser() if spec.search.after else None
    original = original_study_file(other)
    homes = [Path.cwd(), *([original.parent] if original is not None else [])]
    if after is not None and any((home / after).resolve() == here for home in homes):
        return NamingFolder(other, f"search.after: {spec.search.after}", other.earlier_trials.is_file())
    return None


def _procedure(other: StudyFolder) -> dict[str, object]:
    try:
        return sealed_object(regular_files.content(other.procedure))
    except (OSError, DamagedError):
        return {}
