"""How a campaign is found, how its rounds become folders, and how its file is added to."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest
from campaigns import round_of

from tunectl.core.errors import FolderError, StudyError, TunectlError, UsageError
from tunectl.core.folders import StudyFolder
from tunectl.language.campaign import read_campaign
from tunectl.session.campaign_folder import (
    add_to_campaign,
    find_campaign,
    in_campaign,
    locked_campaign,
    rounds_of,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty campaign, which is the current one."""
    (tmp_path / "campaign.yaml").write_text("goal: x  # ours\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_given_one_comes_first_by_its_folder_or_its_file(home):
    other = home / "other"
    other.mkdir()
    with pytest.raises(UsageError, match=r"other: has no campaign.yaml; write such a file to begin a campaign"):
        find_campaign(other)
    (other / "campaign.yaml").write_text("goal: y\n")
    for given in (other, other / "campaign.yaml"):
        assert (find_campaign(given).folder, find_campaign(given).how) == (other, "as given")


def test_that_of_the_study_file_comes_before_that_of_the_current_folder(home):
    inner = home / "inner"
    folder = round_of(inner, "first", 0.5)
    assert find_campaign(None, folder).folder == Path()
    (inner / "campaign.yaml").write_text("goal: y\n")
    found = find_campaign(None, folder)
    assert (found.folder, found.how) == (Path("inner"), "beside the study file")


def test_a_study_file_elsewhere_does_not_decide_where_to_write(home, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "campaign.yaml").write_text("goal: y\n")
    assert find_campaign(None, round_of(elsewhere, "first", 0.5)).folder == Path()


def test_folders_above_the_current_one_are_looked_through(home, monkeypatch):
    below = home / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    found = find_campaign(None)
    assert (found.folder.resolve(), found.how) == (home.resolve(), "a folder above the current one")


def test_without_one_it_says_how_to_begin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no campaign found: (.|\n)*\n  goal: "):
        find_campaign(None)


def test_rounds_are_study_folders_or_study_files_and_what_is_wrong_is_said(home):
    round_of(home, "first", 0.5)
    round_of(home / "inner", "second", 0.5)
    (home / "bad.yaml").write_text("study: bad\n")
    (home / "new.yaml").write_text((home / "first.yaml").read_text().replace("study: first", "study: new"))
    (home / "empty").mkdir()
    names = ["first.yaml", "runs/first", "inner/second.yaml", "bad.yaml", "new.yaml", "empty", "gone.yaml"]
    (home / "campaign.yaml").write_text(f"rounds: [{', '.join(names)}]\n")
    found = rounds_of(read_campaign(Path()))
    assert [item.named for item in found] == names
    assert [item.folder for item in found[:3]] == [Path("runs/first"), Path("runs/first"), Path("inner/runs/second")]
    assert [item.problem.partition(" ")[0] for item in found[3:]] == ["bad.yaml:1:1:", "not", "is", "not"]
    # The name of a round comes before its problem, where both are shown.
    assert [item.problem for item in found[4:]] == ["not run yet", "is no study folder", "not found"]


def test_a_folder_of_that_name_with_another_study_is_not_the_round(home):
    round_of(home, "first", 0.5)
    (home / "runs" / "first").rename(home / "runs" / "other")
    (home / "other.yaml").write_text((home / "first.yaml").read_text().replace("study: first", "study: other"))
    (home / "campaign.yaml").write_text("rounds: [other.yaml]\n")
    assert rounds_of(read_campaign(Path()))[0].problem == "not run yet"


def test_entries_are_added_and_everything_else_is_kept(home):
    (home / "campaign.yaml").write_bytes(b"\xef\xbb\xbfgoal: x  # ours\r\nrounds: [a]\r\n# the end\r\n")
    with locked_campaign(Path(), pytest.fail) as campaign:
        add_to_campaign(campaign, [("rounds", "b"), ("launched", {"study": "b", "trial": 1, "because": "c"})])
    assert (home / "campaign.yaml").read_bytes() == (
        b"\xef\xbb\xbfgoal: x  # ours\r\nrounds: [a, b]\r\n"
        b"launched:\r\n  - study: b\r\n    trial: 1\r\n    because: c\r\n# the end\r\n"
    )
    assert read_campaign(Path()).rounds == ("a", "b")


def test_a_file_that_was_changed_meanwhile_is_not_written(home):
    with locked_campaign(Path(), pytest.fail) as campaign:
        (home / "campaign.yaml").write_text("goal: mine\n")
        with pytest.raises(FolderError, match="has been changed meanwhile; nothing was written"):
            add_to_campaign(campaign, [("rounds", "b")])
    assert (home / "campaign.yaml").read_text() == "goal: mine\n"


def test_a_list_that_cannot_be_added_to_is_reported_and_kept(home):
    text = "goal: x\nrounds: &r [a]\n"
    (home / "campaign.yaml").write_text("{goal: x}\n")
    with locked_campaign(Path(), pytest.fail) as campaign, pytest.raises(FolderError, match="change it by hand"):
        add_to_campaign(campaign, [("rounds", "b")])
    (home / "campaign.yaml").write_text(text)
    with locked_campaign(Path(), pytest.fail) as campaign:
        add_to_campaign(campaign, [("rounds", "b")])
    assert read_campaign(Path()).rounds == ("a", "b")


def test_a_damaged_file_is_reported_with_its_place(home):
    (home / "campaign.yaml").write_text("goal: [\n")
    with pytest.raises(StudyError, match=r"campaign.yaml:2:1: not YAML"), locked_campaign(Path(), pytest.fail):
        pass


def test_a_disk_that_is_full_leaves_the_file_as_it_was(home, monkeypatch):
    def full(*_words: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    with locked_campaign(Path(), pytest.fail) as campaign, pytest.raises(FolderError, match="No space left"):
        add_to_campaign(campaign, [("rounds", "b")])
    assert (home / "campaign.yaml").read_text() == "goal: x  # ours\n"
    assert [path.name for path in home.iterdir()] == ["campaign.yaml"]


def test_paths_are_written_relative_to_the_campaign(home):
    campaign = read_campaign(Path())
    assert in_campaign(campaign, Path("runs/first")) == "runs/first"
    assert in_campaign(campaign, home.parent / "other") == "../other"
    assert StudyFolder(campaign.folder / "runs/first").path == Path("runs/first")


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_reported_and_kept_or_added_to_and_loses_nothing(home, seed):
    random = Random(seed)
    text = "goal: x  # ours\nbaseline: a/1\nrounds: [a]\nlaunched:\n  - {study: a, trial: 1, because: b}\n  # end\n"
    place = random.randrange(len(text))
    inserted = random.choice(["", "\n", "  ", "- ", "{", "[", ": ", "#", "&a ", '"', "|\n", "\t", "\0", "~"])
    damaged = (text[:place] + inserted + text[place + random.choice([0, 0, 1, 9]) :]).encode()
    (home / "campaign.yaml").write_bytes(damaged)
    try:
        before = read_campaign(Path())
        add_to_campaign(before, [("rounds", "zz"), ("launched", {"study": "zz", "trial": 1, "because": "c"})])
    except TunectlError:
        assert (home / "campaign.yaml").read_bytes() == damaged
    else:
        after = read_campaign(Path())
        assert (after.goal, after.baseline) == (before.goal, before.baseline)
        assert (after.rounds, after.launched[:-1]) == ((*before.rounds, "zz"), before.launched)
