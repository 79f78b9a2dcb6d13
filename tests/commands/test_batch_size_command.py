"""`tunectl batch-size` as a whole: what its folder holds, and that what was measured once is not measured again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from study_calls import Called


def test_batch_sizes_are_timed_once_and_a_lost_conclusion_is_drawn_again_from_them(
    write_study: Callable[..., Path], tunectl: Callable[..., Called], tmp_path: Path
) -> None:
    study, folder = write_study(), tmp_path / "sizes"
    asked = ("--high", "32", "--steps", "40", "--slots", "2", "--dir", folder)
    called = tunectl("batch-size", study, *asked)
    assert called.code == 0, called.err
    conclusion = (folder / "conclusion.json").read_bytes()
    found = json.loads(conclusion)
    assert set(found) == {
        *("batch_size", "examples_per_second", "out_of_memory_at", "seconds_per_step", "verdict", "crc32")
    }
    assert found["verdict"] in " ".join(called.out.split())
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"plots/throughput.png", "plots/step-time.svg", "tables/trials.csv", "tables/batch-size.csv"} <= names
    plan = [json.loads(line) for line in (folder / "plan.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in plan} == {"throughput"}
    assert [line["hyperparameters"]["batch_size"] for line in plan[:2]] == [16, 32]
    times = [json.loads((folder / "trials" / f"{n:05d}" / "result.json").read_text()) for n in range(len(plan))]
    assert all(result["state"] == "completed" for result in times)

    # Killed before it wrote its conclusion: nothing is measured again, and every byte is the same.
    (folder / "conclusion.json").unlink()
    shutil.rmtree(folder / "plots")
    again = tunectl("batch-size", study, *asked, "--json")
    assert again.code == 0, again.err
    assert (folder / "conclusion.json").read_bytes() == conclusion
    assert "was timed" not in again.err
    assert again.json()["trials"] == len(plan)
