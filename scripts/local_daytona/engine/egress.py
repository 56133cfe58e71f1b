"""What a sandbox may reach: today nothing but its own loopback; it has no interface and no route beyond."""

from __future__ import annotations

MODE = "off"  # what `status` reports
