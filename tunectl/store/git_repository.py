"""The git repository of a study: its commit, and the changes that are not committed, as a patch that git applies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tunectl.core.records import DiffExtent

GIT_TIMEOUT_SECONDS = 10.0
LARGEST_FILE_BYTES = 5_000_000
LARGEST_DIFF_BYTES = 20_000_000

MAY_BE_SECRET = (
    ".env",
    ".env.*",
    "*.env",
    ".envrc",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".git-credentials",
    ".htpasswd",
    "*.key",
    "*.pem",
    "*.p12",
    "*.pfx",
    "*.keystore",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "*credential*",
    "*secret*",
)
"""Names of files whose changes are never kept."""

_SUBMODULE = b"160000"
_MOST_PATHS = 500  # of one call: a command line has its limits
_UNKNOWN: dict[str, Any] = {"repository": None, "commit": None, "branch": None, "dirty": None}

# Git sets some of them in its hooks: with them every call would go to another repository. The others change what a path
# means, and how many lines of context a patch has.
_REDIRECTIONS = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_OBJECT_DIRECTORY",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_LITERAL_PATHSPECS",
        "GIT_GLOB_PATHSPECS",
        "GIT_NOGLOB_PATHSPECS",
        "GIT_ICASE_PATHSPECS",
        "GIT_DIFF_OPTS",
        "GIT_EXTERNAL_DIFF",
    }
)
_SETTINGS = ("core.fsmonitor=false", "core.quotePath=false", "diff.orderFile=/dev/null", "diff.relative=false")
_PATCH = (
    "--patch",
    "--binary",
    "--full-index",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--no-renames",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--src-prefix=a/",
    "--dst-prefix=b/",
)
"""Options for a patch that `git apply` accepts, whatever the user's configuration says about diffs."""


@dataclass(frozen=True, slots=True)
class RepositoryState:
    """The state of a repository: `entry` for provenance.json, `uncommitted` for uncommitted.diff."""

    entry: dict[str, Any]
    uncommitted: bytes = b""


@dataclass(frozen=True, slots=True)
class _Change:
    """A tracked file that differs from the commit; `is_submodule` where it is another repository."""

    path: bytes
    blob: bytes
    is_submodule: bool


def describe_repository(folders: Sequence[Path], study_folder: Path, extent: DiffExtent) -> RepositoryState:
    """The repository with the first of these folders; never raises, what cannot be found is None.

    Changes in the study folder are left out. Of the others those in the folders are kept, or as `extent` says.
    """
    top = _git(folders[0], "rev-parse", "--show-toplevel") if folders else None
    if top is None:
        return RepositoryState(dict(_UNKNOWN))
    repository = Path(os.fsdecode(top.removesuffix(b"\n")))
    commit = _text(_git(repository, "rev-parse", "--verify", "--quiet", "HEAD"))
    paths = [".", *_exclusion(repository, study_folder)]
    status = _git(
        repository,
        *("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal", "--ignore-submodules=none"),
        *("--", *paths),
    )
    entry = {
        "repository": str(repository),
        "commit": commit,
        "branch": _text(_git(repository, "symbolic-ref", "--quiet", "--short", "HEAD")),
        "dirty": None if status is None else bool(status),
    }
    if not status or extent == "none":
        return RepositoryState(entry)
    return RepositoryState(entry, _uncommitted(repository, commit, status, paths, _kept(repository, folders, extent)))


def _kept(repository: Path, folders: Sequence[Path], extent: DiffExtent) -> list[bytes]:
    """The folders in which changes are kept, relative to the repository; b"" is the whole repository."""
    if extent == "repository":
        return [b""]
    inside = {_inside(repository, folder) for folder in folders} - {None}
    found = sorted(os.fsencode(path) if path != Path() else b"" for path in inside if path is not None)
    return [path for path in found if not any(other != path and _is_below(path, other) for other in found)]


def _inside(repository: Path, folder: Path) -> Path | None:
    try:
        return folder.resolve().relative_to(repository.resolve())
    except (ValueError, OSError):
        return None


def _is_below(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")


def _exclusion(repository: Path, study_folder: Path) -> list[str]:
    """The pathspec that leaves the study folder out, where it is in the repository."""
    inside = _inside(repository, study_folder)
    return [f":(exclude,top,literal){inside}"] if inside is not None and inside.parts else []


def _uncommitted(repository: Path, commit: str | None, status: bytes, paths: list[str], kept: list[bytes]) -> bytes:
    """The content of uncommitted.diff: what is kept and what is not, as comments to `git apply`, then the patch."""
    base = commit or _text(_git(repository, "hash-object", "-t", "tree", "--stdin", stdin=b"")) or "HEAD"
    changes = _changes(repository, base, paths)
    untracked = [entry[3:] for entry in status.split(b"\0") if entry.startswith(b"?? ")]
    head = _heading(commit, kept) + _comments(b"untracked", untracked)
    if changes is None:
        return head + b"# the changes could not be read\n"
    files, modules = [item for item in changes if not item.is_submodule], [it for it in changes if it.is_submodule]
    below = [item for item in files if any(_is_below(item.path, folder) for folder in kept)]
    secret = [item for item in below if _may_be_secret(item.path)]
    plain = [item for item in below if item not in secret]
    large = _large(repository, plain)
    patches = _patches(repository, base, [item.path for item in plain if item.path not in large])
    head += _comments(b"not kept, elsewhere", [item.path for item in files if item not in below])
    head += _comments(b"not kept, may be secret", [item.path for item in secret])
    head += _comments(b"not kept, larger than %d bytes" % LARGEST_FILE_BYTES, sorted(large))
    head += _comments(b"submodule", _moves(repository, base, modules))
    if patches is None:
        return head + b"# the diff could not be taken\n"
    return _within_the_limit(head, patches)


def _heading(commit: str | None, kept: list[bytes]) -> bytes:
    where = b", ".join(folder + b"/" for folder in kept) if b"" not in kept else b"the whole repository"
    since = f"commit {commit}" if commit else "an empty repository"
    return (
        b"# changes since " + since.encode() + b" to tracked files in: " + (_one_line(where) or b"no folder") + b"\n"
        b"# to apply them, at the top of the repository: git apply --whitespace=nowarn uncommitted.diff\n"
    )


def _one_line(name: bytes) -> bytes:
    return name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def _comments(what: bytes, names: Sequence[bytes]) -> bytes:
    return b"".join(b"# " + what + b": " + _one_line(name) + b"\n" for name in sorted(names))


def _may_be_secret(path: bytes) -> bool:
    name = os.fsdecode(path.rsplit(b"/", 1)[-1]).lower()
    return not name.endswith(".py") and any(fnmatchcase(name, pattern) for pattern in MAY_BE_SECRET)


def _changes(repository: Path, base: str, paths: list[str]) -> list[_Change] | None:
    """The tracked files that differ from the commit `base`, and the submodules that changed."""
    listed = _git(
        repository,
        *("diff", "--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=none"),
        *(base, "--", *paths),
    )
    if listed is None:
        return None
    # :100644 100644 <blob before> <blob after> M, then the path; of a conflict two lines with the same path.
    words = listed.split(b"\0")
    found = {}
    for meta, path in zip(words[::2], words[1::2], strict=False):
        before, after, blob, *_ = meta.lstrip(b":").split(b" ")
        found[path] = _Change(path, blob, _SUBMODULE in (before, after))
    return list(found.values())


def _large(repository: Path, changes: Sequence[_Change]) -> set[bytes]:
    """The files that are larger than LARGEST_FILE_BYTES, before or after: a patch of a binary file holds both."""
    large = set()
    for item in changes:
        try:
            size = os.lstat(os.fsencode(repository) + b"/" + item.path).st_size
        except OSError:
            size = 0
        if size > LARGEST_FILE_BYTES:
            large.add(item.path)
    known = [item for item in changes if item.blob.strip(b"0")]
    sizes = _git(
        repository,
        *("cat-file", "--batch-check=%(objectsize)"),
        stdin=b"".join(item.blob + b"\n" for item in known),
    )
    for item, stored in zip(known, (sizes or b"").split(b"\n"), strict=False):
        if stored.isdigit() and int(stored) > LARGEST_FILE_BYTES:
            large.add(item.path)
    return large


def _patches(repository: Path, base: str, paths: Sequence[bytes]) -> list[bytes] | None:
    """The patch of each of these files; None where git fails."""
    patches: list[bytes] = []
    for first in range(0, len(paths), _MOST_PATHS):
        chosen = [":(top,literal)" + os.fsdecode(path) for path in paths[first : first + _MOST_PATHS]]
        found = _git(repository, "diff", *_PATCH, "--ignore-submodules=all", base, "--", *chosen)
        if found is None:
            return None
        # Only the first line of a patch begins like this.
        begin, *others = found.split(b"\ndiff --git ")
        patches += [begin + b"\n" if others else begin] if begin else []
        patches += [b"diff --git " + other + (b"\n" if other is not others[-1] else b"") for other in others]
    return patches


def _moves(repository: Path, base: str, modules: Sequence[_Change]) -> list[bytes]:
    """What changed in each submodule: the commits before and after, with "-dirty" where it has uncommitted changes."""
    found = []
    for item in modules:
        given = _git(
            repository,
            *("diff", *_PATCH, "--submodule=short", "--ignore-submodules=none", base),
            *("--", ":(top,literal)" + os.fsdecode(item.path)),
        )
        lines = [line for line in (given or b"").split(b"\n") if line[1:].startswith(b"Subproject commit ")]
        commits = b", now ".join(line[1:].removeprefix(b"Subproject commit ") for line in lines)
        found.append(item.path + (b" (was " + commits + b")" if commits else b""))
    return found


def _within_the_limit(head: bytes, patches: Sequence[bytes]) -> bytes:
    """The patches that fit into the limit, the small ones first; a patch is never cut, since it would not apply."""
    room, left = LARGEST_DIFF_BYTES - len(head), set()
    for place in sorted(range(len(patches)), key=lambda place: len(patches[place])):
        room -= len(patches[place])
        if room < 0:
            left.add(place)
    names = [patches[place].split(b"\n", 1)[0].removeprefix(b"diff --git ") for place in left]
    head += _comments(b"not kept, the changes are larger than %d bytes" % LARGEST_DIFF_BYTES, names)
    return head + b"".join(patch for place, patch in enumerate(patches) if place not in left)


def _text(output: bytes | None) -> str | None:
    return None if output is None else output.decode("utf-8", "backslashreplace").strip()


def _git(folder: Path, *arguments: str, stdin: bytes | None = None) -> bytes | None:
    """The output of git, None where it fails, is missing, or takes too long."""
    environment = {name: value for name, value in os.environ.items() if name not in _REDIRECTIONS}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    command = ["git", "-C", str(folder), "--no-optional-locks", *settings, *arguments]
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=GIT_TIMEOUT_SECONDS, env=environment, check=False, **given
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
