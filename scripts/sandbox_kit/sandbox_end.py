"""Why a sandbox is over: the server is asked once more, and its words become the run's failure."""

from __future__ import annotations

import asyncio
import datetime
import re
from dataclasses import dataclass

from .defaults import LONGEST_TTL_MIN, SNAPSHOTS
from .errors import Failure
from .sdk import Sandbox, SandboxInfo

STARTED = "started"
BROKEN = ("error", "build_failed")
ON_THE_WAY = ("stopping", "destroying", "archiving", "pausing", "starting", "restoring")
LOOK_LIMIT_S = 10.0  # for the last look; the run has failed already
SETTLE_PAUSE_S = 0.3
TTL_MARGIN_S = 60.0  # the server's clock and ours differ
# Failures of ours that no sandbox's end can cause; the others carry a status or are of these kinds.
LOOKED_AT = ("network", "server_error", "exec_failed")


@dataclass(frozen=True)
class SandboxEnd:
    """What the server said of a sandbox that does not run; `is_gone` when it knows none."""

    info: SandboxInfo
    is_gone: bool = False

    def describe(self) -> str:
        """In the server's words, where it has any."""
        info = self.info
        if info.error_reason:
            return f"it is {'gone' if self.is_gone else info.state}: {info.error_reason}"
        if not self.is_gone:
            return f"it is {info.state}: somebody, or the server's auto-stop, ended it"
        if self.by_ttl:
            return "its ttl ended, and the server deleted it"
        return "it is gone: somebody, or the server, stopped or deleted it"

    @property
    def by_ttl(self) -> bool:
        return self.is_gone and is_past(self.info.expires_at)

    def suggest(self, *, ttl_min: int, delete: str | None) -> str:
        """What to type next; `delete` is the command for a sandbox that would be used again."""
        reason = self.info.error_reason or ""
        if re.search(r"machine ran out", reason):
            return "free memory and disk on this machine, or use the cloud; then repeat it"
        for words, place in ((r"memory|\boom\b", 1), (r"disk|space left", 2)):
            if re.search(words, reason, re.IGNORECASE):
                return self._suggest_larger(place, delete=delete)
        if self.by_ttl:
            return f"--ttl {min(2 * ttl_min, LONGEST_TTL_MIN)}"
        if self.info.state in BROKEN and delete is not None:
            return f"{delete}; then repeat it (the files are gone)"
        return "repeat it; what goes on without a request for long needs --auto-stop 0"

    def _suggest_larger(self, place: int, *, delete: str | None) -> str:
        """A snapshot with more than this sandbox has of what ran out: 1 for memory, 2 for disk."""
        had = (self.info.cpu, self.info.memory, self.info.disk)[place] or 0
        larger = [name for name, size in SNAPSHOTS.items() if size[place] > had]
        if not larger:
            return "use less of it: do the work in smaller parts; no snapshot is larger"
        flag = f"--snapshot {' or '.join(larger)}"
        return flag if delete is None else f"{delete}; then {flag} (the files are gone)"


async def find_end(sandbox: Sandbox) -> SandboxEnd | None:
    """None while it runs, or when the server does not say; it may be on its way to its end."""
    try:
        return await asyncio.wait_for(find_settled_end(sandbox), LOOK_LIMIT_S)
    except asyncio.TimeoutError:
        return None


async def find_settled_end(sandbox: Sandbox) -> SandboxEnd | None:
    while True:
        try:
            await sandbox.refresh()
        except Failure as failure:
            gone = failure.kind == "not_found"
            return SandboxEnd(sandbox.info, is_gone=True) if gone else None
        if sandbox.info.state not in ON_THE_WAY:
            if sandbox.info.state == STARTED:
                return None
            return SandboxEnd(sandbox.info, is_gone=sandbox.info.state == "destroyed")
        await asyncio.sleep(SETTLE_PAUSE_S)


def may_be_an_end(failure: Failure) -> bool:
    """Whether a sandbox that ended could be behind it: then the server is asked."""
    return failure.status is not None or failure.kind in LOOKED_AT


def is_past(moment: str | None) -> bool:
    """Whether it came, as far as it can be read."""
    try:
        ends = datetime.datetime.fromisoformat((moment or "").replace("Z", "+00:00"))
    except ValueError:
        return False
    if ends.tzinfo is None:
        ends = ends.replace(tzinfo=datetime.timezone.utc)
    margin = datetime.timedelta(seconds=TTL_MARGIN_S)
    return datetime.datetime.now(datetime.timezone.utc) >= ends - margin
