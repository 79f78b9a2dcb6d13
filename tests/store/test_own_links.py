"""Links of a trial's code to its own files, which must lead there when the trial's folder has moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.folders import StudyFolder, TrialFolder
from tunectl.store.own_links import lead_home


@pytest.fixture
def claimed(tmp_path: Path) -> TrialFolder:
    folder = TrialFolder(StudyFolder(tmp_path / "x").claimed / "00003.vm-5-0a1b")
    (folder.files / "run" / "best").mkdir(parents=True)
    (folder.files / "model-10.pt").write_text("ten")
    return folder


def test_links_of_a_trial_to_its_own_files_lead_there_from_its_next_places(
    claimed: TrialFolder, tmp_path: Path
) -> None:
    (tmp_path / "short").symlink_to(tmp_path / "x")
    earlier = StudyFolder(tmp_path / "x").claimed / "00003.other-9-77aa" / "files"
    links = {
        "last.pt": claimed.files / "model-10.pt",
        "run/best/model.pt": earlier / "model-10.pt",  # of a worker that died
        "run/by-another-name": tmp_path / "short" / "trials" / "00003" / "files" / "model-10.pt",
    }
    for name, target in links.items():
        (claimed.files / name).symlink_to(target)
    lead_home(claimed)
    home = StudyFolder(tmp_path / "x").home(3)
    home.path.parent.mkdir()
    claimed.path.rename(home.path)
    assert {(home.files / name).read_text() for name in links} == {"ten"}
    assert sorted(path.name for path in home.files.iterdir()) == ["last.pt", "model-10.pt", "run"]


def test_links_to_other_places_stay_as_they_are(claimed: TrialFolder, tmp_path: Path) -> None:
    study = claimed.study
    other = tmp_path / "y" / "claimed" / claimed.path.name / "files" / "model-10.pt"
    other.parent.mkdir(parents=True)
    other.write_text("of another study")
    links = {
        "relative": "model-10.pt",
        "of_another_study": str(other),
        "of_another_trial": f"{study}/trials/00030/files/model-10.pt",
        "gone": f"{claimed.files}/model-99.pt",
        "data": "/data/claimed/00003.vm-5-0a1b/files/model-10.pt",
    }
    for name, target in links.items():
        (claimed.files / name).symlink_to(target)
    (claimed.files / "folder").symlink_to(study)
    lead_home(claimed)
    assert {name: str((claimed.files / name).readlink()) for name in links} == links


def test_a_link_outside_the_study_that_its_files_lead_to_stays_as_it_is(claimed: TrialFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model-10.pt").write_text("ten")
    claimed.files.rename(tmp_path / "before")
    claimed.files.symlink_to(outside)
    (outside / "last.pt").symlink_to(claimed.files / "model-10.pt")
    lead_home(claimed)
    assert (outside / "last.pt").readlink() == claimed.files / "model-10.pt"
