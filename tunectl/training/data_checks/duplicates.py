"""Examples that are in two splits: with the same values, or with the same ones after both were normalised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

from tunectl.core.data_report import DataFinding
from tunectl.training.data_checks.fingerprints import are_the_same
from tunectl.training.data_checks.looked_at import LookedAt, reread

MOST_COMPARED = 2000
"""The largest number of pairs that are read again to compare them."""

_MOST_OF_ONE = 4  # pairs of one example


def duplicates(splits: Mapping[str, LookedAt], seed: int) -> Iterator[DataFinding]:
    """A finding for each two splits that have examples in common, and each way in which they are the same."""
    random = [name for name, split in splits.items() if split.random]
    for name in random:
        yield DataFinding(
            "not looked at",
            name,
            f"the examples of {name} are not the same each time, so that they could not be looked for in other splits",
            doubt=False,
        )
    for one, other in combinations([name for name in splits if name not in random], 2):
        first, second = splits[one], splits[other]
        exact = _exact(first, second)
        if exact:
            yield _finding(splits, (one, other), exact, "with the same values")
        similar = _similar(first, second, set(exact), seed)
        if similar:
            yield _finding(splits, (one, other), similar, "apart from scale and shift")


def _exact(first: LookedAt, second: LookedAt) -> dict[int, int]:
    """Places in the second of the examples that are in the first, with their places there."""
    known = {found.exact: place for place, found in reversed(list(enumerate(first.fingerprints)))}
    return {place: known[found.exact] for place, found in enumerate(second.fingerprints) if found.exact in known}


def _similar(first: LookedAt, second: LookedAt, exact: set[int], seed: int) -> dict[int, int]:
    """As `_exact`, for those that are the same only after normalisation."""
    known: dict[tuple[bytes, bytes], list[int]] = {}
    for place, found in enumerate(first.fingerprints):
        for key in found.keys:
            known.setdefault(key, []).append(place)
    same: dict[int, int] = {}
    left = MOST_COMPARED
    for place, found in enumerate(second.fingerprints):
        if place in exact:
            continue
        candidates = dict.fromkeys(other for key in found.keys for other in known.get(key, ()))
        for other in list(candidates)[:_MOST_OF_ONE]:
            if left == 0:
                return same
            left -= 1
            if found.numbers is None or are_the_same(
                reread(first, other, seed).inputs, reread(second, place, seed).inputs
            ):
                same[place] = other
                break
    return same


def _finding(splits: Mapping[str, LookedAt], names: tuple[str, str], pairs: Mapping[int, int], how: str) -> DataFinding:
    (one, other), (first, second) = names, (splits[name] for name in names)
    place, its = next(iter(pairs.items()))
    differing = sum(
        any(
            values[there] != first.labels[label][here]
            for label, values in second.labels.items()
            if label in first.labels
        )
        for there, here in pairs.items()
    )
    looked = "" if second.is_whole and first.is_whole else " that were looked at"
    text = (
        f"{len(pairs):,} of the {len(second.examples):,} examples of {other}{looked}"
        f" {'is' if len(pairs) == 1 else 'are'} in {one} too, {how}"
        f" (such as {other}[{second.examples[place]}], which is {one}[{first.examples[its]}])"
    )
    if differing:
        text += f"; {differing:,} of them with another label"
    # Another split may have examples of train on purpose, to evaluate them otherwise.
    on_purpose = other not in ("train", "valid", "test") and len(pairs) == len(second.examples)
    return DataFinding("duplicates", other, text, len(pairs), doubt=not on_purpose)
