"""A git work tree without git: what its index tracks, and its ignore files outside the tree.

A repository is a stranger's: nothing that its configuration names is run or included. dulwich reads
the index and the configuration, and is imported for uploads only.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..defaults import LARGEST_TEXT
from .ignore_rules import IGNORE_FILE, IgnoreRules, read_plain_file

if TYPE_CHECKING:
    from dulwich.config import ConfigFile
    from dulwich.object_format import ObjectFormat
    from dulwich.objects import ObjectID

LARGEST_INDEX = 256 << 20  # bytes; one of 20,000 files has 2 MB
SMALLEST_ENTRY = 62  # bytes of an index
LARGEST_POINTER = 4096  # bytes of a `.git` that is a file, and of `commondir`
KIND, SUBMODULE_KIND, FOLDER_KIND = 0o170000, 0o160000, 0o040000  # in an entry's mode
NO_LIBRARY = "git's index and ignore files are not read, for dulwich is missing"
BAD_INDEX = "git's index cannot be read: tracked files that an ignore file names stay here"


@dataclass(frozen=True)
class TrackedPaths:
    """What the index names: files, the folders around them, and submodules."""

    files: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    submodules: frozenset[str] = frozenset()
    # Of a sparse checkout: ignore files that lie in the repository only, and whole such folders, by
    # their objects' names. git heeds them all the same.
    left_out: Mapping[str, ObjectID] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexLine:
    """What of an index entry matters here."""

    name: bytes
    mode: int
    object_id: ObjectID
    is_left_out: bool

    @property
    def kind(self) -> int:
        return self.mode & KIND

    @property
    def path(self) -> str:
        return os.fsdecode(self.name)


@dataclass(frozen=True)
class WorkTree:
    """A folder with `.git`, or one without; `rules` is None where nothing can be read."""

    root: Path
    has_git: bool
    tracked: TrackedPaths
    rules: IgnoreRules | None
    problem: str | None = None

    @classmethod
    def around(cls, top: Path) -> WorkTree:
        """That of the nearest `.git`; `top` itself where there is none."""
        root = next(
            (folder for folder in (top, *top.parents) if os.path.lexists(folder / ".git")), None
        )
        try:
            import dulwich.bitmap
            import dulwich.config
            import dulwich.ignore
            import dulwich.index
            import dulwich.wildmatch  # noqa: F401  all are needed, or none is used
        except ImportError:
            return cls(root or top, root is not None, TrackedPaths(), None, NO_LIBRARY)
        if root is None:
            return cls(top, False, TrackedPaths(), IgnoreRules(top))
        folder = git_folder(root)
        common = common_folder(folder)
        config = read_config(common / "config")
        excludes = [
            text
            for path in (excludes_file(root, config), common / "info" / "exclude")
            if (text := read_plain_file(path, LARGEST_TEXT))
        ]
        tracked, problem = TrackedPaths(), None
        try:
            tracked = read_index(folder, object_format(config))
        except Exception:  # noqa: BLE001  a stranger's bytes: whatever the reader stumbles over
            problem = BAD_INDEX
        rules = IgnoreRules(
            root,
            excludes,
            ignore_case=ignores_case(config),
            left_out=LeftOutFiles(tracked.left_out, common / "objects", object_format(config)).read,
        )
        return cls(root, True, tracked, rules, problem)

    def path_of(self, path: Path) -> str:
        """As git has it; empty for the root."""
        relative = path.relative_to(self.root).as_posix()
        return "" if relative == "." else relative

    def ignores(self, path: str, *, folder: bool) -> bool:
        """Whether an ignore file names that path itself."""
        return self.rules is not None and self.rules.is_ignored(path, folder=folder)

    def ignores_on_the_way(self, path: str) -> bool:
        """Whether git ignores that folder, by itself or by one around it."""
        parents = [parent.as_posix() for parent in PurePosixPath(path).parents][:-1]
        return any(self.ignores(folder, folder=True) for folder in (*parents, path) if folder)


def git_folder(root: Path) -> Path:
    """`.git`, or what that file of a further work tree or a submodule names."""
    found = root / ".git"
    text = None if found.is_dir() else read_plain_file(found, LARGEST_POINTER)
    if text is not None and text.startswith(b"gitdir:"):
        return root / os.fsdecode(text[len(b"gitdir:") :].strip())
    return found


def common_folder(folder: Path) -> Path:
    """Where further work trees have their configuration."""
    text = read_plain_file(folder / "commondir", LARGEST_POINTER)
    return folder / os.fsdecode(text.strip()) if text else folder


def read_config(path: Path) -> ConfigFile:
    """A repository's; what it would include is not read."""
    from dulwich.config import ConfigFile

    text = read_plain_file(path, LARGEST_TEXT) or b""
    try:
        return ConfigFile.from_file(io.BytesIO(text), expand_includes=False)
    except (ValueError, KeyError, IndexError):
        return ConfigFile()


def excludes_file(root: Path, config: ConfigFile) -> Path:
    """core.excludesFile, of the repository or else of the user, or the user's usual place."""
    from dulwich.config import StackedConfig, get_xdg_config_home_path

    try:
        users = StackedConfig.default_backends()
    except (OSError, ValueError):
        users = []
    for source in (config, *users):
        try:
            name = source.get((b"core",), b"excludesFile")
        except KeyError:
            continue
        return root / os.path.expanduser(os.fsdecode(name))
    return Path(get_xdg_config_home_path("git", "ignore"))


def ignores_case(config: ConfigFile) -> bool:
    """As git noted when it made the repository on macOS or Windows."""
    try:
        return bool(config.get_boolean((b"core",), b"ignorecase", False))
    except ValueError:
        return False


def object_format(config: ConfigFile) -> ObjectFormat:
    from dulwich.object_format import SHA1, SHA256

    try:
        return SHA256 if config.get((b"extensions",), b"objectformat") == b"sha256" else SHA1
    except KeyError:
        return SHA1


def read_index(folder: Path, hashes: ObjectFormat) -> TrackedPaths:
    """Raises whatever a damaged index leads to; without one nothing is tracked."""
    data = read_plain_file(folder / "index", LARGEST_INDEX)
    if data is None:
        return TrackedPaths()
    lines, base, gone = parse_index(data, hashes)
    if base is not None:  # a split index: the rest, of which some are replaced under no name
        shared = read_plain_file(folder / f"sharedindex.{base}", LARGEST_INDEX)
        older, _, _ = parse_index(shared or b"", hashes)
        kept = [line for number, line in enumerate(older) if number not in gone]
        lines = [*kept, *(line for line in lines if line.name)]
    files = frozenset(line.path for line in lines if line.kind not in (SUBMODULE_KIND, FOLDER_KIND))
    return TrackedPaths(
        files,
        frozenset(parent.as_posix() for name in files for parent in PurePosixPath(name).parents),
        frozenset(line.path for line in lines if line.kind == SUBMODULE_KIND),
        {line.path.rstrip("/"): line.object_id for line in lines if is_rule_left_out(line)},
    )


def is_rule_left_out(line: IndexLine) -> bool:
    is_rule = PurePosixPath(line.path).name == IGNORE_FILE
    return line.kind == FOLDER_KIND or (is_rule and line.is_left_out)


@dataclass(frozen=True)
class LeftOutFiles:
    """Files that a sparse checkout leaves in the repository; a stranger's objects."""

    ids: Mapping[str, ObjectID]
    objects: Path
    hashes: ObjectFormat

    def read(self, path: str) -> bytes | None:
        """None for what is not left out, or cannot be read."""
        for folder in (PurePosixPath(path), *PurePosixPath(path).parents):
            found = self.ids.get(folder.as_posix())
            if found is not None:
                try:
                    return self._read(found, PurePosixPath(path).relative_to(folder))
                except Exception:  # noqa: BLE001  as above
                    return None
        return None

    def _read(self, object_id: ObjectID, rest: PurePosixPath) -> bytes | None:
        from dulwich.object_store import DiskObjectStore
        from dulwich.objects import Blob, Tree

        store = DiskObjectStore(self.objects, object_format=self.hashes)
        try:
            found = store[object_id]
            for name in rest.parts:
                if not isinstance(found, Tree):
                    return None
                found = store[found[os.fsencode(name)][1]]
            return found.data[:LARGEST_TEXT] if isinstance(found, Blob) else None
        finally:
            store.close()


def parse_index(data: bytes, hashes: ObjectFormat) -> tuple[list[IndexLine], str | None, set[int]]:
    """(its entries, digest of the shared index, which of that one's entries are gone)."""
    from dulwich.bitmap import EWAHBitmap
    from dulwich.index import EXTENDED_FLAG_SKIP_WORKTREE
    from dulwich.index import read_index as read_entries

    stream = io.BytesIO(data)
    lines = [
        IndexLine(
            entry.name,
            entry.mode,
            entry.sha,
            bool(entry.extended_flags & EXTENDED_FLAG_SKIP_WORKTREE),
        )
        for entry in read_entries(stream, hashes)
    ]
    size = hashes.oid_length
    while len(head := stream.read(8)) == 8 and stream.tell() <= len(data) - size:
        kind, length = head[:4], struct.unpack(">I", head[4:])[0]
        body = stream.read(length)
        if kind == b"link":
            gone = body[size:]
            # So that a few bytes cannot say that more entries are gone than an index can have.
            if int.from_bytes(gone[:4]) > LARGEST_INDEX // SMALLEST_ENTRY:
                raise ValueError("more entries are gone than there can be")
            return lines, body[:size].hex(), EWAHBitmap(gone).bits if gone else set()
    return lines, None, set()
