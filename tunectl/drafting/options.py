"""The options of a program: how each is spelled, what it takes, and what it is by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Framework = Literal["", "hydra", "fire", "absl", "jsonargparse"]
"""What prints a help text and reads the command line, where that makes a difference to how options are given."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a program.

    `names` are its spellings. `takes` is how many values follow it: none for a flag; `many`: at least so many.
    `off` is the spelling that turns a flag off (`--no-amp`). `default` is text as the help shows it, None where the
    help shows none; of a flag with an `off` it is "true" or "false". `repeats`: it may be given several times, and its
    values are a list. `required`: the program does not start without it. `shown` is how the help shows the option.
    `joined`: its value is in the same word, `lr=0.1` or `--lr=0.1`. `source` is the file that sets the default, ""
    where the program does.
    """

    names: tuple[str, ...]
    takes: int = 0
    many: bool = False
    choices: tuple[str, ...] = ()
    default: str | None = None
    off: str | None = None
    repeats: bool = False
    required: bool = False
    shown: str = ""
    joined: bool = False
    source: str = ""

    @property
    def name(self) -> str:
        """The spelling that says most: the first long one."""
        return next((name for name in self.names if name.startswith("--")), self.names[0])


@dataclass(frozen=True, slots=True)
class Help:
    """What a help text says: the options, the names of subcommands, and spellings of which only one may be given.

    `positionals` are the words that the program requires beside its options, `one_of` options of which it wants one.
    `framework` is what prints the text, "" where that makes no difference.
    """

    options: tuple[Option, ...] = ()
    commands: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, str], ...] = ()
    positionals: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    framework: Framework = ""

    def rivals(self, option: Option) -> set[str]:
        """The names of the options that cannot be given beside this one."""
        group = {option.name}
        pairs = [{found.name for name in pair if (found := self.option(name))} for pair in self.exclusive]
        while grown := [pair for pair in pairs if pair & group and not pair <= group]:
            group |= grown[0]
        return group - {option.name}

    def option(self, name: str) -> Option | None:
        """The option of this spelling, or of a long one that begins so and is the only one."""
        for option in self.options:
            if name in (*option.names, option.off):
                return option
        near = [item for item in self.options if any(other.startswith(name) for other in item.names)]
        return near[0] if len(near) == 1 and len(name) > 2 and name.startswith("--") else None
