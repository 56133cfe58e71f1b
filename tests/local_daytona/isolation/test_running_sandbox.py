"""A sandbox's first process: confined before it begins, with no more than code inside may have."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from local_daytona.engine import Engine
from local_daytona.isolation.cgroups import Groups
from local_daytona.isolation.helper import Helper
from local_daytona.isolation.limits import Resources

SIZE = Resources(cpu=1, memory=1, disk=3)


def test_it_waits_until_it_is_confined(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it forked before would be outside its groups and limits for good."""
    seen: list[tuple[str, str]] = []

    def note(what: str, pid: int) -> None:
        seen.append((what, Path(os.readlink(f"/proc/{pid}/exe")).name))

    limit, enter = Helper.limit, Groups.enter

    def noted_limit(self: Helper, pid: int, limits: Mapping[int, int]) -> None:
        note("limit", pid)
        limit(self, pid, limits)

    def noted_enter(self: Groups, name: str, pid: int, resources: Resources) -> None:
        note("group", pid)
        enter(self, name, pid, resources)

    async def run() -> str:
        engine = await Engine.open(state_dir)
        monkeypatch.setattr(Helper, "limit", noted_limit)
        monkeypatch.setattr(Groups, "enter", noted_enter)
        await engine.make("one")
        sandbox = await engine.start("one", name="one", resources=SIZE)
        try:
            return Path(os.readlink(f"/proc/{sandbox.pid}/exe")).name
        finally:
            await sandbox.stop()

    begun = asyncio.run(run())

    assert ("limit", "bwrap") in seen
    assert {program for _, program in seen} == {"bwrap"}
    assert begun.startswith("python")


def test_it_has_the_limits_of_its_sandbox(state_dir: Path) -> None:
    """It forks for file operations, whose children have no more than it has."""

    async def run() -> list[str]:
        engine = await Engine.open(state_dir)
        await engine.make("one")
        sandbox = await engine.start("one", name="one", resources=SIZE)
        try:
            return Path(f"/proc/{sandbox.pid}/limits").read_text().splitlines()
        finally:
            await sandbox.stop()

    limits = {line[:26].strip(): line[26:].split()[:2] for line in asyncio.run(run())}

    assert limits["Max processes"] == ["520", "520"]
    assert limits["Max core file size"] == ["1", "1"]
    assert limits["Max data size"] == [str(1 << 30)] * 2
    assert limits["Max file size"] == [str(3 << 30)] * 2
    assert limits["Max open files"] == ["8192", "8192"]


def test_one_that_cannot_be_confined_runs_nothing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its block ends with the server's end of the pipe: it must be killed before that."""
    killed: list[str] = []

    def fail(_helper: Helper, pid: int, _limits: Mapping[int, int]) -> None:
        raise OSError(errno.EPERM, f"no limit for {pid}")

    def kill(handle: int, number: int) -> None:
        info = Path(f"/proc/self/fdinfo/{handle}").read_text()
        pid = info.rpartition("Pid:")[2].split()[0]
        killed.append(Path(os.readlink(f"/proc/{pid}/exe")).name)
        send(handle, number)

    async def run() -> None:
        engine = await Engine.open(state_dir)
        monkeypatch.setattr(Helper, "limit", fail)
        await engine.make("one")
        with pytest.raises(OSError, match="no limit for"):
            await engine.start("one", name="one", resources=SIZE)

    send = signal.pidfd_send_signal
    monkeypatch.setattr(signal, "pidfd_send_signal", kill)
    asyncio.run(run())

    assert killed == ["bwrap"]
