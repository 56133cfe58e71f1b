"""What a run brings back: downloads and charts, through the gate; and what it says of them."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Sequence
from dataclasses import asdict
from pathlib import Path

from .archive.packing import NAMES_SHOWN, readable_size, temporary_tar
from .archive.pairs import Download
from .archive.unpacking import ArrivedDownload, SavedFile, Unpacked
from .archive.worker import unpack_in_worker
from .charts import chart_number
from .console import quote_path
from .defaults import LARGEST_TRANSFER, UNPACK_TIMEOUT_S
from .errors import Failure
from .host_access.held import LEFT_BEHIND, HeldFile, HeldResults, most_telling_first
from .host_access.written import WrittenRecord
from .remote_process import ignore_failure
from .request import RunRequest
from .run_context import RunContext, RunRecord
from .sdk import Sandbox
from .status_log import StatusLog

NO_SUCH = 66  # as EX_NOINPUT of sysexits.h
LONGEST_REASON = 300  # characters of what a command of ours said
# A folder's content without its name; a file under its own. Hard links travel as files.
PACK = (
    "set -e; if test -d {there}; then cd -- {there}; tar -cf {archive} .; "
    'elif test -e {there}; then cd -- "$(dirname -- {there})";'
    ' tar -cf {archive} -- "$(basename -- {there})"; else exit {no_such}; fi'
)


def by_number(chart: SavedFile) -> int:
    return chart_number(chart.path)


class Downloads:
    """Of one run, from its sandbox to this machine."""

    def __init__(
        self, sandbox: Sandbox, request: RunRequest, context: RunContext, record: RunRecord
    ) -> None:
        self._sandbox = sandbox
        self._request = request
        self._access = context.access
        self._status = context.status
        self._writing = context.writing
        self._report = record.report
        self._run_id = record.identity.run_id
        self._held = HeldResults(self._run_id)
        self._written = WrittenRecord(self._run_id)

    async def bring_all(self, *, charts: str) -> None:
        """Each is tried, also after a failed program: its reports are what one wants then.

        `charts` is their folder in the sandbox. A failed program's exit code stays the run's; after
        one that went well the first failure is the run's.
        """
        request, failures = self._request, list[Failure]()
        for number, download in enumerate(request.downloads):
            await self._try(self._bring(number, download), download.here, failures)
        if request.charts is not None:
            await self._try(self._bring_charts(charts, request.charts), request.charts, failures)
        self.tell_what_is_held()
        if failures and self._report.exit_code in (0, None) and self._report.failure is None:
            raise failures[0]

    async def _try(self, work: Awaitable[None], here: str, failures: list[Failure]) -> None:
        try:
            await work
        except Failure as failure:
            failures.append(failure)
            reason = LEFT_BEHIND + self._status.clean(failure.message)
            self._held.files.append(HeldFile(here, reason, 0))

    async def _bring(self, number: int, download: Download) -> None:
        found = await self._transfer(f"out-{number}", download.there, download)
        if found is None:
            raise Failure(
                "not_found",
                f"--download {quote_path(download.there)}: the sandbox has no such file or folder",
                fix="add `; ls -la` to the command to see what is there;"
                " patterns such as *.csv are not expanded",
            )
        saved = found.saved
        self._report.files += [asdict(file) for file in saved]
        total = readable_size(sum(file.bytes for file in saved))
        self._status.say(
            f"downloaded {len(saved)} file{'' if len(saved) == 1 else 's'}, {total},"
            f" to {quote_path(download.here)}"
        )
        if found.failure is not None:
            raise found.failure

    async def _bring_charts(self, there: str, here: str) -> None:
        """In the order of their numbers; whatever else lies there is a file like any other."""
        held = len(self._held.files)
        download = Download("charts", (here or ".").rstrip("/") or "/")
        found = await self._transfer("charts", there, download) or Unpacked([])
        charts = sorted((file for file in found.saved if chart_number(file.path)), key=by_number)
        self._report.charts = [chart.path for chart in charts]
        self._report.files += [asdict(file) for file in found.saved if file not in charts]
        if charts:
            self._status.say(f"saved {', '.join(self._report.charts)}")
        elif len(self._held.files) == held:
            self._status.say("no chart: no figure of pyplot's was shown, or open at the end")
        if found.failure is not None:
            raise found.failure

    async def _transfer(self, name: str, there: str, download: Download) -> Unpacked | None:
        """What was written and held; None when the sandbox has nothing at `there`."""
        archive = f"/tmp/daytona-sandbox-{self._run_id}.{name}.tar"
        with temporary_tar() as path:
            if not await transfer_packed(
                self._sandbox, there, archive, path, self._status, keeps=self._request.keeps
            ):
                return None
            arrival = ArrivedDownload(path, download.there, download.here, self._request.force)
            return await self._unpack(arrival)

    async def _unpack(self, arrival: ArrivedDownload) -> Unpacked:
        """What was written is on record before anything else happens."""
        async with self._writing:
            try:
                return await unpack_in_worker(
                    arrival, self._access, held=self._held, written=self._written
                )
            finally:
                self._note_what_was_written()

    def _note_what_was_written(self) -> None:
        try:
            self._written.save()
        except OSError as error:
            self._status.say(
                f"no record of what was written, so --force will not replace it: {error.strerror}"
            )

    def tell_what_is_held(self) -> None:
        """What was not written, and the command that brings it, which the client asks about."""
        files = self._held.files
        self._report.fetch = self._held.fetch_command(shows=self._status.show)
        self._report.held = [asdict(file) for file in files]
        kept = [file for file in files if not file.is_left_behind]
        left = [file for file in files if file.is_left_behind]
        if kept:
            self._status.tell_own(f"not written here, but kept: {self._list(kept)}")
        if left:
            self._status.tell_own(f"not brought: {self._list(left)}")
        if self._report.fetch is not None:  # alone: names of files must not push it out of its line
            self._status.tell_own(f"to fetch it: {self._report.fetch}")

    def _list(self, files: Sequence[HeldFile]) -> str:
        """Names are anybody's, reasons are ours."""
        told = [
            self._status.clean(f"{quote_path(file.path)} ({file.reason.removeprefix(LEFT_BEHIND)})")
            for file in sorted(files, key=most_telling_first)[:NAMES_SHOWN]
        ]
        more = f" and {len(files) - NAMES_SHOWN} more" if len(files) > NAMES_SHOWN else ""
        return ", ".join(told) + more


async def transfer_packed(
    sandbox: Sandbox, there: str, archive: str, path: Path, status: StatusLog, *, keeps: bool
) -> bool:
    """One path of the sandbox into the tar file at `path`; False when nothing is there.

    It is packed at `archive` in the sandbox, and taken away from one that `keeps` on.
    """
    if not await pack_there(sandbox, there, archive, status):
        return False
    try:
        with status.waiting("downloading"), path.open("wb") as file:
            await sandbox.download_file(archive, file, limit=LARGEST_TRANSFER)
    finally:
        if keeps:
            await ignore_failure(sandbox.remove_folder(archive))
    return True


async def pack_there(sandbox: Sandbox, there: str, archive: str, status: StatusLog) -> bool:
    """Put it into an archive in the sandbox; False when nothing is there. Raises Failure."""
    command = PACK.format(there=shlex.quote(there), archive=archive, no_such=NO_SUCH)
    code, said = await sandbox.exec(command, timeout_s=UNPACK_TIMEOUT_S)
    if code not in (0, NO_SUCH):
        why = status.clean(said.strip())[-LONGEST_REASON:]
        raise Failure(
            "exec_failed",
            f"the sandbox could not pack {quote_path(there)}: {quote_path(why)}",
            fix="fetch less, or look with --keep",
        )
    return code == 0
