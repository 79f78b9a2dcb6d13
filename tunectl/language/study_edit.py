"""Changes values in the text of a study or a campaign and leaves every other character as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tunectl.core.errors import PathKey, TunectlError, dotted
from tunectl.core.scalars import scalar
from tunectl.language.document import compose, parse_document

_SPECIAL = set("#,[]{}&*!|>'\"%@`:\n\t")


class EditingError(TunectlError):
    """A value cannot be put into this study file without changing other lines."""


def with_value(text: str, path: PathKey, value: Any) -> str:
    """The study's text with `value` at `path`; missing keys are added after the last one of their mapping.

    `value` is made of scalars, lists and mappings with text keys, and is written in flow style. For a fixed
    hyperparameter written as a bare value, the path (..., "value") is that value. Raises EditingError where the place
    is an alias, or there is no mapping for the key.
    """
    root = compose(text, "")
    if root is None:
        raise EditingError("the study file is empty")
    edited = _edited(text, _find(root, path), path, value)
    try:
        found = _at(parse_document(edited, "").content, path)
    except (TunectlError, LookupError, TypeError):
        found = _MISSING
    if found != value:
        raise _cannot(path)
    return edited


def with_item(text: str, key: str, item: Any) -> str:
    """The text with `item` added at the end of the list at the top-level `key`; a missing or empty list is begun.

    A mapping is written as a block, one line for each of its keys, but in a list in brackets in flow style. Raises
    EditingError where that cannot be done without changing other lines.
    """
    root = compose(text, "")
    if not isinstance(root, yaml.MappingNode):
        raise _cannot((key,))
    before = parse_document(text, "").content
    expected = {**before, key: [*(before.get(key) or []), item]}
    edited = _with_item(text, root, key, item)
    try:
        document = parse_document(edited, "")
    except TunectlError:
        raise _cannot((key,)) from None
    if document.content != expected or document.problems:
        raise _cannot((key,))
    return edited


def _with_item(text: str, root: yaml.MappingNode, key: str, item: Any) -> str:
    node, line = _child(root, key), "\r\n" if "\r\n" in text else "\n"
    if root.flow_style or (node is not None and not _contains(root, node)):
        raise _cannot((key,))
    if node is None:
        indent = " " * root.start_mark.column
        begun = line.join([f"{indent}{_plain(key)}:", *_item_lines(item, f"{indent}  ")])
        return _after_line(text, _end(root), begun, line)
    if isinstance(node, yaml.SequenceNode) and node.value and node.flow_style:
        close = text.rindex("]", 0, node.end_mark.index)
        return text[:close].rstrip().removesuffix(",") + ", " + in_flow(item) + text[close:]
    if isinstance(node, yaml.SequenceNode) and node.value:
        added = line.join(_item_lines(item, " " * node.start_mark.column))
        return _after_line(text, _end(node), added, line)
    # Nothing, null or []: it goes.
    start = len(text[: node.start_mark.index].rstrip(" "))
    text = text[:start] + text[node.end_mark.index :]
    added = line.join(_item_lines(item, " " * (root.start_mark.column + 2)))
    return _after_line(text, start, added, line)


def _item_lines(item: Any, indent: str) -> list[str]:
    if not isinstance(item, Mapping):
        return [f"{indent}- {in_flow(item)}"]
    lines = [f"{_plain(key)}: {in_flow(value)}" for key, value in item.items()]
    return [f"{indent}{'- ' if number == 0 else '  '}{line}" for number, line in enumerate(lines)]


def _after_line(text: str, place: int, added: str, line: str) -> str:
    """The text with lines added after the line of a value that ends at `place`."""
    if place > 0 and text[place - 1] == "\n":  # of a block scalar, which ends with its line
        return f"{text[:place]}{added}{line}{text[place:]}"
    end = text.find("\n", place)
    if end < 0:
        return f"{text}{line}{added}{line}"
    return f"{text[: end + 1]}{added}{line}{text[end + 1 :]}"


_MISSING = object()


@dataclass(frozen=True, slots=True)
class _Spot:
    """The node nearest to a path, and the rest of the path."""

    node: yaml.Node
    rest: PathKey


def _find(root: yaml.Node, path: PathKey) -> _Spot:
    node = root
    for done, part in enumerate(path):
        child = _child(node, part)
        if child is None:
            return _Spot(node, path[done:])
        if not _contains(node, child):
            raise _cannot(path)  # an alias: the value is elsewhere and used by others too
        node = child
    return _Spot(node, ())


def _child(node: yaml.Node, part: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        found: yaml.Node = node.value[part]
        return found
    return None


def _contains(node: yaml.Node, child: yaml.Node) -> bool:
    inside: bool = node.start_mark.index <= child.start_mark.index and child.end_mark.index <= node.end_mark.index
    return inside


def _edited(text: str, spot: _Spot, path: PathKey, value: Any) -> str:
    node, rest = spot.node, spot.rest
    if not rest or (isinstance(node, yaml.ScalarNode) and rest == ("value",)):
        start, end = node.start_mark.index, _end(node)
        gap = "" if start == 0 or text[start - 1].isspace() or text[start - 1] in "[{," else " "
        return text[:start] + gap + in_flow(value) + text[end:]
    key, *deeper = rest
    if not isinstance(node, yaml.MappingNode) or not isinstance(key, str) or any(isinstance(x, int) for x in deeper):
        raise _cannot(path)
    for name in reversed(deeper):
        value = {name: value}
    entry = f"{_plain(key)}: {in_flow(value)}"
    if node.flow_style:
        close = text.rindex("}", 0, node.end_mark.index)
        return text[:close].rstrip() + (", " if node.value else "") + entry + text[close:]
    first: yaml.Node = node.value[0][0]
    indent = " " * first.start_mark.column
    if path == ("study",):
        return text[: first.start_mark.index] + f"{entry}\n{indent}" + text[first.start_mark.index :]
    line_end = text.find("\n", _end(node.value[-1][1]))
    line_end = len(text) if line_end < 0 else line_end
    return f"{text[:line_end]}\n{indent}{entry}{text[line_end:]}"


def _end(node: yaml.Node) -> int:
    """The place of a value's last character: to PyYAML, a block collection ends at the next token, after comments."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    index: int = node.end_mark.index
    return index


def _at(content: Any, path: PathKey) -> Any:
    for done, part in enumerate(path):
        if path[done:] == ("value",) and not isinstance(content, Mapping):
            return content
        content = content[part]
    return content


def in_flow(value: Any) -> str:
    """A value as YAML on one line: `[0.001, 3]`, `{role: fixed, value: adam}`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _plain(value)
        case Mapping():
            return "{" + ", ".join(f"{_plain(str(key))}: {in_flow(item)}" for key, item in value.items()) + "}"
        case _:
            return "[" + ", ".join(in_flow(item) for item in value) + "]"


def _plain(text: str) -> str:
    """The text, in quotes where it would be read as something else."""
    safe = text == text.strip() and text.isprintable() and text[:1] not in "-?" and not set(text) & _SPECIAL
    return text if safe and scalar(text) == text else f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08X}"


def _cannot(path: PathKey) -> EditingError:
    return EditingError(f"{dotted(path)}: cannot be changed without changing other lines; change it by hand")
