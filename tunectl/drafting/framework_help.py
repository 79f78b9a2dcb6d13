"""The help texts of Hydra and Python Fire, whose format differs from argparse's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

import yaml

from tunectl.drafting.config_values import flattened
from tunectl.drafting.options import Help, Option

_HYDRA = re.compile(r"powered by hydra|--hydra-help", re.IGNORECASE)
_GROUP = re.compile(r"([A-Za-z_][\w/@.-]*): (\S.*)")
_FIRE = re.compile(r"^NAME\n {4}\S.*\n\nSYNOPSIS\n {4}(.*)$", re.MULTILINE)
_FIRE_FLAG = re.compile(r" {4}(?:-(\w), )?--(\w+)=(\w+)")
_FIRE_PART = re.compile(r"[A-Z][A-Z ]+")


def read_hydra_help(text: str) -> Help | None:
    """The configuration that Hydra prints, with an option `optimizer.lr=` for each value; None for other help texts.

    An application can replace the help text by one without the configuration: then no option is known.
    """
    if not _HYDRA.search(text):
        return None
    _, _, shown = text.partition("== Config ==")
    body = re.split(r"^Powered by Hydra", shown, maxsplit=1, flags=re.MULTILINE)[0]
    body = "\n".join(line for line in body.splitlines() if not line.startswith("Override anything"))
    try:
        content = yaml.BaseLoader(body).get_single_data()
    except yaml.YAMLError:
        content = None
    values = flattened(content) if isinstance(content, dict) else None
    groups = dict(_groups(text))
    options = [
        Option((name,), 1, choices=choices, default=None, shown=f"{name}={'|'.join(choices)}", joined=True)
        for name, choices in groups.items()
    ]
    for name, value in (values or {}).items():
        if name not in groups:
            options.append(Option((name,), 1, default=value, shown=f"{name}={value or ''}", joined=True))
    # Hydra names its folder by the time in seconds: without this, trials that start together would share one.
    options.append(Option(("hydra.run.dir",), 1, shown="hydra.run.dir=DIR", joined=True))
    return Help(tuple(options), framework="hydra")


def _groups(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    _, _, shown = text.partition("== Configuration groups ==")
    for line in shown.partition("== Config ==")[0].splitlines():
        found = _GROUP.fullmatch(line.strip())
        if found is not None and not found[1].startswith("hydra/"):
            yield found[1], tuple(item.strip() for item in found[2].split(","))


def read_fire_help(text: str) -> Help | None:
    """The flags that Python Fire lists for a function or a class; None for other help texts.

    Fire reads values as Python literals: `false` would be a non-empty string, which is true. So a flag that is True or
    False gets no value (`--amp`, `--noamp`), and text that looks like a number keeps its quotes.
    """
    synopsis = _FIRE.search(text)
    if synopsis is None:
        return None
    options = [_fire_option(flag, explained) for flag, explained in _fire_flags(text)]
    words = re.findall(r"(?<!\S)[A-Z][A-Z0-9_]*(?!\S)", synopsis[1])
    positionals = tuple(word for word in words if word not in ("COMMAND", "GROUP", "VALUE"))
    listed = re.search(r"^ {4}COMMAND is one of the following:\n\n((?: {5}.*\n|\n)+)", text, re.MULTILINE)
    commands = tuple(re.findall(r"^ {5}(\w\S*)$", listed[1], re.MULTILINE)) if listed else ()
    return Help(tuple(options), commands, positionals=positionals, framework="fire")


def _fire_flags(text: str) -> Iterator[tuple[re.Match[str], Sequence[str]]]:
    """Each flag with the lines of its explanation."""
    flag: re.Match[str] | None = None
    explained: list[str] = []
    for line in [*text.splitlines(), "END"]:
        opens = _FIRE_FLAG.fullmatch(line)
        if flag is not None and (opens is not None or _FIRE_PART.fullmatch(line)):
            yield flag, explained
            flag = None
        if opens is not None:
            flag, explained = opens, []
        elif flag is not None:
            explained.append(line.strip())


def _fire_option(flag: re.Match[str], explained: Sequence[str]) -> Option:
    short = (f"-{flag[1]}",) if flag[1] else ()
    names, name = (*short, f"--{flag[2]}"), f"--{flag[2]}={flag[3]}"
    default = next((line.removeprefix("Default: ") for line in explained if line.startswith("Default: ")), None)
    if default in ("True", "False"):
        return Option(names, default=default.lower(), off=f"--no{flag[2]}", shown=name, joined=True)
    return Option(names, 1, default=_fire_value(default), shown=name, joined=True)


def _fire_value(default: str | None) -> str | None:
    """A default as text for the flag; None if it is None or was cut off."""
    if default is None or default == "None" or default.endswith("..."):
        return None
    value = _literal(default)
    if not isinstance(value, str):
        return default
    return value if isinstance(_literal(value), str) else default


def _literal(text: str) -> object:
    """The value that Fire reads: a Python literal, else the text itself."""
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text
    return value
