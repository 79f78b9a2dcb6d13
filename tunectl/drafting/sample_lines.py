"""A sample of what a program prints, to the sources that read its steps and its metrics."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_MOST_OF_A_NAME = 3  # an expression with more of one name would try all ways to tell them apart
_MOST_SOURCES = 4
_MOST_LINES = 20_000
_LONGEST_LINE = 2_000
_MOST_KINDS = 40
_MOST_MISSED = 3


@dataclass(frozen=True, slots=True)
class SampleReading:
    """What reads a sample. `missed` are lines that seem to hold metrics and are not read, each with how many such.
    `has_metric`: one source gives the metric that was asked for.
    """

    sources: tuple[ProposedSource, ...]
    missed: tuple[tuple[str, int], ...] = ()
    has_metric: bool = True

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all that is read."""
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
class _Kind:
    """Lines that name the same things: their texts and pairs, and the number of the first among all lines."""

    names: tuple[str, ...]
    first: int
    texts: list[str] = field(default_factory=list)
    pairs: list[list[_Pair]] = field(default_factory=list)
    step: int | None = None

    def values(self, index: int) -> list[str]:
        return [pairs[index].number for pairs in self.pairs]


def read_sample(text: str, metric: str | None = None) -> SampleReading | None:
    """The sources for the lines and objects of a sample that give metrics; None where there are none.

    Every expression was tried: in each line of its kind it finds the numbers that stand there. `metric` is one that a
    source should give, by the name that it has in the sample, whatever its case and what separates its words.
    """
    lines = [_COLOUR.sub("", line)[:_LONGEST_LINE] for line in re.split(r"[\r\n]+", text)[:_MOST_LINES]]
    objects = {index: found for index, line in enumerate(lines) if (found := object_of(behind_bar(line)))}
    source = read_objects(list(objects.values()), metric)
    plain = {index: line for index, line in enumerate(lines) if source is None or index not in objects}
    kinds = _kinds(plain, metric)
    has_steps = (source is not None and source.every is None) or any(kind.step is not None for kind in kinds)
    told = frozenset(_group(name).lower() for name in source.metrics) if source is not None else frozenset[str]()
    read = _Reader(kinds, has_steps, _epochs(lines), told)
    read.choose(metric)
    sources = [*([source] if source is not None else []), *read.sources]
    if not sources:
        return None
    named = _named(sources, metric)
    proposed = with_training_loss(named or sources, metric)
    return SampleReading(tuple(proposed), tuple(_missed(plain, read)), has_metric=bool(named))


def _epochs(lines: Iterable[str]) -> int:
    return len({found[1] for line in lines if (found := _EPOCH.match(line))})


def _kinds(lines: Mapping[int, str], metric: str | None) -> list[_Kind]:
    """The kinds of lines that give metrics, with a step or without; `metric` is one, whatever its name."""
    kinds: dict[tuple[str, ...], _Kind] = {}
    for index, line in lines.items():
        matches = _PAIR.finditer(without_bars(line))
        every = ((_Pair(found[1], found[2] + found[3], found[4], found.start(1)), found.end()) for found in matches)
        pairs = [pair for pair, end in every if _may_be_read(pair, line[end:], metric)]
        names = tuple(pair.name for pair in pairs)
        if names:
            kind = kinds.setdefault(names, _Kind(names, index))
            kind.texts.append(line)
            kind.pairs.append(pairs)
    for kind in kinds.values():
        kind.step = _step_of(kind)
    found = sorted(filter(_gives_metrics, kinds.values()), key=lambda kind: -len(kind.texts))[:_MOST_KINDS]
    begin = min((kind.first for kind in found if kind.step is not None), default=0)
    # What is printed before the first step is the configuration.
    return [kind for kind in found if kind.step is not None or kind.first >= begin]


def _may_be_read(pair: _Pair, behind: str, metric: str | None) -> bool:
    """Whether a pair is a step or may be a metric; `Test: [3/98]` is neither. `behind` is what follows its number."""
    if "[" in pair.between and _SECTION.fullmatch(pair.name):
        return False
    if pair.key in STEPS or (metric is not None and _group(metric) == _group(pair.name)):
        return True
    return is_metric(pair.name) and measures(pair.name, behind)


def _gives_metrics(kind: _Kind) -> bool:
    names = [pair.name for pair in kind.pairs[0] if pair.key not in STEPS]
    return bool(names) and (kind.step is not None or any(MEASURE.search(name) for name in names))


def _step_of(kind: _Kind) -> int | None:
    """Where a kind names its step: the finest that is whole, and if there is one that never falls."""
    whole = [
        index
        for index, pair in enumerate(kind.pairs[0])
        if pair.key in STEPS and all(_WHOLE.fullmatch(value) for value in kind.values(index))
    ]
    whole.sort(key=lambda index: STEPS.index(kind.pairs[0][index].key))
    rising = [index for index in whole if _never_falls([_number(value) for value in kind.values(index)])]
    return next(iter([*rising, *whole]), None)


def _never_falls(values: Sequence[float]) -> bool:
    return all(left <= right for left, right in itertools.pairwise(values))


def _number(text: str) -> float:
    return float(text.rstrip(".,;:%)]}'\"").replace(",", ""))


@dataclass(slots=True)
class _Reader:
    """Chooses the expressions for the kinds of lines, one after the other.

    `epochs` is how many epochs the sample names, `told` the groups that its objects give. `chosen` are the kinds that
    are read, each with its groups by the place of their pair; `passed` are those that tell nothing new.
    """

    kinds: Sequence[_Kind]
    has_steps: bool
    epochs: int
    told: frozenset[str] = frozenset()
    sources: list[ProposedSource] = field(default_factory=list)
    chosen: list[tuple[_Kind, dict[int, str], re.Pattern[str]]] = field(default_factory=list)
    passed: list[_Kind] = field(default_factory=list)

    def choose(self, metric: str | None) -> None:
        """Note a source for every kind that tells something new."""
        for kind in sorted(self.kinds, key=lambda kind: self._rank(kind, metric), reverse=True):
            if self._is_covered(kind) or max(Counter(kind.names).values()) > _MOST_OF_A_NAME:
                self.passed.append(kind)
            elif len(self.sources) < _MOST_SOURCES:
                groups = self._groups(kind)
                expression = next(
                    (text for text in _expressions(kind, groups) if self._is_right(text, kind, groups)), None
                )
                if expression is not None:
                    self.chosen.append((kind, groups, re.compile(expression)))
                    self.sources.append(self._source(kind, groups, expression))

    def _rank(self, kind: _Kind, metric: str | None) -> tuple[int, ...]:
        wanted = metric is not None and _group(metric) in map(_group, kind.names)
        count, names = len(kind.texts), len(kind.names)
        # Without steps, the lines at the end of an epoch say more than those of a progress bar.
        order = (count, names) if self.has_steps else (names, count)
        return (wanted, kind.step is not None, *order)

    def _is_covered(self, kind: _Kind) -> bool:
        """Whether the numbers are read already, or are those of a progress bar before its last state."""
        for other, _, pattern in self.chosen:
            if set(kind.names) <= set(other.names) and all(pattern.search(text) for text in kind.texts):
                return True
            if not self.has_steps and set(kind.names) < set(other.names):
                return True
        return False

    def _groups(self, kind: _Kind) -> dict[int, str]:
        """The groups of an expression by the place of their pair, each name once."""
        used = {
            group.lower()
            for other, groups, _ in self.chosen
            for group in groups.values()
            if kind.step is None or other.step is None or not _is_family(kind, other)
        }
        if kind.step is None:  # such as a table at the end, which says rounded what the last object said
            used |= self.told
        twice = Counter(kind.names)
        is_summary = kind.step is None and any(_group(name).lower() in used for name in kind.names)
        found: dict[int, str] = {}
        for index, pair in enumerate(kind.pairs[0][: _MOST_METRICS + 1]):
            if index == kind.step:
                found[index] = "step"
                continue
            if pair.key in STEPS:  # another unit of the same step
                continue
            group = _group(pair.name)
            section = self._section(kind, pair, repeated=twice[pair.name] > 1)
            if section or is_summary:
                # Not test/…, which is a split that no study may select by.
                group = f"{section or 'summary'}_{group}"
            taken = used | {other.lower() for other in found.values()}
            numbered = (f"{group}_{count}" for count in range(2, 100))
            found[index] = group if group.lower() not in taken else next(x for x in numbered if x.lower() not in taken)
        return found

    def _section(self, kind: _Kind, pair: _Pair, *, repeated: bool) -> str:
        """The part of the data that a name without one is measured on, as its line says."""
        if _SECTION.search(pair.name):
            return ""
        before = kind.texts[0][: pair.start]
        sections = [found[1].lower() for found in _SECTION.finditer(before)]
        leads = re.match(r"\W*(\w+)", before)
        is_lead = leads is not None and _SECTION.fullmatch(leads[1]) is not None
        return sections[-1] if sections and (repeated or (is_lead and sections[0] != "train")) else ""

    def _is_right(self, expression: str, kind: _Kind, groups: Mapping[int, str]) -> bool:
        """Whether an expression finds the numbers of its lines, and in others nothing that they do not say."""
        pattern = re.compile(expression)
        for text, pairs in zip(kind.texts, kind.pairs, strict=True):
            found = list(pattern.finditer(text))
            if len(found) != 1 or not all(_equal(found[0][name], pairs[at].number) for at, name in groups.items()):
                return False
        for other in self.kinds:
            if other is kind or (kind.step is None and not self.has_steps and _is_family(kind, other)):
                continue
            for text, pairs in zip(other.texts, other.pairs, strict=True):
                for match in pattern.finditer(text):
                    if kind.step is None or other.step is None or not _says(match, kind, groups, pairs):
                        return False
        return True

    def _source(self, kind: _Kind, groups: Mapping[int, str], expression: str) -> ProposedSource:
        metrics = tuple(group.replace("__", "/") for group in groups.values() if group != "step")
        pattern = re.compile(expression)
        count = sum(pattern.search(text) is not None for each in self.kinds for text in each.texts)
        source = ProposedSource(metrics, count, expression)
        if kind.step is not None:
            name = kind.pairs[0][kind.step].key
            lowest = min(
                _number(value)
                for each in self.kinds
                if each.step is not None and each.pairs[0][each.step].key == name
                for value in each.values(each.step)
            )
            return replace(source, offset=int(name in EPOCHS and lowest == 0))
        fraction = next((pair.name for pair in kind.pairs[0] if pair.key in STEPS), None)
        if fraction is None and self.has_steps:
            return replace(source, remark="it tells no step: its metrics belong to the step told before it")
        told = f"{fraction} is no whole number" if fraction else "it tells no step"
        among = f"; here {count} in {self.epochs} epochs" if self.epochs and not fraction else ""
        return replace(source, every=1, remark=f"{told}, so the n-th such line is step n{among}")


def _is_family(kind: _Kind, other: _Kind) -> bool:
    return set(kind.names) <= set(other.names) or set(other.names) <= set(kind.names)


def _says(match: re.Match[str], kind: _Kind, groups: Mapping[int, str], pairs: Sequence[_Pair]) -> bool:
    said = [(pair.name, pair.number) for pair in pairs]
    return all(
        any(name == kind.names[at] and _equal(match[group], number) for name, number in said)
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
    group = group if group.isidentifier() else re.sub(r"[^A-Za-z0-9_]", "_", group)  # x² is a word and no name
    return f"{group}_" if group == "step" else group


def _expressions(kind: _Kind, groups: Mapping[int, str]) -> Iterator[str]:
    """Expressions for a kind's lines, the plainest first; the last ones begin as all of the lines do."""
    parts = [_part(kind, index, group) for index, group in groups.items()]
    yield ".*?".join(parts)
    yield ".*?".join(rf"(?<![\w/.@-]){part.removeprefix(chr(92) + 'b')}" for part in parts)
    first = next(iter(groups))
    leads = {_lead(text[: pairs[first].start]) for text, pairs in zip(kind.texts, kind.pairs, strict=True)}
    if len(leads) == 1:
        yield "^" + leads.pop() + ".*?".join(parts)
    words = {next(iter(text.split())) for text in kind.texts}
    if len(words) == 1:
        yield rf"^\s*{re.escape(words.pop())}.*?" + ".*?".join(parts)


def _lead(text: str) -> str:
    escaped = (re.escape(part) for part in re.findall(r"\d+|\s+|[^\d\s]+", text))
    return "".join(r"\d+" if part[0].isdigit() else r"\s+" if part[-1].isspace() else part for part in escaped)


def _part(kind: _Kind, index: int, group: str) -> str:
    """The expression for a name and its number."""
    words = r"\s+".join(re.escape(word) for word in kind.names[index].split())
    values = "".join(kind.values(index))
    number = r"\d+" if group == "step" else r"[-+.\w]+"
    if "," in values:
        number = r"[\d.,]+" if group == "step" else r"[-+.,\w]+"
    elif group == "step" and "." in values:
        number = r"[\d.]+"
    between = {pairs[index].between for pairs in kind.pairs}
    if all(re.fullmatch(r"[\s:=\[]+", text) for text in between):
        gap = r"[\s:=\[]+"
    elif any("(" in text for text in between):
        gap = r"['\"]?[\s:=]+(?:[\w.]+\()?"
    else:
        gap = r"['\"]?[\s:=\['\"]+"
    return rf"\b{words}{gap}(?P<{group}>{number})"


def _named(sources: Sequence[ProposedSource], metric: str | None) -> list[ProposedSource]:
    """The sources, of which one gives `metric` under this name; [] where none does."""
    if metric is None or any(metric in source.metrics for source in sources):
        return list(sources)
    for same in (_folded, _lowered, lambda name: _PREFIX.sub("", _lowered(name))):
        wanted = _folded(metric) if same is _folded else _lowered(metric)
        found = [(at, name) for at, source in enumerate(sources) for name in source.metrics if same(name) == wanted]
        if len(found) > 1:  # which of them is meant is not known
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


def _missed(lines: Mapping[int, str], read: _Reader) -> Iterator[tuple[str, int]]:
    """The lines behind the first that is read which name a metric and a number, and are not read."""
    patterns = [pattern for _, _, pattern in read.chosen]
    passed = {text for kind in read.passed for text in kind.texts}
    begin = min((kind.first for kind, _, _ in read.chosen), default=0)
    kinds: dict[str, list[str]] = {}
    for index, line in lines.items():
        bare = without_bars(line)
        if index < begin or line in passed or not (MEASURE.search(bare) and _DECIMAL.search(bare)):
            continue
        if not any(pattern.search(line) for pattern in patterns):
            kinds.setdefault(re.sub(r"[\d.]+", "0", line), []).append(line)
    for found in list(kinds.values())[:_MOST_MISSED]:
        yield found[0].strip(), len(found)
