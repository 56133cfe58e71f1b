"""healthcheck.py: the verdicts, and what tells one failure from another."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_server import LocalServer

from .script_runner import Script


def cloud(
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    *,
    key: str | None = None,
    url: str | None = None,
) -> None:
    monkeypatch.setenv("DAYTONA_API_KEY", key or server.api_key)
    monkeypatch.setenv("DAYTONA_API_URL", url or server.api_url)


def row(result: dict[str, object], name: str) -> dict[str, str]:
    checks = result["checks"]
    assert isinstance(checks, list)
    found: dict[str, str] = next(check for check in checks if check["name"] == name)
    return found


def test_ready_with_a_key_that_works(
    healthcheck: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One authenticated request proves it; the key is shown nowhere."""
    cloud(server, monkeypatch)
    result = healthcheck("--json")

    assert (result.code, result.json()["verdict"]) == (0, "READY")
    assert row(result.json(), "key")["detail"] == "API key from the environment"
    assert server.api_key not in result.stdout + result.stderr


def test_local_only_without_a_key(healthcheck: Script) -> None:
    """The engine works here, and the text says with which flag, and that it is weaker."""
    result = healthcheck()

    assert result.code == 3
    assert result.stdout.splitlines()[-1].startswith("LOCAL ONLY: add --local (weaker")
    assert "bwrap" in result.stdout


def test_a_key_in_a_file_is_found_with_its_source(
    healthcheck: Script,
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    scripts_environment: Path,
) -> None:
    """Earlier healthchecks looked at the environment only and said NOT READY."""
    monkeypatch.setenv("DAYTONA_API_URL", server.api_url)
    (scripts_environment / ".env").write_text(f"DAYTONA_API_KEY={server.api_key}\n")
    result = healthcheck("--json")

    assert (result.code, row(result.json(), "key")["detail"]) == (0, "API key from .env")


def test_a_wrong_key(
    healthcheck: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused is not unreachable."""
    cloud(server, monkeypatch, key="dtn_wrong_key_value")
    request = row(healthcheck("--json").json(), "request")

    assert "refused" in request["detail"]
    assert "new key" in request["fix"]
    assert "dtn_wrong_key_value" not in str(request)


def test_no_network(
    healthcheck: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens there."""
    cloud(server, monkeypatch, url="http://127.0.0.1:9/api")
    request = row(healthcheck("--json").json(), "request")

    assert "cannot be reached" in request["detail"]
    assert "network" in request["fix"]


def test_a_wrong_path(
    healthcheck: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Daytona, but not its API."""
    cloud(server, monkeypatch, url=f"{server.url}/wrong")
    request = row(healthcheck("--json").json(), "request")

    assert "404" in request["detail"]
    assert "DAYTONA_API_URL" in request["fix"]


@pytest.fixture
def web_page() -> Iterator[str]:
    """A server that answers every address with a page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{page.server_port}/api"
        page.shutdown()
        thread.join()


def test_a_server_that_is_not_daytona(
    healthcheck: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch, web_page: str
) -> None:
    """A captive portal or a web site answers 200 to everything."""
    cloud(server, monkeypatch, url=web_page)
    request = row(healthcheck("--json").json(), "request")

    assert "not as Daytona does" in request["detail"]


@pytest.mark.parametrize(
    ("answer", "code", "verdict"),
    [("exit 0", 4, "CLI ONLY"), ("exit 1", 5, "NOT READY"), ("sleep 60", 5, "NOT READY")],
)
def test_the_clis_login_is_asked_without_a_browser(
    healthcheck: Script,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: str,
    code: int,
    verdict: str,
) -> None:
    """A stand-in `daytona` answers; stdin is closed and time is limited.

    The local engine is switched off by an unusable folder.
    """
    from sandbox_kit import health

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "daytona").write_text(
        f"#!/bin/sh\n[ \"$*\" = 'list -f json -l 1' ] || exit 9\n{answer}\n"
    )
    (tmp_path / "bin" / "daytona").chmod(0o755)
    monkeypatch.setenv(
        "HOME", str(tmp_path)
    )  # what lies beside the working directory, elsewhere in the home, is the user's own
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("DAYTONA_LOCAL_STATE", "/proc/nowhere")
    monkeypatch.setattr(health, "CLI_TIMEOUT_S", 1)
    result = healthcheck("--json")

    assert (result.code, result.json()["verdict"]) == (code, verdict)
    local = row(result.json(), "local engine")
    assert local["ok"] is False  # type: ignore[comparison-overlap]  # JSON's own type
    assert local["fix"]


@pytest.mark.parametrize(
    "path", ["", ":/usr/bin", "/usr/bin:", ".:/usr/bin", "bin:/usr/bin", "/usr/bin::/bin"]
)
def test_a_daytona_of_the_working_directory_is_not_run(
    healthcheck: Script, scripts_environment: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An empty or relative entry of PATH means any folder one is in, and the line is granted."""
    for folder in (scripts_environment, scripts_environment / "bin"):
        folder.mkdir(exist_ok=True)
        (folder / "daytona").write_text(f"#!/bin/sh\ntouch {scripts_environment}/owned\n")
        (folder / "daytona").chmod(0o755)
    monkeypatch.setenv("PATH", path)
    result = healthcheck("--json")

    assert "not on PATH" in row(result.json(), "cli")["detail"]
    assert not (scripts_environment / "owned").exists()


def test_the_number_of_requests_does_not_grow_with_the_account(
    healthcheck: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page of one sandbox is asked for, never all of them."""
    cloud(server, monkeypatch)
    for number in range(3):
        server.create(name=f"many-{number}")
    from sandbox_kit import sdk

    asked: list[object] = []
    real = sdk.Client.ping

    async def counted(self: sdk.Client) -> None:
        asked.append(1)
        await real(self)

    monkeypatch.setattr(sdk.Client, "ping", counted)
    result = healthcheck("--json")
    for number in range(3):
        server.request("DELETE", f"/api/sandbox/many-{number}")

    assert (result.code, len(asked)) == (0, 1)


RECORD = """#!/bin/sh
{{ pwd -P; ls -A; env; echo "argv: $*"; }} >'{noted}'
"""


@pytest.fixture
def recording_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `daytona` on PATH that is logged in, and notes folder, variables and arguments.

    The home holds its folder: what lies elsewhere in the home is the user's own.
    """
    (tmp_path / "bin").mkdir()
    program, noted = tmp_path / "bin" / "daytona", tmp_path / "noted"
    program.write_text(RECORD.format(noted=noted))
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return noted


def test_the_cli_gets_no_key_no_folder_of_the_users_and_no_shell(
    healthcheck: Script,
    recording_cli: Path,
    scripts_environment: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before 0.205 it reads `.env` where it stands: a planted address got the exported key.

    With a SHELL its first run writes to that shell's files.
    """
    (scripts_environment / ".env").write_text("DAYTONA_API_URL=http://evil.example/api\n")
    monkeypatch.setenv("DAYTONA_API_KEY", "dtn_exported_key")
    monkeypatch.setenv("DAYTONA_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("SHELL", "/bin/bash")
    healthcheck("--json")
    folder, *noted = recording_cli.read_text().splitlines()

    assert "argv: list -f json -l 1" in noted
    assert not Path(folder).is_relative_to(scripts_environment.parent)
    assert ".env" not in noted
    assert not [line for line in noted if line.startswith("DAYTONA_") or "dtn_exported" in line]
    assert "SHELL=" in noted
    assert f"HOME={scripts_environment.parent}" in noted
    assert f"PWD={folder}" in noted


@pytest.fixture
def gateway() -> Iterator[str]:
    """A company's proxy in the way: 403 and a page, whatever is asked."""

    class Gateway(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403, "Blocked by policy")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("login", [False, True], ids=["no login", "login"])
@pytest.mark.parametrize("wrong", ["key", "unreachable", "gateway", "proxy", "path", "address"])
def test_a_key_that_does_not_work_is_not_ready_whatever_else_would(
    healthcheck: Script,
    server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    gateway: str,
    wrong: str,
    login: bool,
) -> None:
    """LOCAL ONLY would send untrusted code to this machine for a typing error in a key."""
    if login:
        request.getfixturevalue("recording_cli")
    urls = {
        "key": server.api_url,
        "unreachable": "http://127.0.0.1:9/api",
        "gateway": f"{gateway}/api",
        "proxy": "http://daytona.test/api",
        "path": f"{server.url}/wrong",
        "address": "app.daytona.io/api",
    }
    if wrong == "proxy":
        monkeypatch.setenv("HTTP_PROXY", gateway)
        monkeypatch.setenv("http_proxy", gateway)
    key = "dtn_wrong_key_value" if wrong == "key" else None
    cloud(server, monkeypatch, key=key, url=urls[wrong])
    result = healthcheck("--json")
    check = row(result.json(), "key" if wrong == "address" else "request")

    assert (result.code, result.json()["verdict"]) == (5, "NOT READY")
    assert check["fix"]
    if wrong in ("gateway", "proxy"):
        assert "403" in check["detail"]
        assert "proxy" in check["fix"]


def test_half_a_login_is_not_local_only(
    healthcheck: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token whose organization was forgotten is a credential to be mended."""
    monkeypatch.setenv("DAYTONA_JWT_TOKEN", "a.b.c")
    result = healthcheck("--json")

    assert (result.code, result.json()["verdict"]) == (5, "NOT READY")
    assert "DAYTONA_ORGANIZATION_ID" in row(result.json(), "key")["fix"]


def test_a_clis_login_comes_before_local_daytona(healthcheck: Script, recording_cli: Path) -> None:
    """Whoever is logged in meant the cloud."""
    result = healthcheck("--json")

    assert (result.code, result.json()["verdict"]) == (4, "CLI ONLY")
    assert row(result.json(), "local engine")["ok"] is True  # type: ignore[comparison-overlap]
