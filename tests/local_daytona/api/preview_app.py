"""A web application inside a sandbox, for previews: echoes requests and WebSockets, streams."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import socketserver
import sys
import time

PAGE = """<!doctype html><title>preview</title><p id=said>nothing</p><script>
const socket = new WebSocket(`ws://${location.host}/ws`);
socket.onopen = () => socket.send("hello over a socket");
socket.onmessage = event => { said.textContent = "echo: " + event.data; };
socket.onclose = () => { document.title = "closed"; };
</script>
"""


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        known = {
            "/ws": self.websocket,
            "/chunked": self.chunked,
            "/big": self.big,
            "/endless": self.endless,
            "/not-http": self.not_http,
            "/silent": self.hang_up,
            "/rest": self.rest,
            "/page": self.page,
        }
        if path[1:].isdigit():
            self.answer(int(path[1:]), b"")
        else:
            known.get(path, self.tell)()

    do_HEAD = do_GET  # noqa: N815  (the name that http.server looks for)

    def chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in (b"one ", b"two ", b"three", b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(word), word))

    def big(self) -> None:
        """As many MiB as the query says."""
        size = int(self.path.partition("?")[2]) << 20
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for _ in range(size >> 20):
            self.wfile.write(bytes(1 << 20))

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"tick\n")
            time.sleep(0.05)

    def not_http(self) -> None:
        self.wfile.write(b"what?\r\n\r\n")
        self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True

    def rest(self) -> None:
        """What comes after the request, given time."""
        self.connection.settimeout(1)
        try:
            more = self.rfile.read1(65536)
        except OSError:
            more = b""
        self.answer(200, f"after the request: {more!r}".encode())

    def page(self) -> None:
        self.answer(200, PAGE.encode(), "text/html")

    def do_POST(self) -> None:
        left = int(self.headers.get("Content-Length", -1))
        self.count = 0
        if left >= 0:
            while self.count < left:
                self.count += len(self.rfile.read(min(1 << 20, left - self.count)))
        else:
            while size := int(self.rfile.readline(), 16):
                self.count += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        self.do_GET()

    def tell(self) -> None:
        """What arrived here."""
        told = {
            "line": self.requestline,
            "headers": self.headers.items(),
            "body": getattr(self, "count", 0),
        }
        self.answer(200, json.dumps(told).encode())

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Keep-Alive", "timeout=5")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def websocket(self) -> None:
        """RFC 6455 for frames of up to 125 bytes: every one goes back."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header(
            "Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        )
        self.end_headers()
        while head := self.rfile.read(2):
            mask, data = self.rfile.read(4), self.rfile.read(head[1] & 127)
            plain = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
            self.wfile.write(bytes([head[0], len(plain)]) + plain)
        self.close_connection = True

    def log_message(self, *_words: object) -> None:
        """Nobody reads it."""


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
