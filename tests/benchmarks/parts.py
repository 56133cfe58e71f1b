"""The parts of a report by name; apart from `__main__`, so that a process of its own can find them."""

from __future__ import annotations

from .engine import engine
from .fanout import fanout
from .measure import Row
from .output import output
from .scripts import account, plain_run, start, steps
from .transfer import transfer

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


def rows_of(name: str) -> list[Row]:
    """In a process of its own: what one part imported would count as the peak memory of every program that the next one starts."""
    return list(PARTS[name]())
