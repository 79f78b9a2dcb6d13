"""The options in the help texts of argparse, click, typer, absl, tyro and others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from tunectl.drafting.framework_help import read_fire_help, read_hydra_help
from tunectl.drafting.options import Framework
from tunectl.drafting.options import Help as Help
from tunectl.drafting.options import Option as Option

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BOX = re.compile(r"[─-╿]")
_ENTRY = re.compile(r" {0,7}(?:\* +)?(-{1,2}(?:[A-Za-z0-9?#]|\[no\]).*)")
_OF_ABSL = re.compile(r"--(\[no\])?([\w.-]+):(?:\s|$)")
_NAME = re.compile(r"-{1,2}[^\s,=\[\]]+")
_HEADING = re.compile(r"\s*([A-Za-z][\w -]*?):?\s*")
_COMMANDS_IN_USAGE = re.compile(r"\{([\w,.-]+)\} \.\.\.")
_EXCLUSIVE = re.compile(r"(?<![\w-])(-{1,2}[^\s\[\]()|]+)(?=(?: (?![\[(]?-)[^|\s]+)*? \| \(?(-{1,2}[^\s\[\]()|]+))")
_METAVAR = re.compile(r"[A-Z][A-Z0-9_.]*( RANGE)?(\.\.\.)?|\[[^\]\s]*\|[^\]\s]*\]|<[^>]+>(\.\.\.)?( \[[^\]]*\])?")
_IN_BRACKETS = re.compile(
    r"[(\[](?:[^()\[\]]*[;,.] *)?[Dd]efaults?(?: is| to|:|=)? *((?:[^()\[\];]|\([^()]*\)|\[[^\[\]]*\])*)[;)\]]"
)
_IN_PROSE = re.compile(r"\b[Dd]efaults?(?: value)?(?: is| to| =|:|=) *([^\s,;)\]]+)")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_REQUIRED = re.compile(r"[\[(]required(?:[\])]|, type:)")
_ABSL_SECTION = re.compile(r"(?:absl|tensorflow|tensorboard)(?:\.\w+)*:")
_COMMANDS = re.compile(r"(?:available )?(?:sub)?commands", re.IGNORECASE)
_USAGE = re.compile(r"^ *usage:(.*(?:\n[ \t]+\S.*)*)", re.IGNORECASE | re.MULTILINE)
_NONE = frozenset({"", "None", "==SUPPRESS==", "(dynamic)", "null"})


def read_help(text: str) -> Help:
    """The options and subcommands in a help text; other text gives none."""
    lines = [_BOX.sub(" ", _COLOUR.sub("", line)).rstrip() for line in text.splitlines()]
    plain = "\n".join(lines)
    special = read_fire_help(plain) or read_hydra_help(plain)
    if special is not None:
        return special
    lines, framework = list(_without_absl(lines)), _framework(plain)
    options: dict[str, Option] = {}
    for entry, explanation in _entries(lines):
        option = _option(entry, explanation)
        if option is not None:
            options.setdefault(option.name, option)
    usage = re.search(r"usage:.*?(?=\n\s*\n|\Z)", "\n".join(lines), re.IGNORECASE | re.DOTALL)
    exclusive = tuple((pair[1], pair[2]) for pair in _EXCLUSIVE.finditer(usage[0])) if usage else ()
    commands = tuple(_commands(lines, usage[0] if usage else ""))
    found = Help(tuple(options.values()), commands, exclusive, framework=framework)
    line = _USAGE.search("\n".join(lines))
    return _with_required(found, line[1]) if line else found


def _without_absl(lines: list[str]) -> Iterator[str]:
    """The lines without absl's own flags, which `--helpfull` prints as well."""
    inside = False
    for line in lines:
        if line and not line.startswith(" "):
            inside = _ABSL_SECTION.fullmatch(line) is not None
        if not inside:
            yield line


def _framework(text: str) -> Framework:
    if re.search(r"^ +--print_config\b", text, re.MULTILINE):
        return "jsonargparse"
    return "absl" if re.search(r"USAGE: .* \[flags\]|--helpfull", text) else ""


def _with_required(text: Help, usage: str) -> Help:
    """The help with the required options and arguments: those outside of brackets in the usage line."""
    begin = re.search(r"\[(?:-h\b|--help\b|OPTIONS\])", usage)
    if begin is None:
        return text  # an author's own usage line: where the arguments begin is not known
    plain = usage[begin.start() :]
    while (shorter := re.sub(r"\[[^\[\]]*\]", " ", plain)) != plain:
        plain = shorter
    groups = [
        re.findall(r"(?<![\w-])-{1,2}[^\s()|]+", group[1]) for group in re.finditer(r"\(([^()]*\|[^()]*)\)", plain)
    ]
    words = re.findall(r"\{[^{}]*\}|[^\s{}]+", re.sub(r"\([^()]*\|[^()]*\)", " ", plain))
    required, positionals = set[str](), list[str]()
    while words:
        word = words.pop(0)
        if word.startswith("-") and word != "--":
            option = text.option(word)
            if option is not None:
                required.add(option.name)
                del words[: option.takes]
        elif word not in ("--", "...") and words[:1] != ["..."] and not _names_commands(word, text):
            positionals.append(word.removesuffix("..."))
    options = tuple(replace(item, required=item.required or item.name in required) for item in text.options)
    one_of = tuple(tuple(group) for group in groups if group)
    return replace(text, options=options, positionals=tuple(positionals), one_of=one_of)


def _names_commands(word: str, text: Help) -> bool:
    """Whether a word of a usage line, such as `{train,eval}`, lists the subcommands."""
    return word[:1] == "{" and set(word.strip("{}").split(",")) <= set(text.commands)


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each option as it is invoked, and the explanation beside and below it."""
    entry: str | None = None
    explanation: list[str] = []
    for line in [*lines, "end"]:
        opens = _ENTRY.fullmatch(line)
        if opens is None and line.startswith("   ") and line.strip() and entry is not None:
            explanation.append(line.strip())
            continue
        if entry is not None:
            yield entry, " ".join(explanation)
            entry, explanation = None, []
        if opens is not None:
            entry, beside = _parted(opens[1])
            explanation = [beside] if beside else []


def _parted(line: str) -> tuple[str, str]:
    """Split an entry's line into the invocation and the text beside it, at least two spaces apart."""
    first, *chunks = re.split(r"\s{2,}", line)
    invocation = [first]
    # In typer's tables, other spellings and the metavar have columns of their own.
    while chunks and _NAME.fullmatch(chunks[0]):
        invocation.append(chunks.pop(0))
    if chunks and _METAVAR.fullmatch(chunks[0]) and _NAME.fullmatch(invocation[-1]):
        invocation.append(chunks.pop(0))
    return " ".join(invocation), "  ".join(chunks)


def _option(entry: str, explanation: str) -> Option | None:
    if absl := _OF_ABSL.match(entry):
        name = f"--{absl[2]}"
        explained = f"{entry[absl.end() :]} {explanation}"
        listed = re.match(r" *<([^<> ]+)>:", explained)
        option = Option(
            (name,),
            0 if absl[1] else 1,
            choices=tuple(listed[1].split("|")) if listed else (),
            off=f"--no{absl[2]}" if absl[1] else None,
            repeats="repeat this option to specify a list" in explained,
            shown=name,
        )
        return replace(option, default=_default(option, explained))
    names: list[str] = []
    off: str | None = None
    arguments = ""
    for index, part in enumerate(re.split(r"(,\s+(?=-)|\s+/\s+|\s+(?=--?[A-Za-z]))", entry)):
        if index % 2:
            slash = "/" in part
            continue
        found = _NAME.match(part)
        if found is None:
            continue
        if index and slash:
            off = off or found[0]
        else:
            names.append(found[0])
        arguments = part[found.end() :].strip(" =") or arguments
    if not names:
        return None
    positive = {"--no-" + name[2:] for name in names if name.startswith("--")}
    off = off or next((name for name in names if name in positive), None)
    takes, many, choices = _arguments(arguments)
    spelled = tuple(name for name in names if name != off)
    required = _REQUIRED.search(explanation) is not None
    option = Option(spelled, takes, many, choices, off=off, required=required, shown=entry)
    return replace(option, default=_default(option, explanation))


def _arguments(text: str) -> tuple[int, bool, tuple[str, ...]]:
    """How many values an option takes, whether it may take more, and its choices."""
    if not text or text == "<bool>":
        return 0, False, ()
    if text.startswith("<"):
        inner = text[1:].partition(">")[0]
        choices = tuple(inner.split("|")) if "|" in inner else ()
        return (len(re.split(r"[, ]", inner)) if ">..." in text else 1), False, choices
    listed = re.search(r"\{([^{}]*)\}", text) or re.fullmatch(r"\[([^\[\]]*\|[^\[\]]*)\]", text)
    choices = tuple(item.strip() for item in re.split(r"[,|]", listed[1])) if listed else ()
    if listed and listed[0] == text:
        return 1, False, choices
    many = "..." in text
    plain = re.sub(r"\{[^{}]*\}", "X", text.replace(" RANGE", "")).strip(".")
    needed = re.sub(r"\[.*\]", "", plain).split()
    return max(len(needed), 0 if many else 1), many, choices


def _default(option: Option, explanation: str) -> str | None:
    text = None
    for found in _IN_BRACKETS.finditer(explanation):
        text = found[1].strip().strip("'\"")
    if text is None:
        # In a sentence, the word after "default" may be anything: only a number or a choice counts.
        words = [item[1].rstrip(".").strip("'\"`") for item in _IN_PROSE.finditer(explanation)]
        text = next((item for item in words if _NUMBER.fullmatch(item) or item in option.choices), None)
    if option.takes == 0 and not option.many:
        return _switch_default(option, text)
    if text in ("True", "False") and {"true", "false"} <= set(option.choices):
        text = text.lower()  # printed as by Python, but the choices are lower case
    return None if text is None or text in _NONE or text.startswith("<") else text


def _switch_default(option: Option, text: str | None) -> str | None:
    """The default of a flag that can be turned off; any other flag is off unless it is in the line."""
    if option.off is None:
        return None
    word = (text or "").lower().lstrip("-")
    if word in ("true", *(name.lstrip("-") for name in option.names)):
        return "true"
    return "false" if word in ("false", option.off.lstrip("-")) else None


def _commands(lines: list[str], usage: str) -> Iterator[str]:
    found = _COMMANDS_IN_USAGE.search(usage)
    if found:
        yield from found[1].split(",")
        return
    inside = False
    for line in lines:
        heading = _HEADING.fullmatch(line)
        if heading and (
            line.endswith(":") or heading[1].lower() in ("commands", "options", "arguments", "subcommands")
        ):
            inside = _COMMANDS.fullmatch(heading[1]) is not None
        elif inside and (name := re.match(r" {1,4}(?:• )?([a-z][\w.:-]*)(?:\s{2,}|$)", line)):
            yield name[1]
