#!/usr/bin/env python3
"""Find and delete the sandboxes that this skill made. See --help."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sandbox_kit.entry import sandboxes as main

if __name__ == "__main__":
    raise SystemExit(main())
