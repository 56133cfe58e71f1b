"""What a run brought back and did not write: kept here, inert, until the user fetches it.

Inert means inside a tar of ours: a hook, a conftest.py or a `.git` that lay here by its name would
wait for a tool to come by. Pruned like logs.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import skill_env

from ..errors import Failure, UsageFailure
from ..state_files import prune_once, write_private
from .results import fold_name

LEFT_BEHIND = "left behind: "  # of what is named and not kept
LEADS_OUT = f"{LEFT_BEHIND}a link that leads out"
TAKEN, CHANGED = "there already", "there already, and not as a run wrote it"
# What git, editors, agents and shells read as soon as it lies there.
OBEYED = frozenset(
    """
        .git .hg .svn .jj .claude .vscode .idea .cursor .github .husky .envrc .gitattributes
        .gitmodules .devcontainer .mcp.json claude.md agents.md hooks makefile justfile conftest.py
        sitecustomize.py package.json pyproject.toml setup.py head config
    """.split()
)
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
INDEX = "held.json"
MOST_OF_A_RUN, MOST_HELD = 2 << 30, 8 << 30  # bytes; what is older than a week is deleted
MOST_SHOWN = 8  # names in a line of ours
LONGEST_COMMAND = (
    1500  # characters; a line of ours is cut at 2,000, and without pairs fetch says what it holds
)
FIX_STATE = "free some space, or export XDG_STATE_HOME=/a/folder/that/can/be/written"


@dataclass(frozen=True)
class HeldFile:
    """One file: where it would have gone, why it did not, bytes; `exists`: the place is taken."""

    path: str
    reason: str
    bytes: int
    exists: bool = False

    @property
    def is_left_behind(self) -> bool:
        """Whether it is named only: a pipe, a link that leads out, a name that plays tricks."""
        return self.reason.startswith(LEFT_BEHIND)


@dataclass(frozen=True)
class HeldDownload:
    """One `--download THERE:HERE`, as far as it was held; `tar` is the name of its archive."""

    there: str
    here: str
    tar: str
    force: bool  # whether something else is in the way of one of its files


@dataclass(frozen=True)
class ArchiveEntry:
    """A member of an archive that came back, what it holds, and why it is not written."""

    member: tarfile.TarInfo
    content: IO[bytes] | None
    file: HeldFile


def refuse_too_much(place: Path, size: int) -> None:
    """Raises OSError when `size` bytes more are too many for one run, or for all of them."""
    for folder, most in ((place, MOST_OF_A_RUN), (results_dir(), MOST_HELD)):
        if size + sum(file.stat().st_size for file in folder.rglob("*.tar")) > most:
            raise OSError(errno.EDQUOT, f"{folder} would hold more than {most >> 30} GB")


def results_dir() -> Path:
    return skill_env.client_state_dir() / "results"


class HeldResults:
    """Of one run; nothing is on disk before the first."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.files: list[HeldFile] = []
        self.downloads: list[HeldDownload] = []

    def keep(self, there: str, here: str, entries: Sequence[ArchiveEntry]) -> None:
        """Put aside what one download brought; raises Failure host_access when that cannot be."""
        kept = [entry for entry in entries if not entry.file.is_left_behind]
        if kept:
            in_the_way = any(entry.file.exists for entry in entries)
            size = size_of_copy(kept)
            self._store(there, here, in_the_way, size, lambda file: copy_entries(file, kept))
        self.files += sorted((entry.file for entry in entries), key=most_telling_first)

    def keep_whole(self, there: str, here: str, archive: Path, reason: str) -> None:
        """Put aside an archive that nobody could look through; raises Failure host_access."""

        def copy(file: IO[bytes]) -> None:
            with archive.open("rb") as source:
                shutil.copyfileobj(source, file)

        size = archive.stat().st_size
        self._store(there, here, False, size, copy)
        self.files.append(HeldFile(here, reason, size))

    def _store(
        self,
        there: str,
        here: str,
        in_the_way: bool,
        size: int,
        copy: Callable[[IO[bytes]], None],
    ) -> None:
        download = HeldDownload(there, here, f"{len(self.downloads)}.tar", in_the_way)
        place = results_dir() / self.run_id
        try:
            if not self.downloads:
                prune_once(results_dir(), "*")
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            (place / download.tar).unlink(missing_ok=True)  # of a worker that was killed meanwhile
            new = os.open(place / download.tar, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(new, "wb") as file:
                refuse_too_much(place, size)
                copy(file)
            index = [asdict(found) for found in (*self.downloads, download)]
            write_private(place / INDEX, json.dumps(index).encode())
            self.downloads.append(download)
        except BaseException as error:
            with contextlib.suppress(OSError):  # half an archive is of no use, and takes the room
                (place / download.tar).unlink()
                place.rmdir()
            if not isinstance(error, OSError):  # also a signal that ends this process
                raise
            raise Failure(
                "host_access",
                f"what came back could not be kept in {place}: {error.strerror}",
                fix=FIX_STATE,
            ) from None

    def fetch_command(self, *, shows: Callable[[str], str]) -> str | None:
        """The one line that brings all of it, for the user to run or to allow; None for nothing.

        It holds names that a stranger chose: what `shows` would change of it (a secret taken out,
        blanks that become one) makes it another command, so then it only names the run.
        """
        if not self.downloads:
            return None
        pairs = [(download.there, download.here) for download in self.downloads]
        hidden = sum(is_obeyed_or_hidden(file.path) for file in self.files)
        # Over hidden files nobody is led by a line of ours: fetch asks for --force itself.
        in_the_way = any(download.force for download in self.downloads)
        force = ["--force"] if in_the_way and not hidden else []
        words = [f"{there}:{here}" for there, here in pairs]
        whole = skill_env.command("sandboxes.py", "fetch", self.run_id, *words, *force)
        is_plain = not any(":" in path for pair in pairs for path in pair)
        # Whoever pastes the line has seen the names of all that some tool would obey.
        is_plain = is_plain and hidden <= MOST_SHOWN
        if is_plain and len(whole) <= LONGEST_COMMAND and shows(whole) == whole:
            return whole
        return skill_env.command("sandboxes.py", "fetch", self.run_id)


def most_telling_first(file: HeldFile) -> tuple[bool, bool, str]:
    """Only a few names are shown: those that tools obey say most of what fetching them would do."""
    parts = [fold_name(part) for part in file.path.split("/")]
    is_obeyed = any(part in OBEYED for part in parts)
    return not is_obeyed, not any(part.startswith(".") for part in parts), file.path


def is_obeyed_or_hidden(path: str) -> bool:
    parts = [fold_name(part) for part in path.split("/")]
    return any(part.startswith(".") or part in OBEYED for part in parts)


def copy_entries(file: IO[bytes], entries: Sequence[ArchiveEntry]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            copy = tarfile.TarInfo(entry.member.name)
            copy.type, copy.mode, copy.linkname = entry.member.type, 0o600, entry.member.linkname
            copy.size = entry.member.size if entry.content is not None else 0
            archive.addfile(copy, entry.content)


def size_of_copy(entries: Sequence[ArchiveEntry]) -> int:
    """Bytes at most: a head, a further one for a long name, and whole blocks of content."""
    heads = sum(
        4 * (tarfile.BLOCKSIZE + len(entry.member.name) + len(entry.member.linkname))
        for entry in entries
    )
    sizes = sum(entry.member.size for entry in entries if entry.content is not None)
    return heads + sizes + tarfile.RECORDSIZE


def is_a_run(text: str) -> bool:
    """Whether it names a run: by its id, or by its sandbox's name where something is held of it."""
    found = text.removeprefix("run-")
    if not RUN_ID.fullmatch(found):
        return False
    return found == text or (results_dir() / found).is_dir()


def read_held(run_id: str) -> list[HeldDownload]:
    """What a run left here; raises UsageFailure for nothing, or when it is gone by now."""
    place = results_dir() / run_id
    try:
        if not RUN_ID.fullmatch(run_id):
            raise ValueError(run_id)
        return [HeldDownload(**found) for found in json.loads((place / INDEX).read_bytes())]
    except (OSError, ValueError, TypeError):
        raise UsageFailure(
            f"nothing is held of a run {run_id}",
            fix="take RUN from the line that the run printed; what is held is deleted after a week",
        ) from None


def tar_of(run_id: str, download: HeldDownload) -> Path:
    return results_dir() / run_id / Path(download.tar).name
