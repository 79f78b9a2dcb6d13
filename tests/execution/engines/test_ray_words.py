"""What is said about workers on Ray and how they ended. Tests execution/engines/ray_words.py.

The texts are those of Ray 2.60.
"""

from __future__ import annotations

import pytest

from tunectl.execution.engines.ray_words import reason_of_death, reason_of_exit, unreachable

HEAD = """The actor died unexpectedly before finishing this task.
\tclass_name: WorkerOnNode
\tactor_id: b0fad4269eb7c973e195d5b601000000
\tpid: 2354
\tname: tunectl-1
\tnamespace: tunectl
\tip: 192.0.2.2
"""
KILLED = (
    HEAD + "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
    "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the "
    "process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called."
)
SHORT_OF_MEMORY = KILLED.replace("SYSTEM_ERROR", "NODE_OUT_OF_MEMORY")
NODE = (
    HEAD + "The actor died because its node has died. Node Id: 08161e46c35b0e3357fa334b8119d600755ff51fad31a931b6\n"
    "\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"
)
BY_HAND = HEAD + "The actor is dead because it was killed by `ray.kill`."
NEVER_RAN = BY_HAND + "\nThe actor never ran - it was cancelled before it started running."
RAISED = """The actor died because of an error raised in its creation task, \x1b[36mray::x3:A.__init__()\x1b[39m (pid=9)
  File "/lib/tunectl/execution/engines/ray_node.py", line 8, in __init__
ModuleNotFoundError: No module named 'tunectl'"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (KILLED, "its worker process has died"),
        (SHORT_OF_MEMORY, "OUT_OF_MEMORY"),
        (NODE, "NODE_FAIL"),
        (BY_HAND, "CANCELLED by ray.kill"),
        (NEVER_RAN, "CANCELLED by ray.kill"),
        (RAISED, "ModuleNotFoundError: No module named 'tunectl'"),
        ("", "Ray does not say why"),
    ],
)
def test_the_death_of_an_actor_has_one_reason(text: str, reason: str) -> None:
    assert reason_of_death(text) == reason


@pytest.mark.parametrize(
    ("code", "log", "reason"),
    [
        (0, "", ""),
        (2, "workers/1.log", "exit code 2"),
        (2, "", "exit code 2 on a1: no such workload"),
        (-9, "workers/1.log", "SIGKILL"),
    ],
)
def test_the_end_of_a_worker_is_said_in_a_word_and_with_its_last_line_where_its_log_is_elsewhere(
    code: int, log: str, reason: str
) -> None:
    answer = {"code": code, "tail": "loading\nno such workload\n", "host": "a1", "log": log}
    assert reason_of_exit(answer) == reason


def test_a_cluster_that_cannot_be_reached_is_said_with_what_to_do() -> None:
    assert unreachable("a:6379", ConnectionRefusedError(111, "Connection refused")) == (
        "no Ray cluster answers at a:6379: Connection refused; start one (`ray start --head`), or correct "
        "resources.ray.address or RAY_ADDRESS"
    )
    assert unreachable("local", RuntimeError("no port\nmore")) == (
        "no local Ray cluster could be started: RuntimeError: no port"
    )
