"""A small translation task that needs no file: numbers in English words and the same numbers in German words.

As between the languages themselves, most words have one counterpart, some change their order (forty-two is zwei und
vierzig), and one is added (und). German words that are written together are separate here, so that BLEU has words to
count.
"""

from __future__ import annotations

import numpy as np

SOURCE, TARGET = "en", "de"

EXAMPLES = {"train": 8_000, "valid": 250, "test": 250}
"""The examples of each split; no number is in two of them."""

_LARGEST, _SEED = 999_999, 0

_ENGLISH = str.split(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_ENGLISH_TENS = str.split("twenty thirty forty fifty sixty seventy eighty ninety")
_GERMAN = str.split(
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn"
    " achtzehn neunzehn"
)
_GERMAN_TENS = str.split("zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")


def number_pairs() -> dict[str, list[tuple[str, str]]]:
    """The pairs of each split, the same in every process: numbers below a million, all equally likely."""
    # RandomState is frozen, so the numbers never change.
    numbers = np.random.RandomState(_SEED).permutation(_LARGEST + 1)[: sum(EXAMPLES.values())]
    pairs = [(english(int(number)), german(int(number))) for number in numbers]
    found, first = {}, 0
    for split, count in EXAMPLES.items():
        found[split] = pairs[first : first + count]
        first += count
    return found


def english(number: int) -> str:
    """A number below a million in English: `three hundred forty-two thousand seven`."""
    thousands, rest = divmod(number, 1000)
    words = [_english_below_thousand(thousands), "thousand"] if thousands else []
    return " ".join([*words, _english_below_thousand(rest)] if rest or not words else words)


def _english_below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    words = [_ENGLISH[hundreds], "hundred"] if hundreds else []
    if rest >= len(_ENGLISH):
        tens, ones = divmod(rest, 10)
        words.append(_ENGLISH_TENS[tens - 2] + (f"-{_ENGLISH[ones]}" if ones else ""))
    elif rest or not words:
        words.append(_ENGLISH[rest])
    return " ".join(words)


def german(number: int) -> str:
    """A number below a million in German, in separate words: `drei hundert zwei und vierzig tausend sieben`."""
    thousands, rest = divmod(number, 1000)
    words = [*_german_below_thousand(thousands, "ein"), "tausend"] if thousands else []
    return " ".join([*words, *_german_below_thousand(rest, "eins")] if rest or not words else words)


def _german_below_thousand(number: int, one: str) -> list[str]:
    """`one` is the word for a 1 at the end: ein before another word, else eins."""
    hundreds, rest = divmod(number, 100)
    words = [_german_digit(hundreds), "hundert"] if hundreds else []
    if rest >= len(_GERMAN):
        tens, ones = divmod(rest, 10)
        return [*words, *([_german_digit(ones), "und"] if ones else []), _GERMAN_TENS[tens - 2]]
    if rest or not words:
        words.append(one if rest == 1 else _GERMAN[rest])
    return words


def _german_digit(digit: int) -> str:
    return "ein" if digit == 1 else _GERMAN[digit]
