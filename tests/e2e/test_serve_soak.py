"""Mixed load with hang-ups, malformed requests and slow readers: 60 s in CI, 30 minutes in --long. Nothing grows, nobody is stuck."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest
from serving import Server, make_catalog, needs_models, serving

pytestmark = needs_models
SECONDS = 1800 if os.environ.get("HEADRACE_TEST_LONG") else 60 if os.environ.get("HEADRACE_TEST_CI") else 0
TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"enum": [1, 2]}}}},
}


def memory(server: Server) -> int:
    """KB, without the prefixes that wait in host memory: those have a budget, and fill it."""
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    kept = sum(int(model.get("host_bytes", 0)) for model in server.ask("/load").json["models"])
    return int(re.search(r"RssAnon:\s+(\d+)", text)[1]) - kept // 1000  # type: ignore[index]


def descriptors(server: Server) -> int:
    return len(list(pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir()))


def post(server: Server, path: str, body: object, hang_up: float = 0) -> None:
    data = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as peer:
        peer.sendall(
            b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (path.encode(), len(data), data)
        )
        if hang_up:
            time.sleep(hang_up)
            return
        first = peer.recv(65536)
        assert first.startswith(b"HTTP/1.1 200"), first
        while peer.recv(65536):
            pass


def kinds(server: Server, chance: random.Random) -> list[Callable[[], None]]:
    def words() -> str:
        return " ".join(chance.choice(["mill", "river", "stone", "bread"]) for _ in range(chance.randint(1, 150)))

    def chat(**fields: object) -> dict[str, object]:
        return {
            "model": "gemma",
            "messages": [{"role": "user", "content": words()}],
            "max_tokens": chance.randint(1, 24),
            **fields,
        }

    def slow() -> None:
        data = json.dumps({"prompt": words(), "max_tokens": 30, "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as peer:
            head = (
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                % len(data)
            )
            for at in range(0, len(head + data), 40):
                peer.sendall((head + data)[at : at + 40])
                time.sleep(0.002)
            while peer.recv(64):
                time.sleep(0.002)

    def malformed() -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as peer:
            peer.sendall(bytes(chance.randrange(256) for _ in range(200)) + b"\r\n\r\n")
            peer.recv(65536)

    def refused() -> None:
        assert server.ask("/v1/chat/completions", {"messages": [{"role": "user"}]}).status == 400

    return [
        lambda: post(server, "/v1/chat/completions", chat(stream=chance.random() < 0.5)),
        lambda: post(server, "/v1/chat/completions", chat(tools=[TOOL], tool_choice="required")),
        lambda: post(server, "/v1/completions", {"prompt": words(), "max_tokens": 5, "echo": True, "logprobs": 1}),
        lambda: post(server, "/v1/embeddings", {"model": "minilm", "input": [words() for _ in range(4)]}),
        lambda: post(
            server,
            "/v1/completions",
            {"prompt": words(), "max_tokens": 500, "stream": True},
            hang_up=chance.uniform(0.01, 0.5),
        ),
        lambda: post(
            server, "/v1/completions", {"prompt": words(), "max_tokens": 500}, hang_up=chance.uniform(0.01, 0.5)
        ),
        slow,
        malformed,
        refused,
    ]


@pytest.mark.skipif(not SECONDS, reason="./dev test --ci runs it for a minute, --long for half an hour")
def test_nothing_grows_and_nobody_is_stuck(tmp_path: pathlib.Path) -> None:
    catalog = make_catalog(tmp_path)
    problems: list[str] = []
    with serving(catalog, "--chat-template", "chatml", "-c", "8192", "--commit-seconds", "2") as server:
        until = time.monotonic() + SECONDS

        def client(seed: int) -> None:
            chance = random.Random(seed)
            choices = kinds(server, chance)
            while time.monotonic() < until and not problems:
                try:
                    chance.choice(choices)()
                except ConnectionResetError:
                    pass  # a malformed request may be answered so
                except (OSError, AssertionError, http.client.HTTPException) as error:
                    problems.append(repr(error))

        threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(SECONDS * 0.5)  # by then every kind has been seen, and caches are full
        half = memory(server)
        for thread in threads:
            thread.join()
        load = server.idle(30)
        assert not problems, problems
        assert load["http"]["hang_ups"] > 3 and load["http"]["malformed"] > 3 and load["traces"]["dropped"] == 0
        time.sleep(0.5)
        assert descriptors(server) < 80, "connections are left open"
        assert memory(server) < half * 1.25 + 40_000, f"{half} KB at half time, {memory(server)} KB at the end"
        answer = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 2})
        assert answer.status == 200
        written = server.sql("select count(*) as n, count(distinct id) as d from traces")[0]
        assert written["n"] == written["d"] > 20
        assert server.stop() == 0
