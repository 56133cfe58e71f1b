"""What a run brought back and did not write: kept here, inert, until the user fetches it.

Inert means inside a tar of ours: a hook, a conftest.py or a `.git` that lay here by its name would
wait for a tool to come by. Pruned like logs.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import skill_env

from ..errors import Failure, UsageFailure
from ..state_files import prune_old_files, write_private

LEADS_OUT = "a link that leads out, left behind"
TAKEN, CHANGED = "there already", "there already, and not as a run wrote it"
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
INDEX = "held.json"
# Characters; a line of ours is cut at 2,000, and without pairs fetch says what it holds.
LONGEST_COMMAND = 1500
FIX_STATE = "free some space, or export XDG_STATE_HOME=/a/folder/that/can/be/written"


@dataclass(frozen=True)
class HeldFile:
    """One file: where it would have gone, why it did not, and its bytes.

    `exists` when something has its place, which only --force gives it.
    """

    path: str
    reason: str
    bytes: int
    exists: bool = False


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

    @property
    def leads_out(self) -> bool:
        """Whether it is a link to something that did not come along: named, and left behind."""
        return self.file.reason == LEADS_OUT


def results_dir() -> Path:
    return skill_env.client_state_dir() / "results"


class HeldResults:
    """Of one run; nothing is on disk before the first."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.files: list[HeldFile] = []
        self.downloads: list[HeldDownload] = []

    def keep(self, there: str, here: str, entries: Sequence[ArchiveEntry]) -> None:
        """Put aside what one download brought.

        Raises Failure host_access when the state folder cannot hold it.
        """
        download = HeldDownload(
            there, here, f"{len(self.downloads)}.tar", any(entry.file.exists for entry in entries)
        )
        place = results_dir() / self.run_id
        self.files += sorted((entry.file for entry in entries), key=lambda file: file.path)
        kept = [entry for entry in entries if not entry.leads_out]
        if not kept:
            return
        try:
            if not self.downloads:
                prune_old_files(results_dir(), "*")
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(
                os.open(place / download.tar, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                copy_entries(file, kept)
            self.downloads.append(download)
            write_private(
                place / INDEX, json.dumps([asdict(found) for found in self.downloads]).encode()
            )
        except OSError as error:
            raise Failure(
                "host_access",
                f"what came back could not be kept in {place}: {error.strerror}",
                fix=FIX_STATE,
            ) from None

    def fetch_command(self) -> str | None:
        """The line that brings it all, for the user to run or allow; None when nothing is held."""
        if not self.downloads:
            return None
        pairs = [f"{download.there}:{download.here}" for download in self.downloads]
        force = ["--force"] if any(download.force for download in self.downloads) else []
        whole = skill_env.command("sandboxes.py", "fetch", self.run_id, *pairs, *force)
        return (
            whole
            if len(whole) <= LONGEST_COMMAND
            else skill_env.command("sandboxes.py", "fetch", self.run_id)
        )


def copy_entries(file: IO[bytes], entries: Sequence[ArchiveEntry]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            copy = tarfile.TarInfo(entry.member.name)
            copy.type, copy.mode, copy.linkname = entry.member.type, 0o600, entry.member.linkname
            copy.size = entry.member.size if entry.content is not None else 0
            archive.addfile(copy, entry.content)


def read_held(run_id: str) -> list[HeldDownload]:
    """What a run left here.

    Raises UsageFailure for a run that left nothing, or so long ago that it is gone.
    """
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
