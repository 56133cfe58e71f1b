"""A program: the real server with a resolver and a dialler whose outside world is this machine.

The filter is the real one. Arguments: the state folder, a JSON object of names to lists of answers,
each a list of addresses, of which the last repeats; then the ranges that are opened. It notes on
stderr what it resolved and dialled. OUTSIDE_PORTS, a JSON object, says which port of this machine
stands for which; NO_TRANSPARENT makes it a host that does not let connections be caught.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ipaddress
import json
import logging
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from local_daytona import lifecycle
from local_daytona.egress.policy import Address, parse_range
from local_daytona.egress.upstream import Upstream, dial
from local_daytona.isolation.helper import Helper
from local_daytona.server import Settings, serve

HERE = ipaddress.ip_address("127.0.0.1")


def main(state: Path, answers: dict[str, list[list[str]]], ranges: list[str]) -> None:
    async def resolve(name: str) -> list[Address]:
        print(f"resolved {name}", file=sys.stderr, flush=True)
        if name not in answers:
            raise OSError("no such name")
        known = answers[name]
        return [
            ipaddress.ip_address(text) for text in (known.pop(0) if len(known) > 1 else known[0])
        ]

    ports = json.loads(os.environ.get("OUTSIDE_PORTS", "{}"))

    async def dial_here(address: Address, port: int) -> socket.socket:
        print(f"dialled {address}", file=sys.stderr, flush=True)
        return await dial(HERE, ports.get(str(port), port))

    def not_here(*_: object) -> list[socket.socket]:
        raise PermissionError(1, "not on this host")

    if "NO_TRANSPARENT" in os.environ:
        for name in ("catch", "connect"):
            setattr(Helper, name, not_here)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    upstream = dataclasses.replace(
        Upstream.of_this_host(os.environ, tuple(map(parse_range, ranges))),
        resolve=resolve,
        dial=dial_here,
    )
    with lifecycle.locked(state):
        asyncio.run(serve(Settings(state, "test"), upstream))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])
