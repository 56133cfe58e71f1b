"""HTTP of the toolbox, prefix /toolbox/{id}: which path is which operation of which sandbox."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

from aiohttp import web

from ..http_json import answer
from ..isolation.host_etc import HOME
from . import files, process
from .git import routes as git
from .interpreter import routes as interpreter
from .pty import routes as pty
from .sessions import routes as sessions
from .toolbox import Toolbox, inside

OpenToolbox = Callable[[str], contextlib.AbstractAsyncContextManager[Toolbox]]
Json = dict[str, object]
Operation = Callable[[Toolbox, web.Request], Awaitable[web.StreamResponse]]


def routes(open_toolbox: OpenToolbox) -> list[web.RouteDef]:
    """The served part of the toolbox API; `open_toolbox` finds one by its sandbox's id or name."""

    def on(method: str, path: str, operation: Operation) -> web.RouteDef:
        async def handler(request: web.Request) -> web.StreamResponse:
            async with open_toolbox(request.match_info["id"]) as toolbox, inside(path):
                return await operation(toolbox, request)

        return web.route(method, "/toolbox/{id}" + path, handler)

    return [on(method, path, operation) for method, path, operation in TABLE]


async def work_dir(toolbox: Toolbox, _request: web.Request) -> web.Response:
    return answer({"dir": toolbox.work_dir})


async def home_dir(_toolbox: Toolbox, _request: web.Request) -> web.Response:
    return answer({"dir": HOME})


PTY = "/process/pty/{terminal}"
SESSION = "/process/session/{session}"
TABLE: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/work-dir", work_dir),
    ("GET", "/project-dir", work_dir),
    ("GET", "/user-home-dir", home_dir),
    ("POST", "/process/execute", process.execute),
    ("POST", "/process/code-run", process.code_run),
    ("GET", "/process/interpreter/execute", interpreter.execute),
    ("POST", "/process/interpreter/context", interpreter.create_context),
    ("GET", "/process/interpreter/context", interpreter.list_contexts),
    ("DELETE", "/process/interpreter/context/{context}", interpreter.delete_context),
    ("POST", "/process/pty", pty.create),
    ("GET", "/process/pty", pty.list_all),
    ("GET", "/process/pty/create-connect", pty.create_connect),
    ("GET", PTY, pty.get),
    ("DELETE", PTY, pty.kill),
    ("GET", PTY + "/connect", pty.connect),
    ("POST", PTY + "/resize", pty.resize),
    ("GET", "/process/session/entrypoint", sessions.entrypoint),
    ("GET", "/process/session/entrypoint/logs", sessions.entrypoint_logs),
    ("POST", "/process/session", sessions.create),
    ("GET", "/process/session", sessions.list_all),
    ("GET", SESSION, sessions.get),
    ("DELETE", SESSION, sessions.delete),
    ("POST", SESSION + "/exec", sessions.execute),
    ("GET", SESSION + "/command/{command}", sessions.get_command),
    ("POST", SESSION + "/command/{command}/input", sessions.send_input),
    ("GET", SESSION + "/command/{command}/logs", sessions.command_logs),
    ("POST", "/files/bulk-upload", files.upload),
    ("POST", "/files/bulk-download", files.download),
    ("GET", "/files", files.list_folder),
    ("GET", "/files/", files.list_folder),
    ("GET", "/files/info", files.info),
    ("POST", "/files/folder", files.make_folder),
    ("DELETE", "/files", files.delete),
    ("GET", "/files/find", files.find),
    ("GET", "/files/search", files.search),
    ("POST", "/files/replace", files.replace),
    ("POST", "/files/move", files.move),
    ("POST", "/files/permissions", files.permissions),
    ("GET", "/files/download", files.download_one),
    ("POST", "/files/upload", files.upload_one),
    ("POST", "/files/upload-v2", files.upload_one),
    *git.TABLE,
)
