"""What a script of this skill may import: the interpreter's own packages and the skill's.

A project may export PYTHONPATH=src, and whoever wrote src would choose our `aiohttp` for us.
`python3 -I` keeps all of that away, and is what the pages type; without it the entry scripts call
this before their first import of anything that Python has not loaded itself. So nothing is imported
here but sys and os.
"""

import os
import sys

TYPE_CHECKING = False  # as typing has it
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def own_path(
    path: "Iterable[str]",
    environ: "Mapping[str, str]",
    prefixes: "Iterable[str]",
    user_site: "str | None",
) -> "list[str]":
    """The entries of an import path that lie in the interpreter's own prefixes.

    PYTHONPATH's and the user's site are left out.
    """
    given = environ.get("PYTHONPATH")
    # An empty one is the working directory.
    named = {os.path.abspath(entry) for entry in given.split(os.pathsep)} if given else set()
    homes = [os.path.join(os.path.abspath(prefix), "") for prefix in prefixes]
    site = os.path.abspath(user_site) if user_site else None
    return [
        entry
        for entry in path
        if os.path.isabs(entry)
        and os.path.abspath(entry) not in named | {site}
        and any(os.path.abspath(entry).startswith(home) for home in homes)
    ]


def isolate(script: str) -> None:
    """Import from this interpreter and from the folder of `script`, and from nowhere else."""
    sys.pycache_prefix = None  # a relative one would be looked for in the working directory
    site = sys.modules.get("site")
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    sys.path[:] = [
        os.path.dirname(os.path.realpath(script)),
        *own_path(sys.path, os.environ, prefixes, getattr(site, "USER_SITE", None)),
    ]
