"""Long answers are what `json` and `decode` make, and hold no other request meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from local_daytona.long_answers import PIECE, decoded, encoded
from tests.local_daytona.pulse import pulse
from tests.local_server import LocalServer

LONGEST_PAUSE_S = 0.7  # of a loaded machine; in one piece it was seconds
# Each fills 32 MiB of output with what is slowest to read, to decode or to encode.
OUTPUTS = {
    "control characters": r"head -c 33000000 /dev/zero | tr '\0' '\1'",
    "bytes that are no text": r"head -c 33000000 /dev/zero | tr '\0' '\377'",
    "empty lines": r"head -c 33000000 /dev/zero | tr '\0' '\n'",
    "one byte at a time": "python3 -c 'import os\nfor _ in range(300000): os.write(1, b\"x\")'",
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": 1, "b": None, "c": [1, {"d": "e"}]},
        {"text": "", "more": "x" * (3 * PIECE + 1)},
        {"text": 'é\x01\ud800\U0001f600\\"\n' * PIECE},
    ],
    ids=["empty", "plain", "long", "odd"],
)
def test_the_pieces_are_the_json_of_the_whole(values: dict[str, Any]) -> None:
    """Whoever reads it cannot tell."""
    assert b"".join(encoded(values)) == json.dumps(values).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        "é😀".encode() * PIECE,
        b"\xff\xc3" * PIECE,
        b"x" * (PIECE - 1) + "😀".encode(),
        b"a\xf0\x9f",
    ],
    ids=["empty", "letters", "no text", "letter across pieces", "half a letter"],
)
def test_the_pieces_are_the_text_of_the_whole(data: bytes) -> None:
    """A letter that two pieces share is still one."""
    assert decoded(data) == data.decode(errors="replace")


ASK = """
import sys, urllib.request
url, key, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode(), {"Authorization": f"Bearer {key}"})
request.add_header("Content-Type", "application/json")
with urllib.request.urlopen(request) as answer:
    print(sum(iter(lambda: len(answer.read(1 << 20)), 0)))
"""


def ask_elsewhere(server: LocalServer, path: str, body: dict[str, Any]) -> int:
    """The length of the answer, read by a process of its own: this one's takes the time."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, server.url + path, server.api_key, json.dumps(body)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout)


@pytest.mark.parametrize("command", OUTPUTS.values(), ids=OUTPUTS)
def test_a_long_output_holds_no_other_request(
    server: LocalServer, sandbox: str, command: str
) -> None:
    """It is read, decoded and encoded in pieces, and others have their turn between them."""
    with pulse(server) as waited:
        length = ask_elsewhere(server, f"/toolbox/{sandbox}/process/execute", {"command": command})

    assert length > 300_000
    assert waited.longest < LONGEST_PAUSE_S


def test_a_long_log_of_a_session_holds_no_other_request(server: LocalServer, sandbox: str) -> None:
    """A log of millions of frames is taken apart in a thread."""
    session = f"/toolbox/{sandbox}/process/session"
    server.request("POST", session, body={"sessionId": "s"})
    with pulse(server) as waited:
        command = {"command": "head -c 9000000 /dev/zero | tr '\\0' '\\n'"}
        length = ask_elsewhere(server, f"{session}/s/exec", command)

    assert length > 9_000_000
    assert waited.longest < LONGEST_PAUSE_S


def test_an_upload_to_a_file_that_is_written_holds_no_other_request(
    server: LocalServer, sandbox: str
) -> None:
    """The kernel lets one write at a time into a file, however long the other's is."""
    server.exec(
        sandbox,
        "setsid python3 -c '"
        'import os\nfd = os.open("/home/daytona/f", os.O_RDWR | os.O_CREAT)\n'
        "data = bytes(200_000_000)\nwhile True: os.pwrite(fd, data, 0)"
        "' >/dev/null 2>&1 </dev/null &",
    )
    statuses: list[int] = []

    def upload() -> None:
        body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        reply = server.request(
            "POST",
            f"/toolbox/{sandbox}/files/upload-v2?path=/home/daytona/f",
            body=body + b"x" * 3_000_000 + b"\r\n--b--\r\n",
            headers={"Content-Type": "multipart/form-data; boundary=b"},
        )
        statuses.append(reply.status)

    with pulse(server) as waited:
        threads = [threading.Thread(target=upload) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert statuses == [200] * 3
    assert waited.longest < LONGEST_PAUSE_S
