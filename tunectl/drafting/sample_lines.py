"""Proposed `workload.metrics` entries that read steps and metrics from a sample of a program's output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunectl.core.progress_bars import behind_bar, without_bars
from tunectl.drafting.sample_objects import ProposedSource, object_of, read_objects, with_training_loss
from tunectl.language.progress_output import EPOCHS, MEASURE, STEPS, is_metric, measures

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PAIR = re.compile(
    r"(?<![\w/.@-])((?:(?:train(?:ing)?|val(?:id(?:ation)?)?|test|eval|dev)\s+)?[A-Za-z_][\w/.@-]*)"
    r"(\[|['\"]?\s*[:=]\s*['\"]?|\s+)(\[?|(?:torch\.)?tensor\(|np\.float\d+\()"
    r"([-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d*)?|\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf))(?![\w.])",
    re.IGNORECASE,
)
"""A name and its number: `loss 0.25`, `loss: 0.25`, `val/loss=nan`, `Epoch [1/10]`, `train loss 0.2`, `'loss': 0.5`."""

_SECTION = re.compile(r"(?<![a-z])(train|val|valid|test|eval|dev)(?:ing|ation|idation|uation)?(?![a-z])", re.IGNORECASE)
_PREFIX = re.compile(r"(?:train|val|valid|test|eval|dev|summary)_")
_DECIMAL = re.compile(r"\d\.\d")
_EPOCH = re.compile(r"\W*epoch\W+(\d+)", re.IGNORECASE)
_WHOLE = re.compile(r"\d+(?:,\d{3})*(?:\.0*)?")
_MOST_METRICS = 12
_MOST_OF_A_NAME = 3  # with more repeats of one name, matching an expression would take exponential time
_MOST_SOURCES = 4
_MOST_LINES = 20_000
_LONGEST_LINE = 2_000
_MOST_SHAPES = 40
_MOST_UNREAD = 3


@dataclass(frozen=True, slots=True)
class SampleReading:
    """The entries for a sample. `unread` are lines that seem to have metrics and are not read, with their numbers.
    `has_metric`: one entry gives the metric that the user named.
    """

    sources: tuple[ProposedSource, ...]
    unread: tuple[tuple[str, int], ...] = ()
    has_metric: bool = True

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics that are read."""
        return tuple(dict.fromkeys(name for source in self.sources for name in source.metrics))


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    between: str
    number: str
    start: int

    @property
    def key(self) -> str:
        return self.name.lower().split()[-1]


@dataclass(slots=True)
class _LineShape:
    """Lines with the same names: their texts and pairs, and the index of the first among all lines."""

    names: tuple[str, ...]
    first: int
    texts: list[str] = field(default_factory=list)
    pairs: list[list[_Pair]] = field(default_factory=list)
    step: int | None = None

    def values(self, index: int) -> list[str]:
        return [pairs[index].number for pairs in self.pairs]


def read_sample(text: str, metric: str | None = None) -> SampleReading | None:
    """The entries for the lines and objects of a sample that have metrics; None if there are none.

    Every expression was tried: it finds the numbers in each line of its shape. `metric` is a metric that one entry
    should give; case and separators of the name may differ from the sample.
    """
    lines = [_COLOUR.sub("", line)[:_LONGEST_LINE] for line in re.split(r"[\r\n]+", text)[:_MOST_LINES]]
    objects = {index: found for index, line in enumerate(lines) if (found := object_of(behind_bar(line)))}
    source = read_objects(list(objects.values()), metric)
    plain = {index: line for index, line in enumerate(lines) if source is None or index not in objects}
    shapes = _shapes(plain, metric)
    has_steps = (source is not None and source.every is None) or any(shape.step is not None for shape in shapes)
    object_groups = (
        frozenset(_group(name).lower() for name in source.metrics) if source is not None else frozenset[str]()
    )
    epochs = len({match[1] for line in lines if (match := _EPOCH.match(line))})
    read = _Reader(shapes, has_steps, epochs, object_groups)
    read.choose(metric)
    sources = [*([source] if source is not None else []), *read.sources]
    if not sources:
        return None
    named = _named(sources, metric)
    proposed = with_training_loss(named or sources, metric)
    return SampleReading(tuple(proposed), tuple(_unread(plain, read)), has_metric=bool(named))


def _shapes(lines: Mapping[int, str], metric: str | None) -> list[_LineShape]:
    """The shapes of lines with metrics, with or without a step; the name `metric` always counts as one."""
    shapes: dict[tuple[str, ...], _LineShape] = {}
    for index, line in lines.items():
        matches = _PAIR.finditer(without_bars(line))
        every = ((_Pair(found[1], found[2] + found[3], found[4], found.start(1)), found.end()) for found in matches)
        pairs = [pair for pair, end in every if _may_be_read(pair, line[end:], metric)]
        names = tuple(pair.name for pair in pairs)
        if names:
            shape = shapes.setdefault(names, _LineShape(names, index))
            shape.texts.append(line)
            shape.pairs.append(pairs)
    for shape in shapes.values():
        shape.step = _step_of(shape)
    found = sorted(filter(_gives_metrics, shapes.values()), key=lambda shape: -len(shape.texts))[:_MOST_SHAPES]
    begin = min((shape.first for shape in found if shape.step is not None), default=0)
    # Lines before the first step show the configuration.
    return [shape for shape in found if shape.step is not None or shape.first >= begin]


def _may_be_read(pair: _Pair, behind: str, metric: str | None) -> bool:
    """Whether a pair is a step or may be a metric; `Test: [3/98]` is neither. `behind` follows the number."""
    if "[" in pair.between and _SECTION.fullmatch(pair.name):
        return False
    if pair.key in STEPS or (metric is not None and _group(metric) == _group(pair.name)):
        return True
    return is_metric(pair.name) and measures(pair.name, behind)


def _gives_metrics(shape: _LineShape) -> bool:
    names = [pair.name for pair in shape.pairs[0] if pair.key not in STEPS]
    return bool(names) and (shape.step is not None or any(MEASURE.search(name) for name in names))


def _step_of(shape: _LineShape) -> int | None:
    """The index of the step: the finest unit in whole numbers, preferably one that never decreases."""
    whole = [
        index
        for index, pair in enumerate(shape.pairs[0])
        if pair.key in STEPS and all(_WHOLE.fullmatch(value) for value in shape.values(index))
    ]
    whole.sort(key=lambda index: STEPS.index(shape.pairs[0][index].key))
    values = {index: [_number(value) for value in shape.values(index)] for index in whole}
    rising = [index for index in whole if values[index] == sorted(values[index])]
    return next(iter([*rising, *whole]), None)


def _number(text: str) -> float:
    return float(text.rstrip(".,;:%)]}'\"").replace(",", ""))


@dataclass(slots=True)
class _Reader:
    """Chooses an expression for each shape of lines, one after the other.

    `epochs` is how many epochs the sample names, `object_groups` are the groups that its objects give. `chosen` are the
    shapes that are read, each with its groups by index of their pair; `skipped` are those with nothing new.
    """

    shapes: Sequence[_LineShape]
    has_steps: bool
    epochs: int
    object_groups: frozenset[str] = frozenset()
    sources: list[ProposedSource] = field(default_factory=list)
    chosen: list[tuple[_LineShape, dict[int, str], re.Pattern[str]]] = field(default_factory=list)
    skipped: list[_LineShape] = field(default_factory=list)

    def choose(self, metric: str | None) -> None:
        """Add an entry for each shape that has something new."""
        for shape in sorted(self.shapes, key=lambda shape: self._rank(shape, metric), reverse=True):
            if self._is_covered(shape) or max(Counter(shape.names).values()) > _MOST_OF_A_NAME:
                self.skipped.append(shape)
            elif len(self.sources) < _MOST_SOURCES:
                groups = self._groups(shape)
                expression = next(
                    (text for text in _expressions(shape, groups) if self._is_right(text, shape, groups)), None
                )
                if expression is not None:
                    self.chosen.append((shape, groups, re.compile(expression)))
                    self.sources.append(self._source(shape, groups, expression))

    def _rank(self, shape: _LineShape, metric: str | None) -> tuple[int, ...]:
        wanted = metric is not None and _group(metric) in map(_group, shape.names)
        count, names = len(shape.texts), len(shape.names)
        # Without steps, the lines at the end of an epoch have more than those of a progress bar.
        order = (count, names) if self.has_steps else (names, count)
        return (wanted, shape.step is not None, *order)

    def _is_covered(self, shape: _LineShape) -> bool:
        """Whether the numbers are read already, or are from a progress bar before it was complete."""
        for other, _, pattern in self.chosen:
            if set(shape.names) <= set(other.names) and all(pattern.search(text) for text in shape.texts):
                return True
            if not self.has_steps and set(shape.names) < set(other.names):
                return True
        return False

    def _groups(self, shape: _LineShape) -> dict[int, str]:
        """The groups of an expression by index of their pair, each name once."""
        used = {
            group.lower()
            for other, groups, _ in self.chosen
            for group in groups.values()
            if shape.step is None or other.step is None or not _is_family(shape, other)
        }
        if shape.step is None:  # such as a table at the end, which repeats the last object in rounded numbers
            used |= self.object_groups
        twice = Counter(shape.names)
        is_summary = shape.step is None and any(_group(name).lower() in used for name in shape.names)
        found: dict[int, str] = {}
        for index, pair in enumerate(shape.pairs[0][: _MOST_METRICS + 1]):
            if index == shape.step:
                found[index] = "step"
                continue
            if pair.key in STEPS:  # another unit of the same step
                continue
            group = _group(pair.name)
            section = self._section(shape, pair, repeated=twice[pair.name] > 1)
            if section or is_summary:
                # Not test/…: a study cannot select by a metric of the test split.
                group = f"{section or 'summary'}_{group}"
            taken = used | {other.lower() for other in found.values()}
            numbered = (f"{group}_{count}" for count in range(2, 100))
            found[index] = group if group.lower() not in taken else next(x for x in numbered if x.lower() not in taken)
        return found

    def _section(self, shape: _LineShape, pair: _Pair, *, repeated: bool) -> str:
        """The split of the data that a line names before a metric without one, "" if none."""
        if _SECTION.search(pair.name):
            return ""
        before = shape.texts[0][: pair.start]
        sections = [found[1].lower() for found in _SECTION.finditer(before)]
        leads = re.match(r"\W*(\w+)", before)
        is_lead = leads is not None and _SECTION.fullmatch(leads[1]) is not None
        return sections[-1] if sections and (repeated or (is_lead and sections[0] != "train")) else ""

    def _is_right(self, expression: str, shape: _LineShape, groups: Mapping[int, str]) -> bool:
        """Whether an expression finds the numbers of its lines, and no wrong numbers in other lines."""
        pattern = re.compile(expression)
        for text, pairs in zip(shape.texts, shape.pairs, strict=True):
            found = list(pattern.finditer(text))
            if len(found) != 1 or not all(_equal(found[0][name], pairs[at].number) for at, name in groups.items()):
                return False
        for other in self.shapes:
            if other is shape or (shape.step is None and not self.has_steps and _is_family(shape, other)):
                continue
            for text, pairs in zip(other.texts, other.pairs, strict=True):
                for match in pattern.finditer(text):
                    if shape.step is None or other.step is None or not _says(match, shape, groups, pairs):
                        return False
        return True

    def _source(self, shape: _LineShape, groups: Mapping[int, str], expression: str) -> ProposedSource:
        metrics = tuple(group.replace("__", "/") for group in groups.values() if group != "step")
        pattern = re.compile(expression)
        count = sum(pattern.search(text) is not None for each in self.shapes for text in each.texts)
        source = ProposedSource(metrics, count, expression)
        if shape.step is not None:
            name = shape.pairs[0][shape.step].key
            lowest = min(
                _number(value)
                for each in self.shapes
                if each.step is not None and each.pairs[0][each.step].key == name
                for value in each.values(each.step)
            )
            return replace(source, offset=int(name in EPOCHS and lowest == 0))
        fraction = next((pair.name for pair in shape.pairs[0] if pair.key in STEPS), None)
        if fraction is None and self.has_steps:
            return replace(source, remark="without a step: its metrics belong to the step in the last line before it")
        reason = f"{fraction} is not a whole number" if fraction else "without a step"
        among = f"; here {count} in {self.epochs} epochs" if self.epochs and not fraction else ""
        return replace(source, every=1, remark=f"{reason}, so the n-th such line is step n{among}")


def _is_family(shape: _LineShape, other: _LineShape) -> bool:
    return set(shape.names) <= set(other.names) or set(other.names) <= set(shape.names)


def _says(match: re.Match[str], shape: _LineShape, groups: Mapping[int, str], pairs: Sequence[_Pair]) -> bool:
    said = [(pair.name, pair.number) for pair in pairs]
    return all(
        any(name == shape.names[at] and _equal(match[group], number) for name, number in said)
        for at, group in groups.items()
    )


def _equal(found: str, number: str) -> bool:
    try:
        left, right = _number(found), _number(number)
    except ValueError:
        return False
    return left == right or (left != left and right != right)


def _group(name: str) -> str:
    group = re.sub(r"\W+", "_", name.replace("/", "__"))
    group = group if group.isidentifier() else re.sub(r"[^A-Za-z0-9_]", "_", group)  # x² is matched by \w
    return f"{group}_" if group == "step" else group


def _expressions(shape: _LineShape, groups: Mapping[int, str]) -> Iterator[str]:
    """Expressions for a shape's lines, the simplest first; the last ones contain the beginning of all lines."""
    parts = [_part(shape, index, group) for index, group in groups.items()]
    yield ".*?".join(parts)
    yield ".*?".join(rf"(?<![\w/.@-]){part.removeprefix(chr(92) + 'b')}" for part in parts)
    first = next(iter(groups))
    leads = {_lead(text[: pairs[first].start]) for text, pairs in zip(shape.texts, shape.pairs, strict=True)}
    if len(leads) == 1:
        yield "^" + leads.pop() + ".*?".join(parts)
    words = {next(iter(text.split())) for text in shape.texts}
    if len(words) == 1:
        yield rf"^\s*{re.escape(words.pop())}.*?" + ".*?".join(parts)


def _lead(text: str) -> str:
    escaped = (re.escape(part) for part in re.findall(r"\d+|\s+|[^\d\s]+", text))
    return "".join(r"\d+" if part[0].isdigit() else r"\s+" if part[-1].isspace() else part for part in escaped)


def _part(shape: _LineShape, index: int, group: str) -> str:
    """The expression for a name and its number."""
    words = r"\s+".join(re.escape(word) for word in shape.names[index].split())
    values = "".join(shape.values(index))
    number = r"\d+" if group == "step" else r"[-+.\w]+"
    if "," in values:
        number = r"[\d.,]+" if group == "step" else r"[-+.,\w]+"
    elif group == "step" and "." in values:
        number = r"[\d.]+"
    between = {pairs[index].between for pairs in shape.pairs}
    if all(re.fullmatch(r"[\s:=\[]+", text) for text in between):
        gap = r"[\s:=\[]+"
    elif any("(" in text for text in between):
        gap = r"['\"]?[\s:=]+(?:[\w.]+\()?"
    else:
        gap = r"['\"]?[\s:=\['\"]+"
    return rf"\b{words}{gap}(?P<{group}>{number})"


def _named(sources: Sequence[ProposedSource], metric: str | None) -> list[ProposedSource]:
    """The entries, with `metric` under this name in one of them; [] if none gives it."""
    if metric is None or any(metric in source.metrics for source in sources):
        return list(sources)
    for simplified in (_folded, _lowered, lambda name: _PREFIX.sub("", _lowered(name))):
        wanted = _folded(metric) if simplified is _folded else _lowered(metric)
        found = [
            (at, name) for at, source in enumerate(sources) for name in source.metrics if simplified(name) == wanted
        ]
        if len(found) > 1:  # ambiguous
            return []
        for index, name in found:
            source = sources[index]
            metrics = tuple(metric if other == name else other for other in source.metrics)
            changed = replace(source, metrics=metrics, names={source.key_of(name): metric})
            return [*sources[:index], changed, *sources[index + 1 :]]
    return []


def _folded(name: str) -> str:
    return re.sub("_+", "_", _group(name))


def _lowered(name: str) -> str:
    return _folded(name).lower()


def _unread(lines: Mapping[int, str], read: _Reader) -> Iterator[tuple[str, int]]:
    """The lines with a metric and a number that are not read, after the first line that is."""
    patterns = [pattern for _, _, pattern in read.chosen]
    skipped = {text for shape in read.skipped for text in shape.texts}
    begin = min((shape.first for shape, _, _ in read.chosen), default=0)
    shapes: dict[str, list[str]] = {}
    for index, line in lines.items():
        bare = without_bars(line)
        if index < begin or line in skipped or not (MEASURE.search(bare) and _DECIMAL.search(bare)):
            continue
        if not any(pattern.search(line) for pattern in patterns):
            shapes.setdefault(re.sub(r"[\d.]+", "0", line), []).append(line)
    for found in list(shapes.values())[:_MOST_UNREAD]:
        yield found[0].strip(), len(found)
