"""--each: the same program once a value, several runs at a time, each in a sandbox of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from .console import one_line
from .errors import Failure, as_failure
from .ownership import RunIdentity
from .report import RunReport
from .request import RunRequest
from .run import Run
from .run_context import RunContext

MOST_TRIES = 6  # of one value, where the server says that it is too much just now
LONGEST_WAIT_S, SHORTEST_WAIT_S = 60, 2
LONGEST_LABEL = 40
NAMES_SHOWN = 8
SHARED = ("engine", "endpoint")


@dataclass
class ValueRun:
    """One value: what its run came to."""

    number: int
    value: str
    identity: RunIdentity
    report: RunReport = field(default_factory=RunReport)
    run: Run | None = None
    is_over: bool = False

    @property
    def label(self) -> str:
        return short_label(self.value)

    @property
    def is_done(self) -> bool:
        return self.run is not None and self.report.choose_exit_code() == 0

    def as_json(self) -> dict[str, Any]:
        """As the JSON of a single run, but for the engine, which is the same for all."""
        whole = self.report.as_json(self.run.output if self.run else None)
        return {"value": self.value, **{name: whole[name] for name in whole if name not in SHARED}}


def short_label(value: str) -> str:
    line = one_line(value)
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"


class ManyRuns:
    """All runs of one request; an account that is full has fewer of them at a time."""

    def __init__(self, request: RunRequest, context: RunContext) -> None:
        self._request = request
        self._context = context
        identities = RunIdentity.many(context.user, len(request.each))
        self.runs = [
            ValueRun(number, *one)
            for number, one in enumerate(zip(request.each, identities, strict=True), 1)
        ]
        self._jobs = min(request.jobs, len(self.runs))
        self._active = 0
        self._changed = asyncio.Condition()

    async def execute(self) -> None:
        """Each to the deletion of its sandbox; what fails is in its report, not raised."""
        self._context.status.say(
            f"creating {len(self.runs)} sandboxes, at most {self._jobs} at a time:"
            f" {self.runs[0].identity.name} to {self.runs[-1].identity.name}"
            f" (the server deletes each within {self._request.deadlines.ttl_min} min whatever"
            " happens)"
        )
        tasks = [asyncio.create_task(self._in_turn(one)) for one in self.runs]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_turn(self, one: ValueRun) -> None:
        for last in [False] * (MOST_TRIES - 1) + [True]:
            await self._take_a_place()
            try:
                failure = await self._try(one)
            finally:
                await self._leave_the_place()
            if failure is None or last or not await self._may_be_repeated(failure):
                return

    async def _take_a_place(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._active < self._jobs)
            self._active += 1

    async def _leave_the_place(self) -> None:
        async with self._changed:
            self._active -= 1
            self._changed.notify_all()

    async def _try(self, one: ValueRun) -> Failure | None:
        """Why there was no sandbox, if there was none; whatever else happened is reported."""
        one.report, one.is_over = RunReport(), False
        context = self._context.of_value(one.label, one.identity)
        run = one.run = Run(self._request.for_value(one.number, one.value), context, one.report)
        try:
            await run.execute()
        except Failure as failure:
            one.report.failure = failure
        except asyncio.CancelledError:
            one.report.failure = Failure("interrupted", "interrupted")
            raise
        except Exception as error:  # noqa: BLE001  one value's surprise ends no other
            one.report.failure = as_failure(error)
        finally:
            run.finish_output()
            run.tell_outcome()
            one.is_over = True
        found = one.report.failure
        if found is None:
            return None
        context.status.tell(f"{found.message}; fix: {found.fix}")
        return None if one.report.created else found

    async def _may_be_repeated(self, failure: Failure) -> bool:
        """Wait for what a full account, or one that is asked too often, needs."""
        if failure.kind == "rate_limited":
            seconds = failure.retry_after_s or SHORTEST_WAIT_S
            await asyncio.sleep(min(max(seconds, SHORTEST_WAIT_S), LONGEST_WAIT_S))
            return True
        if failure.kind == "quota" and self._active:
            self._jobs = max(1, self._active)  # so many had room
            self._context.status.tell(f"the account is full: {self._jobs} at a time from here on")
            return True
        return False

    def give_up(self) -> None:
        """The process ends before these runs have cleaned up: each tells what it may leave."""
        for one in self.runs:
            if one.run is not None and not one.is_over:
                one.run.give_up()
                one.run.tell_outcome()

    def tell_outcome(self) -> None:
        """How many are done, and which are not."""
        failed = [one for one in self.runs if not one.is_done]
        done = f"{len(self.runs) - len(failed)} of {len(self.runs)} done"
        if failed:
            names = ", ".join(one.label for one in failed[:NAMES_SHOWN])
            more = f" and {len(failed) - NAMES_SHOWN} more" if len(failed) > NAMES_SHOWN else ""
            done += f"; not: {names}{more}"
        self._context.status.tell(done)

    @property
    def first_failure(self) -> Failure | None:
        """That of the first value that failed, where it is this tool's or a timeout."""
        return None if self.first_failed is None else self.first_failed.report.failure

    def as_json(self) -> list[dict[str, Any]]:
        """In the order of the values."""
        return [one.as_json() for one in self.runs]

    @property
    def first_failed(self) -> ValueRun | None:
        """In the order of the values."""
        return next((one for one in self.runs if not one.is_done), None)
