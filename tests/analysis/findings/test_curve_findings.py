"""Tests findings/curve_findings.py, and in curves: training_length, overfitting, good_trials, good_curves and others.

The studies have one planted flaw, or are healthy and look similar.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import study
from narrowing import present
from planted_curves import CURVE_FLAWS, HEALTHY, healthy_evidence, planted_evidence
from simulated_studies import findings_of, rewritten, simulated_evidence

from tunectl.analysis.curves.curve_shapes import Share, cost_curve, pooled
from tunectl.analysis.curves.good_trials import decays_to_zero, good_trials
from tunectl.analysis.curves.overfitting import overfitting
from tunectl.analysis.curves.periodicity import period
from tunectl.analysis.curves.training_length import best_step_early, best_step_late, saturated_early, still_improving
from tunectl.analysis.findings.curve_findings import late_variance, periodic_evaluations, train_loss_rising
from tunectl.analysis.findings.finding_evidence import StudyEvidence
from tunectl.analysis.findings.findings import Finding
from tunectl.analysis.results.runs import Run, UpdateSeries
from tunectl.core.records import PlannedTrial

STEPS = np.arange(0, 2001, 100.0)


def curve_findings(evidence: StudyEvidence) -> list[Finding]:
    return findings_of(evidence, *(flaw for flaw in CURVE_FLAWS if flaw != "overfitting-elsewhere"))


def found(evidence: StudyEvidence) -> dict[str, Finding]:
    return {finding.id: finding for finding in curve_findings(evidence)}


def run_of(trial: int, valid, train=None, **changes) -> Run:
    """A completed trial with these error rates at STEPS."""
    plan = PlannedTrial(trial, 0, trial, 0, (), {"optimizer": "sgd", "learning_rate": 0.1}, 0)
    valid = np.asarray(valid, dtype=float)
    curves = {"valid/error_rate": (STEPS[: len(valid)], valid)}
    if train is not None:
        curves["train/error_rate"] = (STEPS[: len(valid)], np.asarray(train, dtype=float))
    after = np.where(np.isfinite(valid[1:]), valid[1:], np.inf)
    best = float(after.min()) if np.isfinite(after).any() else None
    return replace(Run(plan, "completed", best_value=best, curves=curves), **changes)


def evidence_of(runs) -> StudyEvidence:
    spec = study()
    return StudyEvidence(spec, spec.objective, tuple(runs))


def falling(time: float, level: float = 0.05, seed: int = 0, scatter: float = 0.0) -> np.ndarray:
    noise = np.exp(scatter * np.random.default_rng(seed).normal(size=len(STEPS)))
    return (level + (0.9 - level) * np.exp(-STEPS / 2000 / time)) * noise


@pytest.mark.parametrize("flaw", CURVE_FLAWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_flaw_is_found_with_the_trials_that_show_it(flaw, seed):
    evidence = planted_evidence(flaw, seed, trials=16)
    finding = found(evidence)[flaw.removesuffix("-elsewhere")]
    assert finding.trials
    assert set(finding.trials) <= {run.plan.trial for run in evidence.searched if run.feasible}
    assert finding.level == "warning"
    assert finding.sureness
    assert all(np.isfinite(value) for value in finding.numbers.values() if isinstance(value, float))


@pytest.mark.parametrize("kind", HEALTHY)
@pytest.mark.parametrize("seed", [1, 2])
def test_healthy_curves_have_no_finding(kind, seed):
    assert found(healthy_evidence(kind, seed)) == {}


@pytest.mark.parametrize("seed", range(4))
def test_clean_studies_have_no_finding_about_curves(seed):
    assert found(simulated_evidence(seed, trials=20)) == {}


@pytest.mark.parametrize("flaw", ["overfitting", "still-improving", "late-variance", "periodic-evaluations"])
def test_an_accuracy_to_maximise_shows_the_same_flaws(flaw):
    assert flaw in found(planted_evidence(flaw, 3, trials=16, direction="maximize"))


def test_under_a_schedule_that_decays_to_zero_late_progress_is_a_note_without_a_change():
    evidence = planted_evidence("still-improving", 4, trials=16, schedule="cosine")
    for name in ("still-improving", "best-step-late"):
        finding = found(evidence)[name]
        assert finding.level == "note"
        assert finding.changes == ()
        assert "longer" in finding.action


def test_under_a_constant_schedule_late_progress_proposes_twice_the_steps():
    evidence = planted_evidence("still-improving", 4, trials=16)
    steps = evidence.spec.training.max_train_steps
    changes = {name: found(evidence)[name].changes[0] for name in ("still-improving", "best-step-late")}
    assert {(change.path, change.value) for change in changes.values()} == {
        (("training", "max_train_steps"), 2 * steps)
    }


@pytest.mark.parametrize(
    ("values", "decays"),
    [
        ({}, False),
        ({"schedule": "constant"}, False),
        ({"schedule": "linear"}, True),
        ({"schedule": "cosine"}, True),
        ({"schedule": "cosine", "end_learning_rate_factor": 0.5}, False),
        ({"schedule": "step"}, True),
        ({"schedule": "step", "decay_steps": 5000}, False),
        ({"schedule": "step", "decay_factor": 0.9}, False),
        ({"schedule": "inverse_sqrt"}, False),
        ({"schedule": "wsd"}, True),
        ({"schedule": "wsd", "end_learning_rate_factor": 0.5}, False),
        ({"schedule": "piecewise", "piecewise_points": "50%: 0.1, 75%: 0.001"}, True),
        ({"schedule": "piecewise", "piecewise_points": "2000: 0.5, 2500: 0"}, True),
        ({"schedule": "piecewise", "piecewise_points": "2000: 0.5, 5000: 0"}, False),
        ({"schedule": "piecewise"}, False),
    ],
)
def test_which_schedules_decay_to_zero(values, decays):
    assert decays_to_zero(values, 3000) is decays


def test_a_schedule_that_varies_makes_it_a_warning_where_most_trials_keep_their_rate():
    evidence = planted_evidence("still-improving", 4, trials=12, settings=1)
    good = [run.plan.trial for run in good_trials(evidence)[0]]

    def level(decaying: int) -> str:
        def change(run: Run) -> Run:
            schedule = "cosine" if run.plan.trial in good[:decaying] else "constant"
            return replace(
                run, plan=replace(run.plan, hyperparameters={**run.plan.hyperparameters, "schedule": schedule})
            )

        return found(rewritten(evidence, change))["still-improving"].level

    assert level(1) == "warning"
    assert level(len(good)) == "note"


@pytest.mark.parametrize(("end", "level"), [(0.0, "note"), (0.5, "warning")])
def test_whether_a_schedule_of_the_studys_own_decays_is_seen_in_the_rates_of_the_updates(end, level):
    def change(run: Run) -> Run:
        plan = replace(run.plan, hyperparameters={**run.plan.hyperparameters, "schedule": "./mine.py:decay"})
        return replace(run, plan=plan, updates=UpdateSeries(learning_rate=np.linspace(0.3, 0.3 * end, 100)))

    evidence = rewritten(planted_evidence("still-improving", 4, trials=12, settings=1), change)
    assert found(evidence)["still-improving"].level == level


def test_overfitting_of_the_best_trial_names_where_it_turned_and_adds_weight_decay():
    valid = np.concatenate([np.linspace(0.9, 0.1, 10), np.linspace(0.1, 0.2, 11)])
    train = np.linspace(0.9, 0.01, 21)
    # The best trial is the second one, which does not overfit; one trial elsewhere is no habit.
    assert overfitting(evidence_of([run_of(0, valid, train), run_of(1, falling(0.2), falling(0.2))])) == []
    [finding] = overfitting(evidence_of([run_of(0, valid, train)]))
    assert 700 <= finding.numbers["turned_up_at_step"] <= 1100
    assert finding.changes[0].path == ("hyperparameters", "weight_decay")
    assert finding.numbers["best_trials_overfitting"] == 1


def test_a_validation_error_that_rises_with_the_training_error_is_no_overfitting():
    valid = np.concatenate([np.linspace(0.9, 0.1, 10), np.linspace(0.1, 0.3, 11)])
    assert overfitting(evidence_of([run_of(0, valid, valid - 0.05)])) == []


def test_without_any_training_metric_overfitting_is_not_claimed():
    valid = np.concatenate([np.linspace(0.9, 0.1, 10), np.linspace(0.1, 0.3, 11)])
    assert overfitting(evidence_of([run_of(0, valid)])) == []


@pytest.mark.parametrize(("examples", "overfits"), [(4, False), (8, True)])
def test_a_few_examples_of_a_small_validation_set_are_no_overfitting(examples, overfits):
    wrong = np.concatenate([np.linspace(450, 10, 10), np.full(5, 5), np.full(6, 5 + examples)])
    train = np.linspace(0.9, 0.0, 21)
    assert bool(overfitting(evidence_of([run_of(0, np.round(wrong) / 500, train)]))) == overfits


def test_overfitting_is_a_note_if_regularisation_is_scientific():
    evidence = planted_evidence("overfitting", 5, trials=12, settings=1)
    asked = study(
        {
            "learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}",
            "weight_decay": "{role: scientific, values: [0, 1e-4]}",
        },
        search="{trials: 12}",
    )
    [finding] = overfitting(replace(evidence, spec=asked))
    assert finding.level == "note"
    assert finding.changes == ()


def test_a_regulariser_that_is_tuned_already_is_not_added_again():
    evidence = planted_evidence("overfitting", 5, trials=12, settings=1, names=("learning_rate", "weight_decay"))
    [finding] = overfitting(evidence)
    assert finding.changes == ()
    assert "tune the regularisation" in finding.action


def test_late_variance_proposes_a_decaying_rate_or_an_average_if_it_decays_already():
    constant = late_variance(planted_evidence("late-variance", 6, trials=16))[0]
    decaying = late_variance(planted_evidence("late-variance", 6, trials=16, schedule="cosine"))[0]
    assert [(change.path[1], change.value) for change in constant.changes] == [("schedule", "cosine")]
    assert [(change.path[1], change.value) for change in decaying.changes] == [("polyak_decay", 0.99)]


def test_steps_are_halved_only_where_every_setting_has_saturated():
    evidence = planted_evidence("saturated-early", 7, trials=16, settings=2, offsets=(0.0, 0.5))
    steps = evidence.spec.training.max_train_steps
    [everywhere] = saturated_early(evidence)
    assert [change.value for change in everywhere.changes] == [steps // 2]

    clean = simulated_evidence(7, trials=16, settings=2, offsets=(0.0, 0.5), schedule="constant")
    of_clean = {run.plan.trial: run for run in clean.runs}
    mixed = replace(evidence, runs=tuple(of_clean[r.plan.trial] if r.plan.setting == 1 else r for r in evidence.runs))
    if mixed.spec.training != clean.spec.training:
        pytest.fail("the two studies differ in more than their flaw")
    [one] = saturated_early(mixed)
    assert one.settings == (0,)
    assert one.changes == ()


@pytest.mark.parametrize(("share", "begin"), [(0.0045, 0.1), (0.0055, 0.2)])
def test_a_gain_of_half_a_per_cent_is_not_saturated_even_if_noisy(share, begin):
    """Two errors are 0.8 % of the gain here, so that the level that counts as settled decides alone."""
    alternating = 0.001 * np.where(np.arange(20) % 2, 1.0, -1.0)
    level = np.where(np.arange(20) < 6, 0.5 + share * 0.4, 0.5)
    level[2:5] -= alternating[2:5].mean()
    curve = present(cost_curve(run_of(0, np.concatenate([[0.9], level + alternating])), "valid/error_rate"))
    fall = curve.fall((0.1, 0.25), (0.5, 1.0))
    assert fall.value == pytest.approx(share, rel=0.05)
    assert 0.0055 < 2 * fall.error < 0.0095
    [finding] = saturated_early(evidence_of([run_of(0, [0.9, *(level + alternating)])]))
    assert finding.numbers["saturated_by_share"] == begin


def test_a_trial_that_has_settled_on_one_split_alone_is_not_saturated():
    runs = [run_of(i, falling(0.01, seed=i, scatter=0.01), falling(0.4, level=0.0)) for i in range(6)]
    assert saturated_early(evidence_of(runs)) == []
    both = [run_of(i, falling(0.01, seed=i, scatter=0.01), falling(0.01, seed=9 + i, scatter=0.01)) for i in range(6)]
    assert [finding.id for finding in saturated_early(evidence_of(both))] == ["saturated-early"]


def test_a_best_step_in_the_first_tenth_by_overfitting_does_not_propose_fewer_steps():
    valid = np.concatenate([[0.9, 0.12, 0.1], np.linspace(0.11, 0.3, 18)])
    train = falling(0.1, level=0.0)
    [finding] = best_step_early(evidence_of([run_of(i, valid, train) for i in range(4)]))
    assert finding.numbers["overfitting_among_them"] == finding.numbers["good_trials"] == 3
    assert finding.changes == ()
    assert "overfitting" in finding.action


def test_a_best_step_at_the_end_of_a_flat_curve_is_luck():
    """A straight line asks for more steps; the same best steps on curves that have ended do not."""
    flat = [falling(0.05, seed=i, scatter=0.01) for i in range(6)]
    for values in flat:
        values[-1] = values[1:].min() - 1e-4
    assert best_step_late(evidence_of([run_of(i, values) for i, values in enumerate(flat)])) == []
    straight = [run_of(i, np.linspace(0.9, 0.2 + 0.01 * i, 21)) for i in range(6)]
    assert [finding.id for finding in best_step_late(evidence_of(straight))] == ["best-step-late"]


def test_the_worst_trials_do_not_make_a_study_improve():
    runs = [run_of(i, falling(0.1, level=0.05)) for i in range(3)]
    runs += [run_of(3 + i, np.linspace(0.9, 0.5, 21)) for i in range(9)]
    assert still_improving(evidence_of(runs)) == []


def test_a_training_loss_that_rises_at_the_end_is_found_and_an_early_catapult_is_not():
    def loss(values) -> dict:
        return {"train/loss": (STEPS, np.asarray(values)), "valid/error_rate": (STEPS, falling(0.1))}

    rising = np.concatenate([np.linspace(2.3, 0.3, 10), np.linspace(0.3, 1.0, 11)])
    catapult = 2.3 * np.exp(-STEPS / 400) + 30 * (STEPS == 100)
    rises = evidence_of([run_of(i, falling(0.1), curves=loss(rising)) for i in range(3)])
    [finding] = train_loss_rising(rises)
    assert 0.2 < finding.numbers["median_rise_as_share_of_gain"] < 0.4
    assert train_loss_rising(evidence_of([run_of(i, falling(0.1), curves=loss(catapult)) for i in range(3)])) == []


def test_a_common_period_is_found_and_measured():
    generator = np.random.default_rng(8)
    place = np.arange(38)
    curves = [
        0.3 - 0.002 * place + 0.02 * np.sin(2 * np.pi * place / 4.7 + i) + 0.01 * generator.normal(size=38)
        for i in range(4)
    ]
    seen = period(curves)
    assert seen is not None
    assert seen.chance < 1e-6
    assert seen.evaluations == pytest.approx(4.7, rel=0.1)


@pytest.mark.parametrize("values", [{}, {"batch_size": 64, "accumulate_steps": 4}])
@pytest.mark.parametrize(("examples", "is_said"), [(None, True), (5277, False), (5000, True)])
def test_the_period_of_the_epochs_in_the_minibatch_loss_is_no_bug(examples, is_said, values):
    """Between evaluations 100 batches of 64 pass, in how many parts ever: of 5,277 examples 1 + 1 / 4.7 epochs."""
    generator, every = np.random.default_rng(8), np.arange(0, 4001, 100.0)

    def losses(phase: float) -> dict:
        place = np.arange(len(every))
        moving = 0.02 * np.sin(2 * np.pi * place / 4.7 + phase) + 0.003 * generator.normal(size=len(every))
        loss = 0.3 + 2 * np.exp(-every / 500) - 0.002 * place + moving
        return {"train/minibatch_loss": (every, loss), "valid/error_rate": (every, 0.1 + 0.8 * np.exp(-every / 500))}

    runs = [replace(run_of(i, falling(0.1), curves=losses(i)), train_examples=examples) for i in range(4)]
    plans = [replace(run.plan, hyperparameters={**run.plan.hyperparameters, **values}) for run in runs]
    runs = [replace(run, plan=plan) for run, plan in zip(runs, plans, strict=True)]
    spec = study(training="{max_train_steps: 4000, eval_every: 100}", search="{trials: 4}")
    evidence = replace(evidence_of(runs), spec=spec)
    assert bool(periodic_evaluations(evidence)) is is_said


@pytest.mark.parametrize("length", [2.83, 3.7, 5.8])
def test_a_period_that_fits_no_whole_number_of_times_is_found_in_few_evaluations(length):
    generator, place = np.random.default_rng(13), np.arange(15)
    for _ in range(20):
        phases = generator.uniform(0, 2 * np.pi, size=3)
        curves = [np.sin(2 * np.pi * place / length + phase) + 0.3 * generator.normal(size=15) for phase in phases]
        seen = present(period(curves))
        assert seen.chance < 5e-3
        assert seen.evaluations == pytest.approx(length, rel=0.12)


def test_the_chance_of_a_period_in_white_noise_is_correct():
    """P values below 5 % come in about 5 % of the cases, never in more."""
    generator = np.random.default_rng(9)
    chances = [present(period(list(generator.normal(size=(count, 31))))).chance for count in (1, 3) for _ in range(250)]
    assert np.mean(np.array(chances) < 0.05) < 0.08
    assert np.mean(np.array(chances) < 0.5) > 0.2


@pytest.mark.parametrize("lasting", [0.5, 0.8])
def test_noise_that_lasts_is_no_period(lasting):
    generator = np.random.default_rng(10)
    alarms = 0
    for _ in range(100):
        noise = generator.normal(size=(4, 138))
        for place in range(1, 138):
            noise[:, place] += lasting * noise[:, place - 1]
        alarms += present(period(list(noise[:, 100:]))).chance < 5e-3
    assert alarms <= 3


def test_a_short_or_constant_curve_has_no_period():
    assert period([]) is None
    assert period([np.arange(12.0)]) is None
    assert period([np.full(30, 0.25)]) is None


def test_noise_is_measured_against_the_planted_one():
    values = falling(0.02, level=0.5) + 0.02 * np.random.default_rng(11).normal(size=21)
    curve = present(cost_curve(run_of(0, values), "valid/error_rate"))
    assert curve.noise == pytest.approx(0.02, rel=0.6)
    assert curve.gain == pytest.approx(0.4, rel=0.15)
    assert present(cost_curve(run_of(0, np.full(21, 0.5)), "valid/error_rate")).learned is False


def test_noise_that_lasts_does_not_make_a_turn():
    generator, alarms = np.random.default_rng(12), 0
    for _ in range(150):
        noise = generator.normal(size=41)
        for place in range(1, 41):
            noise[place] = 0.8 * noise[place - 1] + 0.6 * noise[place]
        curves = {"valid/error_rate": (np.arange(41.0), np.concatenate([[0.9], 0.1 * np.exp(0.03 * noise[1:])]))}
        curve = present(cost_curve(run_of(0, [0.9, 0.1], curves=curves), "valid/error_rate"))
        alarms += present(curve.turn()).deviations > 5
    assert alarms <= 15


def test_a_curve_begins_at_the_loss_of_a_constant_prediction_where_it_was_initialised_worse():
    run = run_of(0, falling(0.1), curves={"train/loss": (STEPS, np.concatenate([[80.0], falling(0.1)[1:]]))})
    assert present(cost_curve(run, "train/loss", baseline=2.3)).start == 2.3
    assert present(cost_curve(run, "train/loss")).start == 80.0


def test_shares_are_pooled_with_their_error():
    both = pooled([Share(0.1, 0.03), Share(0.3, 0.04)])
    assert (both.value, both.error) == pytest.approx((0.2, 0.025))
    assert pooled([]).error == np.inf


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [run_of(0, [0.9])],
        [run_of(0, [0.9, 0.5])],
        [run_of(0, [0.9, 0.5, 0.3, 0.2])],
        [run_of(0, np.full(21, np.nan))],
        [run_of(0, np.zeros(21))],
        [run_of(0, np.full(21, 0.5), np.full(21, 0.5))],
        [run_of(0, np.linspace(0.1, 0.9, 21))],
        [run_of(0, falling(0.1), state="infeasible")],
        [run_of(0, falling(0.1), state="running")],
        [run_of(0, falling(0.1), curves={})],
        [run_of(i, 1e300 * falling(0.1)) for i in range(4)],
        [run_of(i, 1e-300 * falling(0.1), 1e-300 * falling(0.1)) for i in range(4)],
        [run_of(i, -falling(0.1) * 1e6) for i in range(4)],
    ],
    ids=range(14),
)
def test_nothing_divides_by_zero_or_warns(runs):
    for finding in curve_findings(evidence_of(runs)):
        assert finding.to_json()


def test_with_an_objective_of_the_train_split_overfitting_is_found_on_the_validation_split():
    evidence = planted_evidence("overfitting", 5, trials=12, settings=1)
    other = replace(evidence, objective=replace(evidence.objective, metric="train/loss"))
    [finding] = overfitting(rewritten(other, lambda run: run))
    assert "valid/loss" in finding.sentence


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [(1, "The only good trial still improves at the end:"), (2, "All good trials still improve at the end:")],
)
def test_the_verb_goes_with_the_number_of_good_trials(trials: int, sentence: str):
    runs = [run_of(trial, falling(0.8, seed=trial)) for trial in range(trials)]
    (finding,) = still_improving(evidence_of(runs))
    assert finding.sentence.startswith(sentence)
