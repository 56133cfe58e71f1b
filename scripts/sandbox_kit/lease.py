"""Owning a sandbox: its name before it exists, its labels, and its deletion whatever happens.

A create whose answer was lost may have made a sandbox, so every ambiguous failure is followed by a
look for our name. What is found is deleted only when it carries this run's own label. Should all of
that fail, the server's ttl still ends it, and the user is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from .errors import TOOL_FAILED, Failure
from .sdk import Client, CreateSpec, Sandbox
from .status_log import StatusLog

CREATE_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 1800.0
CREATE_GRACE_S = 30.0  # after a signal a create under way may still tell us its id
CLEANUP_LIMIT_S = 60.0
LAST_LOOK_S = 5.0
DELETE_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
LOOK_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0)
# Such a key could not look either. Any other refusal may come from something before the server,
# which made the sandbox.
NO_RIGHT = {401, 403}
WORTH_REPEATING = {"conflict", "network", "server_error", "rate_limited", "timeout", "not_found"}


class Lease:
    """The right and the duty to delete one sandbox.

    `how_to_delete` makes the command that a user would type for an id.
    """

    def __init__(
        self,
        client: Client,
        spec: CreateSpec,
        status: StatusLog,
        *,
        how_to_delete: Callable[[str], str],
    ) -> None:
        self._client = client
        self._spec = spec
        self._status = status
        self._how_to_delete = how_to_delete
        self.deleted = False  # the server accepted it
        self.left: Failure | None = None  # what may be left, and why

    async def create(self) -> Sandbox:
        """A started sandbox; after a Failure none is left, or it says which one and until when."""
        limit = BUILD_TIMEOUT_S if self._spec.image else CREATE_TIMEOUT_S
        creating = asyncio.ensure_future(
            self._client.create(self._spec, timeout_s=limit, on_build_log=self._status.pass_on)
        )
        try:
            return await asyncio.shield(creating)
        except asyncio.CancelledError:
            await self._finish(self._abandon(creating), self._spec.name)
            raise
        except Failure as failure:
            if may_have_made_one(failure):
                await self._finish(self._reconcile(failure), failure.sandbox_id or self._spec.name)
            if failure.kind == "create_timeout":
                raise Failure(
                    failure.kind, f"{failure.message}; what there was of it is deleted"
                ) from failure
            raise

    async def delete(self, sandbox_id: str) -> None:
        """Delete it, also when this task is cancelled meanwhile.

        Raises the Failure that says what may be left.
        """
        await self._finish(self._delete(sandbox_id), sandbox_id)

    async def _abandon(self, creating: asyncio.Future[Sandbox]) -> None:
        """After a signal during the create: its answer is waited for, because it carries the id."""
        try:
            sandbox = await asyncio.wait_for(creating, CREATE_GRACE_S)
        except (Failure, asyncio.TimeoutError, asyncio.CancelledError) as error:
            failure = (
                error
                if isinstance(error, Failure)
                else Failure("create_timeout", "the create was interrupted")
            )
            if may_have_made_one(failure):
                await self._reconcile(failure)
        else:
            await self._delete(sandbox.info.id)

    async def _reconcile(self, failure: Failure) -> None:
        """Find out whether the failed create made a sandbox, and delete it if it is ours.

        An id of the create's own answer needs no look: a look may be answered by a replica that
        does not know it yet.
        """
        if failure.sandbox_id is not None:
            await self._delete(failure.sandbox_id)
            return
        spec, last = self._spec, failure
        refused = failure.status is not None and failure.status < 500
        if not refused:
            self._status.say(f"looking whether {spec.name} exists all the same")
        for pause in LOOK_PAUSES_S:
            await asyncio.sleep(pause)
            try:
                found = (await self._client.get(spec.name)).info
            except Failure as problem:
                if problem.kind == "not_found" and refused:
                    return  # there is nothing to wait for
                last = problem
            else:
                if spec.identity.made(found.name, found.labels):
                    await self._delete(found.id)
                return
        if last.kind != "not_found":
            raise self._left_behind(spec.name, last)
        self._status.tell(
            f"{spec.name} is not there; should it still appear, the server deletes it within"
            f" {spec.ttl_min} min, and so does: {self._how_to_delete(spec.name)}"
        )

    async def _delete(self, sandbox_id: str) -> None:
        try:
            await delete_until_accepted(self._client, sandbox_id)
        except Failure as failure:
            raise self._left_behind(sandbox_id, failure) from failure
        self.deleted = True

    def _left_behind(self, id_or_name: str, cause: Failure) -> Failure:
        self.left = Failure(
            cause.kind,
            f"sandbox {id_or_name} (name {self._spec.name}) may be left behind: {cause.message};"
            f" the server deletes it by itself within {self._spec.ttl_min} minutes of its creation",
            fix=self._how_to_delete(id_or_name),
            exit_code=TOOL_FAILED,
            sandbox_id=id_or_name,
        )
        return self.left

    def give_up(self, sandbox_id: str | None) -> None:
        """Nobody waits for it any longer."""
        if not self.deleted and self.left is None:
            slow = Failure("network", "the cleanup did not end in time")
            self._left_behind(sandbox_id or self._spec.name, slow)

    async def _look_once_more(self, id_or_name: str) -> None:
        """The time may have passed while this machine slept; raises Failure unless it is gone."""
        with contextlib.suppress(asyncio.TimeoutError):
            self.deleted = await asyncio.wait_for(is_gone(self._client, id_or_name), LAST_LOOK_S)
        if not self.deleted:
            slow = Failure("network", "the cleanup did not end in time")
            raise self._left_behind(id_or_name, slow)

    async def _finish(self, work: Awaitable[None], id_or_name: str) -> None:
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
            await self._look_once_more(id_or_name)
        if cancelled:
            raise asyncio.CancelledError


async def delete_until_accepted(client: Client, sandbox_id: str) -> None:
    """Ask again until the server accepts it or the sandbox is gone; raises the last Failure.

    A 404 to the delete can come from something before the server, so the sandbox is asked for.
    """
    *pauses, last = DELETE_PAUSES_S
    for pause in (*pauses, last):
        await asyncio.sleep(pause)
        try:
            await client.delete(sandbox_id)
        except Failure as failure:
            if failure.kind == "not_found" and await is_gone(client, sandbox_id):
                return
            if failure.kind not in WORTH_REPEATING or pause == last:
                raise
        else:
            return


async def is_gone(client: Client, sandbox_id: str) -> bool:
    try:
        await client.get(sandbox_id)
    except Failure as failure:
        return failure.kind == "not_found"
    return False


def may_have_made_one(failure: Failure) -> bool:
    """Whether a failed create may have made a sandbox.

    It has when there is an id already; it may have when the create was sent.
    """
    return failure.sandbox_id is not None or (not failure.unsent and failure.status not in NO_RIGHT)
