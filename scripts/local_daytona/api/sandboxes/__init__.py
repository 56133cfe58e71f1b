"""Sandboxes: their records, what runs of them, their states and timers."""
