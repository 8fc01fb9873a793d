"""A proxy before an S3 server that does by chance, from a seed, what the worst day of S3 and its network does.

    python hostile_proxy.py PORT UPSTREAM SEED PROBABILITY FOLDER

FOLDER holds what it shares with the test: `log`, a line for each fault; `token`, the session token that is good now
(any, where there is no such file).
"""

from __future__ import annotations

import email.utils
import http.client
import http.server
import pathlib
import random
import socket
import struct
import sys
import threading
import time
import urllib.parse

FAULTS = [
    "503 before",  # SlowDown; nothing happened
    "500 before",
    "429 before",
    "reset before",
    "503 after",  # it has happened, and the answer is lost
    "reset after",
    "reset in body",  # of an answer, after half of it
    "short body",  # half of a range, and a length that says so
    "late",
]
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>by chance</Message></Error>".encode()


class Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = ""
    probability = 0.0
    folder = pathlib.Path()
    random = random.Random()
    lock = threading.Lock()
    token = ""
    token_read = 0.0

    def log_message(self, *_: object) -> None:
        pass

    def note(self, what: str) -> None:
        with Proxy.lock, (self.folder / "log").open("a") as log:
            log.write(f"{what}\n")

    def good_token(self) -> str:
        with Proxy.lock:
            if time.monotonic() - Proxy.token_read > 0.1:
                path = self.folder / "token"
                Proxy.token = path.read_text() if path.exists() else ""
                Proxy.token_read = time.monotonic()
            return Proxy.token

    def reset(self) -> None:
        # With no time to linger, the peer gets RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def reply(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.reset()

    def refuse(self, status: int, code: str) -> None:
        self.reply(status, error(code), {"Retry-After": "0", "Date": email.utils.formatdate(usegmt=True)})

    def forward(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        host = urllib.parse.urlsplit(self.upstream).netloc
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        found = answer.read()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in HOP}
        if self.command == "HEAD" and answer.getheader("Content-Length"):
            headers["Content-Length"] = str(answer.getheader("Content-Length"))
        connection.close()
        return answer.status, found, headers

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        good = self.good_token()
        if good and self.headers.get("x-amz-security-token") != good:
            self.note("expired token")
            return self.refuse(400, "ExpiredToken")
        with Proxy.lock:
            fault = self.random.choice(FAULTS) if self.random.random() < self.probability else ""
        when = fault.partition(" ")[2]
        if fault:
            self.note(fault)
        if fault == "reset before":
            return self.reset()
        if when == "before":
            status = int(fault.split()[0])
            return self.refuse(status, {503: "SlowDown", 500: "InternalError", 429: "TooManyRequests"}[status])
        if fault == "late":
            time.sleep(0.5)
        status, found, headers = self.forward(body)
        if fault == "503 after":
            return self.refuse(503, "ServiceUnavailable")
        if fault == "reset after":
            return self.reset()
        if fault == "reset in body" and len(found) > 1:
            return self.reply(status, found, headers | {"Content-Length": str(len(found))}, cut=True)
        if fault == "short body" and status == 206:
            return self.reply(status, found[: len(found) // 2], headers)
        return self.reply(status, found, headers)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any


def main() -> None:
    port, Proxy.upstream, seed, probability, folder = sys.argv[1:]
    Proxy.probability, Proxy.folder = float(probability), pathlib.Path(folder)
    Proxy.random = random.Random(int(seed))
    http.server.ThreadingHTTPServer.request_queue_size = 128
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Proxy).serve_forever()


if __name__ == "__main__":
    main()
