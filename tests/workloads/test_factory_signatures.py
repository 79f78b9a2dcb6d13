"""What `check` finds out about a factory without importing it."""

from __future__ import annotations

import os

import pytest


def _one(folder, text: str):
    folder.write("w.py", text)
    return folder.read("./w.py:build")


def test_keyword_only_and_plain_parameters_are_keywords(folder):
    signature = _one(folder, "def build(a, b=1, *, c, d=2): ...")
    assert signature.parameters == ("a", "b", "c", "d")
    assert signature.required == ("a", "c")
    assert not signature.open
    assert signature.file == str(folder.path / "w.py")
    assert signature.line == 2


def test_star_arguments_take_no_keyword(folder):
    signature = _one(folder, "def build(*args, width=1): ...")
    assert signature.parameters == ("width",)
    assert not signature.open


def test_no_parameters_are_a_closed_signature(folder):
    signature = _one(folder, "def build(): ...")
    assert (signature.parameters, signature.open) == ((), False)


def test_double_star_leaves_the_signature_open_and_lists_what_is_known(folder):
    signature = _one(folder, "def build(*, width, **options): ...")
    assert signature.parameters == ("width",)
    assert signature.open
    assert "**options" in signature.reason


def test_positional_only_parameters_with_a_default_are_no_keywords(folder):
    signature = _one(folder, "def build(seed=0, /, width=1): ...")
    assert signature.parameters == ("width",)


def test_positional_only_parameters_without_a_default_are_refused(folder):
    folder.write("w.py", "def build(width, /, depth=1): ...")
    message = folder.refuse("./w.py:build")
    assert "width is positional-only" in message
    assert "w.py:2" in message


def test_a_decorator_leaves_the_signature_open(folder):
    signature = _one(folder, "@wraps_it('x')\ndef build(*, width=1): ...")
    assert signature.open
    assert "@wraps_it('x')" in signature.reason
    assert signature.parameters == ("width",)


def test_an_async_factory_is_refused(folder):
    folder.write("w.py", "async def build(): ...")
    assert "async" in folder.refuse("./w.py:build")


@pytest.mark.parametrize("value", ["3", "'text'", "None", "[1]", "{}", "(1, 2)", "f'{x}'", "a == b"])
def test_a_plain_value_is_refused(folder, value):
    folder.write("w.py", f"build = {value}")
    assert "expected a function, got a value that is not one" in folder.refuse("./w.py:build")


def test_a_module_is_refused(folder):
    folder.write("w.py", "import json as build")
    assert "expected a function, got a module" in folder.refuse("./w.py:build")


def test_a_lambda_is_read(folder):
    signature = _one(folder, "build = lambda width, *, depth=1: 0")
    assert signature.parameters == ("width", "depth")
    assert signature.required == ("width",)
    assert not signature.open


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("build = partial(make, 1)", "assigned"),
        ("build, other = pair", "assigned"),
        ("build: Factory = make_it()", "assigned"),
        ("for build in things: pass", "assigned"),
        ("with opened() as build: pass", "assigned"),
        ("from nowhere_stub import build", "imported from nowhere_stub"),
        ("from .sibling import build", "imported from .sibling"),
        ("from math import cos as build", "imported from math"),
        ("from elsewhere_stub import *", "star import"),
        ("def __getattr__(name): ...", "__getattr__"),
        ("globals()['build'] = 3", "globals"),
        ("exec('def build(): ...')", "exec"),
        ("def setup():\n    global build\n    build = 3", "inside a function"),
        ("class build: ...", "class"),
        ("@dataclass\nclass build:\n    width: int", "class"),
        ("class build(metaclass=M):\n    def __init__(self, a): ...", "class"),
        ("class build:\n    def __new__(cls, a): ...\n    def __init__(self, a): ...", "class"),
        ("if x:\n    def build(a): ...\nelse:\n    def build(b): ...", "more than one place"),
        ("try:\n    from fast_stub import build\nexcept ImportError:\n    def build(a): ...", "more than one place"),
        ("build = build", "assigned"),
        ("a = build\nbuild = a", "assigned"),
    ],
)
def test_what_the_source_does_not_show_is_open_and_says_why(folder, text, reason):
    signature = _one(folder, text)
    assert signature.open
    assert reason in signature.reason


def test_a_class_is_called_as_its_init(folder):
    signature = _one(folder, "class build(Base):\n    def __init__(self, a, *, width=1): ...")
    assert (signature.parameters, signature.required, signature.open) == (("a", "width"), ("a",), False)


def test_a_class_whose_init_is_all_positional_only_keeps_self_out_of_it(folder):
    assert _one(folder, "class build:\n    def __init__(self, /, a=1): ...").parameters == ("a",)


@pytest.mark.parametrize(
    "text",
    [
        "if x:\n    def build(a): ...",
        "try:\n    def build(a): ...\nfinally:\n    pass",
        "with quiet():\n    def build(a): ...",
        "match x:\n    case 1:\n        def build(a): ...",
        "while True:\n    def build(a): ...",
        "if x:\n    pass\nelse:\n    try:\n        pass\n    except E:\n        def build(a): ...",
    ],
)
def test_the_only_def_counts_wherever_it_is(folder, text):
    signature = _one(folder, text)
    assert (signature.parameters, signature.open) == (("a",), False)


def test_the_last_def_wins(folder):
    assert _one(folder, "def build(old): ...\ndef build(new): ...").parameters == ("new",)


def test_a_def_that_certainly_follows_wins_over_one_under_a_condition(folder):
    assert _one(folder, "if x:\n    def build(old): ...\ndef build(new): ...").parameters == ("new",)


def test_a_def_inside_a_function_is_not_the_modules(folder):
    folder.write("w.py", "def outer():\n    def build(a): ...\nclass K:\n    def build(self): ...")
    message = folder.refuse("./w.py:build")
    assert "has no build" in message
    assert "outer" in message


def test_an_alias_is_followed(folder):
    assert _one(folder, "def make(width): ...\nbuild = make").parameters == ("width",)


def test_a_misspelt_factory_gets_the_nearest_name(folder):
    folder.write("w.py", "def bulid(a): ...\ndef other(b): ...")
    message = folder.refuse("./w.py:build")
    assert "nearest: bulid" in message
    assert "other" not in message


def test_re_exports_are_followed_over_several_hops(folder):
    folder.write("pkg_stub/__init__.py", "from .inner import make as build")
    folder.write("pkg_stub/inner.py", "from pkg_stub.deep.core import create as make")
    core = folder.write("pkg_stub/deep/core.py", "\n\ndef create(*, width=1): ...")
    signature = folder.read("pkg_stub:build")
    assert (signature.parameters, signature.open) == (("width",), False)
    assert (signature.file, signature.line) == (str(core), 4)


def test_relative_imports_count_their_dots(folder):
    folder.write("top_stub/__init__.py")
    folder.write("top_stub/a/__init__.py")
    folder.write("top_stub/a/b.py", "from ..c import build\nfrom . import d")
    folder.write("top_stub/c.py", "def build(depth): ...")
    assert folder.read("top_stub.a.b:build").parameters == ("depth",)
    folder.write("top_stub/a/e.py", "from .... import build")
    assert folder.read("top_stub.a.e:build").open


def test_a_re_export_from_a_sibling_of_the_file_is_followed(folder):
    folder.write("sub/w.py", "from sibling_stub import build")
    folder.write("sub/sibling_stub.py", "def build(width): ...")
    assert folder.read("./sub/w.py:build").parameters == ("width",)


def test_a_circle_of_re_exports_ends(folder):
    folder.write("a_stub.py", "from b_stub import build")
    folder.write("b_stub.py", "from a_stub import build")
    assert folder.read("a_stub:build").open


def test_a_re_export_from_broken_source_is_open(folder):
    folder.write("w.py", "from broken_stub import build")
    folder.write("broken_stub.py", "def build(")
    assert folder.read("./w.py:build").open


def test_a_re_export_of_something_async_is_refused_all_the_same(folder):
    folder.write("w.py", "from other_stub import build")
    folder.write("other_stub.py", "async def build(): ...")
    assert "other_stub.py:2" in folder.refuse("./w.py:build")


def test_a_syntax_error_has_its_file_and_line(folder):
    file = folder.write("w.py", "x = 1\ndef build(:\n    pass")
    assert f"{file}:3" in folder.refuse("./w.py:build")


@pytest.mark.parametrize(
    "content",
    [b"x = 1\0\ndef build(): ...", b"# \xff\xfe\ndef build(): ...", b"# coding: nonsense\n", b"x = " + b"(" * 5000],
    ids=["null byte", "not text", "unknown encoding", "nested too deep"],
)
def test_bytes_that_are_no_python_are_refused_without_a_traceback(folder, content):
    (folder.path / "w.py").write_bytes(content)
    assert "w.py" in folder.refuse("./w.py:build")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(folder):
    folder.write("w.py", "def build(): ...").chmod(0)
    assert "cannot be read" in folder.refuse("./w.py:build")


def test_encodings_are_those_that_the_file_declares(folder):
    (folder.path / "w.py").write_bytes("# coding: latin-1\ndef build(größe): ...".encode("latin-1"))
    assert folder.read("./w.py:build").parameters == ("größe",)
    (folder.path / "w.py").write_bytes(b"\xef\xbb\xbfdef build(width): ...")
    assert folder.read("./w.py:build").parameters == ("width",)


def test_a_dubious_escape_in_the_source_is_no_warning_here(folder):
    assert _one(folder, "pattern = '\\d'\ndef build(width): ...").parameters == ("width",)


@pytest.mark.parametrize("name", ["digits:mlp", "digits:cnn", "mnist1d:mlp"])
def test_the_built_in_workloads_are_read(folder, name):
    signature = folder.read(f"tunectl.workloads.{name}")
    network = ("num_layers", "width", "activation", "dropout", "normalization")
    assert signature.parameters == (*network, "init", "init_scale", "init_scale_scope", "loss", "label_smoothing")
    assert signature.defaults["init_scale"] == 1.0
    assert signature.defaults["init"] == "he_normal"
    assert signature.required == ()
    assert not signature.open


def test_defaults_that_are_plain_values_are_read_and_others_are_not(folder):
    signature = _one(folder, "def build(*, width, scale=2.0, name='a', on=True, at=None, low=-1, many=(1, 2)): ...")
    assert signature.defaults == {"scale": 2.0, "name": "a", "on": True}
    assert signature.required == ("width",)
