"""The application of preview_app.py, started in a sandbox."""

from __future__ import annotations

from pathlib import Path

from tests.local_server import LocalServer, until

APP = Path(__file__).with_name("preview_app.py")
PORT = 8000


def start_app(server: LocalServer, sandbox_id: str, port: int = PORT) -> None:
    """The application of preview_app.py in a session, listening."""
    program = server.request(
        "POST", f"/toolbox/{sandbox_id}/process/session", body={"sessionId": f"app-{port}"}
    )
    assert program.status == 201, program.body
    command = f"cat > /tmp/app.py <<'END'\n{APP.read_text()}\nEND\npython3 -u /tmp/app.py {port}"
    path = f"/toolbox/{sandbox_id}/process/session/app-{port}/exec"
    assert server.request("POST", path, body={"command": command, "runAsync": True}).status == 202
    wait_until_it_listens(server, sandbox_id, port)


def wait_until_it_listens(server: LocalServer, sandbox_id: str, port: int) -> None:
    look = f"cat /proc/net/tcp /proc/net/tcp6 | grep -c ':{port:04X} [0-9A-F]*:0000 0A'"
    until(lambda: server.exec(sandbox_id, look)["exitCode"] == 0)
