"""The logs of builds, each with the id of what is built; they outlive the server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from ...errors import ApiError
from ...followed_log import PART, FollowedLog

LIMIT = 16 * 1024 * 1024
CUT = b"[local Daytona kept the first 16 MiB of this log]\n"


class BuildLog(FollowedLog):
    """Of one build; a full disk ends no build by what it says."""

    async def append(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            await super().append(data)


class BuildLogs:
    """All of one server, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._growing: dict[str, BuildLog] = {}

    def keep_only(self, known: set[str]) -> None:
        """After a start: whatever is not of these is gone."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        for path in self._folder.iterdir():
            if path.name not in known:
                path.unlink()

    def open(self, build_id: str) -> BuildLog:
        """The log of a build that begins."""
        path = self._folder / build_id
        log = self._growing[build_id] = BuildLog(path, limit=LIMIT, notice=CUT)
        return log

    async def close(self, build_id: str) -> None:
        await self._growing.pop(build_id).finish()

    def output(self, build_id: str, *, follow: bool) -> AsyncIterator[bytes]:
        """Of this server's life or an earlier one; raises the 404."""
        self.check(build_id)
        growing = self._growing.get(build_id)
        return growing.follow() if growing and follow else stored(self._folder / build_id)

    def check(self, build_id: str) -> None:
        """Raises the 404 for what was not built."""
        if not (self._folder / build_id).exists():
            raise ApiError(404, f"{build_id} was not built: it has no build logs")

    def forget(self, build_id: str) -> None:
        """It goes with what was made."""
        (self._folder / build_id).unlink(missing_ok=True)


async def stored(path: Path) -> AsyncIterator[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        while part := file.read(PART):
            yield part
