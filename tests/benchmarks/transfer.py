"""Files in and out of local Daytona: by script, by raw HTTP, by one SDK call a file."""

from __future__ import annotations

import http.client
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.local_server import LocalServer, new_state_dir, running_server

from .measure import RUN, Cost, Row, cost_of, environment, python, timed

SIZES_MB = (1, 100, 1000)
FILES = 10_000
FEWER = 300  # one call a file takes too long for all of them
HEAD = (
    b'--x\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\nf\r\n'
    b'--x\r\nContent-Disposition: form-data; name="files[0].file"; filename="f"\r\n\r\n'
)
TAIL = b"\r\n--x--\r\n"


def transfer() -> Iterator[Row]:
    """(g) Beyond what a run without files costs."""
    with running_server(new_state_dir()) as server, tempfile.TemporaryDirectory() as folder:
        variables = environment(server.url, server.api_key)

        def run(*words: str) -> Cost:
            return cost_of([python(), RUN, *words], variables, folder)

        nothing = min((run("--command", "true") for _ in range(3)), key=lambda cost: cost.wall)
        for size in SIZES_MB:
            fill(Path(folder) / str(size), size)
            yield from both_ways(
                server,
                size,
                nothing,
                run("--upload", str(size), "--command", "true"),
                run_down(size, variables, folder),
            )
        yield from many_files(server, Path(folder), nothing, variables)


def fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(1 << 20))


def run_down(size: int, variables: Mapping[str, str], folder: str) -> tuple[Cost, Cost]:
    """A run that makes a file and one that fetches it too."""
    words = [python(), RUN, "--command", f"head -c {size}M /dev/zero > big"]
    return cost_of(words, variables, folder), cost_of(
        [*words, "--download", "big", "--force"], variables, folder
    )


def both_ways(
    server: LocalServer, size: int, nothing: Cost, up: Cost, down: tuple[Cost, Cost]
) -> Iterator[Row]:
    made = server.create()["id"]
    sent, fetched = (
        timed(lambda: raw_upload(server, made, size)),
        timed(lambda: raw_download(server, made, size)),
    )
    server.request("DELETE", f"/api/sandbox/{made}")
    for way, cost, empty, raw in (("up", up, nothing, sent), ("down", down[1], down[0], fetched)):
        took = max(cost.wall - empty.wall, 0.001)
        yield Row(f"{size} MB {way} by raw HTTP", size / raw, "MB/s")
        yield Row(
            f"{size} MB {way} by script",
            size / took,
            "MB/s",
            ratio=raw / took,
            target="must 100, aim 200",
        )
        yield Row(
            f"{size} MB {way}: peak memory beyond",
            cost.memory - empty.memory,
            "MB",
            target="must 8, aim 2",
        )


def raw_upload(server: LocalServer, sandbox: str, size: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    connection.putrequest("POST", f"/toolbox/{sandbox}/files/bulk-upload")
    connection.putheader("Authorization", f"Bearer {server.api_key}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(len(HEAD) + (size << 20) + len(TAIL)))
    connection.endheaders(HEAD)
    block = os.urandom(1 << 20)
    for _ in range(size):
        connection.send(block)
    connection.send(TAIL)
    assert connection.getresponse().status == 200
    connection.close()


def raw_download(server: LocalServer, sandbox: str, size: int) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    fields = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "application/json"}
    connection.request(
        "POST", f"/toolbox/{sandbox}/files/bulk-download", b'{"paths": ["f"]}', fields
    )
    answer = connection.getresponse()
    buffer, found = bytearray(1 << 20), 0
    while count := answer.readinto(buffer):
        found += count
    assert found > size << 20
    connection.close()


def many_files(
    server: LocalServer, folder: Path, nothing: Cost, variables: Mapping[str, str]
) -> Iterator[Row]:
    (folder / "many").mkdir()
    for number in range(FILES):
        (folder / "many" / f"{number}.txt").write_text("x" * 100)
    cost = cost_of([python(), RUN, "--upload", "many", "--command", "true"], variables, str(folder))
    single = one_by_one(server) * FILES / FEWER
    yield Row(f"{FILES:,} small files, one SDK call each (from {FEWER})", single, "s")
    yield Row(
        f"{FILES:,} small files by script",
        cost.wall - nothing.wall,
        "s",
        ratio=(cost.wall - nothing.wall) / single,
    )
    yield Row(f"{FILES:,} small files: peak memory beyond", cost.memory - nothing.memory, "MB")


def one_by_one(server: LocalServer) -> float:
    from daytona import Daytona, DaytonaConfig

    sandbox = Daytona(DaytonaConfig(api_key=server.api_key, api_url=server.api_url)).create()
    seconds = timed(
        lambda: [sandbox.fs.upload_file(b"x" * 100, f"many/{number}") for number in range(FEWER)]
    )
    sandbox.delete()
    return seconds
