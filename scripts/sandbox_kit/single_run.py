"""run_in_sandbox.py after its request is read: engine, signals, one run, JSON, the last line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import Any

from .archive.packing import PackedUpload, temporary_tar
from .archive.worker import pack_in_worker
from .console import LostOutput, write_quietly
from .errors import Failure, UsageFailure, as_failure, output_lost, with_local_fix
from .host_access import HostAccess
from .interrupts import run_interruptibly
from .made_record import MadeRecord
from .many_runs import ManyRuns
from .ownership import RunIdentity, this_user
from .redaction import SHORTEST_SECRET
from .report import RunReport
from .request import RunRequest, refuse_foreign_account
from .run import Run, create_spec
from .run_context import RunContext
from .sdk import Client
from .settings import Settings, local_settings, settings_from_environment
from .status_log import StatusLog
from .volumes import prepare_volumes

# Of the JSON: never a server's or a program's, or already without secrets.
FIXED_WORDS = ("engine", "whose", "streams", "kind", "fix", "fetch", "stdout", "stderr")


class SingleRun:
    """One request from its reading to its exit code."""

    def __init__(self, request: RunRequest, access: HostAccess) -> None:
        self._request = request
        self._access = access
        self._report = RunReport()
        self._run: Run | None = None
        self._many: ManyRuns | None = None  # of --each
        display = request.display
        self._status = StatusLog(
            quiet=display.quiet, verbose=display.verbose, secrets=request.hidden
        )

    def execute(self) -> int:
        """The exit code, after everything was said; no traceback without --debug."""
        try:
            asyncio.run(self._execute_interruptibly())
        except Exception as error:  # noqa: BLE001  whatever it is, the user gets one line and a fix
            self._report.failure = self._as_failure(error)
        if self._run is not None:
            self._run.finish_output()
        return self._say_all()

    def _say_all(self) -> int:
        """The JSON if asked for, and the last line; the exit code."""
        if self._request.dry_run and self._report.request is not None:
            write_quietly(sys.stdout, json.dumps(self._report.request, indent=2) + "\n")
        elif self._request.display.json:
            write_quietly(sys.stdout, json.dumps(self._without_secrets(self._answer())) + "\n")
        if LostOutput.why is not None:
            self._report.failure = output_lost(LostOutput.why)
        self._say_last_line()
        return self._exit_code()

    def _answer(self) -> dict[str, Any]:
        """The JSON object of the run, or that of all runs."""
        report = self._report
        if not self._request.each:
            return report.as_json(self._run.output if self._run else None)
        failure = report.failure or (self._many.first_failure if self._many else None)
        return {
            "engine": report.engine,
            "endpoint": report.endpoint,
            "exit_code": self._exit_code(),
            "each": self._many.as_json() if self._many else [],
            "error": failure.as_json() if failure else None,
        }

    def _exit_code(self) -> int:
        """Of many runs that of the first value that failed."""
        if self._many is None or self._report.failure is not None:
            return self._report.choose_exit_code()
        first = self._many.first_failed
        return 0 if first is None else first.report.choose_exit_code()

    async def _execute_interruptibly(self) -> None:
        await run_interruptibly(self._execute(), tell=self._status.tell, on_overdue=self._give_up)

    def _give_up(self, failure: Failure) -> None:
        """The cleanup does not end: what may be left is told, and the process ends after this."""
        self._report.failure = failure
        for one in (self._run, self._many):
            if one is not None:
                one.give_up()
        self._say_all()

    async def _execute(self) -> None:
        settings, user = await self._choose_engine(), this_user()
        async with Client.open(settings) as client:
            if self._request.dry_run:
                names = {mount.path: mount.name for mount in self._request.volumes}
                identity = RunIdentity.new(user, self._request.name)
                spec = create_spec(self._request, identity, names)
                self._report.request = await client.request_of(spec)
                return
            with contextlib.ExitStack() as stack:
                packed = await self._pack(stack)
                record = MadeRecord.of("volumes", settings)
                volumes = await prepare_volumes(
                    client,
                    self._request.volumes,
                    record,
                    self._status,
                    local=self._request.local,
                )
                context = RunContext(
                    client, settings, user, self._access, self._status, packed, volumes
                )
                if self._request.each:
                    self._many = ManyRuns(self._request, context)
                    await self._many.execute()
                else:
                    self._run = Run(self._request, context, self._report)
                    await self._run.execute()

    async def _choose_engine(self) -> Settings:
        request = self._request
        if request.dry_run:
            settings = Settings.nowhere()
        elif request.local:
            settings = await asyncio.to_thread(local_settings)
        else:
            settings = settings_from_environment()
        self._report.engine, self._report.endpoint = settings.engine, settings.endpoint
        self._status.hide(settings.secrets)
        if not request.dry_run:
            self._status.tell(f"engine: {settings.describe()}")
            if short := request.too_short_to_hide:
                self._status.tell(
                    f"not hidden in the output, because shorter than {SHORTEST_SECRET}"
                    f" characters: the value of {', '.join(short)}"
                )
        refuse_foreign_account(request, settings)
        if settings.engine == "local" and any(
            program.language == "typescript" for program in request.programs
        ):
            raise UsageFailure(
                "local Daytona runs python and javascript",
                fix="compile it to javascript, or use the cloud",
            )
        return settings

    async def _pack(self, stack: contextlib.ExitStack) -> PackedUpload | None:
        """Before anything is created: too much, or what cannot be read, costs no sandbox."""
        if not self._request.uploads:
            return None
        path = stack.enter_context(temporary_tar())
        packed = await pack_in_worker(path, self._request.uploads, self._access)
        self._report.left_here = packed.left_as_json()
        return packed

    def _without_secrets(self, value: Any, name: str = "") -> Any:
        """Values alone, before they are spelt as JSON; words of ours stay.

        A secret may be chosen to look like a part of the JSON.
        """
        if isinstance(value, str):
            return value if name in FIXED_WORDS else self._status.clean(value)
        if isinstance(value, dict):
            return {key: self._without_secrets(found, key) for key, found in value.items()}
        if isinstance(value, list):
            return [self._without_secrets(found, name) for found in value]
        return value

    def _say_last_line(self) -> None:
        """Whose the exit code is; last, because a program can print any line of ours before."""
        report, code = self._report, self._exit_code()
        if self._many is not None:
            self._many.tell_outcome()
        if self._run is not None:
            self._run.tell_outcome()
        if report.failure is not None:
            self._status.fail(
                report.failure.message,
                report.failure.fix,
                whose=f"exit code {code} is this tool's: ",
            )
        elif self._many is not None and code:
            self._say_which_failed(code, self._many)
        elif report.exit_code is not None:
            self._status.tell_own(f"exit code {code} is the {report.whose}'s")
        elif not self._request.dry_run:
            done = "the program runs on" if report.detached else "all is done"
            self._status.tell_own(f"exit code {code} is this tool's: {done}")

    def _say_which_failed(self, code: int, many: ManyRuns) -> None:
        failure = many.first_failure
        whose = f"exit code {code} is that of the first value that failed"
        if failure is None:
            self._status.tell_own(whose)
        else:
            self._status.fail(failure.message, failure.fix, whose=f"{whose}: ")

    def _as_failure(self, error: Exception) -> Failure:
        if self._request.display.debug:
            self._status.trace(error)
        failure = as_failure(error)
        return with_local_fix(failure) if self._request.local else failure
