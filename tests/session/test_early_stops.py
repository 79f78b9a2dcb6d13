"""`tunectl stop` of a run that waits at its opening for what workers left. Tests early_stops.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import study_text
from made_up_folders import made_up_folder
from watchers import Silent

from tunectl.core.errors import StoppedError
from tunectl.core.folders import StudyFolder
from tunectl.execution.runner_lock import own_mark
from tunectl.language.study_reader import load_study
from tunectl.session.early_stops import EarlyStops
from tunectl.session.open_study import open_study
from tunectl.store import claimed_trials, lost_claims, offered_trials, request_files
from tunectl.store.offered_trials import Offer
from tunectl.store.request_files import RequestAnswer, RunRequest


def test_stops_of_this_run_are_answered_and_counted_and_other_requests_wait(tmp_path: Path) -> None:
    folder, said = StudyFolder(tmp_path), list[str]()
    others = [request_files.send(folder, RunRequest("pause", own_mark()))]
    others.append(request_files.send(folder, RunRequest("stop", "another run", number=1)))
    signals = [0]
    stops = EarlyStops(folder, lambda: signals[0], said.append)
    assert stops() == 0
    name = request_files.send(folder, RunRequest("stop", own_mark(), number=2))
    assert [stops(), stops()] == [2, 2]
    assert request_files.read_answer(folder, name) == RequestAnswer(True, "it stops")
    assert said == ["asked to stop by `tunectl stop`"]
    assert request_files.waiting(folder) == sorted(others)
    signals[0] = 3
    assert stops() == 3


def test_a_stop_that_was_withdrawn_at_this_moment_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyFolder(tmp_path)
    name = request_files.send(folder, RunRequest("stop", own_mark(), number=1))
    request, read = request_files.read(folder, name), request_files.read

    def withdrawn(of: StudyFolder, found: str) -> RunRequest | None:
        assert read(of, found) == request
        assert request_files.withdraw(of, found)
        return request

    monkeypatch.setattr(request_files, "read", withdrawn)
    assert EarlyStops(folder, lambda: 0, pytest.fail)() == 0


def test_a_run_that_waits_for_the_last_files_of_a_worker_when_it_is_opened_hears_a_stop(tmp_path: Path) -> None:
    folder = made_up_folder(tmp_path / "runs" / "s", study_text(), lambda _: 0.5, file=tmp_path / "s.yaml")
    offered_trials.make_places(folder)
    offered_trials.offer_trial(folder, Offer(0, 1))
    claimed = claimed_trials.claim_trial(folder, 0)
    assert claimed is not None
    assert lost_claims.shut_out(claimed)  # nothing says where its worker was
    name = request_files.send(folder, RunRequest("stop", own_mark(), number=1))
    with (
        pytest.raises(StoppedError, match="the next run waits again"),
        open_study(load_study(tmp_path / "s.yaml"), folder.path, Silent()),
    ):
        pytest.fail("it was opened")
    assert request_files.read_answer(folder, name) == RequestAnswer(True, "it stops")
    assert [claim.trial for claim in lost_claims.unfinished(folder)] == [0]
