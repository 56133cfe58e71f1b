"""Many sandboxes from one process, by the fan-out example as it stands in examples/."""

from __future__ import annotations

import contextlib
import functools
import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.local_server import SCRIPTS

from .instant import running_instant
from .measure import RUN, Cost, Row, cost_of, environment, interleaved, python, row

NUMBERS = (1, 10, 50, 100)
ROUNDS = 5


def fanout() -> list[Row]:
    """1, 10, 50, 100 sandboxes at once over TLS, on an instant server: the example, and --each."""
    with (
        tempfile.TemporaryDirectory() as folder,
        certificate(Path(folder)) as (context, bundle),
        running_instant(tls=context) as instant,
    ):
        variables = {**environment(instant.url), "SSL_CERT_FILE": bundle}
        programs = {
            f"{name}, {number}": functools.partial(program, number, variables)
            for name, program in (("the example", example), ("--each", by_each))
            for number in NUMBERS
        }
        found = interleaved(programs, ROUNDS)
    rows = []
    for name in ("the example", "--each"):
        one = found[f"{name}, 1"]
        for number in NUMBERS:
            rows += further(f"{name}, {number}", number, found[f"{name}, {number}"], one)
    return rows


def further(name: str, number: int, costs: Sequence[Cost], one: Sequence[Cost]) -> list[Row]:
    """What so many cost, and each beyond the first."""
    walls = [cost.wall * 1000 for cost in costs]
    rows = [row(f"{name} at once: wall of the whole", walls, "ms")]
    if number == 1:
        return rows
    pairs = list(zip(costs, one, strict=True))
    cpu = [(cost.cpu - first.cpu) * 1000 / (number - 1) for cost, first in pairs]
    memory = [(cost.memory - first.memory) / (number - 1) for cost, first in pairs]
    return [
        *rows,
        row(f"{name} at once: CPU of each further", cpu, "ms", target="must 15, aim 5"),
        row(f"{name} at once: memory of each further", memory, "MB", target="must 1, aim 0.7"),
    ]


def by_each(number: int, variables: dict[str, str]) -> Cost:
    values = [word for value in range(number) for word in ("--each", str(value))]
    command = [python(), RUN, "--quiet", "--jobs", "50", *values, "--command", "true"]
    return cost_of(command, variables)


def example(number: int, variables: dict[str, str]) -> Cost:
    text = (SCRIPTS.parent / "examples" / "fan-out.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    inputs = ", ".join(f'"{value}"' for value in range(number))
    program = re.sub(
        r"INPUTS = .*",
        f"INPUTS = [{inputs}]",
        re.sub(r"AT_ONCE = .*", f"AT_ONCE = {number}", found[1]),
    )
    return cost_of([python(), "-c", program], variables)


@contextlib.contextmanager
def certificate(folder: Path) -> Iterator[tuple[ssl.SSLContext, str]]:
    """A server's context for 127.0.0.1, and this machine's bundle with its certificate.

    The whole bundle, because parsing it is part of what TLS costs.
    """
    key, own = folder / "key.pem", folder / "own.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            key,
            "-out",
            own,
            *subject,
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    system = ssl.get_default_verify_paths().cafile
    bundle = folder / "bundle.pem"
    bundle.write_bytes((Path(system).read_bytes() if system else b"") + own.read_bytes())
    yield context, str(bundle)
