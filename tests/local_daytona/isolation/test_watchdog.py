"""Who is ended when the host itself runs out, and that nothing keeps the watchdog from looking."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local_daytona.isolation import watchdog
from local_daytona.isolation.limits import MIB, Resources
from local_daytona.isolation.usage import TOGETHER, Held, Process
from local_daytona.isolation.watchdog import Watchdog, Watched, look_at_disk, look_at_memory

# No process has these: what a real one keeps in /dev/shm would be counted too.
ONE, TWO = 2**22 + 1, 2**22 + 2


def watched(pid: int, **seen: Any) -> Watched:
    """A sandbox of 1 GiB whose first process is `pid`."""
    sandbox: Any = SimpleNamespace(
        pid=pid,
        resources=Resources(1, 1, 1),
        sandbox_id=str(pid),
        is_running=True,
        buffers=lambda: 0,
    )
    return Watched(sandbox, **{"disk_at_start": 0, "volumes": (), "stored": 0, "before": 0, **seen})


def test_memory_in_sockets_is_found_when_the_host_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in no process: the neighbour with more resident memory is not the one to end."""
    monkeypatch.setattr(watchdog, "free_memory", lambda: 0)
    monkeypatch.setattr(
        watchdog, "all_processes", lambda: {ONE: Process(0, 300 * MIB), TWO: Process(0, 20 * MIB)}
    )
    neighbour, flooder = watched(ONE), watched(TWO, held=Held(sockets=7000))

    ((ended, reason),) = look_at_memory([neighbour, flooder])

    assert ended is flooder.sandbox
    assert "this machine ran out of memory" in reason


def test_who_fills_a_volume_is_found_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume has no size of its own, and lies outside the sandbox's folder."""
    volume, folder = tmp_path / "volume", tmp_path / "folder"
    volume.mkdir()
    folder.mkdir()
    (volume / "big").write_bytes(b"x" * (70 << 20))
    monkeypatch.setattr(watchdog, "free_disk", lambda _: 0)
    monkeypatch.setattr(watchdog, "all_processes", dict)  # the machine's own hold anything
    neighbour, filler = watched(ONE), watched(TWO, volumes=(volume,))
    for one in (neighbour, filler):
        one.sandbox.folders = SimpleNamespace(parts=(folder,), logs=folder)  # type: ignore[assignment]

    ((ended, _),) = look_at_disk([neighbour, filler], tmp_path)

    assert ended is filler.sandbox


def test_huge_pages_in_pipes_are_found_when_the_host_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A page in a pipe may keep two megabytes from others, which no account shows."""
    monkeypatch.setattr(watchdog, "free_memory", lambda: 0)
    monkeypatch.setattr(
        watchdog, "all_processes", lambda: {ONE: Process(0, 500 * MIB), TWO: Process(0, 20 * MIB)}
    )
    neighbour, flooder = watched(ONE, held=Held(pipes=20)), watched(TWO, held=Held(pipes=2000))

    ((ended, reason),) = look_at_memory([neighbour, flooder])

    assert (ended is flooder.sandbox, "ran out of memory" in reason) == (True, True)


def test_who_takes_the_last_inodes_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk with room for bytes and none for files is full."""
    monkeypatch.setattr(watchdog, "free_files", lambda _: 0)
    monkeypatch.setattr(watchdog, "all_processes", dict)  # the machine's own hold anything
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, number in ((few, 10), (many, 12_000)):
        folder.mkdir()
        for name in range(number):
            (folder / str(name)).touch()
    neighbour, filler = watched(ONE, files=5), watched(TWO, files=100)
    for one, folder in ((neighbour, few), (filler, many)):
        one.sandbox.folders = SimpleNamespace(parts=(folder,), logs=folder)  # type: ignore[assignment]

    ((ended, reason),) = look_at_disk([neighbour, filler], tmp_path)

    assert ended is filler.sandbox
    assert reason.endswith("had taken 11,900 files")


@pytest.mark.parametrize("kind", TOGETHER)
def test_a_crowd_of_modest_sandboxes_is_bounded_too(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of the whole machine: half is left to its own programs; no more end than it takes."""
    monkeypatch.setattr(watchdog, "all_processes", dict)
    crowd = [watched(ONE + number, disk_due=float("inf")) for number in range(4)]
    share = TOGETHER[kind] // 4 + 1
    looks = iter([share, share, share + 3, share, share, share, 1, share])
    monkeypatch.setattr(watchdog, "held_by", lambda _: Held(counts={kind: next(looks)}))

    ((ended, reason),) = look_at_disk(crowd, tmp_path)
    left = look_at_disk(crowd, tmp_path)

    assert (ended is crowd[2].sandbox, left) == (True, [])
    assert reason.endswith(f"and this one the most: {share + 3:,}")


def test_it_looks_while_all_other_threads_are_busy_and_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Copies, deletions and starts have threads of their own; a look that fails is not the last."""
    looks: list[int] = []

    def look(_watched: object, _state: object) -> list[Any]:
        looks.append(1)
        raise ValueError("a line of /proc that nobody expected")

    async def run() -> None:
        monkeypatch.setattr(watchdog, "DISK_EVERY_S", 0.01)
        monkeypatch.setattr(watchdog, "look_at_disk", look)
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.create_task(asyncio.to_thread(time.sleep, 1))
        await asyncio.sleep(0)
        dog = Watchdog(Path("/"), memory=False)
        dog.watch(watched(ONE).sandbox, stored=0, volumes=(), in_volumes=0)
        await asyncio.sleep(0.5)
        assert not busy.done()
        for task in dog._tasks:
            task.cancel()
        await busy

    asyncio.run(run())

    assert len(looks) > 2
