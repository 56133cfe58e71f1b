"""A program's output on its way to the user: the speed of much of it, the delay of one line."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping

from tests.local_server import new_state_dir, running_server

from .measure import RUN, Row, cost_of, environment, python, row


def output() -> list[Row]:
    """(h) 100 MB of output through a run, and how soon a line appears."""
    with running_server(new_state_dir()) as server:
        variables = environment(server.url, server.api_key)
        nothing = cost_of([python(), RUN, "--command", "true"], variables)
        cost = cost_of(
            [
                python(),
                RUN,
                "--max-output",
                "0",
                "--command",
                "yes 0123456789012345678901234567890123456789 | head -c 100M",
            ],
            variables,
        )
        cut = cost_of(
            [
                python(),
                RUN,
                "--command",
                "yes 0123456789012345678901234567890123456789 | head -c 100M",
            ],
            variables,
        )
        delay = line_delay(variables)
    return [
        Row("100 MB, all of it", 100 / (cost.wall - nothing.wall), "MB/s"),
        Row("100 MB, all: memory beyond an empty run", cost.memory - nothing.memory, "MB"),
        Row("100 MB, head and tail", 100 / (cut.wall - nothing.wall), "MB/s"),
        Row("100 MB, head and tail: memory", cut.memory - nothing.memory, "MB"),
        row("from a line's print to its appearance", delay, "ms"),
    ]


def line_delay(variables: Mapping[str, str]) -> list[float]:
    """The sandbox's clock is this machine's."""
    code = (
        "import time\nfor _ in range(20):\n    print(time.time(), flush=True)\n    time.sleep(0.05)"
    )
    process = subprocess.Popen(
        [python(), RUN, "--code", code],
        env=dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    found = [(time.time() - float(line)) * 1000 for line in process.stdout]
    process.wait()
    return found
