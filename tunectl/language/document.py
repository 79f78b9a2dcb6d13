"""Reads YAML text into plain values with their lines and columns; scalars follow YAML 1.2's core schema."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tunectl.core import regular_files
from tunectl.core.errors import PathKey, Place, Problem, StudyError, dotted, problem_at
from tunectl.core.path_errors import system_reason
from tunectl.core.scalars import scalar

_LINE_END = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")

_MOST_NODES = 100_000  # a study of a few lines can ask for billions through nested aliases
_TOO_MANY = f"expected at most {_MOST_NODES:,} values"


class _Loader(yaml.SafeLoader):
    """PyYAML's parser without its YAML 1.1 guesses: every scalar stays text here and is read by `scalar`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)
    values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; raises where there are too many, while they are parsed, as parsing is slow."""
        self.values += not (isinstance(parent, yaml.MappingNode) and index is None)  # else it is a key
        if self.values > _MOST_NODES:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"{_TOO_MANY}, got more", problem_mark=mark)
        return super().compose_node(parent, index)


@dataclass(slots=True)
class Document:
    """A parsed study file: plain values, and the place of each.

    `places` gives every value's place, `key_places` the place of its key (for list items the same). `other_files`: the
    values below such a path are in that file.
    """

    file: str
    text: str
    content: Any = None
    places: dict[PathKey, Place] = field(default_factory=dict)
    key_places: dict[PathKey, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    other_files: dict[PathKey, str] = field(default_factory=dict)

    def report(self, path: PathKey, message: str, *, at_key: bool = False) -> None:
        """Note a problem with the value (or the key) at `path`, or with its nearest parent in the file."""
        self.problems.append(self.problem(path, message, at_key=at_key))

    def problem(self, path: PathKey, message: str, *, at_key: bool = False) -> Problem:
        """The problem with its place."""
        return problem_at(self.file, self.key_places if at_key else self.places, path, message, self.other_files)


A_STUDY_NEEDS = "a study needs workload, objective, training and hyperparameters"


def read_document(path: Path, needs: str = A_STUDY_NEEDS) -> Document:
    """Parse a study file, or another one, of which `needs` says what must be in it.

    Raises StudyError where it cannot be read or is not YAML; problems after which reading can go on (a duplicate key)
    are noted in the document.
    """
    file = str(path)
    try:
        raw = regular_files.content(path, follows=True)
    except IsADirectoryError:
        raise _unreadable(file, "expected a YAML file, got a folder; name the file in it") from None
    except FileNotFoundError:
        raise _unreadable(file, "file not found; name a study's YAML file") from None
    except (OSError, ValueError) as error:
        raise _unreadable(file, f"cannot be read: {system_reason(error)}") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Counted after a byte order mark, which is not a column.
        place = _place_after(error.object[: error.start].decode("utf-8", "replace"))
        raise StudyError([Problem(file, *place, "", "expected UTF-8 text, got other bytes")]) from None
    return parse_document(text, file, needs)


def parse_document(text: str, file: str, needs: str = A_STUDY_NEEDS) -> Document:
    """Parse a study's text; see `read_document`."""
    document = Document(file, text)
    root = compose(text, file)
    if root is None:
        raise _unreadable(file, f"the file is empty; {needs}")
    _Reader(document).read(root)
    return document


def _place_after(text: str) -> Place:
    """The place of the next character, by the line ends that PyYAML counts."""
    lines = _LINE_END.split(text)
    return (len(lines), len(lines[-1]) + 1)


def _unreadable(file: str, message: str) -> StudyError:
    return StudyError([Problem(file, 1, 1, "", message)])


def compose(text: str, file: str) -> yaml.Node | None:
    """The text as PyYAML's nodes, None where it is empty; raises StudyError where it is not YAML."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        place = _place_after(text[: error.position])
        character = error.character if isinstance(error.character, int) else ord(error.character)
        raise StudyError(
            [Problem(file, *place, "", f"expected printable text, got the character {character:#x}")]
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise StudyError([Problem(file, *place, "", _explain(error))]) from None
    except RecursionError:
        raise _unreadable(file, "the file is nested too deeply") from None
    except (ValueError, OverflowError) as error:  # an escape such as "\UFFFFFFFF" that names no character
        raise _unreadable(file, f"not YAML: {error}") from None


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context or "not YAML")
    if problem.startswith(_TOO_MANY):
        return problem
    if "'\\t'" in problem:
        return "expected spaces, got a tab; indent with spaces"
    if "expected a single document" in str(error.context) or "but found another document" in problem:
        return "expected one YAML document, got a second one after `---`"
    context = f" ({error.context})" if error.context and error.problem else ""
    return f"not YAML: {problem}{context}"


class _Reader:
    """Turns PyYAML's nodes into plain values, noting places."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0
        self.open: set[int] = set()

    def read(self, root: yaml.Node) -> None:
        try:
            self.document.content = self.value(root, ())
        except RecursionError:
            raise _unreadable(self.document.file, "the file is nested too deeply") from None

    def value(self, node: yaml.Node, path: PathKey) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.document.places[path] = place
        self.document.key_places.setdefault(path, place)
        self.nodes += 1
        if self.nodes > _MOST_NODES:
            raise StudyError(
                [self.document.problem(path, f"the aliases expand to more than {_MOST_NODES:,} values; write them out")]
            )
        if id(node) in self.open:
            raise StudyError([self.document.problem(path, "the alias contains itself; write the value out")])
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        self.open.add(id(node))
        try:
            self.refuse_tag(node, path, ("map", "seq"))
            return self.mapping(node, path) if isinstance(node, yaml.MappingNode) else self.sequence(node, path)
        finally:
            self.open.discard(id(node))

    def refuse_tag(self, node: yaml.Node, path: PathKey, plain: tuple[str, ...]) -> None:
        if node.tag not in {f"tag:yaml.org,2002:{name}" for name in plain}:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            self.document.report(path, f"expected a value without a tag, got {tag}; write the plain value")

    def scalar(self, node: yaml.ScalarNode, path: PathKey) -> Any:
        self.refuse_tag(node, path, ("str",))
        return scalar(node.value) if node.style is None else node.value

    def sequence(self, node: yaml.Node, path: PathKey) -> list[Any]:
        return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, path: PathKey) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.problems.append(
                    Problem(
                        self.document.file,
                        *place,
                        dotted(path),
                        "expected a plain word as a key, got a list or a mapping",
                    )
                )
                continue
            key = key_node.value
            if key in content:
                first = self.document.key_places[(*path, key)][0]
                message = f"duplicate key, first in line {first}; keep one"
                self.document.problems.append(Problem(self.document.file, *place, dotted((*path, key)), message))
                continue
            self.document.key_places[(*path, key)] = place
            content[key] = self.value(value_node, (*path, key))
        return content
