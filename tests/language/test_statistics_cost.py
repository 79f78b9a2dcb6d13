from __future__ import annotations

import pytest
from builders import study

from tunectl.language.statistics_cost import statistics_cost


@pytest.mark.parametrize(
    ("steps", "evaluations"),
    [(100, 11), (95, 11), (5, 2)],
)
def test_the_statistics_of_an_evaluation_cost_a_forward_pass_of_each_batch(steps: int, evaluations: int) -> None:
    training = f"{{max_train_steps: {steps}, eval_every: 10, batch_norm_statistics: {{batches: 6}}}}"
    found = statistics_cost(study(training=training))
    assert found is not None
    assert (found.batches, found.evaluations) == (6, evaluations)
    assert found.share == pytest.approx(6 / 3 * evaluations / steps)


def test_without_the_section_nothing_is_expected() -> None:
    assert statistics_cost(study()) is None
