"""Which of the last lines of a program says why it failed."""

from __future__ import annotations

import time

import pytest
from each_case import each_case

from tunectl.core.failure_line import failure_line, failure_place

TRACE = 'Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    main()\n    ~~~~^^\n'
RIGHT = "ValueError: the width is odd"
FAILED = TRACE + RIGHT + "\n"
BAR = " 50%|##   | 2/4 [00:01<00:01, 1.99it/s]"
TORCHRUN = """\
[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 3, in <module>
[rank0]:     main()
[rank0]: ValueError: the width is odd
W0101 12:00:00.000000 12 torch/distributed/elastic/multiprocessing/api.py:897] Sending process 13 closing signal SIGTERM
E0101 12:00:00.000000 12 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 0
Traceback (most recent call last):
  File "/bin/torchrun", line 8, in <module>
    sys.exit(main())
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-01-01_12:00:00
  exitcode  : 1 (pid: 13)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
============================================================
"""
ACCELERATE = FAILED + (
    'Traceback (most recent call last):\n  File "/bin/accelerate", line 8, in <module>\n    sys.exit(main())\n'
    "subprocess.CalledProcessError: Command '['python', 'train.py']' returned non-zero exit status 1.\n"
)
CUDA = TRACE + (
    "RuntimeError: CUDA error: device-side assert triggered\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be\n"
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\n"
)
LOADER = (
    TRACE
    + "ValueError: Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
    '  File "/site/torch/utils/data/_utils/worker.py", line 349, in _worker_loop\n    data = fetcher.fetch(index)\n'
    '  File "data.py", line 9, in __getitem__\n    raise ValueError("the width is odd")\n'
    + FAILED.splitlines()[-1]
    + "\n\n"
)
RICH = """\
╭─────────────────── Traceback (most recent call last) ───────────────────╮
│ /home/me/train.py:3 in <module>                                         │
│                                                                         │
│   2 def main():                                                         │
│ ❱ 3     raise ValueError("the width is odd")                            │
╰─────────────────────────────────────────────────────────────────────────╯
ValueError: the width is odd
"""
LOGURU = """\
2026-01-01 12:00:00.123 | ERROR    | __main__:<module>:12 - An error has been caught in function '<module>':
Traceback (most recent call last):

> File "train.py", line 12, in <module>
    main()
    └ <function main at 0x7f>

  File "train.py", line 3, in main
    raise ValueError("the width is odd")

ValueError: the width is odd
"""
GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "train.py", line 3, in <module>
  |     raise ExceptionGroup("two went wrong", [ValueError("the width is odd"), TypeError("b")])
  | ExceptionGroup: two went wrong (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "train.py", line 2, in <module>
    | ValueError: the width is odd
    +---------------- 2 ----------------
    | TypeError: b
    +------------------------------------
"""
SPAWN = (
    TRACE
    + "torch.multiprocessing.spawn.ProcessRaisedException: \n\n-- Process 0 terminated with the following error:\n"
    + FAILED
)
POOL = 'multiprocessing.pool.RemoteTraceback: \n"""\n' + FAILED + '"""\n\nThe above exception was the direct cause'
POOL += " of the following exception:\n\n" + FAILED
TAILS = {
    "a plain traceback": (FAILED, RIGHT),
    "a message of several lines": (FAILED + "it must be even\nsee the paper\n", RIGHT),
    "a message of several lines that look like others": (FAILED + "  in block 3:\nError: see above\n", RIGHT),
    "no message": (TRACE + "AssertionError\n", "AssertionError"),
    "another exception before it": (
        TRACE + "KeyError: 'w'\n\nDuring handling of the above exception, another exception occurred:\n\n" + FAILED,
        RIGHT,
    ),
    "a cause before it": (
        TRACE + "KeyError: 'w'\n\nThe above exception was the direct cause of the following exception:\n\n" + FAILED,
        RIGHT,
    ),
    "a progress bar after it": (FAILED + BAR + "\n", RIGHT),
    "a progress bar on its line": (BAR + FAILED, RIGHT),
    "a progress bar between": ("step 1\n" + BAR + "\r" + BAR + "\n" + FAILED + BAR, RIGHT),
    "what CUDA adds": (CUDA, "RuntimeError: CUDA error: device-side assert triggered"),
    "a loader's worker": (LOADER, RIGHT),
    "rich": (RICH, RIGHT),
    "loguru": (LOGURU, RIGHT),
    "absl": ("E0101 12:00:00.123456 140 app.py:299] Top-level exception: odd\n" + FAILED, RIGHT),
    "a group of exceptions": (GROUP, "ExceptionGroup: two went wrong (2 sub-exceptions): " + RIGHT),
    "torchrun": (TORCHRUN, RIGHT),
    "accelerate": (ACCELERATE, RIGHT),
    "spawn": (SPAWN, RIGHT),
    "a pool": (POOL, RIGHT),
    "hydra": (
        "Error executing job with overrides: ['lr=0.1']\n" + FAILED + "\nSet the environment variable "
        "HYDRA_FULL_ERROR=1 for a complete stack trace.\n",
        RIGHT,
    ),
    "wandb": (
        FAILED
        + "wandb: \nwandb: Run history:\nwandb: loss █▅▁\nwandb: You can sync this run to the cloud by running:\n"
        "wandb: wandb sync /tmp/wandb/offline-run\nwandb: Find logs at: ./wandb/logs\n",
        RIGHT,
    ),
    "ray's name before each line": ("".join(f"(train pid=12) {line}\n" for line in FAILED.splitlines()), RIGHT),
    "srun's number before each line": (
        "".join(f"0: {line}\n" for line in FAILED.splitlines())
        + "srun: error: node1: task 0: Exited with exit code 1\n",
        RIGHT,
    ),
    "an exception that was ignored after it": (
        FAILED + "Exception ignored in: <function Meter.__del__ at 0x7f>\n" + TRACE + "AttributeError: none\n",
        RIGHT,
    ),
    "warnings after it": (
        FAILED + "/site/x.py:3: UserWarning: resource_tracker: There appear to be 1 leaked objects\n"
        "  warnings.warn('resource_tracker: There')\n"
        "[rank0]:[W1126 12:00:00.1 ProcessGroupNCCL.cpp:1496] Warning: destroy_process_group() was not called\n",
        RIGHT,
    ),
    "a shell's word after it": (FAILED + "train.sh: line 3: 123 Aborted (core dumped) python train.py\n", RIGHT),
    "an interrupted neighbour after it": (FAILED + TRACE + "KeyboardInterrupt\n", RIGHT),
    "a syntax error": (
        "  File \"train.py\", line 3\n    def f(\n         ^\nSyntaxError: '(' was never closed\n",
        "SyntaxError: '(' was never closed",
    ),
    "coloured": (FAILED.replace("ValueError", "\x1b[1;35mValueError\x1b[0m"), RIGHT),
    "CRLF": (FAILED.replace("\n", "\r\n"), RIGHT),
    "no end of line": (FAILED.strip(), RIGHT),
    "argparse": (
        "usage: train.py [-h] [--lr LR]\ntrain.py: error: unrecognized arguments: --width 3\n",
        "train.py: error: unrecognized arguments: --width 3",
    ),
    "click": (
        "Usage: train.py [OPTIONS]\nTry 'train.py --help' for help.\n\nError: No such option: --width\n",
        "Error: No such option: --width",
    ),
    "a traceback that was handled, and a wrong option": (
        FAILED + "going on without it\nstep 1 loss 2\ntrain.py: error: no such file: x\n",
        "train.py: error: no such file: x",
    ),
    "C++": (
        "terminate called after throwing an instance of 'std::runtime_error'\n  what():  the width is odd\n"
        "Aborted (core dumped)\n",
        "what():  the width is odd",
    ),
    "a fault in C": (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x7f (most recent call first):\n"
        '  File "train.py", line 3 in main\n\nExtension modules: numpy.core (total: 1)\n',
        "Fatal Python error: Segmentation fault",
    ),
    "a program that was not found": (
        "train.sh: line 3: pyhton: command not found\n",
        "train.sh: line 3: pyhton: command not found",
    ),
    "a logged error": (
        "2026-01-01 12:00:00 ERROR train: the data is not there\n2026-01-01 12:00:01 INFO train: closing\n" + BAR,
        "2026-01-01 12:00:00 ERROR train: the data is not there",
    ),
    "ray's exception, which quotes the program's": (
        TRACE + "ray.exceptions.RayTaskError(ValueError): ray::train() (pid=12, ip=10.0.0.1)\n"
        '  File "train.py", line 3, in train\n    raise ValueError("the width is odd")\n' + RIGHT + "\n",
        RIGHT,
    ),
    "TensorFlow's exception, which quotes the program's": (
        TRACE + 'ValueError: in user code:\n\n    File "train.py", line 3, in train_step  *\n        call(x)\n\n'
        "    ValueError: the width is odd\n",
        RIGHT,
    ),
    "a message that begins on the next line": (
        TRACE + "RuntimeError:\n    An attempt has been made to start a new process\n    before it was ready\n",
        "RuntimeError: An attempt has been made to start a new process",
    ),
    "a traceback that was handled long before": (
        FAILED + "".join(f"step {step} loss 2\n" for step in range(40)) + "giving up\n",
        "giving up",
    ),
    "its own words alone": ("step 1 loss 2.0\ngiving up\n" + BAR + "\n", "giving up"),
    "a bar alone": (BAR, BAR.strip()),
    "a metric called error is no error": ("valid error: 0.5\ngiving up\n", "giving up"),
}


@each_case("name", TAILS)
def test_the_line_that_says_why_a_program_failed(name: str) -> None:
    text, right = TAILS[name]
    assert failure_line(lines_of(text)) == right


def lines_of(text: str) -> list[str]:
    from tunectl.core.log_reader import lines_in

    return lines_in(text)


@pytest.mark.parametrize("name", ["a plain traceback", "loguru", "torchrun", "an exception that was ignored after it"])
def test_its_place_is_the_last_frame_of_that_traceback(name: str) -> None:
    assert failure_place(lines_of(TAILS[name][0])) == "train.py:3"


def test_a_loader_s_place_is_the_dataset_s() -> None:
    assert failure_place(lines_of(LOADER)) == "data.py:9"


def test_no_output_gives_no_line() -> None:
    assert (failure_line([]), failure_place([])) == ("", "")


def test_a_line_of_any_length_is_checked_quickly() -> None:
    long = [text * 30_000 for text in ("9", "error", "A", " ", "Traceback", "=%", "+-|")]
    began = time.process_time()
    for line in long:
        for header in (
            [],
            ["Traceback (most recent call last):"],
            ["  + Exception Group Traceback (most recent call last):"],
        ):
            assert len(failure_line([*header, line])) <= 500
    assert time.process_time() - began < 5, "hazard: an expression that looks at all parts of a line took 20 s"
