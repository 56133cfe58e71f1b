"""Blocks that are not run, each with its reason.

A name that no page has fails, so the list cannot rot.
"""

from __future__ import annotations

# Needs a tool or an account that the suite does not have; the reason names what checks it instead.
ANOTHER_MACHINE: dict[str, str] = {
    "README.md#daytona-sandbox-1": (
        "installs from the package index: run whole by tests/external/test_install.py, "
        "as root and as an ordinary user"
    ),
    "README.md#daytona-sandbox-3": "this very suite; run by .ci/run",
    "reference/sdk-vs-mcp.md#cli-1": (
        "the daytona CLI and an account; its commands and flags are checked against "
        "tests/docs/daytona_cli.py"
    ),
}
