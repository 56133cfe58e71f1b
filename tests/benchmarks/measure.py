"""What a program costs, measured again and again: wall and CPU seconds, peak memory.

Programs that are compared run in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.local_server import SCRIPTS

RUN = str(SCRIPTS / "run_in_sandbox.py")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of CPU, MB of peak memory."""

    wall: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Row:
    """One line of the report.

    `spread` is half the distance between the quartiles, `ratio` to the same run's reference.
    """

    name: str
    value: float
    unit: str
    spread: float = 0.0
    ratio: float | None = None
    target: str = ""


def cost_of(command: Sequence[str], environment: Mapping[str, str], cwd: str | None = None) -> Cost:
    """Of one run; raises RuntimeError with its stderr when it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    complaints = process.stderr.read()
    process.stderr.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode not in (0, 2):
        raise RuntimeError(f"{command[:3]}: {process.returncode}: {complaints[-500:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def interleaved(programs: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, list[Cost]]:
    """Each program once a round, so that a noisy neighbour meets all; the first one is dropped."""
    found: dict[str, list[Cost]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, run in programs.items():
            cost = run()
            if number:
                found[name].append(cost)
    return found


def row(
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    reference: Sequence[float] | None = None,
    target: str = "",
) -> Row:
    """The median, and the median of the ratios pair by pair."""
    ratio = (
        statistics.median(a / b for a, b in zip(values, reference, strict=True))
        if reference
        else None
    )
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return Row(
        name, statistics.median(values), unit, (quartiles[2] - quartiles[0]) / 2, ratio, target
    )


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def memory_of(pid: int) -> float:
    """MB of a process's own and shared pages, each shared one divided by its users."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def report(title: str, rows: Sequence[Row]) -> None:
    print(f"\n{title}")
    for found in rows:
        ratio = "" if found.ratio is None else f"{found.ratio:8.2f}x"
        print(
            (
                f"  {found.name:58} {found.value:10.2f} {found.unit:5} ±{found.spread:7.2f} "
                f"{ratio:9} {found.target}"
            ),
            flush=True,
        )


def as_json(rows: Mapping[str, Sequence[Row]]) -> str:
    return json.dumps(
        {title: [vars(found) for found in part] for title, part in rows.items()}, indent=1
    )


def environment(url: str, key: str = "benchmark-key") -> dict[str, str]:
    # Compiled modules are kept, as on a user's machine: the warm-up round writes them.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DAYTONA_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {
        **kept,
        "DAYTONA_API_URL": f"{url}/api",
        "DAYTONA_API_KEY": key,
        "NO_PROXY": "127.0.0.1",
    }


def in_ms(action: Callable[[], object], times: int) -> list[float]:
    return [timed(action) * 1000 for _ in range(times)]


def python() -> str:
    return sys.executable
