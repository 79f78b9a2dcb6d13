"""Trials that run a command, with real programs of many kinds.

Tests programs/command_trial.py, programs/program_outcome.py and programs/running_program.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from program_calls import STEPS, Programs

import tunectl
from tunectl.core.errors import WorkloadError
from tunectl.core.objective import Objective
from tunectl.core.own_code_request import Checkpoints, InfeasibleEnds, MetricSource, Optional, Program
from tunectl.programs import program_outcome, running_program
from tunectl.store.trial_files import read_trial


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_a_program_that_prints_its_metrics_is_a_trial(programs: Programs) -> None:
    result = programs.run(programs.request("print('hello')\nfor s in (10, 20): print(f'step {s} loss {1 / s}')"))
    assert result is not None
    assert (result.state, result.reason, result.final_step, result.trial) == ("completed", "", 20, 7)
    assert programs.measured() == [(10, {"loss": 0.1}), (20, {"loss": 0.05})]
    assert programs.folder.log.read_text().startswith("hello\n")
    assert programs.seconds.train_seconds > 0


def test_a_program_gets_its_hyperparameters_by_arguments_environment_and_file(programs: Programs) -> None:
    text = (
        "import json, os, sys\n"
        "own = {k: v for k, v in os.environ.items() if k.startswith(('TUNECTL_', 'MY'))}\n"
        "found = {'argv': sys.argv[1:], 'env': own}\n"
        "found['file'] = json.load(open(os.environ['TUNECTL_TRIAL_HYPERPARAMETERS']))\n"
        "found['cwd'] = os.getcwd()\n"
        "json.dump(found, open(os.environ['TUNECTL_TRIAL_DIR'] + '/found.json', 'w'))\n"
        "print('step 1 loss 1')\n"
    )
    arguments = (
        "--lr={learning_rate}",
        "{{literally}}",
        "{name}",
        Optional(("--momentum", "{momentum}")),
        Optional(("--resume", "{trial.resume}")),
        Optional(("--nesterov",), {"nesterov": (True,)}),
        Optional(("--one",), {"nesterov": (1,)}),
        "$(echo no shell)",
    )
    request = programs.request(text, *arguments, environment={"MY_SEED": "{trial.seed}", "MY_RESUME": "{trial.resume}"})
    assert programs.run(request) is not None
    files = programs.folder.path / "files"
    found = json.loads((files / "found.json").read_text())
    assert found["argv"] == ["--lr=1e-05", "{literally}", "a b", "--nesterov", "$(echo no shell)"]
    assert found["file"] == {"learning_rate": 1e-05, "nesterov": True, "name": "a b"}
    assert yaml.safe_load((programs.folder.path / "hyperparameters.yaml").read_text()) == found["file"]
    own = {"TUNECTL_LEARNING_RATE": "1e-05", "TUNECTL_NESTEROV": "true", "TUNECTL_NAME": "a b", "MY_SEED": "5"}
    own |= {"TUNECTL_TRIAL_ID": "7", "TUNECTL_TRIAL_SEED": "5", "TUNECTL_TRIAL_DIR": str(files)}
    assert own.items() <= found["env"].items()
    assert "MY_RESUME" not in found["env"]
    assert found["cwd"] == str(programs.folder.path.parent)


def test_metrics_of_tunectl_record_count_without_a_declaration(programs: Programs) -> None:
    text = (
        f"import sys; sys.path[:0] = {[str(Path(tunectl.__file__).parents[1])]!r}\n"
        "import tunectl\n"
        "class Tensor:\n    def __float__(self): return 0.25\n"
        "tunectl.record(10, {'loss': Tensor()})\n"
        "tunectl.record(20, {'loss': float('inf'), 'valid/accuracy': 1})\n"
    )
    result = programs.run(programs.request(text, sources=()))
    assert result is not None
    assert result.state == "completed", result.message
    assert programs.measured() == [(10, {"loss": 0.25}), (20, {"loss": float("inf"), "valid/accuracy": 1.0})]


def test_a_metric_that_turns_nan_ends_the_program_and_is_infeasible_at_that_step(programs: Programs) -> None:
    text = "import time\nprint('step 1 loss 1')\nprint('step 2 loss nan', flush=True)\ntime.sleep(60)"
    began = time.monotonic()
    result = programs.run(programs.request(text))
    assert result is not None
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "nan_metric", 2)
    assert result.message == "loss is NaN at step 2"
    assert time.monotonic() - began < 20


def test_an_exit_code_or_a_line_that_the_study_declares_is_infeasible(programs: Programs) -> None:
    ends = InfeasibleEnds((3,), ("diverged at", "[Oo]ut of memory"))
    result = programs.run(programs.request("print('step 1 loss 1'); raise SystemExit(3)", infeasible=ends))
    assert result is not None
    assert (result.state, result.reason, result.infeasible_step) == ("infeasible", "exit_code_3", 1)
    assert result.message == "step 1 loss 1 (exit code 3)"
    text = "print('step 1 loss 1'); print('RuntimeError: CUDA out of memory. Tried'); raise SystemExit(1)"
    result = programs.run(programs.request(text, infeasible=ends))
    assert result is not None
    assert (result.state, result.reason) == ("infeasible", "out_of_memory")
    result = programs.run(programs.request("print('it diverged at step 5'); raise SystemExit(9)", infeasible=ends))
    assert result is not None
    assert (result.state, result.reason) == ("infeasible", "it diverged at step 5")
    result = programs.run(programs.request("print('it diverged at step 5'); print('step 1 loss 1')", infeasible=ends))
    assert result is not None
    assert result.state == "completed", "what is said before a success is no end"


def test_any_other_exit_code_is_a_failure_with_the_last_lines_and_the_place(programs: Programs) -> None:
    script = programs.folder.path.parent / "train.py"
    script.write_text("print('step 1 loss 1')\ndef width():\n    raise ValueError('the width\\nis odd')\nwidth()\n")
    program = Program((sys.executable, "-S", str(script)), str(script.parent), (STEPS,))
    result = programs.run(replace(programs.request(""), program=program))
    assert result is not None
    assert (result.state, result.reason, result.where) == ("failed", "exit_code_1", f"{script}:3")
    assert result.message == "ValueError: the width (exit code 1)"
    assert "ValueError: the width" in result.traceback


def test_a_program_killed_by_a_signal_ends_the_trial_by_the_same_signal(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[int] = []
    monkeypatch.setattr(program_outcome, "_die_by", died.append)
    programs.run(programs.request("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    assert died == [signal.SIGSEGV]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGXCPU])
@pytest.mark.parametrize("wrapped", ["'{python}' -c '{kill}'; exit $?", "set -e; '{python}' -c '{kill}'; echo done"])
def test_a_signal_inside_a_shell_ends_the_trial_by_the_same_signal(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, wrapped: str
) -> None:
    died: list[int] = []
    monkeypatch.setattr(program_outcome, "_die_by", died.append)
    kill = f"import os; os.kill(os.getpid(), {int(number)})"
    request = programs.request("")
    program = Program(("/bin/sh", "-c", wrapped.format(python=sys.executable, kill=kill)), "/", (STEPS,))
    programs.run(replace(request, program=program))
    assert died == [number]


@pytest.mark.parametrize("code", [2, 127, 128, 128 + signal.SIGCHLD, 128 + signal.SIGSTOP, 255])
def test_other_exit_codes_are_not_signals(programs: Programs, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(program_outcome, "_die_by", lambda number: pytest.fail(f"died by {number}"))
    result = programs.run(programs.request(f"raise SystemExit({code})"))
    assert result is not None
    assert (result.state, result.reason, result.exit_code) == ("failed", f"exit_code_{code}", code)


def test_an_exit_code_that_the_study_declares_infeasible_is_not_a_signal(programs: Programs) -> None:
    request = programs.request("raise SystemExit(137)")
    program = replace(request.program, infeasible=replace(request.program.infeasible, exit_codes=(137,)))
    result = programs.run(replace(request, program=program))
    assert result is not None
    assert (result.state, result.reason) == ("infeasible", "exit_code_137")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pass", r"without printing any metric; looked for: regex step .*; it printed nothing"),
        ("print('epoch 1'); print('done')", r"its last lines were: epoch 1 / done"),
    ],
    ids=["nothing at all", "other things"],
)
def test_a_program_without_metrics_is_a_clear_failure(programs: Programs, text: str, said: str) -> None:
    result = programs.run(programs.request(text))
    assert result is not None
    assert (result.state, result.reason) == ("failed", "no_metric")
    assert re.search(said, result.message), result.message


def test_a_failure_without_the_objective_names_the_other_metrics(programs: Programs) -> None:
    request = programs.request("print('step 1 loss 1')", objective=Objective("valid/loss", "minimize"))
    result = programs.run(request)
    assert result is not None
    assert (result.state, result.reason) == ("failed", "no_metric")
    assert "without printing the objective valid/loss; it printed loss" in result.message


def test_a_program_that_cannot_be_started_is_an_error_for_the_user(programs: Programs) -> None:
    request = replace(programs.request(""), program=Program(("no-such-program",), str(programs.folder.path), (STEPS,)))
    with pytest.raises(WorkloadError, match=r"'no-such-program' cannot be started in .*: No such file"):
        programs.run(request)


def test_a_program_that_writes_where_it_runs_can_run_in_the_trial_s_own_folder(programs: Programs) -> None:
    text = "import sys; open('m.jsonl', 'w').write('{\"step\": 1, \"loss\": 0.5}'); print(open(sys.argv[2]).read())"
    (programs.folder.path.parent / "my data.txt").write_text("data of the study")
    program = Program(
        (sys.executable, "-S", "program.py", "--data", "my data.txt", "x" * 5000),
        str(programs.folder.path.parent),
        (MetricSource("json_lines", "{trial.dir}/m.jsonl"),),
        in_trial_folder=True,
    )
    result = programs.run(replace(programs.request(text), program=program))
    assert result is not None
    assert result.state == "completed", result.message
    assert programs.measured() == [(1, {"loss": 0.5})]
    assert "data of the study" in programs.folder.log.read_text()
    assert not (programs.folder.path.parent / "m.jsonl").exists()


@pytest.mark.parametrize("active", [True, False])
def test_python_is_that_of_the_active_environment_or_else_of_tunectl(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, active: bool
) -> None:
    folder = programs.folder.path.parent / "bin"
    folder.mkdir()
    (folder / "python").write_text("#!/bin/sh\necho step 1 loss 7\n")
    (folder / "python").chmod(0o755)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    if active:
        monkeypatch.setenv("VIRTUAL_ENV", str(folder.parent))
    script = programs.folder.path.parent / "program.py"
    script.write_text("print('step 1 loss 3')")
    program = Program(("python", str(script)), str(script.parent), (STEPS,))
    programs.run(replace(programs.request("print('step 1 loss 3')"), program=program))
    assert programs.measured() == [(1, {"loss": 7.0 if active else 3.0})]


STOPPABLE = """
import signal, sys, time
def stop(number, frame):
    print("saving", flush=True)
    sys.exit({code})
signal.signal(signal.SIGTERM, stop)
print("step {step} loss 1", flush=True)
for _ in range(600): time.sleep(0.1)
"""


@pytest.mark.parametrize(("code", "step", "state"), [(0, 5, None), (1, 5, None), (143, 5, None), (0, 20, "completed")])
def test_a_stopped_program_may_save_and_resumes_later(
    programs: Programs, code: int, step: int, state: str | None
) -> None:
    """One that was through already is completed."""
    began = lambda: programs.folder.log.exists() and "loss" in programs.folder.log.read_text()  # noqa: E731
    result = programs.run(programs.request(STOPPABLE.format(code=code, step=step)), stop=began)
    assert (None if result is None else result.state) == state
    assert "saving" in programs.folder.log.read_text()


def test_a_program_with_a_nan_that_ignores_sigterm_is_killed(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_program, "_STOP_SECONDS", 0.2)
    text = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('step 1 loss nan', flush=True)\n"
        "for _ in range(600): time.sleep(0.1)"
    )
    result = programs.run(programs.request(text))
    assert result is not None
    assert result.reason == "nan_metric"


def test_a_program_that_leaves_children_behind_ends_when_it_ends(programs: Programs) -> None:
    # The child holds the output open; killing it is the server's business.
    text = (
        "import os, time\nif os.fork() == 0:\n    os.write(1, str(os.getpid()).encode() + b'\\n'); time.sleep(60)\n"
        "else:\n    time.sleep(0.2); print('step 1 loss 1')"
    )
    began = time.monotonic()
    result = programs.run(programs.request(text))
    os.kill(int(programs.folder.log.read_text().split()[0]), signal.SIGKILL)
    assert result is not None
    assert result.state == "completed"
    assert time.monotonic() - began < 20


def test_a_million_lines_binary_output_and_an_endless_line_are_skipped(programs: Programs) -> None:
    text = (
        "import sys\nout = sys.stdout.buffer\n"
        "out.write(b'noise\\n' * 500000 + b'step 10 loss 0.5\\n' + b'\\x00\\xff\\x1b[0m' * 100000 + b'\\n')\n"
        "out.write(b'progress 10%\\r' * 500000 + b'x' * 3000000 + b'\\nstep 20 loss 0.25')"
    )
    result = programs.run(programs.request(text))
    assert result is not None
    assert programs.measured() == [(10, {"loss": 0.5}), (20, {"loss": 0.25})]


SAVING = """
import os, sys
home, resume = sys.argv[1], sys.argv[2:]
first = int(open(resume[0]).read()) if resume else 0
for step in range(first + 1, 7):
    print(f"step {step} loss {1 / step}", flush=True)
    open(f"{home}/model-{step}.pt", "w").write(str(step))
    if step == 3 and not resume: sys.exit(9)
"""


def test_a_program_that_takes_a_checkpoint_resumes_from_its_last_one(programs: Programs) -> None:
    places = ("{trial.dir}", Optional(("{trial.resume}",)))
    request = programs.request(SAVING, *places, checkpoints=Checkpoints("{trial.dir}/model-{step}.pt"))
    first = programs.run(request)
    assert first is not None
    assert first.reason == "exit_code_9"
    before = programs.measured()
    assert [step for step, _ in before] == [1, 2, 3]
    with open(programs.folder.measurements, "a") as file:
        file.write('{"step": 4, "metrics": {"loss": 9.0}, "kind": "evaluation", "elapsed_seconds": 1.0}\n')
    second = programs.run(replace(request, attempt=2))
    assert second is not None
    assert second.state == "completed"
    assert programs.measured() == [(step, {"loss": 1 / step}) for step in range(1, 7)]
    assert {path.name for path in (programs.folder.path / "files").iterdir()} >= {"model-6.pt"}
    assert (programs.folder.checkpoints / "step-00000006.pt").read_text() == "6"
    assert read_trial(programs.folder).measurements[-1].checkpoint == "step-00000006.pt"


def test_a_program_that_starts_over_finds_no_files_of_the_attempt_before(programs: Programs) -> None:
    text = "import os, sys; home = sys.argv[1]; print('step 1 loss', len(os.listdir(home))); open(home + '/x', 'w')"
    for attempt in (1, 2):
        assert programs.run(programs.request(text, "{trial.dir}", attempt=attempt)) is not None
        assert programs.measured() == [(1, {"loss": 0.0})]


WRAPPED = """
import signal, sys, time
def stop(number, frame):
    time.sleep(0.3)
    open(sys.argv[1], "w").write("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("step 5 loss 1", flush=True)
for _ in range(600): time.sleep(0.1)
"""


def test_a_program_that_ends_with_0_long_before_its_last_step_has_a_note(
    programs: Programs,
) -> None:
    text = (
        "import os, signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "for step in range(1, 21):\n    print(f'step {step} loss {1 / step}', flush=True)\n"
        "    if step == 12: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    result = programs.run(programs.request(text))
    assert result is not None
    assert (result.state, result.final_step) == ("completed", 12)
    assert result.notes.keys() == {"the program ended before its last step"}
    assert (
        "at step 12 of 20: it stops early by itself, counts other steps, or was stopped by another process"
        in result.message
    )


@pytest.mark.parametrize("steps", [[20], [19, 20], range(1, 20), [5, 10, 15], [0, 10, 19], [7, 14], [5, 10, 25]])
def test_a_program_that_reached_its_last_evaluation_has_no_such_note(programs: Programs, steps: Sequence[int]) -> None:
    result = programs.run(programs.request(f"for step in {list(steps)}: print('step', step, 'loss 1')"))
    assert result is not None
    assert (result.state, result.message) == ("completed", "")


def test_the_children_of_a_shell_may_save_although_the_shell_ends_at_once(programs: Programs) -> None:
    began = lambda: programs.folder.log.exists() and "loss" in programs.folder.log.read_text()  # noqa: E731
    request = programs.request(WRAPPED)
    script, saved = programs.folder.path.parent / "program.py", programs.folder.path.parent / "saved"
    line = f'{sys.executable} -S "{script}" "{saved}"; echo done'
    program = Program(("/bin/bash", "-c", line), str(script.parent), (STEPS,))
    assert programs.run(replace(request, program=program), stop=began) is None
    assert saved.read_text() == "saved"


TORN = """
import sys
home, resume = sys.argv[1], sys.argv[2:]
first = int(open(resume[0]).read()) if resume else 0
print(f"step {first + 1} loss {1 / (first + 1)}", flush=True)
open(f"{home}/model-{first + 1}.pt", "w").write(str(first + 1))
if first == 2: open(f"{home}/model-4.pt", "w").write("to")
sys.exit(0 if first >= 3 else 9)
"""


def test_a_damaged_checkpoint_is_skipped_if_an_attempt_made_no_progress_from_it(programs: Programs) -> None:
    places = ("{trial.dir}", Optional(("{trial.resume}",)))
    request = programs.request(
        TORN, *places, checkpoints=Checkpoints("{trial.dir}/model-{step}.pt"), keep_checkpoints=9
    )
    for attempt in range(1, 4):
        programs.run(replace(request, attempt=attempt))
    failed = programs.run(replace(request, attempt=4))
    assert failed is not None
    assert failed.state == "failed", "model-4.pt is no number"
    last = programs.run(replace(request, attempt=5))
    assert last is not None
    assert last.state == "completed", last.message
    assert [step for step, _ in programs.measured()][-1] == 4


COUNTED = """
import sys
home, resume = sys.argv[1], sys.argv[2:]
first = int(open(resume[0]).read()) if resume else 0
for number in range(first + 1, 7):
    print(f"loss {number}", flush=True)
    open(f"{home}/model-{number * 10}.pt", "w").write(str(number))
    open(f"{home}/rows.jsonl", "a").write('{"step": %d, "valid": %d}\\n' % (number * 10, number))
    if number == 3 and not resume:
        open(f"{home}/rows.jsonl", "a").write('{"step": 35, "valid": NaN}\\n')
        sys.exit(9)
"""


def test_counting_goes_on_and_the_output_of_an_earlier_attempt_is_not_read_again(
    programs: Programs,
) -> None:
    counted = MetricSource("regex", r"loss (?P<loss>\S+)", every=10)
    rows = MetricSource("json_lines", "{trial.dir}/rows.jsonl")
    places = ("{trial.dir}", Optional(("{trial.resume}",)))
    own = {"sources": (counted, rows), "checkpoints": Checkpoints("{trial.dir}/model-{step}.pt")}
    request = programs.request(COUNTED, *places, **own)
    programs.run(request)
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert result.state == "completed", result.message
    assert programs.measured() == [(10 * n, {"loss": float(n), "valid": float(n)}) for n in range(1, 7)]


TOLD_UNREAD = """
import sys
home, resume = sys.argv[1], sys.argv[2:]
if resume:
    print("step 3 loss 3", flush=True)
else:
    print("step 1 loss 1", flush=True)
    print("step 2 loss 2", flush=True)
    open(f"{home}/rows.csv", "w").write("step,valid\\n1,10\\n2,20\\n3,30\\n")
    open(f"{home}/model-2.pt", "w").close()
    sys.exit(9)
"""


def test_metrics_before_the_checkpoint_that_a_killed_runner_did_not_read_are_not_lost(
    programs: Programs,
) -> None:
    # Hazard: the checkpoint is there at once, the evaluation is read a moment later.
    rows = MetricSource("csv", "{trial.dir}/rows.csv")
    own = {"sources": (STEPS, rows), "checkpoints": Checkpoints("{trial.dir}/model-{step}.pt")}
    request = programs.request(TOLD_UNREAD, "{trial.dir}", Optional(("{trial.resume}",)), **own)
    programs.run(request)
    first, *_ = programs.folder.measurements.read_text().splitlines(keepends=True)
    programs.folder.measurements.write_text(first)
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert result.state == "completed", result.message
    assert programs.measured() == [
        (1, {"loss": 1.0, "valid": 10.0}),
        (2, {"loss": 2.0, "valid": 20.0}),
        (3, {"loss": 3.0}),
    ], "step 3 of the file is after the checkpoint, and was not repeated"


def test_an_unread_value_of_an_earlier_attempt_is_noted_at_the_end(programs: Programs) -> None:
    text = """
import sys
home, resume = sys.argv[1], sys.argv[2:]
if not resume:
    print('{"step": 1, "loss": "0.1 or so"}', flush=True)
    print('{"step": 2, "loss": 2}', flush=True)
    open(f"{home}/model-2.pt", "w").close()
    sys.exit(9)
print('{"step": 3, "loss": 3}', flush=True)
"""
    sources = (MetricSource("json_lines", "stdout"),)
    own = {"sources": sources, "checkpoints": Checkpoints("{trial.dir}/model-{step}.pt")}
    request = programs.request(text, "{trial.dir}", Optional(("{trial.resume}",)), max_train_steps=3, **own)
    programs.run(request)
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert result.state == "completed", result.message
    assert [(step, values["loss"]) for step, values in programs.measured()] == [(2, 2.0), (3, 3.0)]
    assert result.notes["loss could not be read"].startswith("'0.1 or so'")


def test_an_ambiguous_number_hides_no_metrics_that_were_not_read(programs: Programs) -> None:
    text = """
import sys
home, resume = sys.argv[1], sys.argv[2:]
if not resume:
    for step in (1, 2):
        print('{"step": %d, "loss": %d, "eta": NaN}' % (step, step), flush=True)
    open(f"{home}/model-2.pt", "w").close()
    sys.exit(9)
"""
    sources = (MetricSource("json_lines", "stdout"),)
    own = {"sources": sources, "checkpoints": Checkpoints("{trial.dir}/model-{step}.pt")}
    request = programs.request(text, "{trial.dir}", Optional(("{trial.resume}",)), **own)
    programs.run(request)
    programs.folder.measurements.write_text("")
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert result.state == "completed", result.message
    assert [(step, values["loss"]) for step, values in programs.measured()] == [(1, 1.0), (2, 2.0)]


def test_stopping_twice_before_the_next_evaluation_loses_no_checkpoint(programs: Programs) -> None:
    # Hazard: an attempt that comes no further than the checkpoint it went on from may have met a torn one.
    text = """
import sys, time
home, resume = sys.argv[1], sys.argv[2:]
if resume:
    print("went on", flush=True)
    time.sleep(60)
print("step 10 loss 1", flush=True)
open(f"{home}/model-10.pt", "w").close()
time.sleep(60)
"""
    places = ("{trial.dir}", Optional(("{trial.resume}",)))
    request = programs.request(text, *places, checkpoints=Checkpoints("{trial.dir}/model-{step}.pt"))

    def when(said: str, times: int) -> Callable[[], bool]:
        return lambda: (
            programs.folder.log.read_text().count(said) >= times and any(programs.folder.files.glob("model-*.pt"))
        )

    for attempt, stop in enumerate((when("step 10", 1), when("went on", 1), when("went on", 2)), start=1):
        assert programs.run(replace(request, attempt=attempt), stop=stop) is None
    assert programs.folder.log.read_text().count("step 10") == 1, "it never began anew"


def test_unread_counted_lines_are_counted_from_the_step_where_their_attempt_resumed(programs: Programs) -> None:
    text = """
import sys
home, resume = sys.argv[1], sys.argv[2:]
first = int(open(resume[0]).read()) if resume else 0
for number in range(first + 1, first + 3):
    print(f"loss {number}", flush=True)
    open(f"{home}/model-{number * 10}.pt", "w").write(str(number))
sys.exit(0 if first == 4 else 9)
"""
    counted = MetricSource("regex", r"loss (?P<loss>\S+)", every=10)
    own = {"sources": (counted,), "checkpoints": Checkpoints("{trial.dir}/model-{step}.pt"), "keep_checkpoints": 9}
    request = programs.request(text, "{trial.dir}", Optional(("{trial.resume}",)), **own)
    for attempt in (1, 2, 3):
        programs.run(replace(request, attempt=attempt))
        if attempt < 3:
            # The last evaluation of each attempt was not read.
            lines = programs.folder.measurements.read_text().splitlines(keepends=True)
            last = max(json.loads(line)["step"] for line in lines)
            kept = [line for line in lines if json.loads(line)["step"] < last]
            programs.folder.measurements.write_text("".join(kept))
    assert programs.measured() == [(10 * n, {"loss": float(n)}) for n in range(1, 7)]


@pytest.mark.parametrize("history", [False, True], ids=["of later rows alone", "of all rows"])
def test_counting_goes_on_in_a_csv_file_that_is_created_again(programs: Programs, history: bool) -> None:
    text = f"""
import sys
home, resume = sys.argv[1], sys.argv[2:]
first = int(open(resume[0]).read()) if resume else 0
with open(f"{{home}}/rows.csv", "w") as rows:
    rows.write("loss\\n")
    for number in range(1 if {history} else first + 1, 7):
        rows.write(f"{{number}}\\n")
        rows.flush()
        if number > first:
            open(f"{{home}}/model-{{number * 5}}.pt", "w").write(str(number))
        if number == 3 and not resume:
            sys.exit(9)
"""
    rows = MetricSource("csv", "{trial.dir}/rows.csv", every=5)
    own = {"sources": (rows,), "checkpoints": Checkpoints("{trial.dir}/model-{step}.pt")}
    request = programs.request(text, "{trial.dir}", Optional(("{trial.resume}",)), **own)
    programs.run(request)
    result = programs.run(replace(request, attempt=2))
    assert result is not None
    assert result.state == "completed", result.message
    assert programs.measured() == [(5 * n, {"loss": float(n)}) for n in range(1, 7)]


def test_a_source_line_in_a_traceback_is_not_matched_by_patterns(programs: Programs) -> None:
    text = "def attend(x):\n    return x.shape[1]  # wide ones may run out of memory\nattend(())\n"
    ends = InfeasibleEnds(patterns=("out of memory",))
    bug = programs.run(programs.request(text, infeasible=ends))
    assert bug is not None
    assert (bug.state, bug.reason) == ("failed", "exit_code_1")
    text = "def diverged(loss):\n    raise ArithmeticError(f'diverged: {loss}')\ndiverged(7)\n"
    failed = programs.run(programs.request(text, infeasible=InfeasibleEnds(patterns=("diverged: ",))))
    assert failed is not None
    assert (failed.state, failed.message) == ("infeasible", "it said: ArithmeticError: diverged: 7")


@pytest.mark.parametrize(
    ("printed", "state", "said"),
    [
        ("step 1 loss array([1,2])", "failed", "'array([1,2])' is not a number"),
        ("step 1 loss 1\nstep 2 loss high", "completed", "loss could not be read ('high' is not a number)"),
        ("epoch 1.0 loss 3\nepoch 1.5 loss 2", "completed", "the step could not be read ('1.5' is not a whole number"),
    ],
)
def test_a_value_that_cannot_be_read_is_noted(programs: Programs, printed: str, state: str, said: str) -> None:
    sources = (MetricSource("regex", r"(?:step|epoch) (?P<step>\S+) loss (?P<loss>\S+)"),)
    result = programs.run(programs.request(f"print({printed!r})", sources=sources))
    assert result is not None
    assert result.state == state
    assert said in result.message


RENAMED = MetricSource("json_lines", "stdout", names={"val_acc": "valid/acc"})


@pytest.mark.parametrize(
    ("silent", "note", "detail"),
    [
        (MetricSource("regex", r"acc=(?P<valid__acc>\S+)"), "valid/acc was never printed", "the expression 'acc="),
        (RENAMED, "valid/acc was never printed", "json_lines 'stdout'"),
        (MetricSource("csv", "{trial.dir}/m.csv"), "no metric was found by csv {trial.dir}/m.csv", ""),
        (
            MetricSource("json_lines", "{trial.dir}/*.jsonl"),
            "no metric was found by json_lines {trial.dir}/*.jsonl",
            "",
        ),
        (MetricSource("json_lines", "stdout"), "no metric was found by json_lines stdout", ""),
    ],
    ids=lambda value: value.where if isinstance(value, MetricSource) else "",
)
def test_a_declared_metric_or_source_without_values_is_a_note_if_the_objective_has_some(
    programs: Programs, silent: MetricSource, note: str, detail: str
) -> None:
    text = "print('step 1 loss 1')" + ('; print(\'{"step": 1, "acc": 0.5}\')' if silent is RENAMED else "")
    result = programs.run(programs.request(text, sources=(STEPS, silent)))
    assert result is not None
    assert (result.state, result.reason) == ("completed", "")
    assert detail in result.notes[note]
    assert result.message.startswith(note)


def test_a_source_with_values_only_before_the_program_resumed_is_not_a_failure(programs: Programs) -> None:
    text = """
import os, pathlib, sys
if sys.argv[1:]:
    print("step 2 loss 2")
else:
    print("step 1 loss 1")
    print('{"step": 1, "acc": 0.5}')
    here = pathlib.Path(os.environ["TUNECTL_TRIAL_DIR"])
    (here / "metrics.csv").write_text("step,f1\\n1,0.5\\n")
    (here / "model-1.pt").touch()
"""
    sources = (STEPS, MetricSource("json_lines", "stdout"), MetricSource("csv", "{trial.dir}/metrics.csv"))
    checkpoints = Checkpoints("{trial.dir}/model-{step}.pt")
    request = programs.request(text, Optional(("{trial.resume}",)), sources=sources, checkpoints=checkpoints)
    first = programs.run(request)
    assert first is not None
    assert first.state == "completed", first.message
    again = programs.run(replace(request, attempt=2))
    assert again is not None
    assert again.state == "completed", again.message
    assert [step for step, _ in programs.measured()] == [1, 2]


def test_a_folder_whose_name_looks_like_a_pattern_is_found(tmp_path: Path) -> None:
    (tmp_path / "my[run] *").mkdir()
    programs = Programs(tmp_path / "my[run] *")
    text = "import sys; open(sys.argv[1] + '/m.jsonl', 'w').write('{\"step\": 1, \"loss\": 0.5}')"
    request = programs.request(text, "{trial.dir}", sources=(MetricSource("json_lines", "{trial.dir}/*.jsonl"),))
    result = programs.run(request)
    assert result is not None
    assert result.state == "completed", result.message
