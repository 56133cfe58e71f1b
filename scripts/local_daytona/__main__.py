"""Local Daytona: python3 scripts/local_daytona serve|start|stop|status|env

serve   run in the foreground until interrupted
start   leave a healthy server running in the background; prints where, as JSON
stop    end it; kept sandboxes stay, stopped, with their files
status  what runs and what it can do, as JSON
env     shell lines that point the Daytona SDK at it (the one command that prints a key: its own)
"""

import os
import sys

SCRIPTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
# `python3 scripts/local_daytona` puts the package itself first, where no relative import works.
sys.path[0] = SCRIPTS

from skill_imports import isolate  # noqa: E402  (beside this package)

isolate(os.path.join(SCRIPTS, "skill_imports.py"))

# What the standard library is enough for: a server of another environment can always be ended.
WITHOUT_PACKAGES = ("stop", "env")
NOT_LINUX_FIX = "use Daytona's cloud (export DAYTONA_API_KEY=...), or a Linux virtual machine"

import skill_env  # noqa: E402  (beside this package)


def run() -> int:
    """Enter the skill's environment, then hand over to the commands."""
    if not sys.platform.startswith("linux"):
        print(
            f"local Daytona needs Linux: its isolation is made of namespaces\nfix: {NOT_LINUX_FIX}",
            file=sys.stderr,
        )
        return 1
    try:
        skill_env.enter(extra=skill_env.LOCAL_ENGINE)
    except skill_env.NotInstalled as missing:
        if sys.version_info < skill_env.OLDEST_PYTHON or not set(WITHOUT_PACKAGES) & set(
            sys.argv[1:2]
        ):
            print(f"{missing}\nfix: {missing.fix}", file=sys.stderr)
            return 125
    from local_daytona.commands import main

    return main()


if __name__ == "__main__":
    raise SystemExit(run())
