"""A run whose requests do not get through: the line that helps, at once, nothing left behind."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.benchmarks.fanout import certificate
from tests.benchmarks.instant import Instant
from tests.local_server import LocalServer
from tests.serving import serving

from .script_runner import Result, Script

PROXY_VARIABLES = [
    spelt
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for spelt in (name, name.upper())
]
KEY = "dtn_0123456789"
AT_ONCE_S = 4  # looking for a sandbox that was never asked for took 8 s


@pytest.fixture(autouse=True)
def no_proxy_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, run: Script) -> Script:
    """A run with a key; its endpoint is the test's to set."""
    monkeypatch.setenv("DAYTONA_API_KEY", KEY)
    monkeypatch.setenv("DAYTONA_API_URL", "https://daytona.example/api")
    return run


def refused_at_once(run: Script) -> Result:
    """A run that fails before anything can have been created."""
    began = time.monotonic()
    result = run("--command", "true", "--json")

    assert time.monotonic() - began < AT_ONCE_S
    assert result.code == 125
    assert "looking whether" not in result.stderr
    assert "left behind" not in result.stderr
    return result


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t"], ids=ascii)
def test_a_key_that_ends_in_a_blank_is_the_key(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """`export DAYTONA_API_KEY="$(cat key)"` loses the newline, a secret store's variable not."""
    monkeypatch.setenv("DAYTONA_API_KEY", server.api_key + end)
    monkeypatch.setenv("DAYTONA_API_URL", server.api_url)

    assert run("--command", "echo it works").stdout == "it works\n"


@pytest.mark.parametrize("key", ["dtn_a\ndtn_b", "dtn_a b", "dtn_\u2026", "dtn_\x1b[0m"], ids=ascii)
def test_a_key_that_no_request_can_carry_is_named(
    account: Script, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """It failed at the first request, which "may have made" a sandbox."""
    monkeypatch.setenv("DAYTONA_API_KEY", key)
    result = refused_at_once(account)

    assert result.json()["error"]["kind"] == "no_credentials"
    assert "DAYTONA_API_KEY of the environment" in result.json()["error"]["message"]
    assert "dtn_" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "value", ["proxy.example:3128", "socks5://127.0.0.1:1080", "http://:3128", "http://h:port", "x"]
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_a_proxy_that_is_no_address_is_named(
    account: Script, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Its value is not: it may hold a password."""
    monkeypatch.setenv(name, value)
    result = refused_at_once(account)

    assert result.json()["error"]["kind"] == "network"
    assert result.json()["error"]["message"].startswith(f"{name} is no address of an HTTP proxy")
    assert result.fix == f"export {name}=http://HOST:PORT, or unset it"


def test_a_broken_proxy_beside_a_host_that_needs_none_is_nobodys_business(
    run: Script, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY takes it out of the way; local Daytona is never reached by one."""
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")

    assert run("--local", "--command", "true").code == 0
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DAYTONA_API_KEY", server.api_key)
    monkeypatch.setenv("DAYTONA_API_URL", server.api_url)
    assert run("--command", "true").code == 0


@contextmanager
def proxy(status: int) -> Iterator[str]:
    """One that answers everything with a page of its own."""

    class Page(http.server.BaseHTTPRequestHandler):
        def refuse(self) -> None:
            self.send_response(status, "No")
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "18")
            self.end_headers()
            self.wfile.write(b"<html>Blocked</html>"[:18])

        def log_message(self, *_: object) -> None:
            pass

    for method in ("CONNECT", "GET", "POST"):
        setattr(Page, f"do_{method}", Page.refuse)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield f"127.0.0.1:{site.server_port}"
        site.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_proxy_that_wants_a_password_is_told_by_its_variable(
    account: Script, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """407, to a tunnel and to a plain request; the password that it refused is not repeated."""
    monkeypatch.setenv("DAYTONA_API_URL", f"{scheme}://daytona.example/api")
    name = f"{scheme.upper()}_PROXY"
    with proxy(407) as address:
        monkeypatch.setenv(name, f"http://me:hunter22@{address}")
        result = refused_at_once(account)

    assert result.json()["error"]["kind"] == "network"
    assert f"the proxy of {name} wants a user and a password" in result.json()["error"]["message"]
    assert result.fix == f"export {name}=http://USER:PASSWORD@HOST:PORT"
    assert "hunter22" not in result.stdout + result.stderr


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("status", [403, 401])
def test_a_page_of_a_proxy_is_no_answer_about_the_key(
    account: Script, monkeypatch: pytest.MonkeyPatch, scheme: str, status: int
) -> None:
    """A company's proxy says 403; the advice was to add scopes to the key."""
    monkeypatch.setenv("DAYTONA_API_URL", f"{scheme}://daytona.example/api")
    with proxy(status) as address:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://{address}")
        result = refused_at_once(account)

    assert result.json()["error"]["kind"] == "network"
    assert "proxy" in result.fix
    assert "scopes" not in result.fix


def test_a_proxy_that_nobody_answers_at_is_named(
    account: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not "behind a proxy set HTTPS_PROXY": it is set."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    result = refused_at_once(account)

    assert result.fix.startswith("check HTTPS_PROXY: ")


def test_a_private_authority_is_answered_with_its_variable(
    account: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the fix works."""
    with certificate(tmp_path) as (context, bundle):
        instant = Instant()
        with serving(instant.handle, tls=context) as instant.url:
            monkeypatch.setenv("DAYTONA_API_URL", f"{instant.url}/api")
            result = refused_at_once(account)
            monkeypatch.setenv("SSL_CERT_FILE", bundle)
            after = account("--command", "true")

    assert "SSL_CERT_FILE=" in result.fix
    assert after.code == 0


def test_a_certificate_of_another_host_is_not_trusted_more_for_it(
    account: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SSL_CERT_FILE would not help."""
    with certificate(tmp_path) as (context, bundle):
        instant = Instant()
        with serving(instant.handle, tls=context) as instant.url:
            url = instant.url.replace("127.0.0.1", "localhost")
            monkeypatch.setenv("DAYTONA_API_URL", f"{url}/api")
            monkeypatch.setenv("SSL_CERT_FILE", bundle)
            result = refused_at_once(account)

    assert "another host's" in result.fix


class Refusing(Instant):
    """It creates nothing, in words of its own."""

    status, words = 403, "Organization is suspended: Depleted credits"

    def answer(self, request: web.Request) -> web.Response:
        if request.method == "POST" and request.path == "/api/sandbox":
            return web.json_response(
                {"statusCode": self.status, "message": self.words}, status=self.status
            )
        return super().answer(request)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "Organization is suspended: Depleted credits"),
        (403, "Organization is suspended: Please verify your email address"),
        (403, "Organization is suspended: Payment method required"),
        (402, "Payment required"),
    ],
)
def test_an_account_that_is_suspended_is_paid_for_not_given_scopes(
    account: Script, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    """The key is fine; only the user can do something."""
    refusing = Refusing()
    refusing.status, refusing.words = status, words
    with serving(refusing.handle) as refusing.url:
        monkeypatch.setenv("DAYTONA_API_URL", f"{refusing.url}/api")
        result = refused_at_once(account)

    assert result.json()["error"]["kind"] == "forbidden"
    assert "pays or verifies" in result.fix
    assert "scopes" not in result.fix


def test_a_key_without_scopes_is_given_them(
    account: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before: Daytona's own 403 is JSON."""
    refusing = Refusing()
    refusing.words = "Forbidden"
    with serving(refusing.handle) as refusing.url:
        monkeypatch.setenv("DAYTONA_API_URL", f"{refusing.url}/api")
        result = refused_at_once(account)

    assert "scopes" in result.fix


def test_a_network_that_a_tier_fixes_stops_the_model(
    account: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever obeyed "leave the network options out" ran untrusted code with a network."""
    refusing = Refusing()
    refusing.status = 400
    refusing.words = "Network access is restricted and cannot be overridden at the sandbox level."
    with serving(refusing.handle) as refusing.url:
        monkeypatch.setenv("DAYTONA_API_URL", f"{refusing.url}/api")
        result = account("--no-network", "--command", "true", "--json")

    assert result.json()["error"]["kind"] == "tier_network"
    assert result.fix.startswith("stop and tell the user ")


def test_a_missing_key_leads_to_the_user_and_not_to_this_machine(
    run: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--local shares this machine's kernel, so it is the user's to choose."""
    monkeypatch.chdir(tmp_path)
    result = run("--command", "true")

    assert result.fix.startswith("ask the user for a key")
    assert "for untrusted code only after the user's yes" in result.fix


def test_a_password_of_a_netrc_does_not_stand_in_for_the_key(
    run: Script, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`default` fits every host, and libraries put it beside the key or before it."""
    (tmp_path / ".netrc").write_text("default login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("DAYTONA_API_KEY", server.api_key)
    monkeypatch.setenv("DAYTONA_API_URL", server.api_url)

    assert run("--command", "echo it works").stdout == "it works\n"
