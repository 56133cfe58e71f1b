"""The SDK's asynchronous client, unmodified, over the whole main flow."""

from __future__ import annotations

import asyncio

import pytest

from tests.local_server import LocalServer


def test_the_main_flow(server: LocalServer) -> None:
    """create, exec, code_run, files, a followed session, stop, start, delete."""
    from daytona import AsyncDaytona, DaytonaConfig, SessionExecuteRequest

    async def run() -> list[object]:
        async with AsyncDaytona(
            DaytonaConfig(api_key=server.api_key, api_url=server.api_url)
        ) as client:
            sandbox = await client.create()
            seen: list[object] = [
                (await sandbox.process.exec("echo hi")).result,
                (await sandbox.process.code_run("print(6*7)")).result,
            ]
            await sandbox.fs.upload_file(b"bytes", "file")
            seen.append(await sandbox.fs.download_file("file"))
            await sandbox.process.create_session("s")
            started = await sandbox.process.execute_session_command(
                "s", SessionExecuteRequest(command="echo o; echo e >&2", run_async=True)
            )
            out: list[str] = []
            err: list[str] = []
            await sandbox.process.get_session_command_logs_async(
                "s", started.cmd_id, out.append, err.append
            )
            seen.append(("".join(out), "".join(err)))
            await sandbox.stop(timeout=30)
            await sandbox.start(timeout=30)
            seen.append(await sandbox.fs.download_file("file"))
            await sandbox.delete(timeout=30, wait=True)
            return seen

    before = len(server.sandboxes())

    assert asyncio.run(run()) == ["hi\n", "42\n", b"bytes", ("o\n", "e\n"), b"bytes"]
    assert len(server.sandboxes()) == before


@pytest.mark.thorough
def test_fifty_sandboxes_at_once(server: LocalServer) -> None:
    """Fan-out is what agents do; every one starts, answers and goes."""
    from daytona import AsyncDaytona, DaytonaConfig

    async def one(client: AsyncDaytona, number: int) -> str:
        sandbox = await client.create(timeout=60)
        try:
            return (await sandbox.process.exec(f"echo {number}")).result
        finally:
            await sandbox.delete(timeout=60)

    async def run() -> list[str]:
        async with AsyncDaytona(
            DaytonaConfig(api_key=server.api_key, api_url=server.api_url)
        ) as client:
            return await asyncio.gather(*(one(client, number) for number in range(50)))

    before = len(server.sandboxes())

    assert asyncio.run(run()) == [f"{number}\n" for number in range(50)]
    assert len(server.sandboxes()) == before
