"""Files in and out: one tar each way. What goes is chosen by ignore rules, what comes back is a stranger's archive."""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from skill_env import quoted

from .defaults import LARGEST_TEXT, LARGEST_TRANSFER, MOST_FILES
from .failures import Failure, UsageFailure
from .held import LEADS_OUT, TAKEN, Entry, Held, HeldFile
from .host_access import KEY_LOOK, HostAccess, has_partner, is_a_key, may_leave, open_regular, shown
from .host_files import NEW, Folder, open_folder
from .results import same_stem, why_no_content
from .written import Written, new_digest

WINDOWS = os.name == "nt"
NAMES_SHOWN = 8
CHUNK = 1 << 20
UNWANTED_NAME = re.compile(
    r"[\x00-\x1f\x7f-\x9f\\]"
)  # terminal escapes, and what another system takes for a separator
PLAIN_MODE, FOLDER_MODE = 0o644, 0o755
FIX_HOSTILE = "look at the files in the sandbox (--keep, then --command 'ls -lR DIR'), and fetch the ones you want by name"


@dataclass
class Packed:
    """A tar that is ready to go, and what a person wants to know of it."""

    path: Path
    files: int = 0
    size: int = 0
    skipped: list[str] = field(default_factory=list)

    def describe(self) -> str:
        skipped = f"; left here: {listed(self.skipped)}" if self.skipped else ""
        return f"{self.files} file{'' if self.files == 1 else 's'}, {readable(self.size)}{skipped}"


@dataclass(frozen=True)
class Saved:
    """A file that came back: its path here, its size in bytes."""

    path: str
    bytes: int


def listed(names: list[str]) -> str:
    """A few names, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(shown(name) for name in names[:NAMES_SHOWN]) + more


def readable(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size = size / 1000  # type: ignore[assignment]  # a number to be shown
    return f"{size:.1f} GB"


def split_pair(text: str, *, flag: str) -> tuple[str, str | None]:
    """The two sides of A:B; B is None when it is left out. A drive letter is no A."""
    first, mark, second = text.rpartition(":")
    if mark and WINDOWS and re.fullmatch(r"[A-Za-z]:[\\/].*", text) and len(first) == 1:
        first, mark, second = text, "", ""
    if not mark:
        first, second = text, ""
    if not first or (mark and not second):
        raise UsageFailure(
            f"{flag} {shown(text)}: one side is empty", fix=f"{flag} A:B, or {flag} A"
        )
    return first, second or None


def upload_pair(text: str, access: HostAccess) -> tuple[str, str]:
    """(path here, path in the sandbox); a path of the working directory keeps its place. Raises Failure."""
    here, there = split_pair(text, flag="--upload")
    real = access.allowed("--upload", here)
    if not real.exists():
        raise UsageFailure(
            f"--upload {shown(here)}: there is no such file or folder", fix="name one that exists"
        )
    if there is None:
        there = (
            real.relative_to(access.folder).as_posix()
            if real.is_relative_to(access.folder)
            else real.name
        )
    return here, safe_remote(there, flag="--upload")


def safe_remote(path: str, *, flag: str) -> str:
    if "\\" in path or "\0" in path:
        raise UsageFailure(
            f"{flag}: a path in the sandbox has slashes and no backslash",
            fix=f"{flag} A:folder/file",
        )
    return posixpath.normpath(path)


def download_pair(text: str, access: HostAccess, *, force: bool) -> tuple[str, str]:
    """(path in the sandbox, path here), the second checked before anything is created; raises Failure.

    What a place may hold is judged when it has come back: what is no result is held then, and not lost with the run.
    """
    there, here = split_pair(text, flag="--download")
    there = safe_remote(there, flag="--download")
    here = here or posixpath.basename(there)
    if here in ("", ".", "..") and there in ("/", ".", ".."):
        raise UsageFailure(
            f"--download {shown(text)}: it needs a name here",
            fix=f"--download {quoted(there)}:results",
        )
    refuse_taken("--download", here, access, force=force)
    return there, here


def refuse_taken(flag: str, here: str, access: HostAccess, *, force: bool) -> None:
    """Raises Failure host_access for a place that no flag writes, and for a result whose place is taken.

    What is no result by its name would be held anyway, so that the user can put it over what is there.
    """
    real = access.allowed(flag, here, write=True)
    if force or not access.is_there(real) or access.is_held_by_name(real):
        return
    if access.is_as_written(real, Written("none")):
        raise Failure(
            "host_access",
            f"{flag} {shown(here)} is there already, as a run wrote it",
            fix="add --force to replace it",
        )
    raise Failure(
        "host_access",
        f"{flag} {shown(here)} is there already, and it is yours",
        fix="name another place",
    )


@contextlib.contextmanager
def temporary_tar() -> Iterator[Path]:
    """A file that is gone afterwards. It is closed meanwhile: Windows opens no file twice."""
    handle, name = tempfile.mkstemp(prefix="daytona-sandbox-", suffix=".tar")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def pack(path: Path, uploads: Sequence[str], access: HostAccess) -> Packed:
    """All of `uploads` in one tar at `path`; raises Failure for too much or what cannot be read."""
    found = Packed(path)
    with tarfile.open(path, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for here, there in (upload_pair(text, access) for text in uploads):
            top = access.folder_to_read("--upload", here)
            if top is None:
                real = access.allowed("--upload", here)
                with access.open_folder("--upload", here, real.parent, write=False) as folder:
                    add_file(archive, folder, real.name, there, found, named=True)
            else:
                access.open_folder("--upload", here, top, write=False).close()
                add_folder(archive, top, there, found)
    return found


class Ignored:
    """The .gitignore files of a tree and of the folders above it, as git reads them: the last matching line wins."""

    def __init__(self, top: Path) -> None:
        self._specs: list[tuple[Path, Any]] = []
        above = []
        for folder in (top, *top.parents):
            if (folder / ".git").exists():
                above = [parent for parent in top.parents if parent.is_relative_to(folder)]
                break
        for folder in reversed(above):
            self.read(folder)

    def read(self, folder: Path) -> None:
        """Take in the rules of `folder`, which hold below it."""
        import pathspec

        try:  # a repository under test may have a pipe of that name, or a link to /dev/zero
            with (
                open_folder(folder) as opened,
                open_regular("--upload", ".gitignore", opened, ".gitignore") as stream,
            ):
                text = stream.read(LARGEST_TEXT).decode(errors="replace")
        except (OSError, UsageFailure):
            return
        self._specs.append((folder, pathspec.GitIgnoreSpec.from_lines(text.splitlines())))

    def match(self, path: Path, *, folder: bool) -> bool:
        ignored = False
        for base, spec in self._specs:
            if path.is_relative_to(base):
                verdict = spec.check_file(
                    path.relative_to(base).as_posix() + ("/" if folder else "")
                ).include
                ignored = ignored if verdict is None else verdict
        return ignored


def add_folder(archive: tarfile.TarFile, top: Path, there: str, found: Packed) -> None:
    """A tree without what git would ignore, what looks secret, and what is no file."""
    rules = Ignored(top)
    if there != ".":
        add_entry(archive, there, tarfile.DIRTYPE, FOLDER_MODE)
    for folder, folders, names in os.walk(top):
        here = Path(folder)
        rules.read(here)
        keep = []
        for name in sorted(folders):
            path, relative = here / name, (here / name).relative_to(top)
            if path.is_symlink():
                add_link(archive, top, path, within(there, relative.as_posix()), found)
            elif name == ".git" or rules.match(path, folder=True):
                continue
            elif not may_leave(name):
                found.skipped.append(f"{relative.as_posix()}/")
            else:
                keep.append(name)
                add_entry(archive, within(there, relative.as_posix()), tarfile.DIRTYPE, FOLDER_MODE)
        folders[:] = keep
        add_names(archive, top, here, sorted(names), there=there, rules=rules, found=found)


def within(there: str, relative: str) -> str:
    return posixpath.normpath(posixpath.join(there, relative))


def add_names(
    archive: tarfile.TarFile,
    top: Path,
    here: Path,
    names: list[str],
    *,
    there: str,
    rules: Ignored,
    found: Packed,
) -> None:
    try:
        opened = open_folder(here)
    except OSError:  # it went away meanwhile, and has nothing to add
        return
    with opened as folder:
        for name in names:
            path = here / name
            relative = path.relative_to(top).as_posix()
            if rules.match(path, folder=False):
                continue
            if not may_leave(name):
                found.skipped.append(relative)
            elif path.is_symlink():
                add_link(archive, top, path, within(there, relative), found)
            elif path.is_file() and not add_file(
                archive, folder, name, within(there, relative), found
            ):
                found.skipped.append(relative)


def add_entry(
    archive: tarfile.TarFile, name: str, kind: bytes, mode: int, *, link: str = ""
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname = kind, mode, link
    archive.addfile(entry)


def add_link(archive: tarfile.TarFile, top: Path, path: Path, name: str, found: Packed) -> None:
    """A relative link that stays in the tree; any other would show the sandbox nothing, or this machine's paths."""
    target = os.readlink(path)
    if os.path.isabs(target) or not Path(os.path.normpath(path.parent / target)).is_relative_to(
        top
    ):
        found.skipped.append(path.relative_to(top).as_posix())
    else:
        add_entry(archive, name, tarfile.SYMTYPE, 0o777, link=Path(target).as_posix())
        count(found, 0)


def add_file(
    archive: tarfile.TarFile,
    folder: Folder,
    name: str,
    there: str,
    found: Packed,
    *,
    named: bool = False,
) -> bool:
    """False for a key, which stays here; one that a flag `named` raises Failure host_access."""
    with open_regular("--upload", name, folder, name) as stream:
        if is_a_key(name, stream.read(KEY_LOOK)):
            if named:
                raise Failure(
                    "host_access",
                    f"--upload {shown(name)} holds a key",
                    fix="name a file that the program may know",
                )
            return False
        stream.seek(0)
        status = os.fstat(stream.fileno())
        entry = tarfile.TarInfo(there)
        entry.size, entry.mtime = status.st_size, int(status.st_mtime)
        entry.mode = 0o755 if status.st_mode & 0o100 else PLAIN_MODE
        count(found, entry.size)
        archive.addfile(entry, Exactly(stream, entry.size))
    return True


def count(found: Packed, size: int) -> None:
    found.files, found.size = found.files + 1, found.size + size
    if found.files > MOST_FILES or found.size > LARGEST_TRANSFER:
        raise UsageFailure(
            f"--upload: more than {MOST_FILES:,} files or {LARGEST_TRANSFER >> 20} MB",
            fix="name a smaller folder, or add what is not needed to .gitignore",
        )


class Exactly:
    """A file of the size that its head promised, also when it shrinks or grows meanwhile."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._stream.read(wanted)
        self._left -= wanted
        return data + b"\0" * (wanted - len(data))


@dataclass(frozen=True)
class Arrival:
    """A download that has come: its archive here, and what was asked for."""

    archive: Path
    there: str
    here: str
    force: bool


def unpack(arrival: Arrival, access: HostAccess, *, held: Held, written: Written) -> list[Saved]:
    """Write the results of one download and hold the rest; the files written. Raises Failure archive before anything is written."""
    try:
        with tarfile.open(arrival.archive, mode="r:") as stream:
            members = checked(stream)
            placed, entries = sort(stream, members, arrival, access, written)
            with Writer(access, written, force=arrival.force) as writer:
                saved = [
                    (entry, writer.write(entry.file.path, content(stream, entry.member)))
                    for entry in placed
                ]
            taken = [
                replace(entry, file=replace(entry.file, reason=TAKEN, exists=True))
                for entry, found in saved
                if found is None
            ]
            if entries or taken:
                held.keep(
                    arrival.there,
                    str(access.folder / arrival.here),
                    [*entries, *(with_content(stream, entry) for entry in taken)],
                )
            return [found for _, found in saved if found is not None]
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise Failure(
            "archive", f"what the sandbox sent is not a proper archive: {error}", fix=FIX_HOSTILE
        ) from None


def checked(stream: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """The members, none of which may leave the folder, be a device, a bomb or a name that plays tricks; raises Failure archive."""
    members, files, size = [], dict[str, tarfile.TarInfo](), 0
    for member in stream:
        members.append(member)
        if member.islnk():
            become_the_file(member, files)
        judge(member)
        if member.isreg():
            files[member.name] = member
        size += member.size
        if len(members) > MOST_FILES or size > LARGEST_TRANSFER:
            raise Failure(
                "archive",
                f"more than {MOST_FILES:,} files or {LARGEST_TRANSFER >> 20} MB came back",
                fix=FIX_HOSTILE,
            )
    return members


def become_the_file(link: tarfile.TarInfo, files: Mapping[str, tarfile.TarInfo]) -> None:
    """Another name of a file that came before is written as a file of its own; tarfile would look for it as long as it is told to."""
    if link.linkname not in files:
        raise hostile(link, "is another name of something that is not there")
    file = files[link.linkname]
    link.type, link.size, link.offset_data = tarfile.REGTYPE, file.size, file.offset_data


def judge(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    if member.name.startswith("/") or ".." in path.parts:
        raise hostile(member, "lies outside what was asked for")
    if UNWANTED_NAME.search(member.name):
        raise hostile(member, "has control characters or a backslash in its name")
    if (
        not (member.isreg() or member.isdir() or member.issym())
        or member.issparse()
        or member.size < 0
    ):
        raise hostile(member, "is neither a file nor a folder")


def leaves(path: PurePosixPath, target: str) -> bool:
    end = posixpath.normpath(posixpath.join(path.parent.as_posix(), target))
    return target.startswith("/") or end.split("/")[0] == ".."


def hostile(member: tarfile.TarInfo, why: str) -> Failure:
    return Failure("archive", f"refused: {ascii(member.name)[:200]} {why}", fix=FIX_HOSTILE)


def sort(
    stream: tarfile.TarFile,
    members: list[tarfile.TarInfo],
    arrival: Arrival,
    access: HostAccess,
    written: Written,
) -> tuple[list[Entry], list[Entry]]:
    """What is written, and what is held with its content; raises Failure archive for two entries in one place."""
    placed, entries, seen, folders, pages = [], [], set[str](), set[str](), Pages()
    for member, name in places(members, arrival.here, access):
        if name in seen or name in folders or not seen.isdisjoint(parents(name)):
            raise hostile(member, "stands for something that is there already")
        seen.add(name)
        folders |= parents(name)
        reason = why_held(stream, member, name, arrival, access, written) or pages.why_not(name)
        entry = Entry(
            member,
            None,
            HeldFile(name, reason or "", member.size, access.is_taken("--download", name)),
        )
        if reason is None:
            placed.append(entry)
        else:
            entries.append(with_content(stream, entry))
    return placed, entries


class Pages:
    """The pages and data of one download: a page is not written beside data of its own name, which site generators obey with it."""

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str], str] = {}

    def why_not(self, name: str) -> str | None:
        stem, role = same_stem(posixpath.basename(name))
        first = self._roles.setdefault((posixpath.dirname(name), stem), role) if role else role
        return None if first == role else "a page and its data must not lie together"


def why_held(
    stream: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    arrival: Arrival,
    access: HostAccess,
    written: Written,
) -> str | None:
    """By what it is, where it goes, and only then by what it holds, which costs a look at all of it."""
    if member.issym():
        return LEADS_OUT if leaves(PurePosixPath(member.name), member.linkname) else "a link"
    reason = access.why_not_written("--download", name, force=arrival.force, written=written)
    if reason is None:
        with content(stream, member) as file:
            reason = why_no_content(posixpath.basename(name), file, member.size)
    return reason


def with_content(stream: tarfile.TarFile, entry: Entry) -> Entry:
    return entry if entry.member.issym() else replace(entry, content=content(stream, entry.member))


def parents(name: str) -> set[str]:
    return {parent.as_posix() for parent in PurePosixPath(name).parents}


def places(
    members: list[tarfile.TarInfo], here: str, access: HostAccess
) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Each file and link with its name here."""
    single = len(members) == 1 and not members[0].isdir()
    for member in members:
        if not member.isdir():
            name = PurePosixPath(member.name).as_posix()
            yield (
                member,
                posixpath.normpath(
                    file_place(here, name, access) if single else posixpath.join(here, name)
                ),
            )


def file_place(here: str, name: str, access: HostAccess) -> str:
    """A single file goes into a folder that is there, else it is called what the user said."""
    into = here.endswith("/") or os.path.isdir(access.allowed("--download", here, write=True))
    return posixpath.join(here, posixpath.basename(name)) if into else here


def content(stream: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = stream.extractfile(member)
    if file is None:
        raise hostile(member, "has no content")
    return file


class Writer:
    """Writes results one after another, none through a link, none executable; the last folder stays open for the next file."""

    def __init__(self, access: HostAccess, written: Written, *, force: bool) -> None:
        self._access = access
        self._force = force
        self._written = written
        self._folder: Folder | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._folder is not None:
            self._folder.close()

    def write(self, name: str, content: IO[bytes]) -> Saved | None:
        """A new file, or one in the place of what a run wrote; None when somebody was quicker there.

        Raises Failure host_access for a full or closed place.
        """
        path = self._access.allowed("--download", name, write=True)
        first = self._access.first_folder(path)
        is_new = first is not None and not os.path.lexists(first)
        try:
            with content:
                folder = self._enter(name, path.parent)
                if first is not None and is_new:
                    self._written.note_folder(first)
                size, digest, inode = write_whole(
                    folder, path.name, content, may_replace=lambda: self._may_replace(path)
                )
        except FileExistsError:
            return None
        except OSError as error:
            raise Failure(
                "host_access",
                f"--download {shown(name)}: {error.strerror}",
                fix="name a place that can be written",
            ) from None
        self._written.note_file(path, digest, inode)
        return Saved(name, size)

    def _may_replace(self, path: Path) -> bool:
        """Asked when the new file is whole, which may take a while: an edit of the user's since the first look stays.

        Raises FileExistsError when its page or its data has come meanwhile.
        """
        if has_partner(path):
            raise FileExistsError(path)
        return (
            self._force
            and os.path.lexists(path)
            and self._access.is_as_written(path, self._written)
        )

    def _enter(self, name: str, path: Path) -> Folder:
        if self._folder is None or self._folder.path != path:
            if self._folder is not None:
                self._folder.close()
                self._folder = None
            self._folder = self._access.open_folder("--download", name, path, write=True)
        return self._folder


def write_whole(
    folder: Folder, name: str, content: IO[bytes], *, may_replace: Callable[[], bool]
) -> tuple[int, str, int]:
    """(bytes, digest, inode) of a file that is there under its name when it is whole, and not at all when it cannot be; raises OSError."""
    part, digest, size = f".{uuid.uuid4().hex}.part", new_digest(), 0
    try:
        with os.fdopen(folder.open(part, NEW, PLAIN_MODE), "wb") as target:
            while chunk := content.read(CHUNK):
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
            inode = os.fstat(target.fileno()).st_ino
        folder.put(part, name, replace=may_replace())
    except BaseException:
        folder.remove(part)
        raise
    return size, digest.hexdigest(), inode
