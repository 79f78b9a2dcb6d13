"""Configuration files of programs (YAML, JSON, TOML, INI, Python, arguments): the values that they set, as text."""

from __future__ import annotations

import ast
import configparser
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

import yaml

from tunectl.drafting.options import Help, Option

ENDINGS = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".py")

_NAMED = re.compile(
    r"(?:.*[_.-])?(?:config|configs|configuration|cfg|conf|hparams|hyp|hyperparameters|params|settings|recipe|preset|flagfile)"
    r"(?:[_.-]?(?:file|path|yaml|yml|json|toml|name))?",
    re.IGNORECASE,
)
_INCLUDES = frozenset(
    {"_base_", "__base__", "base", "base_config", "defaults", "include", "includes", "extends", "inherit", "inherits"}
    | {"inherit_from", "inherits_from", "import", "imports", "parent"}
)
_MOST_VALUES = 5_000


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The values that a file sets, as text, by dotted name; None for a value that cannot be passed as one text.

    `name` is the file's name in the line. `whole`: it was read completely and refers to no other file, so it sets
    nothing else. `by_default`: it is not in the line, the program reads it by default. `words` are the arguments in a
    file of arguments.
    """

    name: str
    values: Mapping[str, str | None] = field(default_factory=dict)
    whole: bool = False
    by_default: bool = False
    words: tuple[str, ...] = ()


def names_config(option: str) -> bool:
    """Whether an option of this name takes a configuration file."""
    return _NAMED.fullmatch(option.lstrip("-+")) is not None


def read_config(name: str, text: str) -> ConfigFile:
    """Read the text of the file `name`; a text that cannot be read gives no values and is not `whole`."""
    if name.startswith("@") or PurePath(name).suffix.lower() in (".args", ".flags"):
        return ConfigFile(name, whole=True, words=_arguments(text))
    if name.lower().endswith(".py"):
        return ConfigFile(name, dict(_assigned(text)))
    content = _content(name, text)
    values = flattened(content) if content is not None else None
    if values is None:
        return ConfigFile(name)
    parts = {part for key in values for part in key.split(".")}
    others = any(str(value).lower().endswith(ENDINGS) or "${" in str(value) for value in values.values())
    return ConfigFile(name, values, whole=not (others or parts & _INCLUDES))


def _arguments(text: str) -> tuple[str, ...]:
    """The words of a file of arguments: one in each line, as argparse reads it, or an option and its value."""
    words: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        option, blank, value = line.strip().partition(" ")
        words += [option, value.strip()] if option.startswith("-") and blank and "=" not in option else [line.strip()]
    return tuple(words)


def _content(name: str, text: str) -> dict[str, Any] | None:
    """The mapping in a file; None if there is none or it cannot be read."""
    ending = PurePath(name).suffix.lower()
    content: Any = None
    try:
        if ending == ".json":
            content = json.loads(text, parse_float=str, parse_int=str)
        elif ending == ".toml":
            content = tomllib.loads(text, parse_float=str)
        elif ending not in (".ini", ".cfg", ".conf"):
            content = yaml.BaseLoader(text).get_single_data()
    except (ValueError, yaml.YAMLError, RecursionError):
        return None
    if content is None or isinstance(content, str):
        content = _ini(text)
    return content if isinstance(content, dict) else None


def _ini(text: str) -> dict[str, Any] | None:
    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read_string(f"[DEFAULT]\n{text}")
    except (configparser.Error, ValueError):
        return None
    found: dict[str, Any] = dict(parser.defaults())
    for section in parser.sections():
        own = parser[section]
        found[section] = {name: own[name] for name in own if name not in parser.defaults()}
    return found or None


def _assigned(text: str) -> Iterator[tuple[str, str | None]]:
    """The assignments of literals in a Python file, `lr = 0.1` and `config.lr = 0.1`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            name = ast.unparse(target)
            if re.fullmatch(r"\w+(\.\w+)*", name) and isinstance(node, ast.Assign):
                try:
                    value = ast.literal_eval(node.value)
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    value = None
                yield name, _text(value)


def flattened(content: Mapping[Any, Any]) -> dict[str, str | None] | None:
    """The values of a mapping by dotted name, as text; None if there are more than a program has options."""
    found: dict[str, str | None] = {}
    for name, value in _leaves(content, ""):
        found[name] = value
        if len(found) > _MOST_VALUES:
            return None
    return found


def _leaves(content: Mapping[Any, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, str | None]]:
    for name, value in content.items():
        if isinstance(value, dict) and value and depth < 20:
            # YAML's merge key: its values belong to the mapping that contains it; later values replace them.
            yield from _leaves(value, prefix if name == "<<" else f"{prefix}{name}.", depth + 1)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield from _leaves(item if isinstance(item, dict) else {}, f"{prefix}{name}[{index}].", depth + 1)
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, str)):
        return str(value)
    return None


def with_config(
    text: Help, files: Sequence[ConfigFile], command: str | None, *, shows_files: bool, is_last: bool = True
) -> Help:
    """The help with the values that hold after the program has read its files; later files replace earlier ones.

    Args:
        text: the help, with the program's own defaults.
        files: the files that the program reads, in its order.
        command: the subcommand that has these options; a file may have them under its name.
        shows_files: whether the help already shows the values from the files.
        is_last: whether no subcommand follows, so that options which are in no help belong here.

    An option that a file sets is no longer required. If a file may set more than can be read, no option is.
    """
    if not files:
        return text
    known = all(file.whole for file in files)
    options = [_set(option, files, command, known=known or shows_files) for option in text.options]
    if text.framework == "jsonargparse" and is_last:
        options += _unlisted(text, files, command)
    by_words = any(file.words for file in files)
    return replace(
        text,
        options=tuple(options),
        positionals=() if by_words or not known else text.positionals,
        one_of=() if by_words or not known else text.one_of,
    )


def _set(option: Option, files: Sequence[ConfigFile], command: str | None, *, known: bool) -> Option:
    for file in reversed(files):
        key = key_of(option, file, command)
        if key is None:
            continue
        value = file.values[key]
        value = None if value is None or value.lower() in ("null", "none", "~", "") or "${" in value else value
        if option.takes == 0 and not option.many and value is not None:
            value = "true" if value.lower() in ("true", "yes", "on", "1") else "false"
        return replace(option, default=value, source=file.name, required=False)
    if known:
        return option
    return replace(option, default=None if option.takes else option.default, required=False)


def key_of(option: Option, file: ConfigFile, command: str | None = None) -> str | None:
    """The name under which a file sets an option: the same name, or the only dotted name that ends with it."""
    names = {_plain(name) for name in option.names}
    own = [key for key in file.values if _plain(key.removeprefix(f"{command}.") if command else key) in names]
    if own:
        return own[-1]
    ends = [key for key in file.values if "[" not in key and _plain(key.rpartition(".")[2]) in names]
    return ends[0] if len(ends) == 1 and "." not in option.name else None


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_")


def _unlisted(text: Help, files: Sequence[ConfigFile], command: str | None) -> Iterator[Option]:
    """Options that only the file shows: `--trainer.logger.init_args.save_dir` is in no help."""
    found: dict[str, Option] = {}
    for file in files:
        for key, value in file.values.items():
            name = f"--{key.removeprefix(f'{command}.') if command else key}"
            if "." in name and "[" not in name and not name.endswith("class_path") and not text.option(name):
                shown = f"{name} VALUE"
                found[name] = Option((name,), 1, default=value, shown=shown, joined=True, source=file.name)
    yield from found.values()
