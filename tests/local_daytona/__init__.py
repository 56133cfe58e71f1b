"""The server: scripts/local_daytona, through the real SDK, raw HTTP and its own functions."""
