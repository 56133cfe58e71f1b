"""sandboxes.py fetch ID THERE:HERE: bring files out of a sandbox, through what is held of a run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .archive.fetching import FetchRequest
from .archive.packing import temporary_tar
from .archive.worker import fetch_in_worker
from .console import quote_path
from .downloads import transfer_packed
from .errors import Failure, UsageFailure
from .host_access.held import HeldResults, results_dir
from .ownership import RunIdentity, User
from .sdk import Sandbox
from .status_log import StatusLog


async def fetch_from_sandbox(
    sandbox: Sandbox, pairs: Sequence[str], user: User, status: StatusLog, *, force: bool
) -> dict[str, Any]:
    """The answer of `fetch_in_worker`; raises Failure, and then nothing is here."""
    if not pairs:
        raise UsageFailure(
            "fetch: nothing says what to bring from the sandbox",
            fix="sandboxes.py fetch ID THERE:HERE",
        )
    run_id = RunIdentity.new(user).run_id
    held = HeldResults(run_id)
    try:
        for number, text in enumerate(pairs):
            wish = FetchRequest.of(text, Path.cwd())
            await bring(sandbox, wish, held, status, number=number)
        return await fetch_in_worker(run_id, tuple(pairs), force=force, folder=Path.cwd())
    finally:
        shutil.rmtree(results_dir() / run_id, ignore_errors=True)


async def bring(
    sandbox: Sandbox, wish: FetchRequest, held: HeldResults, status: StatusLog, *, number: int
) -> None:
    """One path into what is held; raises Failure not_found for none."""
    archive = f"/tmp/daytona-sandbox-{held.run_id}.fetch-{number}.tar"
    with temporary_tar() as path:
        if not await transfer_packed(sandbox, wish.there, archive, path, status, keeps=True):
            raise Failure(
                "not_found",
                f"the sandbox has no {quote_path(wish.there)}",
                fix="paths are seen from its first folder; patterns such as *.csv are not expanded",
            )
        held.keep_whole(wish.there, str(wish.here), path, "fetched")
