"""Wrapped values in a printed object are read; values that are not numbers are left out, and only these.

Tests core/printed_numbers.py and core/printed_objects.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from printed_trials import Case, read_of

from tunectl.core.own_code_request import OUTPUT, MetricSource

BESIDE = {
    "np.float64(0.8)": "a scalar of NumPy 2",
    "tensor(0.3)": "a tensor",
    "tensor(0.3, device='cuda:0')": "a tensor on a GPU",
    "tensor(0.3000, grad_fn=<NllLossBackward0>)": "a tensor with a graph",
    "array([0.1, 0.2, 0.3])": "an array",
    "array([0.1, 0.2], dtype=float32)": "an array with its type",
    "<tf.Tensor: shape=(), dtype=float32, numpy=0.3>": "a tensor of TensorFlow",
    "<__main__.Meter object at 0x7f00>": "an object",
    "PosixPath('/tmp/x')": "a path",
    "datetime.datetime(2026, 1, 1, 12, 0)": "a time",
    "OrderedDict([('a', 1)])": "an OrderedDict",
    "defaultdict(<class 'float'>, {'a': 1.0})": "a defaultdict",
    "Namespace(lr=0.1, name='a, b')": "a namespace",
    '"it\'s, {odd"': "a text with a brace and a comma",
    "b'\\x00'": "bytes",
    "{1, 2}": "a set",
    "(0.1, 0.2)": "a tuple",
    "Decimal('0.5')": "a Decimal",
    "nan": "NaN",
    "...": "three dots",
}
WRAPPED = {
    "np.float64(0.25)": 0.25,
    "np.float32(2.5e-01)": 0.25,
    "numpy.float16(0.25)": 0.25,
    "float32(0.25)": 0.25,
    "tensor(0.2500)": 0.25,
    "tensor(0.2500, device='cuda:0')": 0.25,
    "tensor(0.2500, device='cuda:0', grad_fn=<MeanBackward0>)": 0.25,
    "tensor([0.2500])": 0.25,
    "array(0.25)": 0.25,
    "array([0.25], dtype=float32)": 0.25,
    "Array(0.25, dtype=float32, weak_type=True)": 0.25,
    "DeviceArray(0.25, dtype=float32)": 0.25,
    "Decimal('0.25')": 0.25,
    "Fraction(1, 4)": 0.25,
    "<tf.Tensor: shape=(), dtype=float32, numpy=0.25>": 0.25,
    "np.int64(2)": 2.0,
    "inf": float("inf"),
    "-0.25": -0.25,
    "+1e-2": 0.01,
}
CASES = [
    *(
        Case(f"{what} beside it", f"{{'step': 3, 'x': {text}, 'valid_loss': 0.2}}\n", {3: 0.2})
        for text, what in BESIDE.items()
    ),
    *(
        Case(text, f"{{'step': 3, 'valid_loss': {text}}}\n{{'step': 4, 'valid_loss': 9}}\n", {3: value, 4: 9.0})
        for text, value in WRAPPED.items()
    ),
    Case("a wrapped step", "{'step': np.int64(3), 'valid_loss': np.float64(0.2)}\n", {3: 0.2}),
    Case("an object inside", "{'step': 3, 'cm': {'a': array([1, 2]), 'b': <x>}, 'valid_loss': 0.2}\n", {3: 0.2}),
    Case("JSON with an undefined value", '{"step": 3, "f1": undefined, "valid_loss": 0.2}\n', {3: 0.2}),
    Case("JSON with Python's None", '{"step": 3, "f1": None, "ok": True, "valid_loss": 0.2}\n', {3: 0.2}),
    Case(
        "an array over two lines", "{'step': 3, 'cm': array([[5, 1],\n       [2, 7]]), 'valid_loss': 0.2}\n", {3: 0.2}
    ),
    Case("an object over several lines", '{\n  "step": 3,\n  "valid_loss": 0.2\n}\n', {3: 0.2}),
    Case(
        "a torn object", "{'step': 3, 'valid_loss': 0.2, 'f1': 0.\n{'step': 4, 'valid_loss': 0.1}\n", {3: 0.2, 4: 0.1}
    ),
    Case("a torn object at the end", "{'step': 3, 'valid_loss': 0.2, 'f1': 0.", {3: 0.2}),
    Case("text of a wrapped number in JSON", '{"step": 3, "valid_loss": "tensor(0.2000)"}\n', {3: 0.2}),
    Case(
        "the objective cannot be read",
        "{'step': 3, 'valid_loss': array([1, 2])}\n{'step': 4, 'valid_loss': 0.2}\n",
        {4: 0.2},
        "array([1, 2])",
    ),
    Case("a byte at a time", "{'step': 3, 'valid_loss': 0.2, 'f1': np.float64(0.8)}", {3: 0.2}, bytewise=True),
    Case("carriage returns", "{'step': 3, 'valid_loss': 0.2, 'f1': np.float64(0.8)}\r\r\n", {3: 0.2}),
    Case("Latin-1", b"{'step': 3, 'name': 'caf\xe9', 'valid_loss': np.float64(0.2)}\n", {3: 0.2}),
    Case("coloured", "{'step': \x1b[1;36m3\x1b[0m, 'valid_loss': \x1b[1;36m0.2\x1b[0m, 'x': <y>}\n", {3: 0.2}),
    Case(
        "in a file",
        "{'step': 3, 'valid_loss': 0.2, 'x': tensor(1.)}\n",
        {3: 0.2},
        file="m.jsonl",
        sources=(MetricSource("json_lines", "{trial.dir}/m.jsonl"),),
    ),
    Case(
        "of a line",
        "step 3: loss tensor(0.2000, device='cuda:0')\n",
        {3: 0.2},
        sources=(MetricSource("regex", r"step (?P<step>\d+): loss (?P<valid_loss>\S+)"),),
    ),
    Case(
        "of a line, in quotes",
        "step 3: loss np.float64(0.2),\n",
        {3: 0.2},
        sources=(MetricSource("regex", r"step (?P<step>\d+): loss (?P<valid_loss>\S+)"),),
    ),
    Case("an OrderedDict", "OrderedDict({'step': 3, 'valid_loss': 0.2})\n{'step': 4, 'valid_loss': 0.3}\n", {4: 0.3}),
    Case(
        "as the issue has it",
        "begin\n{'step': 3, 'valid_loss': 0.2, 'f1': np.float64(0.8)}\n{'step': 4, 'valid_loss': 0.4}\nend\n",
        {3: 0.2, 4: 0.4},
    ),
]
assert OUTPUT


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_value_that_cannot_be_read_does_not_affect_the_others(case: Case, tmp_path: Path) -> None:
    read = read_of(case, tmp_path)
    assert read.values == case.want, read.words
    assert read.state == case.ends, read.words
    assert case.says in read.words
