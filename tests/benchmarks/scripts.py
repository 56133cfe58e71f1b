"""What our scripts cost beside the sandbox: start, a plain run, many steps, a large account."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Callable, Mapping

from tests.local_server import SCRIPTS, new_state_dir, running_server

from .instant import Instant, running_instant
from .measure import RUN, Cost, Row, cost_of, environment, interleaved, python, row

ROUNDS = 9
NAIVE_NAME = "the smallest script with the SDK"
NAIVE = """
from daytona import Daytona
daytona = Daytona()
sandbox = daytona.create()
print(sandbox.process.code_run("print(1)").result)
sandbox.delete()
"""
RAW = """
import http.client, json, os
from urllib.parse import urlsplit
url = urlsplit(os.environ["DAYTONA_API_URL"])
connection = http.client.HTTPConnection(url.netloc)
key = "Bearer " + os.environ["DAYTONA_API_KEY"]
sent = {"Authorization": key, "Content-Type": "application/json"}
def ask(method, path, body=None):
    connection.request(method, path, json.dumps(body) if body else None, sent)
    return connection.getresponse().read()
made = json.loads(ask("POST", "/api/sandbox", {"labels": {}}))
code_run = "/toolbox/" + made["id"] + "/process/code-run"
print(json.loads(ask("POST", code_run, {"code": "print(1)", "language": "python"})))
ask("DELETE", "/api/sandbox/" + made["id"])
"""
# The SDK's share of a plain run: the same eight requests by our `sdk` package, without the script.
FLOOR = f"""
import asyncio, os, sys
sys.path.insert(0, {str(SCRIPTS)!r})
from sandbox_kit.ownership import RunIdentity, User
from sandbox_kit.sdk import Client, CreateSpec
from sandbox_kit.settings import Settings
settings = Settings("cloud", os.environ["DAYTONA_API_URL"], "", os.environ["DAYTONA_API_KEY"])
spec = CreateSpec(RunIdentity("20261126-010203-0123abcd", "n", User("0" * 32)), {{}}, True, 15, 60)
async def main():
    async with Client.open(settings) as client:
        handle = await client.create(spec, timeout_s=60.0, on_build_log=print)
        await handle.make_private_folder("/tmp/.n")
        await handle.upload({{"/tmp/.n/a": b"echo 1"}})
        await handle.create_session("n")
        command = await handle.start_command("n", "sh /tmp/.n/a")
        await handle.follow("n", command, print, print)
        await handle.exit_code("n", command)
        await handle.delete()
asyncio.run(main())
"""


def start() -> list[Row]:
    """(a) What a user waits for --help and for a usage error."""
    variables = environment("http://127.0.0.1:9")
    programs: dict[str, Callable[[], Cost]] = {
        "python3 -c pass": lambda: cost_of([python(), "-c", "pass"], variables),
        "--help": lambda: cost_of([python(), RUN, "--help"], variables),
        "a usage error": lambda: cost_of([python(), RUN, "--timeout", "x"], variables),
    }
    found = interleaved(programs, ROUNDS)
    reference = [cost.wall * 1000 for cost in found["python3 -c pass"]]
    return [
        row(
            name,
            [cost.wall * 1000 for cost in costs],
            "ms",
            reference=reference,
            target="must 2.5x, aim 2x",
        )
        for name, costs in found.items()
    ]


def plain_run() -> list[Row]:
    """(b, c) A plain run against an instant server, and against local Daytona."""
    with running_instant() as instant:
        rows = [
            Row("against an instant server", 0, ""),
            *compared(environment(instant.url), instant),
        ]
    with running_server(new_state_dir()) as server:
        variables = environment(server.url, server.api_key)
        return [
            *rows,
            Row("against local Daytona", 0, ""),
            *compared(variables, None),
            row("exit after the last statement", exits(variables), "ms", target="must 50"),
        ]


def compared(variables: Mapping[str, str], instant: Instant | None) -> list[Row]:
    """A run by script, by the smallest program with the SDK, by our `sdk` package, by raw HTTP."""
    commands = {
        NAIVE_NAME: [python(), "-c", NAIVE],
        "run_in_sandbox.py --code": [python(), RUN, "--code", "print(1)"],
        "run_in_sandbox.py --command": [python(), RUN, "--command", "echo 1"],
        "its requests without the script": [python(), "-c", FLOOR],
        "raw HTTP": [python(), "-c", RAW],
    }
    found = interleaved(
        {
            name: functools.partial(cost_of, command, variables)
            for name, command in commands.items()
        },
        ROUNDS,
    )
    reference = found[NAIVE_NAME]
    rows = []
    for name, costs in found.items():
        cpu, wall = [cost.cpu * 1000 for cost in costs], [cost.wall * 1000 for cost in costs]
        rows += [
            row(
                f"{name}: CPU",
                cpu,
                "ms",
                reference=[cost.cpu * 1000 for cost in reference],
                target="must 0.80x, aim 0.35x",
            ),
            row(f"{name}: wall", wall, "ms", reference=[cost.wall * 1000 for cost in reference]),
            row(
                f"{name}: peak memory",
                [cost.memory for cost in costs],
                "MB",
                reference=[cost.memory for cost in reference],
            ),
        ]
        if instant is not None:
            rows.append(
                Row(f"{name}: requests", requests_of(commands[name], variables, instant), "")
            )
    return rows


def requests_of(command: list[str], variables: Mapping[str, str], instant: Instant) -> int:
    before = len(instant.received)
    cost_of(command, variables)
    return len(instant.received) - before


def exits(variables: Mapping[str, str]) -> list[float]:
    """From the end of the entry point's main to the end of the process, in ms."""
    program = (
        f"import sys, time; sys.path.insert(0, {str(SCRIPTS)!r}); from sandbox_kit import entry;"
        "entry.run_in_sandbox(['--quiet', '--command', 'true']); print(time.time(), flush=True)"
    )
    found = []
    for _ in range(ROUNDS):
        process = subprocess.run(
            [python(), "-c", program],
            env=dict(variables),
            capture_output=True,
            text=True,
            check=True,
        )
        found.append((time.time() - float(process.stdout)) * 1000)
    return found


def steps() -> list[Row]:
    """(e) Many commands in one run, against an instant server."""
    with running_instant() as instant:
        variables = environment(instant.url)

        def run(number: int) -> Callable[[], Cost]:
            words = [word for _ in range(number) for word in ("--command", "true")]
            return lambda: cost_of([python(), RUN, *words], variables)

        found = interleaved({str(number): run(number) for number in (1, 10, 50)}, 5)
    walls = {
        name: sorted(cost.wall for cost in costs)[len(costs) // 2] * 1000
        for name, costs in found.items()
    }
    rows = [
        row(f"{name} steps: wall", [cost.wall * 1000 for cost in costs], "ms")
        for name, costs in found.items()
    ]
    return [
        *rows,
        Row("each further step", (walls["50"] - walls["1"]) / 49, "ms", target="must 30"),
    ]


def account() -> list[Row]:
    """(i) The healthcheck's requests, whatever the account holds."""
    rows = []
    with running_instant() as instant:
        for number in (1, 10_000):
            instant.sandboxes = number
            before = len(instant.requests)
            subprocess.run(
                [python(), str(SCRIPTS / "healthcheck.py")],
                env=environment(instant.url),
                capture_output=True,
                check=True,
            )
            rows.append(
                Row(
                    f"requests with {number:,} sandboxes in the account",
                    len(instant.requests) - before,
                    "",
                    target="the same",
                )
            )
    return rows
