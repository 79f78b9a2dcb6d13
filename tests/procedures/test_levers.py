"""What a recipe changes, and what an earlier conclusion says."""

from __future__ import annotations

import math
from functools import partial

import pytest
from made_up_runs import spec_with

from tunectl.procedures.clip_sweep import CLIP_SWEEP, ClipSweepOptions
from tunectl.procedures.levers import Levers, earlier, problems_before, quartered
from tunectl.procedures.procedure import ProcedureOptions
from tunectl.procedures.recipes import Recipe
from tunectl.procedures.warmup_search import WarmupSweepOptions
from tunectl.procedures.warmup_sweep import WARMUP_SWEEP

spec = partial(spec_with, ProcedureOptions)

LR_SWEEP = {"best_learning_rate": 0.02, "unstable_base_learning_rate": 0.05, "edge_of_stability": True}

# As they were written before a conclusion held its recipe as a whole.
OLD_WARMUP = {
    "base_learning_rate": 0.15,
    "warmup_steps": 300,
    "post_warmup_steps": 600,
    "baseline_best": 0.05,
    "warmup_best": 0.02,
    "adopt": True,
    "raise_max_train_steps": True,
    "verdict": "With a warmup of 100 steps, training is stable at 0.15.",
}
OLD_CLIPPING = {"grad_clip_norm": 1.3, "clipped_fraction": 0.1, "too_aggressive": False, "verdict": "Clipping at 1.3."}
RANGE_TEST = {"low": 0.001, "high": 0.1, "verdict": "A range worth a sweep."}


def test_levers_change_what_they_are_about_and_nothing_else():
    assert Levers().changes == {}
    assert Levers(100, 1.3, 0.5).changes == {
        "warmup_steps": 100,
        "warmup": None,
        "post_warmup_steps": None,
        "grad_clip_norm": 1.3,
        "init_scale": 0.5,
    }
    assert Levers(clip=math.inf).changes == {"grad_clip_norm": None}


def test_levers_are_said_in_words():
    assert Levers(100, 1.3, 0.5).in_words == "with 100 steps of warmup and init_scale 0.5, clipped at 1.3"
    assert Levers(clip=math.inf).in_words == "without clipping"
    assert Levers(init_scale=0.5).in_words == "with init_scale 0.5"
    assert Levers().in_words == "without warmup"


def test_a_recipe_that_is_adopted_is_read_again_as_it_was():
    levers = Levers(100, 1.3, 0.5)
    recipe = Recipe(levers, 0.07).settings(spec())
    assert recipe == {"learning_rate": 0.07, "warmup_steps": 100, "grad_clip_norm": 1.3, "init_scale": 0.5}
    before = {"recipe": recipe, "best_learning_rate": 0.07, "unstable_base_learning_rate": 0.2}
    assert problems_before(before, "another") == []
    found = earlier(spec(before=before))
    assert (found.levers, found.best_rate, found.unstable_rate) == (levers, 0.07, 0.2)


def test_a_recipe_without_the_study_s_own_clipping_says_so():
    clipped = spec(values={"grad_clip_norm": 7.0, "warmup": "within", "post_warmup_steps": 5})
    recipe = Recipe(Levers(100, math.inf), 0.07).settings(clipped)
    assert recipe == {
        "learning_rate": 0.07,
        "warmup_steps": 100,
        "warmup": "prepend",
        "post_warmup_steps": 0,
        "grad_clip_norm": None,
    }
    before = {"recipe": recipe, "best_learning_rate": 0.07, "unstable_base_learning_rate": None}
    assert problems_before(before, "another") == []
    assert earlier(spec(before=before)).levers == Levers(100, math.inf)


def test_a_quarter_is_of_the_study_s_scale_once_and_of_none_where_nothing_takes_one():
    assert quartered(spec(init_scale=2.0), Levers(warmup=100)) == Levers(100, None, 0.5)
    assert quartered(spec(init_scale=2.0), Levers(init_scale=0.5)) is None
    assert quartered(spec(), Levers()) is None


@pytest.mark.parametrize("procedure", [WARMUP_SWEEP, CLIP_SWEEP], ids=lambda item: item.name)
@pytest.mark.parametrize(
    ("before", "said"),
    [
        (
            OLD_WARMUP,
            "by an older warmup-sweep, which mixed the numbers of several recipes; run the same warmup-sweep again",
        ),
        (
            OLD_CLIPPING,
            "by an older clip-sweep, which mixed the numbers of several recipes; run the same clip-sweep again",
        ),
        (RANGE_TEST, "expected a folder of lr-sweep, warmup-sweep or clip-sweep"),
        ({**LR_SWEEP, "best_learning_rate": "0.02"}, "best_learning_rate: expected a number above 0, got '0.02'"),
        ({**LR_SWEEP, "unstable_base_learning_rate": -1}, "expected a number above 0, got -1"),
        ({**LR_SWEEP, "recipe": 3}, "recipe: expected hyperparameters or null, got 3"),
        ({**LR_SWEEP, "recipe": {"learning_rate": 0.1, "momentum": 0.95}}, "no procedure changes momentum"),
        ({**LR_SWEEP, "recipe": {"init_scale": True}}, "init_scale: expected a number above 0, got True"),
        (
            {**LR_SWEEP, "better_than_constant": False, "unstable_base_learning_rate": None},
            "found no learning rate better than a constant prediction, and none that is unstable",
        ),
    ],
)
def test_a_conclusion_that_cannot_be_gone_on_from_is_refused_in_plain_words(procedure, before, said):
    (line,) = procedure.problems(spec(before=before))
    assert line.startswith("--from: ")
    assert said in line


def test_a_sweep_of_a_lever_that_the_recipe_has_already_is_refused():
    both = {**LR_SWEEP, "recipe": {"learning_rate": 0.1, "warmup_steps": 100, "grad_clip_norm": 1.3}}
    assert "already has warmup_steps: 100" in WARMUP_SWEEP.problems(spec_with(WarmupSweepOptions, before=both))[0]
    assert "already has grad_clip_norm: 1.3" in CLIP_SWEEP.problems(spec_with(ClipSweepOptions, before=both))[0]


@pytest.mark.parametrize("procedure", [WARMUP_SWEEP, CLIP_SWEEP], ids=lambda item: item.name)
def test_an_lr_sweep_s_conclusion_is_read_as_it_always_was(procedure):
    assert procedure.problems(spec_with(procedure.options, before=LR_SWEEP)) == []
    assert earlier(spec(before=LR_SWEEP)).levers == Levers()
