"""The options of a program: spellings, values and defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Framework = Literal["", "hydra", "fire", "absl", "jsonargparse"]
"""The library that reads the command line, if options are written differently for it."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a program.

    `names` are its spellings. `takes` is how many values follow it, 0 for a flag; with `many` there may be more.
    `off` is the spelling that turns a flag off (`--no-amp`). `default` is its text in the help, None if the help shows
    none; for a flag with an `off` it is "true" or "false". `repeats`: it can be given several times, and its values
    are a list. `required`: the program does not start without it. `shown` is its text in the help. `joined`: its value
    is in the same word, `lr=0.1` or `--lr=0.1`. `source` is the file that sets the default, "" if the program does.
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
        """The first long spelling, else the first one."""
        return next((name for name in self.names if name.startswith("--")), self.names[0])


@dataclass(frozen=True, slots=True)
class Help:
    """A help text: the options, the names of subcommands, and pairs of options that exclude each other.

    `positionals` are the required arguments beside the options, `one_of` groups of options of which one is required.
    `framework` is the library that printed the text, "" if that makes no difference.
    """

    options: tuple[Option, ...] = ()
    commands: tuple[str, ...] = ()
    exclusive: tuple[tuple[str, str], ...] = ()
    positionals: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    framework: Framework = ""

    def rivals(self, option: Option) -> set[str]:
        """The names of the options that this one excludes."""
        group = {option.name}
        pairs = [{found.name for name in pair if (found := self.option(name))} for pair in self.exclusive]
        while grown := [pair for pair in pairs if pair & group and not pair <= group]:
            group |= grown[0]
        return group - {option.name}

    def option(self, name: str) -> Option | None:
        """The option with this spelling, or the only long option that begins with it."""
        for option in self.options:
            if name in (*option.names, option.off):
                return option
        near = [item for item in self.options if any(other.startswith(name) for other in item.names)]
        return near[0] if len(near) == 1 and len(name) > 2 and name.startswith("--") else None
