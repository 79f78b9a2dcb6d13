"""Warnings about a study's design, each with its reason, from the Deep Learning Tuning Playbook
("Identifying scientific, nuisance, and fixed hyperparameters" and the FAQ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tunectl.core.errors import Problem
from tunectl.core.records import Scalar
from tunectl.language import (
    curvature_checks,
    early_stopping_checks,
    review_budget,
    review_clipping,
    review_code,
    review_formulas,
    review_optimizers,
    review_roles,
    review_training,
    stage_checks,
)
from tunectl.language.metric_direction import direction_against_the_name
from tunectl.language.review_context import Context
from tunectl.language.review_own_code import review_own_code
from tunectl.language.study_spec import StudySpec
from tunectl.space.conditions import Conditions

Rule = Callable[[Context], list[Problem]]

_RULES: tuple[Rule, ...] = (
    direction_against_the_name,
    review_roles.batch_size_as_nuisance,
    review_roles.learning_rate_as_scientific,
    review_roles.choice_as_nuisance,
    review_roles.tuned_as_scientific,
    review_roles.wants_log_scale,
    review_formulas.factors_on_a_linear_scale,
    review_roles.fixed_learning_rate,
    review_roles.fixed_regularisation,
    review_roles.missing_goal,
    review_roles.wide_question,
    review_roles.batch_sizes_compared,
    review_optimizers.shared_ranges,
    review_optimizers.fixed_momentum,
    review_budget.too_many_dimensions,
    review_budget.unequal_dimensions,
    review_budget.nothing_sampled,
    review_budget.too_few_trials,
    review_budget.grid_in_many_dimensions,
    review_budget.uneven_coverage,
    curvature_checks.measures_without_effect,
    stage_checks.review_stages,
    early_stopping_checks.review_stop_early,
)
_OF_OUR_LOOP: tuple[Rule, ...] = (
    review_optimizers.untuned_optimizer,
    review_clipping.shared_muon_rate,
    review_clipping.clipped_twice,
    review_code.unknown_optimizers,
    review_training.small_evaluation_batches,
    review_training.gradient_accumulation,
    review_training.small_shares,
    review_training.rare_evaluations,
    review_training.long_warmup,
    curvature_checks.never_measured,
)
"""What own code does with an optimizer's name, or between evaluations, is not known."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a study costs, or a stage of it; all but `settings` are those of the whole, not of a setting or a trial.

    `examples` are those on which it trains, each as often as it does, and `evaluations` those of all trials, of all
    splits at a time; both None where they are not known, for own code. `later` has the most that each later stage
    costs.
    """

    settings: int
    trials: int
    steps: int
    examples: int | None = None
    evaluations: int | None = None
    later: tuple[Budget, ...] = ()

    @property
    def in_all(self) -> Budget:
        """What all stages cost at most."""
        stages = (self, *self.later)

        def total(parts: Iterable[int | None]) -> int | None:
            known = [part for part in parts if part is not None]
            return sum(known) if len(known) == len(stages) else None

        return Budget(
            self.settings,
            sum(stage.trials for stage in stages),
            sum(stage.steps for stage in stages),
            total(stage.examples for stage in stages),
            total(stage.evaluations for stage in stages),
        )


def review(
    spec: StudySpec, settings: tuple[Mapping[str, Scalar], ...], trials_per_setting: tuple[int, ...]
) -> list[Problem]:
    """Warnings about the design of a checked study, in the order of the file.

    `settings` are the scientific values of each setting, `trials_per_setting` how many trials each gets.
    """
    context = Context(spec, Conditions(spec.hyperparameters), settings, trials_per_setting)
    rules = _RULES if spec.own_code else (*_RULES, *_OF_OUR_LOOP)
    found = [problem for rule in rules for problem in rule(context)]
    return sorted([*found, *review_own_code(spec)] if spec.own_code else found)
