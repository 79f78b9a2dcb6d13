"""The sections of a study except its hyperparameters: keys, types, bounds, defaults, and what belongs elsewhere.

Tests language/sections.py, language/study_spec.py, language/hand_written_points.py.
"""

from __future__ import annotations

import pytest
from builders import STUDY_FILE, problems_in, problems_of, study, study_text
from each_case import each_case

from tunectl.core.objective import Objective
from tunectl.core.records import BatchNormStatistics, Recovery
from tunectl.language.study_reader import load_study, parse_study
from tunectl.language.study_spec import RaySection, ResourcesSection, SlurmSection, TrainingSection
from tunectl.space.search_space import SearchSection

VARIES = {"learning_rate": "{role: nuisance, range: [1e-3, 1], scale: log}"}


def test_what_is_left_out_has_the_defaults_of_the_design():
    spec = study()
    assert spec.training == TrainingSection(
        2000, 100, keep_checkpoints=3, seed=0, train_examples=None, no_progress=True
    )
    assert spec.search == SearchSection("halton", trials=1, seed=0, points=())
    assert spec.resources == ResourcesSection("auto", 1, 1, 0, 1, None, 30.0, 1, "local")
    assert spec.objective == Objective("valid/error_rate", "minimize", "best")
    assert (spec.goal, spec.notes, spec.uncommitted_diff) == ("", "", "folders")


def test_every_key_reaches_the_spec():
    spec = study(
        VARIES,
        study="a-study",
        goal="Is it?",
        notes="text",
        uncommitted_diff="none",
        objective="{metric: valid/accuracy, direction: maximize, checkpoint: final}",
        training="{max_train_steps: 9, eval_every: 3, keep_checkpoints: 2, seed: 5, train_examples: 7, no_progress: false}",
        search="{sampler: random, trials: 4, seed: 6}",
        resources="{backend: slurm, devices: [0, GPU-a], trials_per_device: 2, threads_per_trial: 3, data_workers: 4, retries: 0, trial_timeout_seconds: 60, grace_seconds: 5}",
    )
    assert spec.name == "a-study"
    assert (spec.goal, spec.notes, spec.uncommitted_diff) == ("Is it?", "text", "none")
    assert spec.objective == Objective("valid/accuracy", "maximize", "final")
    assert spec.training == TrainingSection(9, 3, 2, 5, 7, False)
    assert spec.search == SearchSection("random", 4, 6)
    assert spec.resources == ResourcesSection((0, "GPU-a"), 2, 3, 4, 0, 60.0, 5.0, 1, "slurm")


@pytest.mark.parametrize("section", ["search", "resources", "goal", "notes", "uncommitted_diff"])
def test_an_empty_section_counts_as_left_out(section):
    assert study(**{section: ""}) is not None


@pytest.mark.parametrize(
    ("stem", "name"),
    [("lr", "lr"), ("my study (2)", "my-study-2"), ("größe", "gr-e"), (".hidden", "hidden"), ("a" * 200, "a" * 100)],
)
def test_the_name_comes_from_the_file_where_none_is_written(stem, name):
    assert parse_study(study_text(), STUDY_FILE.with_name(f"{stem}.yaml")).name == name


def test_a_file_name_without_a_letter_asks_for_a_name(tmp_path):
    path = tmp_path / "….yaml"
    path.write_text(study_text())
    with pytest.raises(Exception, match="needs a name"):
        load_study(path)


@each_case(
    ("section", "content", "problem"),
    [
        ("study", "a/b", "study: expected a name that a folder can have"),
        ("study", "..", "study: expected a name that a folder can have"),
        ("study", "../a", "study: expected a name that a folder can have"),
        ("study", "'a b'", "study: expected a name that a folder can have"),
        ("study", "'-a'", "study: expected a name that a folder can have"),
        ("study", '"a\\n"', "study: expected a name that a folder can have"),
        ("study", "''", "study: expected a name that a folder can have"),
        ("study", "x" * 101, "study: expected a name that a folder can have"),
        ("study", "2024", "study: expected text, got 2024; write it in quotes"),
        ("study", "[a]", "study: expected text, got a list"),
        ("goal", "5", "goal: expected text, got 5; write it in quotes"),
        ("workload", "[a]", "workload: expected text, got a list"),
        ("workload", "5", "workload: expected text, got 5; write it in quotes"),
        ("workload", "{comand: [a]}", "workload: expected text (module:factory), or a mapping with command or"),
        ("workload", "", "workload: expected text, got nothing"),
        (
            "objective",
            "{metric: valid/loss, direction: minimize, steps_to: '0.1'}",
            "objective.steps_to: expected a number",
        ),
        (
            "objective",
            "{metric: valid/loss, direction: minimize, steps_to: .inf}",
            "objective.steps_to: expected a finite number",
        ),
        (
            "objective",
            "{metric: valid/loss, direction: minimize, steps_to: 0.1, checkpoint: final}",
            "objective.checkpoint: expected best, got final: steps_to counts the steps to the first evaluation that",
        ),
        ("objective", "valid/loss", "objective: expected a mapping of keys, got 'valid/loss'"),
        ("objective", "{metric: valid/loss}", "objective.direction: the key is missing; write minimize or maximize"),
        ("objective", "{direction: minimize}", "objective.metric: the key is missing"),
        ("objective", "{metric: loss, direction: minimize}", "objective.metric: expected a metric as split/name"),
        ("objective", "{metric: valid/ x, direction: minimize}", "objective.metric: expected a metric as split/name"),
        ("objective", "{metric: test/loss, direction: minimize}", "objective.metric: expected a metric of another split"),
        ("objective", "{metric: v/l, direction: min}", "objective.direction: expected one of minimize, maximize, got 'min'"),
        ("objective", "{metric: v/l, direction: minimize, checkpoint: last}", "objective.checkpoint: expected one of best, final"),
        ("objective", "{metric: v/l, direction: minimize, chekpoint: best}", "did you mean checkpoint?"),
        ("training", "{eval_every: 1}", "training.max_train_steps: the key is missing"),
        ("training", "{max_train_steps: 1}", "training.eval_every: the key is missing"),
        ("training", "5", "training: expected a mapping of keys, got 5"),
        ("training", "", "training: expected a mapping of keys, got nothing"),
        ("training", None, "training: the key is missing"),
        ("workload", None, "workload: the key is missing"),
        ("objective", None, "objective: the key is missing"),
        ("hyperparameters", "", "hyperparameters: expected a mapping of keys, got nothing"),
        ("hyperparameters", "{}", "hyperparameters: expected at least optimizer and learning_rate, got none"),
        ("hyperparameters", "[a]", "hyperparameters: expected a mapping of keys, got a list"),
        ("traning", "{}", "traning: no such key; did you mean training?"),
        ("trials", "5", "trials: this key belongs under search, not at the top level"),
        ("learning_rate", "5", "learning_rate: learning_rate is a hyperparameter; write it under hyperparameters"),
        ("search", "{trial: 5}", "search.trial: no such key; did you mean trials?"),
        ("search", "{max_train_steps: 5}", "search.max_train_steps: this key belongs under training, not under search"),
        ("search", "{sampler: sobol}", "search.sampler: expected one of halton, random, grid, bayesian, got 'sobol'"),
        ("resources", "{min_free_memory: 1}", "resources.min_free_memory: expected less than 1, got 1"),
        ("resources", "{devices: gpu}", "resources.devices: expected auto, cpu, or a list of GPU indices and UUIDs"),
        ("resources", "{devices: []}", "resources.devices: expected auto, cpu, or a list"),
        ("resources", "{devices: [0, 0]}", "resources.devices: expected each device once"),
        ("resources", "{devices: [true]}", "resources.devices: expected auto, cpu, or a list"),
        ("resources", "{devices: [-1]}", "resources.devices: expected auto, cpu, or a list"),
        ("resources", "{devices: [0.0]}", "resources.devices: expected auto, cpu, or a list"),
        ("resources", "{devices: 0}", "resources.devices: expected auto, cpu, or a list"),
        ("resources", "{backend: ray, devices: [0]}", "resources.devices: expected auto or cpu: with backend: ray, Ray assigns the GPUs"),
        ("resources", "{slots: 2}", "resources.slots: no such key; how many trials run at a time is the option --slots"),
        ("resources", "{workers: 2}", "the workers of an engine: ray.workers, slurm.array_parallelism; "),
        ("resources", "{ray: {adress: local}}", "resources.ray.adress: no such key; did you mean address?"),
        ("resources", "{ray: {address: head}}", "resources.ray.address: expected host:port, auto (a cluster that runs on this host) or local"),
        ("resources", "{ray: {address: 'ray://head:10001'}}", "resources.ray.address: expected host:port, auto"),
        ("resources", "{ray: {address: 6379}}", "resources.ray.address: expected text, got 6379"),
        ("resources", "{ray: {num_gpus: 1.5}}", "resources.ray.num_gpus: expected a whole number, or a part of one GPU such as 0.5, got 1.5"),
        ("resources", "{ray: {num_gpus: -1}}", "resources.ray.num_gpus: expected at least 0, got -1"),
        ("resources", "{devices_per_trial: 2, ray: {num_gpus: 1}}", "resources.ray.num_gpus: expected at least 2 (resources.devices_per_trial), got 1"),
        ("resources", "{devices_per_trial: 4, slurm: {gpus_per_node: 2}}", "resources.slurm.gpus_per_node: expected at least 4 (resources.devices_per_trial), got 2"),
        ("resources", "{ray: {num_cpus: 0}}", "resources.ray.num_cpus: expected more than 0, got 0"),
        ("resources", "{ray: {workers: 0}}", "resources.ray.workers: expected at least 1, got 0"),
        ("resources", "{ray: {additional: {num_gpus: 1}}}", "resources.ray.additional.num_gpus: expected another option (write this one beside additional)"),
        ("resources", "{ray: {additional: {lifetime: detached}}}", "resources.ray.additional.lifetime: expected another option (tunectl sets this one)"),
        ("resources", "{ray: {additional: [memory]}}", "resources.ray.additional: expected a mapping of keys"),
    ],
)  # fmt: skip
def test_a_section_that_is_wrong_is_refused_by_name(section, content, problem):
    found = problems_of(**{section: content})
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    ("content", "recovery"),
    [
        ("{}", Recovery(0.5, 3)),
        ("{learning_rate_factor: 0.1}", Recovery(0.1, 3)),
        ("{learning_rate_factor: 9e-1, max_recoveries: 1}", Recovery(0.9, 1)),
        ("", None),
    ],
)
def test_a_recovery_is_asked_for_by_its_key_and_has_defaults(content, recovery):
    spec = study(training=f"{{max_train_steps: 1, eval_every: 1, recovery: {content}}}")
    assert spec.training.recovery == recovery
    assert study(training="{max_train_steps: 1, eval_every: 1}").training.recovery is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{batches: 50}", BatchNormStatistics(50)),
        ("", None),
        (
            "{}",
            "training.batch_norm_statistics.batches: the key is missing; write the number of training batches, such as 50",
        ),
        ("{batches: 0}", "training.batch_norm_statistics.batches: expected at least 1, got 0"),
        ("{batches: 2.5}", "training.batch_norm_statistics.batches: expected a whole number, got 2.5"),
        ("{batch: 50}", "training.batch_norm_statistics.batch: no such key; did you mean batches?"),
        ("50", "training.batch_norm_statistics: expected a mapping of keys, got 50"),
    ],
)
def test_statistics_of_batch_normalisation_are_asked_for_by_a_number_of_batches(content, expected):
    training = f"{{max_train_steps: 1, eval_every: 1, batch_norm_statistics: {content}}}"
    if isinstance(expected, str):
        (found,) = problems_of(training=training)
        assert found.startswith(expected), found
    else:
        assert study(training=training).training.batch_norm_statistics == expected


@pytest.mark.parametrize(
    ("workload", "kind"), [("{function: ./a.py:f}", "function"), ("{command: [./a, '{learning_rate}']}", "command")]
)
def test_own_code_cannot_have_its_statistics_gathered(workload, kind):
    training = "{max_train_steps: 9, batch_norm_statistics: {batches: 5}}"
    (found,) = problems_of({"optimizer": None}, workload=workload, training=training)
    assert found.startswith("training.batch_norm_statistics: only tunectl's own training loop gathers"), found
    assert f"a {kind} trains by itself; leave it out" in found


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{factor: 0.5}", "training.recovery.factor: no such key"),
        ("{seed: 5}", "training.recovery.seed: no such key"),
        ("{max_recovery: 3}", "training.recovery.max_recovery: no such key; did you mean max_recoveries?"),
        ("{learning_rate_factor: 1}", "training.recovery.learning_rate_factor: expected less than 1, got 1"),
        ("{learning_rate_factor: 0}", "training.recovery.learning_rate_factor: expected more than 0, got 0"),
        (
            "{learning_rate_factor: '0.5'}",
            "training.recovery.learning_rate_factor: expected a number, got '0.5' (text)",
        ),
        ("{max_recoveries: 0}", "training.recovery.max_recoveries: expected at least 1, got 0"),
        ("{max_recoveries: 2.5}", "training.recovery.max_recoveries: expected a whole number, got 2.5"),
        ("true", "training.recovery: expected a mapping of keys, got true"),
        ("3", "training.recovery: expected a mapping of keys, got 3"),
    ],
)
def test_a_recovery_that_is_wrong_is_refused_by_name(content, problem):
    found = problems_of(training=f"{{max_train_steps: 1, eval_every: 1, recovery: {content}}}")
    assert len(found) == 1
    assert found[0].startswith(problem), found


def test_what_a_job_of_slurm_asks_for_is_read() -> None:
    content = (
        "{partition: gpu, time_minutes: 240, gpus_per_node: 4, cpus_per_task: 16, mem_gb: 64, account: physics, "
        "setup: [module load cuda], array_parallelism: 8, additional: {qos: high, exclusive: true, nice: 100}}"
    )
    assert study(resources=f"{{slurm: {content}}}").resources.slurm == SlurmSection(
        *("gpu", 240, 4, 16, 64.0, "physics", ("module load cuda",), 8),
        {"qos": "high", "exclusive": True, "nice": 100},
    )


@pytest.mark.parametrize(("content", "expected"), [("4", 4), ("a100:2", "a100:2"), ("'3g.20gb:1'", "3g.20gb:1")])
def test_the_gpus_of_a_job_of_slurm_may_have_a_type(content, expected):
    section = study(resources=f"{{slurm: {{gpus_per_node: {content}}}}}").resources.slurm
    assert (section.gpus_per_node, section.gpus) == (expected, int(str(expected).rpartition(":")[2]))


def test_other_resources_of_a_job_of_slurm_are_options_of_sbatch():
    content = "{slurm: {additional: {gres: 'lustre:1,shard:2', gpu-bind: closest, tres-per-task: cpu=2}}}"
    assert study(resources=content).resources.slurm.additional["gres"] == "lustre:1,shard:2"


@pytest.mark.parametrize("content", ["", "{}", "{additional: {}}", "{setup: []}"])
def test_a_section_of_slurm_without_keys_asks_for_what_the_partition_gives(content):
    assert study(resources=f"{{slurm: {content}}}").resources.slurm == SlurmSection()


@each_case(
    ("content", "problem"),
    [
        ("gpu", ": expected a mapping of keys, got 'gpu'"),
        ("{partitin: gpu}", ".partitin: no such key; did you mean partition?"),
        ("{time: 30}", ".time: no such key; did you mean time_minutes?"),
        ("{gres: 'gpu:2'}", ".gres: no such key; did you mean gpus_per_node?"),
        ("{mem: 64}", ".mem: no such key; did you mean mem_gb?"),
        ("{time_minute: 60}", ".time_minute: no such key; did you mean time_minutes?"),
        ("{partition: 3}", ".partition: expected text, got 3; write it in quotes"),
        ("{partition: ''}", ".partition: expected a name on one line, got ''"),
        ('{account: "a\\nb"}', ".account: expected a name on one line"),
        ("{time_minutes: 0}", ".time_minutes: expected at least 1, got 0"),
        ("{time_minutes: 1.5}", ".time_minutes: expected a whole number, got 1.5"),
        ("{gpus_per_node: 0}", ".gpus_per_node: expected at least 1 and at most 1024, got 0"),
        ("{gpus_per_node: a100:1025}", ".gpus_per_node: expected at least 1 and at most 1024, got 'a100:1025'"),
        ("{gpus_per_node: a100}", ".gpus_per_node: expected a whole number, or a type of GPUs and their number, such as"),
        ("{gpus_per_node: 'a100:1,v100:1'}", ".gpus_per_node: expected a whole number, or a type of GPUs and their"),
        ("{gpus_per_node: 1.5}", ".gpus_per_node: expected a whole number, or a type of GPUs and their number, such as"),
        ("{gpus_per_node: true}", ".gpus_per_node: expected a whole number, or a type of GPUs and their number, such as"),
        ("{additional: {gpus: 2}}", ".additional.gpus: expected another option (write the GPUs of a job as gpus_per_"),
        ("{additional: {gpus_per_task: 1}}", ".additional.gpus_per_task: expected another option (write the GPUs of a"),
        ("{additional: {gres: 'gpu:a100:2'}}", ".additional.gres: expected another option (write the GPUs of a job as"),
        ("{additional: {gres: 'lustre,gpu'}}", ".additional.gres: expected another option (write the GPUs of a job as"),
        ("{additional: {tres-per-task: 'cpu=2,gres/gpu=1'}}", ".additional.tres-per-task: expected another option (wri"),
        ("{additional: {quiet: true}}", ".additional.quiet: expected another option (tunectl sets this one), got true"),
        ("{mem_gb: 0}", ".mem_gb: expected more than 0, got 0"),
        ("{mem_gb: 8G}", ".mem_gb: expected a number, got '8G'"),
        ("{array_parallelism: 0}", ".array_parallelism: expected at least 1, got 0"),
        ("{setup: module load cuda}", ".setup: expected a list of shell commands, such as [module load cuda]"),
        ("{setup: [1]}", ".setup: expected a list of shell commands, such as [module load cuda], got a list"),
        ("{additional: high}", ".additional: expected a mapping of keys, got 'high'"),
        ("{additional: {time: 5}}", ".additional.time: expected another option (write this one as time_minutes, beside"),
        ("{additional: {cpus_per_task: 5}}", ".additional.cpus_per_task: expected another option (write this one as"),
        ("{additional: {job-name: x}}", ".additional.job-name: expected another option (tunectl sets this one), got 'x'"),
        ("{additional: {p: gpu}}", ".additional.p: expected a long option of sbatch as its key, such as qos, got 'gpu'"),
        ("{additional: {--qos: a}}", ".additional.--qos: expected a long option of sbatch as its key, such as qos"),
        ("{additional: {qos: [a]}}", ".additional.qos: expected text on one line, a number or true, got a list"),
        ('{additional: {qos: "a\\nrm"}}', ".additional.qos: expected text on one line, a number or true"),
        ("{additional: {qos: }}", ".additional.qos: expected text on one line, a number or true, got nothing"),
        ("{additional: {nice: .nan}}", ".additional.nice: expected text on one line, a number or true, got nan"),
        ("{additional: {exclusive: false}}", ".additional.exclusive: expected true (an option that is not wanted is"),
    ],
)  # fmt: skip
def test_what_a_job_of_slurm_cannot_ask_for_is_refused_by_name(content, problem):
    found = problems_of(resources=f"{{slurm: {content}}}")
    assert len(found) == 1
    assert found[0].startswith(f"resources.slurm{problem}"), found


def test_each_wrong_option_of_sbatch_has_its_own_line():
    text = study_text(resources="\n  slurm:\n    additional:\n      qos: high\n      time: 5\n      array: 0-3")
    places = [(problem.line, problem.path) for problem in problems_in(text)]
    first = text.splitlines().index("      time: 5") + 1
    assert places == [(first, "resources.slurm.additional.time"), (first + 1, "resources.slurm.additional.array")]


_WHOLE = [
    ("training", "max_train_steps", 1, 2**53),
    ("training", "eval_every", 1, 2**53),
    ("training", "keep_checkpoints", 0, 1000),
    ("training", "seed", 0, 2**63 - 1),
    ("training", "train_examples", 1, 2**53),
    ("search", "trials", 1, 1_000_000),
    ("search", "seed", 0, 2**63 - 1),
    ("resources", "trials_per_device", 1, 1024),
    ("resources", "threads_per_trial", 1, 1024),
    ("resources", "data_workers", 0, 1024),
    ("resources", "retries", 0, 1000),
]


def with_key(section, key, value):
    content = {"max_train_steps": 2000, "eval_every": 100} if section == "training" else {}
    content = content if section != "search" or key == "trials" else {"trials": 2}
    listed = ", ".join(f"{name}: {item}" for name, item in {**content, key: value}.items())
    return {section: f"{{{listed}}}"}


@pytest.mark.parametrize(("section", "key", "low", "high"), _WHOLE)
def test_a_whole_number_is_taken_at_its_bounds_and_refused_beyond(section, key, low, high):
    for value in (low, high):
        spec = study(VARIES if section == "search" else None, **with_key(section, key, value))
        assert getattr(getattr(spec, section), key) == value
    for value, due in ((low - 1, f"expected at least {low}"), (high + 1, f"expected at most {high}")):
        assert problems_of(VARIES if section == "search" else None, **with_key(section, key, value)) == [
            f"{section}.{key}: {due}, got {value}"
        ]


@each_case(("section", "key", "low", "high"), _WHOLE)
@each_case(
    ("value", "problem"),
    [
        ("2.5", "expected a whole number, got 2.5"),
        ("2.0", "expected a whole number, got 2.0"),
        ("'2'", "expected a whole number, got '2' (text); write 2 without quotes"),
        ("true", "expected a whole number, got true"),
        ("[2]", "expected a whole number, got a list"),
        (".nan", "got nan"),
        (".inf", "got inf"),
        ("9" * 450, "got inf"),
        ("9" * 300, f"got {'9' * 60}…"),
    ],
)
def test_what_is_no_whole_number_is_refused(section, key, low, high, value, problem):
    found = problems_of(VARIES if section == "search" else None, **with_key(section, key, value))
    assert len(found) == 1
    assert found[0].startswith(f"{section}.{key}: ")
    assert problem in found[0]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("0", "more than 0"),
        ("-1", "more than 0"),
        ("86401", "at most 86400"),
        (".inf", "finite"),
        (".nan", "finite"),
        ("'5'", "write 5 without quotes"),
        ("9" * 390, "expected a number"),
    ],
)
def test_grace_seconds_is_a_finite_time_of_at_most_a_day(value, problem):
    assert any(problem in line for line in problems_of(resources=f"{{grace_seconds: {value}}}"))
    assert study(resources="{grace_seconds: 0.5}").resources.grace_seconds == 0.5


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("0", "expected more than 0"),
        ("-1", "expected more than 0"),
        (".inf", "finite"),
        ("1e12", "at most"),
        ("a", "number"),
    ],
)
def test_a_trial_s_time_limit_is_a_finite_time_and_none_where_it_is_left_out(value, problem):
    assert any(problem in line for line in problems_of(resources=f"{{trial_timeout_seconds: {value}}}"))
    assert study(resources="{trial_timeout_seconds: 0.5}").resources.trial_timeout_seconds == 0.5
    assert study().resources.trial_timeout_seconds is None


@pytest.mark.parametrize("value", ["1", "'true'", "yes", ".nan"])
def test_a_switch_is_true_or_false(value):
    found = problems_of(training=f"{{max_train_steps: 1, eval_every: 1, no_progress: {value}}}")
    assert found[0].startswith("training.no_progress: expected true or false")


def test_a_varying_study_says_how_many_trials_it_wants():
    assert problems_of(VARIES)[0].startswith("search.trials: the key is missing")
    assert problems_of(VARIES, search="{sampler: random}")[0].startswith("search.trials: the key is missing")


def test_scientific_values_alone_need_no_trials():
    assert study({"width": "{role: scientific, values: [1, 2]}"}).search.trials == 1


def test_a_grid_and_points_say_themselves_how_many_trials_there_are():
    grid = {"learning_rate": "{role: nuisance, range: [1e-3, 1], points: 3}"}
    assert study(grid, search="{sampler: grid}").search.trials is None
    assert problems_of(grid, search="{sampler: grid, trials: 3}")[0].startswith(
        "search.trials: a grid has as many trials as it has points"
    )
    points = "{points: [{learning_rate: 0.1}], trials: 3}"
    assert problems_of(VARIES, search=points)[0].startswith(
        "search.trials: the number of listed points is the number of trials"
    )
    assert problems_of(VARIES, search="{points: [{learning_rate: 0.1}], sampler: random}")[0].startswith(
        "search.sampler"
    )


@pytest.mark.parametrize(
    ("points", "problem"),
    [
        ("", "search.points: expected a list of configurations, such as [{learning_rate: 0.1}], got nothing"),
        ("[]", "search.points: expected a list of configurations"),
        ("5", "such as [{learning_rate: 0.1}], got 5"),
        ("{learning_rate: 1}", "such as [{learning_rate: 0.1}], got a mapping"),
        (
            "no.csv",
            "search.points: file /studies/no.csv not found; name a CSV file of configurations, or list them here",
        ),
        ("[5]", "search.points[0]: expected a mapping of hyperparameters to values, got 5"),
        ("[{learning_rate: [1]}]", "search.points[0].learning_rate: expected a value, got a list"),
        ("[{learning_rate: }]", "search.points[0].learning_rate: expected a value, got nothing"),
    ],
)
def test_points_that_are_no_configurations_are_refused(points, problem):
    assert problem in problems_of(VARIES, search=f"{{points: {points}}}")[0]


def test_a_point_that_is_no_mapping_does_not_hide_what_is_wrong_with_the_others():
    points = "[5, {learning_rate: '0.1'}, {learnin_rate: 0.1}, {learning_rate: 7}, {learning_rate: 0.1}]"
    assert [line.split(": ")[0] for line in problems_of(VARIES, search=f"{{points: {points}}}")] == [
        "search.points[0]",
        "search.points[1].learning_rate",
        "search.points[2].learnin_rate",
        "search.points[3].learning_rate",
    ]


def test_a_seed_goes_with_what_is_drawn():
    grid = {"learning_rate": "{role: nuisance, range: [1e-3, 1], points: 3}"}
    for hyperparameters, search in ((grid, "sampler: grid"), (VARIES, "points: [{learning_rate: 0.1}]")):
        (line,) = problems_of(hyperparameters, search=f"{{{search}, seed: 1}}")
        assert line.startswith("search.seed: ")
        assert line.endswith("nothing is drawn; leave seed out")


def test_all_problems_come_at_once_in_the_order_of_the_file_each_with_its_place():
    text = (
        "study: a/b\n"
        "workload: 5\n"
        "objective: {metric: loss}\n"
        "training: {max_train_steps: '10', eval_every: 0, eval_evry: 1}\n"
        "hyperparameters:\n"
        "  optimizer: adamm\n"
        "  learning_rate: {role: nuisance, range: [1, 0.1]}\n"
        "  width: {role: nuisance, values: []}\n"
        "  width: 3\n"
        "extra: 1\n"
    )
    found = [(problem.line, problem.column, problem.path) for problem in problems_in(text)]
    assert found == [
        (1, 8, "study"),
        (2, 11, "workload"),
        (3, 1, "objective.direction"),
        (3, 21, "objective.metric"),
        (4, 29, "training.max_train_steps"),
        (4, 47, "training.eval_every"),
        (4, 50, "training.eval_evry"),
        (6, 14, "hyperparameters.optimizer"),
        (7, 42, "hyperparameters.learning_rate.range"),
        (8, 35, "hyperparameters.width.values"),
        (9, 3, "hyperparameters.width"),
        (10, 1, "extra"),
    ]


@pytest.mark.parametrize("text", ["[]", "5", "text", "null", "---\n...\n"])
def test_a_file_that_is_no_mapping_is_refused(text):
    assert "expected a mapping of keys" in str(problems_in(text)[0])


def test_merge_keys_and_extension_keys_are_refused_by_name() -> None:
    text = study_text(training="{<<: {eval_every: 5}, max_train_steps: 100}") + "x-mine: 1\n"
    found = [f"{problem.path}: {problem.message}" for problem in problems_in(text)]
    assert "training.<<: no such key; merge keys are not part of YAML 1.2: write the merged keys out" in found
    assert any(line.startswith("x-mine: no such key; known here: ") for line in found)


def test_a_target_is_a_number_on_the_metrics_own_scale():
    spec = study(objective="{metric: valid/accuracy, direction: maximize, steps_to: 1}")
    assert spec.objective == Objective("valid/accuracy", "maximize", "best", 1.0)
    assert spec.ranking(spec.objective) == ("steps to valid/accuracy ≥ 1, fewer is better (evaluated every 100 steps)")
    assert spec.ranking(spec.objective.by_metric) == "valid/accuracy, maximize"
    every_step = study(training="{max_train_steps: 9, eval_every: 1}")
    assert every_step.ranking(spec.objective).endswith("(evaluated every step)")
    own = study(workload='{function: "a:b"}', objective="{metric: acc, direction: maximize, steps_to: -2.5}")
    assert own.ranking(own.objective).endswith(
        "acc ≥ -2.5, fewer is better (evaluated at the steps that the trials recorded)"
    )


def test_the_keys_of_a_ray_cluster_reach_the_spec():
    ray = "{address: 'head:6379', num_cpus: 2, num_gpus: 0.5, workers: 3, additional: {resources: {fast: 1}, memory: 1000}}"
    assert study(resources=f"{{backend: ray, ray: {ray}}}").resources.ray == RaySection(
        "head:6379", 2.0, 0.5, 3, {"resources": {"fast": 1}, "memory": 1000}
    )
    assert study().resources.ray == RaySection(None, None, None, None, {})


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "head.cluster:6379", "'[::1]:6379'", "auto", "local"])
def test_an_address_of_a_ray_cluster_is_that_of_a_host_or_a_word(address):
    assert study(resources=f"{{ray: {{address: {address}}}}}").resources.ray.address == address.strip("'")
