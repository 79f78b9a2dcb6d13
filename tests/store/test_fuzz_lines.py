"""Lines read at once, one by one and in pieces are the same lines, however damaged they are."""

from __future__ import annotations

from pathlib import Path

from damaged_files import SOUND, as_text, damaged, expected_measurements, fields_of, objects
from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st
from store_samples import line, measured

from tunectl.core.folders import TrialFolder
from tunectl.core.measurements import Measurement
from tunectl.store import json_lines
from tunectl.store.trial_files import MeasurementTail

_FEW = 30


@examples(2 * _FEW)
@given(content=damaged(SOUND["measurements.jsonl"]))
@example(content=b'{"a": 1\n"b": 2},{"c": 3}\n').via("two lines are one object, and one line is two")
def test_lines_read_at_once_are_the_lines_read_one_by_one(content: bytes) -> None:
    assert as_text(json_lines.parse(content)) == as_text(list(objects(content)))


@st.composite
def writings(draw: st.DrawFn) -> list[tuple[str, int, bytes]]:
    """What a trial does to its measurements, step by step: ("append", 0, bytes) or ("cut", lines to keep, b"")."""
    done: list[tuple[str, int, bytes]] = []
    for number in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 3)) == 0:
            done.append(("cut", draw(st.integers(0, 6)), b""))
        wanted = draw(st.integers(1, 4))
        content = b"".join(line(measured(10 * i, 0.5 + number, gradient_norm=None).to_json()) for i in range(wanted))
        content = draw(st.one_of(st.just(content), damaged(content)))
        cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=4)))
        done += [("append", 0, content[a:b]) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    return done


@examples(_FEW)
@given(steps=writings())
def test_a_tail_that_follows_a_file_in_pieces_reads_what_the_whole_file_says(
    tmp_path: Path, steps: list[tuple[str, int, bytes]]
) -> None:
    folder = TrialFolder(tmp_path)
    folder.measurements.write_bytes(b"")
    tail, seen = MeasurementTail(folder), list[Measurement]()
    for verb, keep, content in steps:
        before = folder.measurements.read_bytes()
        if verb == "cut":
            # As a resumed trial does; what it then writes differs here, so that a wrong start would show.
            folder.measurements.write_bytes(b"".join(before.splitlines(keepends=True)[:keep]).rpartition(b"\n")[0])
            folder.measurements.write_bytes(folder.measurements.read_bytes() + b"\n")
        else:
            folder.measurements.write_bytes(before + content)
        fresh, restarted = tail.read()
        seen = [*([] if restarted else seen), *fresh]
    last = {(item.step, item.measurement_kind): item for item in seen}
    assert as_text([fields_of(last[key]) for key in sorted(last)]) == as_text(
        expected_measurements(folder.measurements.read_bytes())
    )
