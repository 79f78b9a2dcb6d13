"""The trials that a study plans only when the results of earlier ones are known.

Each source of such trials is asked again whenever all planned trials have ended, so that a run that was killed goes on
with the same ones: it may depend only on the study and on the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tunectl.core.records import PlannedTrial
from tunectl.language.study_spec import StudySpec
from tunectl.session.open_study import OpenStudy
from tunectl.session.promotion import promotion
from tunectl.space.search_space import Sampler

FurtherTrials = Callable[[OpenStudy], Sequence[PlannedTrial]]
"""The trials to add to a study whose planned trials have all ended; none where it is complete."""

OF_SAMPLERS: Mapping[Sampler, FurtherTrials] = {}


def further_trials(spec: StudySpec) -> FurtherTrials | None:
    """The source of further trials of a study; None where all its trials are planned before the first one runs.

    The stages follow when the sampler has no more trials to add.
    """
    of_sampler = OF_SAMPLERS.get(spec.search.sampler)
    if not spec.search.promote:
        return of_sampler

    def found(study: OpenStudy) -> Sequence[PlannedTrial]:
        added = of_sampler(study) if of_sampler is not None else ()
        return added or promotion(study).trials

    return found
