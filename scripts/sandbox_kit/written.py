"""What earlier runs wrote into projects, with its digest: `--force` replaces such a file while nobody has changed it, and nothing else."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import IO, Any

import skill_env

from .state_files import prune, write_private

CHUNK = 1 << 20


def new_digest() -> Any:
    return hashlib.blake2b(digest_size=32)


def digest_of(stream: IO[bytes]) -> str:
    """Of all that is left to read."""
    digest = new_digest()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return str(digest.hexdigest())


def folder() -> Path:
    return skill_env.client_state_dir() / "written"


class Written:
    """The files of one run as they come, and a look at those of all runs."""

    def __init__(self, run_id: str) -> None:
        self._path = folder() / f"{run_id}.json"
        self._files: dict[str, str] = {}

    def note(self, path: Path, digest: str) -> None:
        self._files[str(path)] = digest

    def save(self) -> None:
        """One small file a run; raises OSError."""
        if self._files:
            prune(folder(), "*.json")
            write_private(self._path, json.dumps(self._files).encode())

    def wrote(self, path: Path, digest: str) -> bool:
        """Whether a run wrote exactly this."""
        return digest in {files.get(str(path)) for files in (self._files, *records())}


def records() -> list[dict[str, str]]:
    """Of all runs that are not pruned; what cannot be read says nothing."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(folder()):
            with contextlib.suppress(OSError, ValueError):
                record = json.loads((folder() / name).read_bytes())
                if isinstance(record, dict):
                    found.append(record)
    return found
