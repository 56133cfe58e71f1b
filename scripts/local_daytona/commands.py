"""The command line of local Daytona: one function a command.

stdout is JSON or shell lines, stderr is for people.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import skill_env

from . import lifecycle
from .errors import EngineUnavailable, LifecycleError, StateTaken
from .lifecycle import ServerFile

OK, FAILED = 0, 1
UMASK = 0o022  # files of sandboxes are their user's to read, whoever started the server


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return int(COMMANDS[arguments.command](arguments))
    except (LifecycleError, EngineUnavailable) as error:
        complain(str(error), error.fix)
        lost_a_race = arguments.command == "serve" and isinstance(error, StateTaken)
        return lifecycle.ALREADY_RUNNING if lost_a_race else FAILED
    except OSError as error:
        what = f"{error.filename or 'local Daytona'}: {error.strerror or error}"
        complain(what, "give --state-dir a folder that you may write")
        return FAILED


def complain(message: str, fix: str) -> None:
    print(f"{' '.join(message.split())}\nfix: {fix}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="local_daytona",
        description="Daytona's API on loopback, over Linux isolation.",
        allow_abbrev=False,
    )
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in HELP.items():
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument(
            "--state-dir",
            type=Path,
            default=skill_env.local_state_dir(),
            help="where it keeps everything (default: %(default)s)",
        )
        if name == "serve":
            add_serve_options(command)
        if name in ("serve", "start"):
            add_image_option(command)
    return top


def add_serve_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--port", type=int, default=0, help="a fixed port (default: any free one)")
    add(
        "--allow-range",
        type=allow_range,
        action="append",
        default=[],
        metavar="CIDR",
        help="a private network that sandboxes may reach after all; repeatable",
    )
    add("--minute", type=float, default=60.0, help="seconds in a minute of its timers, for tests")


def add_image_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="NAME",
        help="an image name that means this machine's own system (FROM NAME in a build),"
        " or '*' for every one; repeatable",
    )


def allow_range(text: str) -> Any:
    from .egress.policy import parse_range

    try:
        return parse_range(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def serve(arguments: argparse.Namespace) -> int:
    from .server import Settings, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    os.umask(UMASK)
    state = arguments.state_dir.resolve()
    with lifecycle.locked(state):
        settings = Settings(
            state,
            skill_env.server_version(),
            port=arguments.port,
            minute=arguments.minute,
            allow_ranges=tuple(arguments.allow_range),
            images=tuple(arguments.image),
        )
        asyncio.run(serve(settings))
    return OK


def start(arguments: argparse.Namespace) -> int:
    state = arguments.state_dir.resolve()
    refuse_other_images(state, arguments.image)
    images = [word for name in arguments.image for word in ("--image", name)]
    command = lifecycle.this_command("serve", "--state-dir", str(state), *images)
    server = lifecycle.start(state, version=skill_env.server_version(), serve=command)
    show({"url": server.url, "pid": server.pid, "version": server.version, "state_dir": str(state)})
    return OK


def refuse_other_images(state: Path, images: Sequence[str]) -> None:
    """Raises LifecycleError: a server that runs keeps the names that it was started with."""
    running = lifecycle.status_of(state) if images else None
    if running is not None and not set(images) <= set(running.get("images", ())):
        words = shlex.join(word for name in images for word in ("--image", name))
        raise LifecycleError(
            "local Daytona is running, and --image counts when it starts",
            fix=f"{lifecycle.typed('stop')} && {lifecycle.typed('start')} {words}",
        )


def stop(arguments: argparse.Namespace) -> int:
    state = arguments.state_dir.resolve()
    stopped = lifecycle.stop(state)
    show({"stopped": stopped, "state_dir": str(state)})
    return OK


def status(arguments: argparse.Namespace) -> int:
    state = arguments.state_dir.resolve()
    running = lifecycle.status_of(state)
    show(running if running is not None else not_running(state))
    return OK


def not_running(state: Path) -> dict[str, Any]:
    """What `start` would find: the engine is tried on the state folder.

    When it does not work, `engine` says why.
    """
    from .engine import Engine

    try:
        with lifecycle.locked(state):
            engine = asyncio.run(Engine.open(state)).describe()
    except EngineUnavailable as error:
        engine = {"error": " ".join(str(error).split()), "fix": error.fix}
    return {
        "running": False,
        "url": None,
        "pid": None,
        "version": skill_env.server_version(),
        "engine": engine,
        "sandboxes": [],
    }


def env(arguments: argparse.Namespace) -> int:
    state = arguments.state_dir.resolve()
    server = ServerFile.read(state)
    if server is None or lifecycle.status_of(state) is None:
        raise LifecycleError("local Daytona is not running", fix=lifecycle.typed("start"))
    for name in ("DAYTONA_API_URL", "DAYTONA_V0_API_URL"):  # the second is what SDK 2.x asks
        print(f"export {name}={shlex.quote(server.url + '/api')}")
    print(f"export DAYTONA_API_KEY={shlex.quote(server.api_key)}")
    direct = ["127.0.0.1", "localhost", *os.environ.get("NO_PROXY", "").split(",")]
    print(f"export NO_PROXY={shlex.quote(','.join(filter(None, dict.fromkeys(direct))))}")
    return OK


def show(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2))


HELP = {
    "serve": "run in the foreground until interrupted",
    "start": "leave a healthy server running in the background",
    "stop": "end it; kept sandboxes stay, stopped, with their files",
    "status": "what runs and what it can do",
    "env": "shell lines that point the Daytona SDK at it",
}
COMMANDS = {"serve": serve, "start": start, "stop": stop, "status": status, "env": env}
