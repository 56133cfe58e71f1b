#!/usr/bin/env python3
"""Create a sandbox, run one command or piece of code in it, delete it. See --help."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sandbox_kit.entry import run_in_sandbox as main

if __name__ == "__main__":
    raise SystemExit(main())
