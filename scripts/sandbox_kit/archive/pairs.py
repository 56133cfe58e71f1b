"""HERE:THERE and THERE:HERE of the command line, checked before anything is created."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass

from skill_env import quoted

from ..console import quote_path
from ..errors import Failure, UsageFailure
from ..host_access.gate import HostAccess
from ..host_access.written import WrittenRecord

WINDOWS = os.name == "nt"


@dataclass(frozen=True)
class Upload:
    """--upload HERE:THERE, both as they go into the archive."""

    here: str
    there: str


@dataclass(frozen=True)
class Download:
    """--download THERE:HERE, the second checked before anything is created."""

    there: str
    here: str


def split_pair(text: str, *, flag: str) -> tuple[str, str | None]:
    """The two sides of A:B; B is None when it is left out. A drive letter is no A."""
    first, mark, second = text.rpartition(":")
    if mark and WINDOWS and re.fullmatch(r"[A-Za-z]:[\\/].*", text) and len(first) == 1:
        first, mark, second = text, "", ""
    if not mark:
        first, second = text, ""
    if not first or (mark and not second):
        raise UsageFailure(
            f"{flag} {quote_path(text)}: one side is empty", fix=f"{flag} A:B, or {flag} A"
        )
    return first, second or None


def read_upload(text: str, access: HostAccess) -> Upload:
    """A path of the working directory keeps its place; raises Failure.

    Something whose whole name has colons is meant before HERE:THERE is.
    """
    here, there = text, None
    if not is_whole_name(text, access):
        here, there = split_pair(text, flag="--upload")
    real = access.allowed("--upload", here)
    if not real.exists():
        raise UsageFailure(
            f"--upload {quote_path(here)}: there is no such file or folder",
            fix="name one that exists",
        )
    if there is None:
        there = (
            real.relative_to(access.folder).as_posix()
            if real.is_relative_to(access.folder)
            else real.name
        )
    return Upload(here, safe_remote(there, flag="--upload"))


def is_whole_name(text: str, access: HostAccess) -> bool:
    """Whether something is there of that name, colons and all, that may be read."""
    try:
        return ":" in text and access.allowed("--upload", text).exists()
    except (Failure, OSError):
        return False


def safe_remote(path: str, *, flag: str) -> str:
    if "\\" in path or "\0" in path:
        raise UsageFailure(
            f"{flag}: a path in the sandbox has slashes and no backslash",
            fix=f"{flag} A:folder/file",
        )
    return posixpath.normpath(path)


def read_download(text: str, access: HostAccess, *, force: bool) -> Download:
    """Raises Failure for a place that no flag writes.

    What it may hold is judged when it has come back: what is no result is held then, not lost.
    """
    there, here = split_pair(text, flag="--download")
    there = safe_remote(there, flag="--download")
    here = here or posixpath.basename(there)
    if here in ("", ".", "..") and there in ("/", ".", ".."):
        raise UsageFailure(
            f"--download {quote_path(text)}: it needs a name here",
            fix=f"--download {quoted(there)}:results",
        )
    refuse_taken("--download", here, access, force=force)
    return Download(there, here)


def refuse_taken(flag: str, here: str, access: HostAccess, *, force: bool) -> None:
    """Raises Failure host_access for a closed place, and for a result whose place is taken.

    What is no result by its name is held anyway, so that the user can put it over what is there.
    """
    real = access.allowed(flag, here, write=True)
    if force or not access.is_there(real) or access.is_held_by_name(real):
        return
    if access.is_as_written(real, WrittenRecord("none")):
        raise Failure(
            "host_access",
            f"{flag} {quote_path(here)} is there already, as a run wrote it",
            fix="add --force to replace it",
        )
    raise Failure(
        "host_access",
        f"{flag} {quote_path(here)} is there already, and it is yours",
        fix="name another place",
    )
