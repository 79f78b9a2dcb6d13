from __future__ import annotations

import struct
from pathlib import Path

import pytest
from PIL import Image

from tunectl.core.folders import TrialFolder
from tunectl.store.trial_pictures import MOST_FILES, picture, read_evaluation_files


@pytest.fixture
def trial(tmp_path: Path) -> TrialFolder:
    found = TrialFolder(tmp_path / "trials" / "00003")
    found.files.mkdir(parents=True)
    return found


def test_files_are_read_by_step_and_what_is_no_file_of_a_step_is_not(trial: TrialFolder, tmp_path: Path):
    for step, name in ((100, "b.txt"), (100, "deep/a.txt"), (0, "c.txt")):
        path = trial.files_of(step) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("not of the study")
    trial.files_of(5).symlink_to(tmp_path / "secret")
    (trial.files_of(100) / "link").symlink_to(tmp_path / "secret" / "key.txt")
    (trial.files_of(100) / "folder").symlink_to(tmp_path / "secret")
    trial.files_of(7).mkdir()
    trial.unfinished_files(8).mkdir()
    (trial.unfinished_files(8) / "half.txt").write_text("text")
    (trial.files / "step-9").write_text("no folder")
    found = [(step.step, [(file.name, file.size) for file in step.files]) for step in read_evaluation_files(trial)]
    assert found == [(0, [("c.txt", 4)]), (100, [("b.txt", 4), ("deep/a.txt", 4)])]


def test_a_trial_without_such_a_folder_has_none(tmp_path: Path):
    assert read_evaluation_files(TrialFolder(tmp_path / "trials" / "00000")) == ()


def test_of_many_files_the_first_are_known_and_the_rest_counted(trial: TrialFolder):
    trial.files_of(1).mkdir()
    for number in range(MOST_FILES + 3):
        (trial.files_of(1) / f"{number:04d}").touch()
    (found,) = read_evaluation_files(trial)
    assert (len(found.files), found.left_out) == (MOST_FILES, 3)


def test_a_picture_is_known_by_its_content(trial: TrialFolder, tmp_path: Path):
    place = trial.files_of(1)
    place.mkdir()
    for name in ("a.png", "b.jpg", "c.gif", "d.webp"):
        Image.new("L", (3, 2)).save(place / name)
    (place / "e.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (place / "f.png").write_bytes(b"no picture")
    (place / "g.svg").write_text("<html>")
    (place / "h.html").write_text("<svg/>")
    huge = bytearray((place / "a.png").read_bytes())
    huge[16:24] = struct.pack(">II", 100_000, 100_000)
    (place / "i.png").write_bytes(huge)
    (step,) = read_evaluation_files(trial)
    kinds = {file.name: found[0] if (found := picture(file, tmp_path)) else None for file in step.files}
    assert kinds == {
        "a.png": "image/png",
        "b.jpg": "image/jpeg",
        "c.gif": "image/gif",
        "d.webp": "image/webp",
        "e.svg": "image/svg+xml",
        **dict.fromkeys(("f.png", "g.svg", "h.html", "i.png")),
    }
