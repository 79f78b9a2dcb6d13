"""How users go on after failed trials."""

from __future__ import annotations

from tunectl.core.retry_advice import retry_advice


def test_trials_without_a_value_may_be_read_again_and_need_not_be_trained_again() -> None:
    assert "trains none of them again" in retry_advice(["no_metric", "no_metric"])


def test_other_failures_are_run_again_from_their_checkpoints() -> None:
    for reasons in (["error"], ["no_metric", "exit_code_1"], ["out_of_memory"]):
        assert retry_advice(reasons).startswith("correct the cause and run again with --retry-failed")
