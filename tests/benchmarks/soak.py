"""Create, use and delete many sandboxes, and show what the server holds at each quarter.

Resident memory rises in the first thousands, by what the allocator keeps; growth would go on.

python3 -m tests.benchmarks.soak [--sandboxes 4000] [--at-once 100]
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import statistics
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.local_server import LocalServer, host_processes_of, new_state_dir, running_server, until

WARM_UP, QUARTERS = 10, 4
SETTLE_S = 3.0


def holdings(server: LocalServer) -> dict[str, int]:
    """Descriptors, threads, resident KiB, processes of sandboxes, KiB on disk.

    Without SQLite's write-ahead log, which goes up and down to 4 MiB.
    """
    status = Path(f"/proc/{server.pid}/status").read_text()
    disk = subprocess.run(
        ["du", "-sk", "--exclude=local.sqlite-wal", str(server.state_dir)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return {
        "descriptors": len(os.listdir(f"/proc/{server.pid}/fd")),
        "threads": int(status.partition("Threads:")[2].split()[0]),
        "resident_kib": int(status.partition("VmRSS:")[2].split()[0]),
        "processes": len(host_processes_of(server.state_dir)),
        "disk_kib": int(disk.split()[0]),
    }


def use(server: LocalServer, together: threading.Barrier | None = None) -> float:
    """One sandbox's life; how many seconds its creation took."""
    begun = time.monotonic()
    sandbox_id = server.create()["id"]
    took = time.monotonic() - begun
    if together is not None:
        together.wait()
    said = server.exec(sandbox_id, "echo used > /home/daytona/x; cat /home/daytona/x")["result"]
    assert said == "used\n"
    assert server.request("DELETE", f"/api/sandbox/{sandbox_id}").status == 200
    return took


def settled(server: LocalServer) -> dict[str, int]:
    until(lambda: not list((server.state_dir / "trash").iterdir()), seconds=120)
    time.sleep(SETTLE_S)
    gc.collect()
    return holdings(server)


def soak(
    server: LocalServer, sandboxes: int, at_once: int
) -> tuple[list[dict[str, int]], list[float]]:
    """What is held at first and after each quarter, and the seconds that each creation took.

    `at_once` sandboxes live at the same time.
    """
    rounds = max(QUARTERS, sandboxes // at_once)
    took: list[float] = []
    with ThreadPoolExecutor(at_once) as clients:
        list(clients.map(lambda _: use(server), range(max(WARM_UP, at_once))))
        held = [settled(server)]
        for done in range(1, rounds + 1):
            together = threading.Barrier(at_once)
            took += clients.map(functools.partial(use, together=together), [server] * at_once)
            if done * QUARTERS // rounds > (done - 1) * QUARTERS // rounds:
                held.append(settled(server))
    return held, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandboxes", type=int, default=4000)
    parser.add_argument("--at-once", type=int, default=100)
    arguments = parser.parse_args()
    with running_server(new_state_dir()) as server:
        begun = time.monotonic()
        held, took = soak(server, arguments.sandboxes, arguments.at_once)
        print(
            f"{len(took)} sandboxes, {arguments.at_once} at once, "
            f"{time.monotonic() - begun:.0f} s in all"
        )
    print(
        f"create: median {statistics.median(took) * 1000:.0f} ms, slowest {max(took) * 1000:.0f} ms"
    )
    for name in held[0]:
        print(f"{name:>14}: " + " -> ".join(str(quarter[name]) for quarter in held))


if __name__ == "__main__":
    main()
