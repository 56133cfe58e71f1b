"""A preview's link leads to this run's server, which lives; its first answer is told."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandbox_kit.host_checks import find_host_check
from sandbox_kit.preview import page_script, read_status
from tests.local_server import LocalServer

from .script_runner import Script

PAGES = "python3 -m http.server 8000 -d"
LINK = "https://8000-abc.proxy.daytona.test/?x=1"
# Refuses every host but localhost, with the body that it is given.
PICKY = """\
import http.server, sys
class Picky(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        local = self.headers["Host"].startswith("localhost")
        code, body = (200, "welcome") if local else ({status}, {body!r})
        if {next_dev} and self.path.startswith("/_next/"):
            code, body = (403, "Unauthorized") if self.headers["Origin"] else (404, "no")
        self.send_response(code); self.send_header("X-Powered-By", {powered!r}); self.end_headers()
        self.wfile.write(body.encode())
http.server.HTTPServer(("", 8000), Picky).serve_forever()
"""


@pytest.fixture
def named(server: LocalServer) -> Iterator[str]:
    """A name for a sandbox, which is deleted afterwards."""
    yield "shown"
    server.request("DELETE", "/api/sandbox/shown")


def serve(run: Script, name: str, command: str, *more: str) -> tuple[int, dict[str, object], str]:
    words = ("--serve", command, "--preview", "8000", "--json", *more)
    result = run("--local", "--name", name, *words)
    return result.code, result.json(), result.stderr


def test_another_runs_server_on_the_port_is_no_preview(
    run: Script, named: str, scripts_environment: Path
) -> None:
    """The first one's page behind the second one's link: the second died of EADDRINUSE."""
    for version in ("v1", "v2"):
        (scripts_environment / version).mkdir()
        (scripts_environment / version / "index.html").write_text(version)
    first = serve(run, named, f"{PAGES} v1", "--upload", "v1")
    code, found, stderr = serve(run, named, f"{PAGES} v2", "--upload", "v2")
    error = found["error"]
    assert isinstance(error, dict)

    assert first[0] == 0
    assert (code, error["kind"], found["preview"]) == (125, "exec_failed", None)
    assert "Address already in use" in str(found["stderr"])
    assert "-d v1" in error["message"]
    assert "kill" in error["fix"]
    assert "preview:" not in stderr


def test_a_port_that_a_background_job_opens_later_is_not_the_servers(
    run: Script, named: str
) -> None:
    """It lives on while the server waits: only whose socket it is tells them apart."""
    job = f"(sleep 2; exec {PAGES} /tmp) >/dev/null 2>&1 </dev/null &"
    run("--local", "--name", named, "--command", job)
    code, found, _ = serve(run, named, "sleep 60", "--timeout", "4")
    error = found["error"]
    assert isinstance(error, dict)

    assert (code, error["kind"]) == (124, "timeout")
    assert "another process" in error["message"]


@pytest.mark.parametrize(
    "command",
    [f"setsid -f {PAGES} /tmp >/dev/null 2>&1; exec sleep 60", f"{PAGES} /tmp --bind ::1 & wait"],
    ids=["a daemon", "a child on IPv6"],
)
def test_what_the_server_starts_is_its_own(run: Script, named: str, command: str) -> None:
    """A daemon has left its family, and carries the mark of the command that started it."""
    code, found, stderr = serve(run, named, command)
    preview = found["preview"]
    assert isinstance(preview, dict)

    assert (code, preview["status"], preview["advice"]) == (0, 200, None)
    assert "first answer: 200 OK" in stderr


@pytest.mark.parametrize(
    "after",
    [
        "s.accept(); print('no database'); sys.exit(4)",
        "time.sleep(0.7); print('no database'); sys.exit(4)",
    ],
    ids=["at the first request", "a moment later"],
)
def test_a_server_that_dies_after_it_bound_the_port_is_an_error_with_its_output(
    run: Script, server: LocalServer, scripts_environment: Path, after: str
) -> None:
    """Its port listened, so it looked good."""
    (scripts_environment / "app.py").write_text(
        f"import socket, sys, time\ns = socket.socket(); s.bind(('', 8000)); s.listen(); {after}\n"
    )
    words = ("--serve", "python3 app.py", "--preview", "8000", "--upload", "app.py", "--json")
    result = run("--local", *words)
    found = result.json()

    assert (result.code, found["error"]["kind"]) == (125, "exec_failed")
    assert "exit code 4 after it listened" in found["error"]["message"]
    assert found["stdout"] == "no database\n"
    assert server.sandboxes() == []


@pytest.mark.parametrize(
    ("status", "body", "powered", "told"),
    [
        (400, "<title>DisallowedHost at /</title>", "", "ALLOWED_HOSTS"),
        (200, "welcome", "Next.js", "allowedDevOrigins"),
        (500, "boom", "", "500 Internal Server Error"),
    ],
    ids=["Django", "Next", "an error of its own"],
)
def test_the_first_answer_is_told_as_the_links_host_gets_it(
    run: Script,
    named: str,
    scripts_environment: Path,
    status: int,
    body: str,
    powered: str,
    told: str,
) -> None:
    """A host check lets localhost in, so a look by that name would see a fine page."""
    text = PICKY.format(status=status, body=body, powered=powered, next_dev=bool(powered))
    (scripts_environment / "app.py").write_text(text)
    code, found, stderr = serve(run, named, "python3 app.py", "--upload", "app.py")
    preview = found["preview"]
    assert isinstance(preview, dict)

    assert (code, preview["status"]) == (0, status)
    assert told in stderr
    assert (preview["advice"] is None) == (status == 500)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("Invalid HTTP_HOST header: 'x'", "ALLOWED_HOSTS = ['.proxy.daytona.test']"),
        ("<h1>Bad Request (400)</h1>", "ALLOWED_HOSTS"),
        ('Blocked request. This host ("x") is not allowed.', "server.allowedHosts"),
        ("Invalid Host header", "devServer.allowedHosts"),
        ("Invalid Host/Origin header", "devServer.allowedHosts"),
        ("<h1>Blocked hosts: x</h1>", "config.hosts << '.proxy.daytona.test'"),
        ("Blocked host: x", "config.hosts"),
        ("Invalid host header", "TrustedHostMiddleware"),
        ("<h2>Bad Request - Invalid Hostname</h2>", "AllowedHosts: '8000-abc.proxy"),
        ("a page about ALLOWED_HOSTS", None),
    ],
)
def test_a_frameworks_host_check_is_known_by_its_words(body: str, words: str | None) -> None:
    """What to set, with the hosts that links have; a page that only speaks of it is none."""
    found = find_host_check(f"HTTP/1.1 403 Forbidden\nX: Y\n\n{body}", LINK)

    assert (found is None) == (words is None)
    assert words is None or words in str(found)


def test_a_numeric_host_is_set_as_it_is() -> None:
    """Local links have an address, of which no pattern is made."""
    found = find_host_check("HTTP/1.1 400 x\n\nDisallowedHost", "http://127.4.5.6:8000/")

    assert found is not None
    assert found.endswith("['127.4.5.6']")


@pytest.mark.parametrize("tools", [["python3"], ["bash", "timeout", "head"], []], ids=" ".join)
def test_an_image_that_lacks_tools_is_asked_by_what_it_has(
    tmp_path: Path, tools: list[str]
) -> None:
    """python3, else bash; without either nothing is said, and nothing fails."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(418)
            self.end_headers()
            self.wfile.write(json.dumps(self.headers["Host"]).encode())

        def log_message(self, *_: object) -> None:
            pass

    for tool in ("sh", *tools):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        request = "GET / HTTP/1.1\r\nHost: it's.test\r\nConnection: close\r\n\r\n"
        script = page_script(page.server_port, request)
        line = [str(tmp_path / "sh"), "-c", script]
        done = subprocess.run(line, capture_output=True, env={"PATH": str(tmp_path)}, check=False)
        page.shutdown()
        thread.join()

    assert read_status(done.stdout.decode()) == (418 if tools else None)
    assert (b"it's.test" in done.stdout) == bool(tools)
    assert done.returncode == 0
