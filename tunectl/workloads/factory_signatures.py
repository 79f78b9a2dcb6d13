"""Reads what a factory takes from the syntax of its `def`."""

from __future__ import annotations

import ast
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from tunectl.core.errors import WorkloadError
from tunectl.core.path_errors import path_error
from tunectl.core.records import ANY_KEYWORD, CodeKind, FactorySignature, WorkloadReference
from tunectl.workloads.module_sources import ModuleSource, find_module, nearest

_MAX_HOPS = 10
_FIRST_IS_GIVEN = ("function", *get_args(CodeKind))
"""What gets its first parameter from tunectl: the trial, the parameters of the model, the step."""
_Function = ast.FunctionDef | ast.Lambda
_NOT_CALLABLE = (
    ast.Constant,
    ast.JoinedStr,
    ast.List,
    ast.Tuple,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.SetComp,
    ast.DictComp,
    ast.GeneratorExp,
    ast.Compare,
)
# With a call of these a module may have names that are not in its statements.
_HIDDEN_NAMES = frozenset({"exec", "globals", "vars"})


@dataclass(frozen=True, slots=True)
class _Binding:
    """A statement that gives a name at the top of a module its value.

    `value` is the syntax of that value, None where it is hidden. `conditional`: it may not be reached.
    """

    node: ast.AST
    line: int
    value: ast.AST | None
    conditional: bool


@dataclass(frozen=True, slots=True)
class _Search:
    """The state of the reading: the module, the workload it began with, and the names that were followed so far."""

    source: ModuleSource
    reference: WorkloadReference
    hops: tuple[tuple[str, str], ...] = ()


def signature_in(source: ModuleSource, reference: WorkloadReference) -> FactorySignature:
    """The signature of the reference's factory in this source file.

    Follows `from x import factory` and `factory = other_name` where their source can be found. Raises WorkloadError
    where the file is not Python, has no such name, or the name is something that cannot be called by keywords.
    """
    tree = _parse(source, reference.text)
    search = _Search(source, reference)
    signature = _signature(tree, reference.factory, search)
    if signature is not None:
        return signature
    names = sorted({name for name, _ in _all_bindings(tree)})
    functions = [name for name, binding in _all_bindings(tree) if isinstance(binding.node, ast.FunctionDef)]
    listed = nearest(reference.factory, names)
    if not listed and functions:
        listed = f"; it defines {', '.join(dict.fromkeys(functions[:5]))}"
    raise WorkloadError(f"{reference.text}: {source.file} has no {reference.factory}{listed}")


def _parse(source: ModuleSource, text: str) -> ast.Module:
    file = source.file
    assert file is not None
    try:
        with tokenize.open(file) as lines, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(lines.read(), filename=str(file))
    except SyntaxError as error:
        place = f"{file}:{error.lineno}" if error.lineno else str(file)
        raise WorkloadError(f"{text}: {place}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        # Bytes that are not text, a null byte, or an expression with too many levels for Python.
        raise WorkloadError(f"{text}: {file} cannot be read as Python: {error}") from error
    except OSError as error:
        raise path_error(f"{text}: {file}", "read", error, WorkloadError) from error


def _signature(tree: ast.Module, name: str, search: _Search) -> FactorySignature | None:
    """The signature of `name` in this module; None where the module surely does not have it."""
    bindings = [binding for bound, binding in _all_bindings(tree) if bound == name]
    for index in range(len(bindings) - 1, -1, -1):
        if not bindings[index].conditional:
            bindings = bindings[index:]
            break
    if any(isinstance(node, ast.Global) and name in node.names for node in ast.walk(tree)):
        return _unknown(f"{name} is set inside a function", search)
    if not bindings:
        return _hidden(tree, name, search)
    if len(bindings) > 1:
        return _unknown(f"{name} is bound in more than one place", search, bindings[-1].line)
    return _signature_of(tree, name, bindings[0], search)


def _signature_of(tree: ast.Module, name: str, binding: _Binding, search: _Search) -> FactorySignature:
    value = binding.value
    place = f"{search.source.file}:{binding.line}"
    expected = f"{search.reference.text}: {place}: {name}: expected a function, got"
    match value:
        case ast.AsyncFunctionDef():
            raise WorkloadError(f"{expected} an async def")
        case ast.FunctionDef() | ast.Lambda():
            return _signature_of_function(
                value, binding.line, search, skipped=int(search.reference.workload_kind in _FIRST_IS_GIVEN)
            )
        case ast.ClassDef():
            return _signature_of_class(value, search)
        case ast.ImportFrom():
            return _imported(value, name, binding, search)
        case ast.Import():
            raise WorkloadError(f"{expected} a module")
        case ast.Name(id=other) if (str(search.source.file), other) not in search.hops:
            further = replace(search, hops=(*search.hops, (str(search.source.file), other)))
            return _signature(tree, other, further) or _unknown(f"{name} is assigned", search, binding.line)
    if isinstance(value, _NOT_CALLABLE):
        raise WorkloadError(f"{expected} a value that is not one")
    return _unknown(f"{name} is assigned", search, binding.line)


def _signature_of_function(function: _Function, line: int, search: _Search, *, skipped: int = 0) -> FactorySignature:
    """What this function takes by keyword, without its first parameters: self, the trial, what is optimized."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + [*arguments.defaults]
    skipped = min(skipped, len(positional))
    nameless = [item.arg for item, default in zip(arguments.posonlyargs, defaults, strict=False) if default is None]
    if nameless[skipped:]:
        raise WorkloadError(
            f"{search.reference.text}: {search.source.file}:{line}: {nameless[skipped]} is positional-only "
            "(before the /) and has no default; arguments are passed by keyword: remove the /"
        )
    pairs = list(zip(positional, defaults, strict=True))[max(skipped, len(arguments.posonlyargs)) :]
    pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    reason = ""
    if isinstance(function, ast.FunctionDef) and function.decorator_list:
        reason = f"it is decorated with @{ast.unparse(function.decorator_list[0])}"
    elif arguments.kwarg is not None:
        reason = f"{ANY_KEYWORD}{arguments.kwarg.arg}"
    return FactorySignature(
        parameters=tuple(item.arg for item, _ in pairs),
        required=tuple(item.arg for item, default in pairs if default is None),
        open=bool(reason),
        reason=reason,
        file=str(search.source.file),
        line=line,
        defaults={
            item.arg: default.value
            for item, default in pairs
            if isinstance(default, ast.Constant) and isinstance(default.value, (bool, int, float, str))
        },
    )


def _signature_of_class(definition: ast.ClassDef, search: _Search) -> FactorySignature:
    """The signature of a class: that of its `__init__`, where no `__new__`, decorator or metaclass changes it."""
    inits = [item for item in definition.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    news = any(isinstance(item, ast.FunctionDef) and item.name == "__new__" for item in definition.body)
    if len(inits) == 1 and not news and not definition.decorator_list and not definition.keywords:
        skipped = 1 + (search.reference.workload_kind in get_args(CodeKind))
        return _signature_of_function(inits[0], definition.lineno, search, skipped=skipped)
    return _unknown(f"{definition.name} is a class", search, definition.lineno)


def _imported(statement: ast.ImportFrom, name: str, binding: _Binding, search: _Search) -> FactorySignature:
    original = next(item.name for item in statement.names if (item.asname or item.name) == name)
    dotted = "." * statement.level + (statement.module or "")
    unknown = _unknown(f"{name} is imported from {dotted}", search, binding.line)
    module = _absolute(statement, search.source)
    if module is None or len(search.hops) >= _MAX_HOPS:
        return unknown
    try:
        source = find_module(module, search.reference.search_path, search.reference.text)
        if source.file is None or (str(source.file), original) in search.hops:
            return unknown
        tree = _parse(source, search.reference.text)
    except WorkloadError:
        return unknown
    hops = (*search.hops, (str(source.file), original))
    return _signature(tree, original, replace(search, source=source, hops=hops)) or unknown


def _absolute(statement: ast.ImportFrom, source: ModuleSource) -> str | None:
    """The module that the statement imports from; None where a relative import has no known package."""
    if statement.level == 0:
        return statement.module
    if source.module is None:
        return None
    package = source.module.split(".")
    if not source.is_package:
        package = package[:-1]
    keep = len(package) - (statement.level - 1)
    if keep < 1:
        return None
    return ".".join([*package[:keep], *([statement.module] if statement.module else [])])


def _hidden(tree: ast.Module, name: str, search: _Search) -> FactorySignature | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and any(item.name == "*" for item in node.names):
            return _unknown(f"{name} may come from a star import", search, node.lineno)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _HIDDEN_NAMES:
            return _unknown(f"the module calls {node.func.id}", search, node.lineno)
    if any(bound == "__getattr__" for bound, _ in _all_bindings(tree)):
        return _unknown("the module has a __getattr__", search)
    return None


def _unknown(reason: str, search: _Search, line: int | None = None) -> FactorySignature:
    return FactorySignature(open=True, reason=reason, file=str(search.source.file), line=line)


def _all_bindings(tree: ast.Module) -> list[tuple[str, _Binding]]:
    return list(_bindings(tree.body, False))


def _bindings(statements: Sequence[ast.stmt], conditional: bool) -> Iterator[tuple[str, _Binding]]:
    for statement in statements:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield statement.name, _Binding(statement, statement.lineno, statement, conditional)
                continue
            case ast.Import():
                for item in statement.names:
                    bound = item.asname or item.name.partition(".")[0]
                    yield bound, _Binding(statement, statement.lineno, statement, conditional)
            case ast.ImportFrom():
                for item in statement.names:
                    yield item.asname or item.name, _Binding(statement, statement.lineno, statement, conditional)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _targets(target, value, conditional)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                yield from _targets(target, value, conditional)
            case ast.AugAssign(target=target) | ast.For(target=target):
                yield from _targets(target, None, conditional)
            case ast.With(items=managers):
                for manager in managers:
                    if manager.optional_vars is not None:
                        yield from _targets(manager.optional_vars, None, conditional)
        yield from _inner_bindings(statement, conditional)


def _inner_bindings(statement: ast.stmt, conditional: bool) -> Iterator[tuple[str, _Binding]]:
    # The body of a `with` always runs; the other bodies may not.
    conditional = conditional or not isinstance(statement, ast.With)
    for field in ("body", "orelse", "finalbody"):
        yield from _bindings(getattr(statement, field, []), conditional)
    for block in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
        yield from _bindings(block.body, True)


def _targets(target: ast.expr, value: ast.AST | None, conditional: bool) -> Iterator[tuple[str, _Binding]]:
    match target:
        case ast.Name(id=name):
            yield name, _Binding(target, target.lineno, value, conditional)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            for element in elements:
                yield from _targets(element, None, conditional)
        case ast.Starred(value=inner):
            yield from _targets(inner, None, conditional)
