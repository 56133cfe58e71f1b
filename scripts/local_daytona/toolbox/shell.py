"""The shell that commands run in."""

from __future__ import annotations

import os

SHELLS = ("/usr/bin/zsh", "/bin/bash", "/bin/sh")  # the daemon's order


def shell() -> str:
    """The first of the daemon's shells that this host has; /usr is the sandbox's too."""
    return next((path for path in SHELLS if os.path.exists(path)), SHELLS[-1])
