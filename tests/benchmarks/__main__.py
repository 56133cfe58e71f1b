"""python3 -m tests.benchmarks [PART ...] [--json FILE]: each figure beside its reference.

Both are measured in the same run. Start it with the clone's .venv.

Parts: start, run, engine, steps, fanout, transfer, output, account.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from .measure import as_json, report
from .parts import PARTS, rows_of


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    target = Path(words.pop(words.index("--json") + 1)) if "--json" in words else None
    chosen = [word for word in words if word in PARTS] or list(PARTS)
    found = {}
    for name in chosen:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found[name] = alone.submit(rows_of, name).result()
        report(f"{name}: {PARTS[name].__doc__}", found[name])
    if target is not None:
        target.write_text(as_json(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
