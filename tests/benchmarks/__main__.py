"""python3 -m tests.benchmarks [PART ...] [--json FILE]: each figure against its reference in the same run. Run it in the clone's .venv.

Parts: start, run, engine, steps, fanout, transfer, output, account.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .engine import engine
from .fanout import fanout
from .measure import as_json, report
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
