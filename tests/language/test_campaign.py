"""campaign.yaml: what it holds, and each mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunectl.core.errors import StudyError
from tunectl.core.objective import Objective
from tunectl.language.campaign import Launch, LaunchCost, LaunchRetrains, read_campaign
from tunectl.language.document import parse_document
from tunectl.language.study_edit import in_flow, with_item

WHOLE = Launch(
    "runs/first",
    3,
    'a "reason": with # signs',
    date="2026-03-01T12:00:00+00:00",
    compared_with="runs/zero/1",
    verdict="not enough evidence",
    reason="chance alone",
    anyway=True,
    improvement=1e-05,
    interval=(-0.1, 0.2),
    p_better=0.25,
    objective=Objective("valid/error_rate", "minimize"),
    search_value=0.04,
    retrains=LaunchRetrains((0.04, None), 0.04, None),
    values={"optimizer": "no", "learning_rate": 1e-05, "nesterov": True, "width": 64},
    cost=LaunchCost(0.25, 150, 37.5, 9600, ("cpu",)),
    command="tunectl run first.yaml",
    commit="0123456789",
    uncommitted_changes=True,
    tunectl="1.0",
)


def written(folder: Path, text: str) -> Path:
    (folder / "campaign.yaml").write_text(text)
    return folder


def test_a_campaign_needs_nothing_but_a_goal_and_is_called_like_its_folder(tmp_path):
    found = read_campaign(written(tmp_path, "goal: fewer errors\n"))
    assert (found.name, found.goal, found.baseline, found.rounds, found.launched) == (
        *(tmp_path.name, "fewer errors", None, (), ()),
    )


def test_everything_is_read(tmp_path):
    text = "campaign: digits\nbaseline: {width: 64, optimizer: adam}\nrounds: [first.yaml, ../runs/second]\n"
    found = read_campaign(written(tmp_path, text + "launched:\n- {study: a, trial: 0, because: b}\n"))
    assert (found.name, found.baseline) == ("digits", {"width": 64, "optimizer": "adam"})
    assert found.rounds == ("first.yaml", "../runs/second")
    assert found.launched == (Launch("a", 0, "b"),)


def test_a_launch_reads_back_as_it_was_written(tmp_path):
    found = read_campaign(written(tmp_path, with_item("goal: x\n", "launched", WHOLE.to_json())))
    assert found.launched == (WHOLE,)
    assert found.launched[0].to_json() == WHOLE.to_json()


def test_what_is_empty_or_not_known_is_not_written():
    assert Launch("a", 0, "b").to_json() == {"study": "a", "trial": 0, "because": "b"}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("gaol: x\n", "1:1", "gaol: no such key; did you mean goal?"),
        ("goal: 3\n", "1:7", "goal: expected text, got 3; write it in quotes"),
        ("goal: x\nbaseline: runs/first\n", "2:11", "baseline: expected DIR/TRIAL"),
        ("baseline: {a: [1]}\n", "1:15", "baseline.a: expected one value, got a list"),
        ("baseline: 3\n", "1:11", "baseline: expected DIR/TRIAL, or a configuration"),
        ("rounds: first.yaml\n", "1:9", "rounds: expected a list, got 'first.yaml'"),
        ("rounds: [a, 3]\n", "1:13", "rounds[1]: expected a study file or a study folder, got 3"),
        ("rounds:\n  - a\n  - a\n", "3:5", "rounds[1]: a is round 1 already; keep one"),
        ("launched:\n  - study: a\n    trail: 3\n", "3:5", "launched[0].trail: no such key; did you mean trial?"),
        ("launched: [{study: a, because: b}]\n", "1:12", "launched[0]: trial is missing"),
        ("launched: [{study: a, trial: x, because: b}]\n", "1:30", "launched[0].trial: expected a whole number"),
        ("launched:\n  - runs/a/3\n", "2:5", "launched[0]: expected a mapping of keys"),
        (
            "launched: [{study: a, trial: 1, because: b, cost: {seconds: 3}}]\n",
            *("1:51", "launched[0].cost: seconds: is not a key that this version knows"),
        ),
        ("- a\n", "1:1", "expected a mapping of keys, got a list; a campaign needs at least a goal"),
        ("", "1:1", "the file is empty; a campaign needs at least a goal"),
        ("goal: [\n", "2:1", "not YAML"),
        ("goal: x\ngoal: y\n", "2:1", "duplicate key"),
    ],
)
def test_every_mistake_is_reported_with_its_place(tmp_path, text, place, message):
    with pytest.raises(StudyError) as error:
        read_campaign(written(tmp_path, text))
    assert f"{tmp_path / 'campaign.yaml'}:{place}: " in str(error.value)
    assert message in str(error.value)


def test_all_mistakes_are_reported_at_once(tmp_path):
    with pytest.raises(StudyError) as error:
        read_campaign(written(tmp_path, "gaol: x\nrounds: 3\nlaunched: [3]\n"))
    assert len(error.value.problems) == 3


def test_a_launch_is_one_line_for_each_key():
    text = with_item("goal: x\n", "launched", WHOLE.to_json())
    lines = text.splitlines()[2:]
    assert len(lines) == len(WHOLE.to_json())
    assert lines[0] == "  - study: runs/first"
    assert f"    because: {in_flow(WHOLE.because)}" in lines
    assert parse_document(text, "").content["launched"] == [WHOLE.to_json()]
