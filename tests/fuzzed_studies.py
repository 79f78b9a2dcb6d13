# ruff: noqa: E501  (tables of studies: each case is on one line)
"""Study files as hypothesis makes them: mutated, plausible and random ones."""

from __future__ import annotations

import re

from hypothesis import strategies as st

WHOLE = """\
study: optimizer-comparison
goal: Which?
workload: tunectl.workloads.digits:mlp
objective: {metric: valid/error_rate, direction: minimize, checkpoint: best}
training: {max_train_steps: 2000, eval_every: 100, keep_checkpoints: 3, seed: 0, train_examples: 9, no_progress: false}
hyperparameters:
  optimizer: {role: scientific, values: [nesterov, adam]}
  learning_rate:
    - {role: nuisance, when: {optimizer: nesterov}, range: [1e-3, 3], scale: log}
    - {role: nuisance, when: {optimizer: adam}, range: [1e-5, 1e-1], scale: log}
  momentum: {role: nuisance, when: {optimizer: nesterov}, range: [0.8, 0.999], scale: one_minus_log}
  beta1: {role: nuisance, when: {optimizer: [adam]}, range: [0.8, 0.99], scale: one_minus_log}
  use_decay: {role: scientific, values: [true, false]}
  weight_decay:
    - {value: 0, when: {use_decay: false}}
    - {role: scientific, when: {use_decay: true}, range: [1e-5, 1e-1], scale: log}
  num_layers: {role: nuisance, range: [1, 4], type: int}
  activation: {role: scientific, values: [relu, tanh], sampled: true}
  batch_size: 64
  schedule: cosine
  warmup_steps: 10
search: {sampler: halton, trials: 3, seed: 0}
resources: {devices: [0, GPU-1], trials_per_device: 1, grace_seconds: 5}
notes: |
  text
"""
FRAGMENTS = [
    *["", "~", "null", "true", "no", "0", "-1", "1", "2", "1e-3", "1e999", ".inf", "-.inf", ".nan", "0x1F", "010"],
    *[
        "9" * 30,
        "9" * 450,
        "'1'",
        "x",
        "''",
        '"\\n"',
        '"\\uD800"',
        "µ",
        "[]",
        "{}",
        "[1]",
        "[1, 2]",
        "[[1], 2]",
        "{a: 1}",
    ],
    *[
        "role",
        "value",
        "values",
        "range",
        "scale",
        "type",
        "when",
        "sampled",
        "points",
        "off",
        "log",
        "linear",
        "int",
        "formula",
    ],
    *["one_minus_log", "nuisance", "scientific", "fixed", "grid", "random", "halton", "optimizer", "learning_rate"],
    *["momentum", "sgd", "adam", "nesterov", "seed", "max_train_steps", "trials", "search", "hyperparameters"],
    *["[{learning_rate: 1}]", "[{optimizer: adam, learning_rate: 1e-3}]", "{optimizer: adam}", "{num_layers: 2}"],
    *[
        "&a",
        "*a",
        "!!int 3",
        "? ",
        "- ",
        ": ",
        "#",
        "\t",
        "\n",
        "\r",
        "\x00",
        "\x85",
        "\u2028",
        "\ufeff",
        "%",
        "@",
        "|",
    ],
]
_TOKEN = re.compile(r"[\w./-]+|\s+|[^\w\s]")

# A study as nested values, written as YAML's flow style; every place may hold anything.
_scalar = st.sampled_from(
    [fragment for fragment in FRAGMENTS if fragment and fragment[0] not in "&*!?-:#\t\n\r\x00\x85%@|\u2028"]
)
_junk = st.recursive(
    _scalar,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(_scalar, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{k}: {v}" for k, v in items.items()) + "}"
        )
    ),
    max_leaves=4,
)


def _mapping(keys: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[str]:
    none: dict[str, st.SearchStrategy[str]] = {}
    return st.fixed_dictionaries(none, optional=keys).map(
        lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
    )


_names = st.sampled_from(["optimizer", "learning_rate", "momentum", "a", "b", "c", "num_layers", "batch_size"])
_value = st.sampled_from(["1", "2", "0.5", "adam", "nesterov", "true", "x"]) | _scalar
_entry = _mapping(
    {
        "role": st.sampled_from(["nuisance", "scientific", "fixed"]) | _scalar,
        "values": st.lists(_value, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        "value": _value,
        "range": st.sampled_from(["[1, 2]", "[0.1, 0.9]", "[1, 8]", "[0, 1]", "[2, 1]"]) | _junk,
        "scale": st.sampled_from(["log", "linear", "one_minus_log"]) | _scalar,
        "type": st.sampled_from(["int", "float"]),
        "formula": st.sampled_from(["a + b", "learning_rate * 2", "1 / c", "9**9**9", "'max(a, b)'", "b **"]) | _scalar,
        "points": st.sampled_from(["2", "3"]),
        "sampled": st.sampled_from(["true", "false"]),
        "when": st.dictionaries(_names, _value, min_size=1, max_size=2).map(lambda w: "{" + ", ".join(f"{k}: {v}" for k, v in w.items()) + "}"),
    }
)  # fmt: skip
_hyperparameters = st.dictionaries(
    _names,
    _entry | _value | st.lists(_entry, min_size=1, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
    max_size=6,
)
random_studies = st.fixed_dictionaries(
    {
        "workload": st.sampled_from(["a:b", "./a.py:b"]) | _junk,
        "objective": st.just("{metric: valid/loss, direction: minimize}") | _junk,
        "training": st.just("{max_train_steps: 20, eval_every: 10}") | _junk,
        "hyperparameters": _hyperparameters.map(
            lambda items: "{" + ", ".join(f"{k}: {v}" for k, v in {"optimizer": "adam", "learning_rate": "1", **items}.items()) + "}"
        )
        | _junk,
    },
    optional={
        "search": _mapping({"sampler": st.sampled_from(["halton", "random", "grid"]), "trials": st.sampled_from(["1", "3"]), "seed": _scalar, "points": _junk})
        | _junk,
        "resources": _junk,
        "notes": _scalar,
        "extra": _junk,
    },
).map(lambda items: "".join(f"{key}: {value}\n" for key, value in items.items()))  # fmt: skip


# Entries that are right by themselves; together they make circles, overlaps, switches, settings and grids.
_domains = st.sampled_from(
    [
        "role: nuisance, values: [1, 2, 3]",
        "role: scientific, values: [1, 2, 3]",
        "role: scientific, values: [1, 2, true], sampled: true",
        *["formula: a + 1", "formula: b * c, type: int", "formula: 1 / (a - 2)", "formula: 'max(c, sqrt(b))'"],
        "role: nuisance, range: [1, 3], type: int, points: 2",
        "role: scientific, range: [0.1, 0.9], scale: one_minus_log, points: 2",
        "value: 1",
    ]
)
_whens = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1", "2", "3", "[1, 2]"]), min_size=1, max_size=2)


@st.composite
def plausible_studies(draw: st.DrawFn) -> str:
    """Hyperparameters a to d, each of one or two alternatives, most of them conditional."""
    lines = ["workload: a:b", "objective: {metric: valid/loss, direction: minimize}"]
    lines += ["training: {max_train_steps: 20, eval_every: 10}", "hyperparameters:", "  optimizer: adam"]
    lines += ["  learning_rate: {role: nuisance, range: [1e-3, 1], scale: log, points: 2}"]
    sampler = draw(st.sampled_from(["halton", "random", "grid"]))
    for name in draw(st.permutations("abcd"))[: draw(st.integers(0, 4))]:
        entries = []
        for _ in range(draw(st.sampled_from([1, 1, 2]))):
            when = draw(_whens) if draw(st.booleans()) else {}
            condition = ", when: {" + ", ".join(f"{k}: {v}" for k, v in when.items()) + "}" if when else ""
            entries.append("{" + draw(_domains) + condition + "}")
        lines.append(f"  {name}: {entries[0] if len(entries) == 1 else '[' + ', '.join(entries) + ']'}")
    lines.append(f"search: {{sampler: {sampler}{'' if sampler == 'grid' else ', trials: 3'}}}")
    text = "\n".join(lines) + "\n"
    return text if sampler == "grid" else text.replace(", points: 2", "")


@st.composite
def mutated_studies(draw: st.DrawFn) -> str:
    """The whole study with some of its tokens replaced, doubled, dropped or exchanged."""
    tokens = _TOKEN.findall(WHOLE)
    for _ in range(draw(st.integers(1, 4))):
        at, kind = draw(st.integers(0, len(tokens) - 1)), draw(st.integers(0, 3))
        if kind == 0:
            tokens[at] = draw(st.sampled_from(FRAGMENTS))
        elif kind == 1:
            tokens.insert(at, draw(st.sampled_from(FRAGMENTS)))
        elif kind == 2 and len(tokens) > 1:
            del tokens[at]
        else:
            other = draw(st.integers(0, len(tokens) - 1))
            tokens[at], tokens[other] = tokens[other], tokens[at]
    return "".join(tokens)
