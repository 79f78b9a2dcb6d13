"""What the initialisations of a study are expected to cost, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass

from tunectl.language.configuration import INITIALISATION_DEFAULTS, INITIALISATION_EXAMPLES
from tunectl.language.curvature_cost import trained_examples
from tunectl.language.study_spec import StudySpec

GRADIENTS = {"metainit": 10.0, "gradinit": 5.0}
"""An iteration in gradients of its batch, each a forward and a backward pass: 6.8 to 13.8 and 3.2 to 10.3 on two
convolutional networks, a transformer and a wide MLP. The MLP had the most, since there the work on the weights counts.
"""


@dataclass(frozen=True, slots=True)
class InitialisationCost:
    """The expected cost of one procedure: its iterations at most, and the share of the time of a trial's training.

    `share` is the least and the most over the batch sizes of the study: 0.5 is half as long as the training itself.
    """

    method: str
    steps: int
    share: tuple[float, float]


def initialisation_costs(spec: StudySpec) -> tuple[InitialisationCost, ...]:
    """The expected cost of each procedure of a study, by the model of `curvature_cost`; none where own code trains."""
    if spec.own_code:
        return ()
    chosen = {value for item in spec.alternatives("initialisation") for value in item.domain.listed or ()}
    least, most = trained_examples(spec)
    found = []
    for method, gradients in GRADIENTS.items():
        if method in chosen:
            steps = _steps(spec, method)
            examples = steps * gradients * INITIALISATION_EXAMPLES
            found.append(InitialisationCost(method, steps, (examples / most, examples / least)))
    return tuple(found)


def _steps(spec: StudySpec, method: str) -> int:
    """The largest number of iterations of a procedure in a study."""
    own = [
        int(steps)
        for item in spec.alternatives("initialisation_steps")
        if method in dict(item.when).get("initialisation", (method,))
        for steps in item.domain.numbers
    ]
    return max(own, default=INITIALISATION_DEFAULTS[method].steps)
