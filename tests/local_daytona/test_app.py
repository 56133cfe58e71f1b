"""Who may talk to the server, and how it answers what it does not do."""

from __future__ import annotations

import json
import socket
import urllib.request

import pytest

from local_daytona.api.unsupported import REFUSALS
from tests.local_server import LocalServer


def test_every_answer_carries_the_local_mark(server: LocalServer) -> None:
    """Clients tell this engine from the cloud by it, errors included."""
    for path, key in (
        ("/api/sandbox", None),
        ("/api/sandbox/none", None),
        ("/nowhere", None),
        ("/api/sandbox", "wrong"),
    ):
        assert server.request("GET", path, key=key).headers["X-Daytona-Local"] == "1"


def test_a_wrong_key_is_401_in_daytonas_envelope(server: LocalServer) -> None:
    """The SDK reads message; the body names neither key."""
    reply = server.request("GET", "/api/sandbox", key="dtn_wrong")

    assert reply.status == 401
    assert {"statusCode", "message", "error", "path", "timestamp"} <= reply.json().keys()
    assert server.api_key.encode() not in reply.body
    assert b"dtn_wrong" not in reply.body


@pytest.mark.parametrize(
    "header",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
    ids=str,
)
def test_web_pages_and_rebound_names_are_refused_even_with_the_key(
    server: LocalServer, header: dict[str, str]
) -> None:
    """A page in the user's browser must not drive this server."""
    assert server.request("GET", "/api/sandbox", headers=header).status == 403


def test_it_listens_on_loopback_only(server: LocalServer) -> None:
    """No other machine can even connect."""
    port = int(server.url.rpartition(":")[2])
    with open("/proc/net/tcp") as table:
        addresses = {
            line.split()[1]
            for line in table
            if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
        }

    assert addresses == {f"0100007F:{port:04X}"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/sandbox/x/fork"),
        ("GET", "/toolbox/x/lsp/completions"),
        ("PUT", "/api/sandbox/x/secrets"),
        ("POST", "/toolbox/x/computeruse/start"),
        ("GET", "/api/secret/paginated"),
        ("POST", "/api/sandbox/x/ssh-access"),
        ("GET", "/api/warm-pools"),
        ("GET", "/api/object-storage/push-access"),
        ("POST", "/toolbox/x/env"),
        ("GET", "/api/regions"),
        ("GET", "/toolbox/x/proxy/8000/index.html"),
    ],
)
def test_the_rest_of_daytona_answers_501_with_a_way_out(
    server: LocalServer, method: str, path: str
) -> None:
    """A sentence, not a stub: the caller learns what to use instead."""
    reply = server.request(method, path)

    assert (reply.status, reply.json()["code"]) == (501, "NOT_IMPLEMENTED")


def test_what_a_daytona_is_told_without_a_key(server: LocalServer) -> None:
    """Older SDKs ask it for the toolbox's address; nothing in it is secret."""
    with urllib.request.urlopen(server.api_url + "/config", timeout=10) as reply:
        told = json.load(reply)

    assert told["proxyToolboxUrl"] == server.url + "/toolbox"
    assert told["defaultSnapshot"] == "daytona-small"
    assert server.api_key not in json.dumps(told)


def test_every_refusal_names_what_to_use_instead() -> None:
    """Also those that no client of ours has met yet."""
    assert [sentence for _, sentence in REFUSALS if "; use " not in sentence] == []


def test_what_is_not_daytonas_api_is_404(server: LocalServer) -> None:
    """501 is for what Daytona has and this server has not."""
    assert server.request("GET", "/nowhere").status == 404


def test_a_method_that_daytona_does_not_have_is_405_as_json(server: LocalServer) -> None:
    """Also aiohttp's own refusals come in the envelope."""
    reply = server.request("PATCH", "/api/sandbox")

    assert (reply.status, reply.json()["statusCode"]) in ((405, 405), (404, 404))


def test_doubled_slashes_mean_one(server: LocalServer) -> None:
    """An endpoint written with a trailing slash makes the SDK send them."""
    reply = server.request("GET", "/api//sandbox?limit=1")

    assert (reply.status, reply.headers["Location"]) == (308, "/api/sandbox?limit=1")


def test_the_log_of_the_server_holds_no_key(server: LocalServer) -> None:
    """Logs are what people paste into bug reports."""
    assert server.api_key not in (server.state_dir / "server.log").read_text()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /local/status HTTP/1.1\r\nHost: {host}\r\nHost: evil.example", 400),
        ("GET /local/status HTTP/1.1\r\nHost: evil.example\r\nHost: {host}", 400),
        ("GET /local/status HTTP/1.1\r\nX: y", 400),
        ("GET /local/status HTTP/1.0\r\nX: y", 403),
        ("GET /local/status HTTP/1.1\r\nHost : {host}", 400),
        ("GET /local/status HTTP/1.1\nHost: {host}\nX: y", 400),
        ("GET /local/status HTTP/1.1\r\nHost: {host}\r\nX: a\r\n b", 400),
        ("GET /local/status HTTP/1.1\r\nHost: {host}.", 403),
        (
            (
                "GET /local/status HTTP/1.1\r\n"
                "Host: {host}\r\n"
                "Origin: http://{host}\r\n"
                "Origin: http://evil.example"
            ),
            403,
        ),
        ("GET /local/status HTTP/1.1\r\nHost: {host}\r\nOrigin: null", 403),
        (
            (
                "POST /api/sandbox HTTP/1.1\r\n"
                "Host: {host}\r\n"
                "Content-Length: 5\r\n"
                "Transfer-Encoding: chunked"
            ),
            400,
        ),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: {host}", 404),
    ],
)
def test_what_two_readers_would_understand_differently_is_refused_even_with_the_key(
    server: LocalServer, head: str, status: int
) -> None:
    """Two names, folded or bare lines, two lengths: nothing is done for it."""
    host = server.url.removeprefix("http://")

    answered = first_line(
        server, f"{head.format(host=host)}\r\nAuthorization: Bearer {server.api_key}\r\n\r\n"
    )
    assert answered == status


@pytest.mark.parametrize(
    "path",
    [
        "//local/status",
        "/api/socket.io/../../local/status",
        "/api/socket.io%2f..%2f..%2flocal/status",
        "/toolbox/../local/status",
        "/toolbox/x/files/download/../../../local/status?path=/x&expires=0&signature=v1_x",
        "/local/status/",
        "/%6cocal/status",
    ],
)
def test_no_spelling_of_a_path_goes_round_the_key(server: LocalServer, path: str) -> None:
    """What needs none is told by the route that was matched, not by the text."""
    host = server.url.removeprefix("http://")

    assert first_line(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n") == 401


def first_line(server: LocalServer, data: str) -> int:
    """The status of what a raw request is answered with."""
    with socket.create_connection(
        ("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=60
    ) as raw:
        raw.sendall(data.encode())
        return int(raw.makefile("rb").readline().split()[1])


def test_names_that_would_write_into_a_terminal_or_a_log_are_refused_or_escaped(
    server: LocalServer,
) -> None:
    """`status` and the log show what callers chose."""
    nasty = "x\n\x1b[31my"
    refused = server.request("POST", "/api/sandbox", body={"name": nasty})
    created = server.create(labels={nasty: nasty})
    shown = server.request("GET", "/local/status").body
    server.request("GET", "/api/sandbox/x%0a%1b%5b31my")
    server.request("DELETE", f"/api/sandbox/{created['id']}")

    assert refused.status == 400
    assert b"\x1b" not in shown
    assert "\x1b" not in (server.state_dir / "server.log").read_text()
