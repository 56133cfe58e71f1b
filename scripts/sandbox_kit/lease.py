"""Owning a sandbox: its name before it exists, its labels, and its deletion whatever happens.

A create whose answer was lost may have made a sandbox, so every ambiguous failure is followed by a look for our name. What is found
is deleted only when it carries this run's own label. Should all of that fail, the server's ttl still ends it, and the user is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from .errors import Failure
from .sdk import Client, CreateSpec, Sandbox
from .status_log import StatusLog

CREATE_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 1800.0
CREATE_GRACE_S = 30.0  # after a signal a create under way may still tell us its id
CLEANUP_LIMIT_S = 60.0
DELETE_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
LOOK_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)
# These say that the server refused the create before it made anything.
NOTHING_MADE = {401, 403, 404, 409, 413, 422, 429, 501}
WORTH_REPEATING = {"conflict", "network", "server_error", "rate_limited", "timeout", "not_found"}


class Lease:
    """The right and the duty to delete one sandbox. `how_to_delete` makes the command that a user would type for an id."""

    def __init__(
        self, client: Client, narrator: StatusLog, *, how_to_delete: Callable[[str], str]
    ) -> None:
        self._client = client
        self._narrator = narrator
        self._how_to_delete = how_to_delete

    @contextlib.asynccontextmanager
    async def own(
        self, spec: CreateSpec, *, keep: Callable[[], bool], before_delete: Callable[[], None]
    ) -> AsyncIterator[Sandbox]:
        """Create, hand out, delete (unless `keep()` says so then); raises Failure. `before_delete` flushes the output."""
        handle = await self.create(spec)
        try:
            yield handle
        finally:
            try:
                before_delete()
            finally:  # a reader that went away must not keep the sandbox alive
                if not keep():
                    await self._to_the_end(self._delete(handle.info.id, spec), handle.info.id)

    async def create(self, spec: CreateSpec) -> Sandbox:
        """A started sandbox; when that fails nothing is left, or the Failure says what and until when."""
        limit = BUILD_TIMEOUT_S if spec.image else CREATE_TIMEOUT_S
        creating = asyncio.ensure_future(
            self._client.create(spec, timeout_s=limit, on_build_log=self._narrator.pass_on)
        )
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            await self._to_the_end(self._abandon(creating, spec), spec.name)
            raise
        except Failure as failure:
            if may_have_made_one(failure):
                await self._to_the_end(
                    self._reconcile(failure, spec), failure.sandbox_id or spec.name
                )
            if failure.kind == "create_timeout":
                raise Failure(
                    failure.kind, f"{failure.message}; what there was of it is deleted"
                ) from failure
            raise

    async def _abandon(self, creating: asyncio.Future[Sandbox], spec: CreateSpec) -> None:
        """After a signal during the create: its answer is waited for, because it carries the id."""
        try:
            handle = await asyncio.wait_for(creating, CREATE_GRACE_S)
        except (Failure, asyncio.TimeoutError, asyncio.CancelledError) as error:
            failure = (
                error
                if isinstance(error, Failure)
                else Failure("create_timeout", "the create was interrupted")
            )
            if may_have_made_one(failure):
                await self._reconcile(failure, spec)
        else:
            await self._delete(handle.info.id, spec)

    async def _reconcile(self, failure: Failure, spec: CreateSpec) -> None:
        """Find out whether the failed create made a sandbox, and delete it if it is ours.

        An id of the create's own answer needs no look: a look may be answered by a replica that does not know it yet.
        """
        if failure.sandbox_id is not None:
            await self._delete(failure.sandbox_id, spec)
            return
        self._narrator.say(f"looking whether {spec.name} exists all the same")
        for pause in LOOK_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                handle = await self._client.get(spec.name)
            except Failure as problem:
                if (
                    problem.kind == "not_found"
                    and failure.status is not None
                    and failure.status < 500
                ):
                    return  # the server refused the create; there is nothing to wait for
                last = problem
            else:
                if spec.identity.made(handle.info.name, handle.info.labels):
                    await self._delete(handle.info.id, spec)
                return
        if last.kind != "not_found":
            raise self._left_behind(spec, spec.name, last)
        self._narrator.tell(
            f"{spec.name} is not there; should it still appear, the server deletes it within {spec.ttl_min} min,"
            f" and so does: {self._how_to_delete(spec.name)}"
        )

    async def _delete(self, sandbox_id: str, spec: CreateSpec) -> None:
        """Until the server accepts it; raises the Failure that tells the user what is left."""
        last: Failure | None = None
        for pause in DELETE_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                await self._client.delete(sandbox_id)
            except Failure as failure:
                if failure.kind == "not_found" and await self._is_gone(sandbox_id):
                    return
                last = failure
                if failure.kind not in WORTH_REPEATING:
                    break
            else:
                return
        assert last is not None
        raise self._left_behind(spec, sandbox_id, last)

    async def _is_gone(self, sandbox_id: str) -> bool:
        """A 404 to the delete can come from something before the server, so the sandbox itself is asked for."""
        try:
            await self._client.get(sandbox_id)
        except Failure as failure:
            return failure.kind == "not_found"
        return False

    def _left_behind(self, spec: CreateSpec, id_or_name: str, cause: Failure) -> Failure:
        message = (
            f"sandbox {id_or_name} (name {spec.name}) may be left behind: {cause.message}; "
            f"the server deletes it by itself within {spec.ttl_min} minutes of its creation"
        )
        failure = Failure(cause.kind, message, fix=self._how_to_delete(id_or_name), exit_code=125)
        failure.sandbox_id = id_or_name
        return failure

    async def _to_the_end(self, work: Awaitable[None], id_or_name: str) -> None:
        """Run cleanup to its end, also when this task is cancelled meanwhile; bounded in time."""
        task = asyncio.ensure_future(asyncio.wait_for(work, CLEANUP_LIMIT_S))
        cancelled = False
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                cancelled = True
            except (Failure, asyncio.TimeoutError):
                break
        try:
            task.result()
        except asyncio.TimeoutError:
            message = f"sandbox {id_or_name} may be left behind: the cleanup did not end in time; the server deletes it by its ttl"
            failure = Failure(
                "network", message, fix=self._how_to_delete(id_or_name), exit_code=125
            )
            failure.sandbox_id = id_or_name
            raise failure from None
        if cancelled:
            raise asyncio.CancelledError


def may_have_made_one(failure: Failure) -> bool:
    """It has an id already, whatever failed after that; or the create was neither never sent nor refused."""
    return failure.sandbox_id is not None or (
        not failure.unsent and failure.status not in NOTHING_MADE
    )
