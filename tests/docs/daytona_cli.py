"""The `daytona` CLI as of 0.205: each command with the flags it takes; the pages are checked by it.

Source: the CLI's own public sources and its online reference, read in November 2026.
"""

from __future__ import annotations

EVERY = ("--help", "-h")
COMMANDS: dict[str, tuple[str, ...]] = {
    "archive": (),
    "create": tuple(
        """
        --name --snapshot --target --cpu --memory --disk --gpu -e --env -l --label -v
        --volume -f --dockerfile -c --context --public --user --auto-stop
        --auto-archive --auto-delete --auto-pause --ttl --network-block-all
        --network-allow-list
    """.split()
    ),
    "delete": ("--all",),
    "docs": (),
    "exec": ("--cwd", "--timeout"),
    "info": ("-f", "--format"),
    "list": ("-f", "--format", "-l", "--limit", "-c", "--cursor"),
    "login": ("--api-key",),
    "logout": (),
    "mcp config": (),
    "mcp init": (),
    "mcp start": (),
    "pause": (),
    "preview-url": ("-p", "--port", "--expires"),
    "snapshot activate": (),
    "snapshot create": (),
    "snapshot delete": (),
    "snapshot list": (),
    "snapshot push": (),
    "ssh": ("--expires",),
    "start": (),
    "stop": ("-f", "--force"),
    "version": (),
    "volume create": (),
    "volume delete": (),
    "volume get": (),
    "volume list": (),
}
