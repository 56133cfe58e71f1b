"""Blocks that are not run, each with its reason. A name that no page has fails, so the list cannot rot."""

from __future__ import annotations

# Emptied by issue C, which brings the rest of Daytona's API to local Daytona. Their names and keywords are type-checked all the same.
WAITS_FOR_ISSUE_C: dict[str, str] = {
    "reference/exec.md#calls-2": "interpreter contexts",
    "reference/files.md#change-1": "replace, move, search, find, permissions",
    "reference/files.md#git-1": "git, and a way out for it",
    "reference/files.md#volumes-1": "volumes",
    "reference/preview.md#serve-1": "signed links",
    "reference/preview.md#egress-1": "network settings at runtime",
    "reference/sandboxes.md#snapshots-1": "a snapshot from a sandbox",
    "examples/clone-and-test.md#does-this-repositorys-test-suite-pass-1": "git and a way out for it and for pip",
    "examples/serve-preview.md#start-the-dev-server-and-give-me-a-link-1": "signed links",
    "examples/serve-preview.md#start-the-dev-server-and-give-me-a-link-2": "deletes what the block before it keeps",
    "examples/plot-data.md#plot-this-data-1": "charts of code_run",
}

# Needs a tool or an account that the suite does not have; checked in another way, which the reason names.
ANOTHER_MACHINE: dict[str, str] = {
    "README.md#daytona-sandbox-1": "installs from the package index: run whole by tests/external/test_install.py, as root and as an ordinary user",
    "README.md#daytona-sandbox-2": "this very suite; run by .ci/run",
    "reference/sdk-vs-mcp.md#cli-1": "the daytona CLI and an account; its commands and flags are checked against tests/docs/daytona_cli.py",
}
