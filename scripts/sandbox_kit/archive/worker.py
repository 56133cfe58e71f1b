"""Where archives and ignore rules are read: a process of its own, which can be killed.

A stranger's bytes can keep a parser busy for hours, and a busy Python answers no signal. So the run
waits for this process and ends it at a deadline or a signal. Tasks and answers are JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import skill_env

from ..errors import Failure, as_failure
from ..host_access import HostAccess
from ..host_access.held import HeldDownload, HeldFile, HeldResults
from ..host_access.written import WrittenRecord
from .fetching import fetch_results, list_held_files
from .packing import LeftPath, PackedUpload, pack_uploads
from .pairs import Upload
from .unpacking import ArrivedDownload, SavedFile, Unpacked, unpack_download

DEADLINE_S = 300.0
GRACE_S = 1.0
MOST_MEMORY = 2 << 30  # bytes of address space; the interpreter itself takes a tenth of it
START = (
    "import sys; sys.path.insert(0, sys.argv[1]);"
    " from sandbox_kit.archive.worker import main; raise SystemExit(main())"
)
OUR_SETTINGS = "DAYTONA_"  # keys among them: this process needs none but where the state is
KEPT_SETTING = "DAYTONA_LOCAL_STATE"


class WorkerLost(Exception):
    """It was killed at the deadline, or ended without an answer, mostly for lack of memory."""


async def pack_in_worker(
    path: Path, uploads: tuple[Upload, ...], access: HostAccess
) -> PackedUpload:
    """As `pack_uploads`; raises Failure, also when the deadline passes."""
    task = {
        "path": str(path),
        "uploads": [asdict(upload) for upload in uploads],
        "access": access_as_json(access),
    }
    try:
        answer = await ask_worker("pack", task)
    except WorkerLost as lost:
        raise Failure(
            "usage",
            f"--upload could not be packed: {lost}",
            fix="name a smaller folder",
        ) from None
    left = [LeftPath(**found) for found in answer["left"]]
    return PackedUpload(path, answer["files"], answer["size"], left, answer["problems"])


async def unpack_in_worker(
    arrival: ArrivedDownload, access: HostAccess, *, held: HeldResults, written: WrittenRecord
) -> Unpacked:
    """As `unpack_download`; an archive that cannot be looked through is held as it is."""
    task = {
        "arrival": {**asdict(arrival), "archive": str(arrival.archive)},
        "access": access_as_json(access),
        "run_id": held.run_id,
        "downloads": [asdict(download) for download in held.downloads],
        "made": written.made,
    }
    here = str(access.folder / arrival.here)
    try:
        answer = await ask_worker("unpack", task)
    except WorkerLost as lost:
        held.keep_whole(arrival.there, here, arrival.archive, f"not looked through: {lost}")
        return Unpacked([])
    except Failure as failure:
        if failure.kind != "archive":
            raise
        held.keep_whole(arrival.there, here, arrival.archive, failure.message)
        return Unpacked([])
    held.files += [HeldFile(**found) for found in answer["files"]]
    held.downloads[:] = [HeldDownload(**found) for found in answer["downloads"]]
    written.made.update(answer["made"])
    lost_rest = Failure(**answer["lost"]) if answer["lost"] else None
    return Unpacked([SavedFile(**found) for found in answer["saved"]], lost_rest)


async def fetch_in_worker(
    run_id: str, pairs: tuple[str, ...], *, force: bool, folder: Path
) -> dict[str, Any]:
    """The `files` written and the links `left`; without pairs what is `held`. Raises Failure."""
    task = {"run_id": run_id, "pairs": pairs, "force": force, "folder": str(folder)}
    try:
        return await ask_worker("fetch", task)
    except WorkerLost as lost:
        raise Failure(
            "archive", f"what is held of {run_id} could not be looked through: {lost}"
        ) from None


async def ask_worker(verb: str, task: dict[str, Any]) -> dict[str, Any]:
    """The answer; raises the Failure that the worker raised, or WorkerLost."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-c", START, str(skill_env.SKILL / "scripts"), verb),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=worker_environment(),
    )
    try:
        talk = process.communicate(json.dumps(task).encode("utf-8", "surrogateescape"))
        said, _ = await asyncio.wait_for(talk, DEADLINE_S)
    except asyncio.TimeoutError:
        raise WorkerLost(f"it took longer than {DEADLINE_S:.0f} s") from None
    finally:
        await end_worker(process)
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        raise WorkerLost("it took more than this machine gives") from None
    if "failure" in answer:
        raise Failure(**answer["failure"])
    return answer


async def end_worker(process: asyncio.subprocess.Process) -> None:
    """By SIGTERM first, so that no part of a file stays; what answers no signal writes nothing."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)
            return
        process.kill()
    await process.wait()


def worker_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name == KEPT_SETTING or not name.startswith(OUR_SETTINGS)
    }


def access_as_json(access: HostAccess) -> dict[str, Any]:
    """Folders only: the worker passes on no variable."""
    return {"folder": str(access.folder), "named": [str(path) for path in access.named]}


def main() -> int:
    """The worker: one task on stdin, one answer on stdout."""
    limit_resources()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    verb, task = sys.argv[2], json.load(sys.stdin)
    tasks: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "pack": pack_here,
        "unpack": unpack_here,
        "fetch": fetch_here,
    }
    try:
        answer = tasks[verb](task)
    except MemoryError:
        return 1  # without an answer: whoever waits knows what that means
    except Exception as error:  # noqa: BLE001  told to whoever waits for the answer
        answer = {"failure": failure_as_json(as_failure(error))}
    sys.stdout.write(json.dumps(answer))
    return 0


def failure_as_json(failure: Failure) -> dict[str, Any]:
    return {**failure.as_json(), "exit_code": failure.exit_code}


def limit_resources() -> None:
    """Where the system can: a bomb ends this process, not the machine."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def access_here(task: dict[str, Any]) -> HostAccess:
    folders = task["access"]
    return HostAccess(
        Path(folders["folder"]), tuple(map(Path, folders["named"])), frozenset(), frozenset(), {}
    )


def pack_here(task: dict[str, Any]) -> dict[str, Any]:
    uploads = [Upload(**found) for found in task["uploads"]]
    packed = pack_uploads(Path(task["path"]), uploads, access_here(task))
    return {
        "files": packed.files,
        "size": packed.size,
        "left": [asdict(found) for found in packed.left],
        "problems": packed.problems,
    }


def unpack_here(task: dict[str, Any]) -> dict[str, Any]:
    held, written = HeldResults(task["run_id"]), WrittenRecord(task["run_id"], task["made"])
    held.downloads = [HeldDownload(**found) for found in task["downloads"]]
    arrival = ArrivedDownload(**{**task["arrival"], "archive": Path(task["arrival"]["archive"])})
    try:
        found = unpack_download(arrival, access_here(task), held=held, written=written)
    finally:  # also of a run that ends meanwhile: its files are no strangers
        with contextlib.suppress(OSError):
            written.save()
    return {
        "saved": [asdict(file) for file in found.saved],
        "lost": failure_as_json(found.failure) if found.failure else None,
        "files": [asdict(file) for file in held.files],
        "downloads": [asdict(download) for download in held.downloads],
        "made": written.made,
    }


def fetch_here(task: dict[str, Any]) -> dict[str, Any]:
    run_id, pairs = task["run_id"], tuple(task["pairs"])
    if not pairs:
        held = [{"path": path, "bytes": size} for path, _, size in list_held_files(run_id)]
        return {"files": [], "left": [], "of_git": [], "held": held}
    found = fetch_results(run_id, pairs, force=task["force"], folder=Path(task["folder"]))
    files = [asdict(file) for file in found.saved]
    return {"files": files, "left": found.left, "of_git": found.of_git, "held": []}
