"""Claims of workers that died: the runner takes the trial back, and shuts the old worker out, which may come back.

By the names in `claimed` of a claim X, in this order:

    X                 a worker has the trial
    X.lost            from now on every path of the old worker leads nowhere; X.new is an unfinished copy
    X.lost, X.whole   the copy is complete and on the disk: the trial's files, and nothing that the old worker has open
    X.gone, X.whole   what is lost is put aside
    X.gone            the copy is in `trials`; X.gone, empty now, says until the run ends that X is no claim any more

Before it copies, a run waits LATE_SECONDS where the worker was on another machine or had another mount (see
`may_show_late`): a file server may show the last of its files so late, and a copy would lack them. A worker that comes
back in that time may see the folder as it was, and write into what is lost, while parts of its trial find their paths
gone. So a failure that did not show when the worker was shut out is not copied: the trial goes on elsewhere, and fails
there again if it does so by itself.

Each step is one rename. So after an error, or a kill at any moment, the next call goes on from where it stopped, and
the only copy of a trial is never removed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from tunectl.core import real_folders, regular_files
from tunectl.core.boot_id import seen_from
from tunectl.core.errors import FolderError
from tunectl.core.files import target_of, write_bytes
from tunectl.core.folder_copies import copy_folder
from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.core.path_errors import path_errors
from tunectl.core.typed_fields import DamagedError, sealed_object
from tunectl.store.claimed_trials import ClaimedTrial, read_claimant, read_ending
from tunectl.store.offered_trials import home_folder, listed_names, offered_folder, read_offer
from tunectl.store.trial_files import read_result

_LEFT = re.compile(r"(?P<claim>(?P<trial>\d{5,12})\.[A-Za-z0-9_-]+)(?P<suffix>\.lost|\.new|\.whole|\.gone)?")
_HAD_RESULT = "had_result"
"""A file in X.lost: the trial had a result when its worker was shut out."""

_OF_CLAIM = frozenset({TrialFolder(Path()).beat.name, TrialFolder(Path()).stop_request.name, _HAD_RESULT})


class _Claim(NamedTuple):
    """A claim, and the folders that it becomes while its trial is taken back."""

    study: StudyFolder
    trial: int
    name: str

    def place(self, suffix: str) -> Path:
        """The folder with the claim's name and this end: "", ".lost", ".new", ".whole" or ".gone"."""
        return self.study.claimed / f"{self.name}{suffix}"

    def among(self, names: Collection[str]) -> set[str]:
        """The ends of its folders that are listed."""
        return {suffix for suffix in ("", ".lost", ".new", ".whole", ".gone") if f"{self.name}{suffix}" in names}


def _nothing() -> None: ...


def has_own_result(folder: TrialFolder) -> bool:
    """Whether the attempt that is offered in a trial's folder has a result; False where that cannot be found out.

    That of an earlier attempt is removed before the next one is offered, but a file server may show it again.
    """
    offer = read_offer(folder)
    try:
        result = read_result(folder)
    except (OSError, FolderError):
        return False
    return offer is not None and result is not None and result.attempt == offer.attempt


def take_back(claimed: ClaimedTrial, between: Callable[[], None] = _nothing) -> bool:
    """Take a trial back from a worker that does not beat any more; False where it was given back meanwhile.

    The trial's folder is then in `trials`, with offer.json, and with claim.json and ended.json as far as the worker
    wrote them. `between` is called again and again while files are copied, and may raise. Raises FolderError where a
    file cannot be read or written; then a further call goes on with it.
    """
    if not shut_out(claimed):
        return False
    claim = _claim_of(claimed)
    there = claim.among(listed_names(claim.study, claim.study.claimed.name))
    return _go_on(claim, there if there & {".lost", ".whole"} else {".lost"}, between)


def shut_out(claimed: ClaimedTrial) -> bool:
    """Shut the worker of a claim out of its trial, which `take_back` then copies; False where it was given back.

    From now on nothing new appears in the trial's folder. Raises FolderError where the folder cannot be moved.
    """
    claim = _claim_of(claimed)
    there = claim.among(listed_names(claim.study, claim.study.claimed.name))
    if there & {".lost", ".whole"}:
        return True
    if ".gone" in there:
        return False
    had_result = has_own_result(claimed.folder)
    try:
        with path_errors(claim.place(""), "replaced"):
            real_folders.move(claim.place(""), claim.place(".lost"), claim.study.path)
        if had_result:
            with path_errors(claim.place(".lost"), "written"):
                write_bytes(claim.place(".lost") / _HAD_RESULT, b"", durable=False, within=claim.study.path)
    except FolderError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return False
        raise
    return True


def may_show_late(claimed: ClaimedTrial) -> bool:
    """Whether files of a claim may show later here than its worker wrote them: it was on another machine or had
    another mount of the folder, or where it was is not known. A copy is to be made LATE_SECONDS after the worker was
    shut out, then; else files are lost.
    """
    claim = _claim_of(claimed)
    with path_errors(claim.place(".whole"), "read"):
        if claim.place(".whole").exists():
            return False
    return _was_late(claim)


def _was_late(claim: _Claim) -> bool:
    found = [read_claimant(TrialFolder(claim.place(suffix))) for suffix in ("", ".lost")]
    boots = {claimant.boot for claimant in found if claimant is not None}
    return not boots or "" in boots or boots != {seen_from(claim.study.path)}


def _claim_of(claimed: ClaimedTrial) -> _Claim:
    return _Claim(claimed.study, claimed.trial, claimed.name)


def unfinished(study: StudyFolder) -> list[ClaimedTrial]:
    """The claims whose trials are being taken back; raises FolderError where they cannot be listed."""
    names = set(listed_names(study, study.claimed.name))
    return [
        ClaimedTrial(study, claim.trial, claim.name)
        for claim in sorted(_claims(study, names))
        if claim.among(names) & {".lost", ".whole"}
    ]


def finish_taking_back(study: StudyFolder, again: Callable[[FolderError], bool] = lambda _error: False) -> list[int]:
    """Finish what a killed runner has begun to take back, and remove what old workers have left; gives the trials that
    are now in `trials`.

    Only by the process that holds the study's lock. Raises FolderError, unless `again` says that the step that failed
    so is to be tried again.
    """
    found = []
    names = set(listed_names(study, study.claimed.name))
    for claim in sorted(_claims(study, names)):
        there = claim.among(names)
        while there - {""}:
            try:
                if _go_on(claim, there, _nothing):
                    found.append(claim.trial)
                _remove(claim.place(""), study)
                break
            except FolderError as error:
                if not again(error):
                    raise
            there = claim.among(listed_names(study, study.claimed.name))
    return found


def forget_shut_out(study: StudyFolder) -> None:
    """Remove what says which claims are none any more, when no worker is at work; what stays only takes space."""
    with contextlib.suppress(FolderError):
        names = set(listed_names(study, study.claimed.name))
        for claim in _claims(study, names):
            if claim.among(names) - {""} == {".gone"}:
                _remove(claim.place(""), study)
                _remove(claim.place(".gone"), study)


def _claims(study: StudyFolder, names: Collection[str]) -> set[_Claim]:
    found = [_LEFT.fullmatch(name) for name in names]
    return {_Claim(study, int(match["trial"]), match["claim"]) for match in found if match is not None}


def _go_on(claim: _Claim, there: Collection[str], between: Callable[[], None]) -> bool:
    """Do what is left to do; whether the trial's folder is now in `trials` by this. See the steps above."""
    study, has_copy = claim.study, ".whole" in there
    if ".lost" in there and ".gone" in there:  # X was made again by code of the old worker
        _remove(claim.place(".lost"), study)
    elif ".lost" in there:
        if not has_copy and not _is_remnant(claim):
            _make_copy(claim, between)
            has_copy = True
        with path_errors(claim.place(".lost"), "replaced"):
            real_folders.move(claim.place(".lost"), claim.place(".gone"), study.path)
    if has_copy:
        home = home_folder(study, claim.trial)
        with path_errors(home.path, "replaced"):
            real_folders.move(claim.place(".whole"), home.path, study.path)
    _remove(claim.place(".new"), study)
    _empty(claim.place(".gone"), study)
    return has_copy


def _make_copy(claim: _Claim, between: Callable[[], None]) -> None:
    new, study = claim.place(".new"), claim.study
    with path_errors(new, "written"):
        real_folders.remove_all(new, study.path)
        try:
            _copy_trial(claim.place(".lost"), new, study, between)
        except FileExistsError:
            # The copy of a runner that was killed on another host, which showed late, and shows after this error.
            real_folders.remove_all(new, study.path)
            _copy_trial(claim.place(".lost"), new, study, between)
        if _was_late(claim) and not (claim.place(".lost") / _HAD_RESULT).exists():
            _drop_failure(TrialFolder(new))
        real_folders.move(new, claim.place(".whole"), study.path)


def _drop_failure(trial: TrialFolder) -> None:
    """Remove from a copy how the trial ended, unless it has a result that is none of a failure, or was released."""
    ending, result = read_ending(trial), read_result(trial)
    if result is not None and result.state in ("failed", "infeasible"):
        real_folders.remove_names(trial.path, [trial.ending.name, trial.result.name], trial.study)
    elif ending is not None and not (ending.released or (ending.code == 0 and result is not None)):
        real_folders.remove_names(trial.path, [trial.ending.name], trial.study)


def _is_remnant(claim: _Claim) -> bool:
    """Whether a worker's code has made the claim's folder again after its trial was taken back: the folder has no
    request, and the trial is elsewhere.
    """
    study, trial = claim.study, TrialFolder(claim.place(".lost"))
    with path_errors(trial.path, "read"):
        if {trial.request.name, trial.offer.name} & set(real_folders.names(trial.path, study.path)):
            return False
    names = set(listed_names(study, study.claimed.name))
    others = [other for other in _claims(study, names) if other.trial == claim.trial and other.name != claim.name]
    if any(other.among(names) & {"", ".lost", ".whole"} for other in others):
        return True
    places = (home_folder(study, claim.trial), offered_folder(study, claim.trial))
    with path_errors(study.trials, "read"):
        return any(place.path.is_dir() for place in places)


def _remove(folder: Path, study: StudyFolder) -> None:
    """Remove a folder. On a file server some files may stay until the old worker closes them: they only take space."""
    with contextlib.suppress(OSError):
        real_folders.remove_all(folder, study.path)


def _empty(folder: Path, study: StudyFolder) -> None:
    """Replace a folder by an empty one, into which nothing leads that the old worker has open."""
    with contextlib.suppress(OSError):
        if folder.is_dir():
            _remove(folder, study)
            real_folders.made(folder, study.path)


def _copy_trial(source: Path, target: Path, study: StudyFolder, between: Callable[[], None]) -> None:
    """Make a folder with the files of a trial, without unfinished ones.

    The checkpoints of a workload are written whole and by a rename, and so may be linked. All else is copied: the old
    worker may still have it open.
    """
    trial = TrialFolder(source)
    whole = {trial.resume.name, trial.previous_resume.name}
    may_link = _is_of_workload(trial)

    def left_out(place: Sequence[str]) -> bool:
        is_ours = len(place) == 1 or place[0] == trial.checkpoints.name
        return place[0] in _OF_CLAIM or (is_ours and target_of(place[-1]) is not None)

    copy_folder(
        source,
        target,
        study.path,
        left_out=left_out,
        linked=lambda place: may_link and (place[0] in whole or place[0] == trial.checkpoints.name),
        # What a trial goes on from counts bytes of the other files, which must be there.
        first=lambda place: place[0] in whole,
        between=between,
    )


def _is_of_workload(trial: TrialFolder) -> bool:
    try:
        content = sealed_object(regular_files.content(trial.request, within=trial.study))
    except (OSError, DamagedError):
        return False
    return content.get("kind") == "workload"
