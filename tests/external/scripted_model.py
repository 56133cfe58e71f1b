"""A Messages API on loopback whose model reads from a script.

Each turn says a text or calls a tool; every request is kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Say:
    """The model answers with a text and ends its turn."""

    text: str

    def block(self, place: int) -> tuple[dict[str, Any], dict[str, Any], str]:
        return {"type": "text", "text": ""}, {"type": "text_delta", "text": self.text}, "end_turn"


@dataclass(frozen=True)
class Call:
    """The model calls one tool."""

    name: str
    input: dict[str, Any]

    def block(self, place: int) -> tuple[dict[str, Any], dict[str, Any], str]:
        start = {"type": "tool_use", "id": f"toolu_{place:04}", "name": self.name, "input": {}}
        return (
            start,
            {"type": "input_json_delta", "partial_json": json.dumps(self.input)},
            "tool_use",
        )


Turn = Say | Call


@dataclass
class ScriptedModel:
    """The script, and what was asked of it: one request body a turn."""

    turns: Sequence[Turn]
    requests: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def turn(self, _request: dict[str, Any], place: int) -> Turn:
        """What comes next; after the script's end the model says so."""
        return self.turns[place] if place < len(self.turns) else Say("The script has ended.")

    def answer(self, request: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events of the next turn."""
        with self.lock:
            place = len(self.requests)
            self.requests.append(request)
        start, delta, reason = self.turn(request, place).block(place)
        usage = {"input_tokens": 1, "output_tokens": 1}
        message: dict[str, Any] = {
            "id": f"msg_{place}",
            "type": "message",
            "role": "assistant",
            "model": request.get("model"),
            "content": [],
        }
        yield (
            "message_start",
            {"message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}},
        )
        yield "content_block_start", {"index": 0, "content_block": start}
        yield "content_block_delta", {"index": 0, "delta": delta}
        yield "content_block_stop", {"index": 0}
        yield (
            "message_delta",
            {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        )
        yield "message_stop", {}


@contextmanager
def serving(model: ScriptedModel) -> Iterator[str]:
    """The address of a server that answers as `model`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            events = "".join(
                f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"
                for kind, data in model.answer(request)
            )
            body = events.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """The requests are kept; nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
