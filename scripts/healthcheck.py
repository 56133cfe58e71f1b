#!/usr/bin/env python3
"""Can I use Daytona here, by which path, and what to fix. See --help."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sandbox_kit.entry import healthcheck as main

if __name__ == "__main__":
    raise SystemExit(main())
