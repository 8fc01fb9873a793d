"""Every endpoint, however its request ends: nothing stays reserved or in flight, it is counted once, it has one row."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
HELLO = [{"role": "user", "content": "Hello"}]
# Of every endpoint: a call that is answered, and how the same goes on for long; none where it is done at once.
ENDLESS = {"max_tokens": 3000, "ignore_eos": True}
ANSWERED: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "/v1/chat/completions": ({"messages": HELLO, "max_tokens": 2}, ENDLESS),
    "/v1/completions": ({"prompt": "Hello", "max_tokens": 2}, ENDLESS),
    "/v1/messages": ({"model": "gemma", "messages": HELLO, "max_tokens": 2}, ENDLESS),
    "/v1/responses": ({"input": "Hello", "max_output_tokens": 2}, {"max_output_tokens": 3000, "ignore_eos": True}),
    "/completion": ({"prompt": "Hello", "n_predict": 2}, {"n_predict": 3000, "ignore_eos": True}),
    "/v1/embeddings": ({"model": "minilm", "input": "Hello"}, {"input": [f"{i} word " * 100 for i in range(600)]}),
    "/v1/rerank": (
        {"model": "minilm", "query": "Hello", "documents": ["you"]},
        {"documents": [f"{i} word " * 100 for i in range(600)]},
    ),
    "/v1/score": (
        {"model": "minilm", "text_1": "Hello", "text_2": "you"},
        {"text_2": [f"{i} word " * 100 for i in range(600)]},
    ),
    "/tokenize": ({"content": "Hello"}, None),
    "/detokenize": ({"tokens": [5]}, None),
    "/v1/scores": ({"request": "chatcmpl-1", "value": 1}, None),
    "/v1/messages/count_tokens": ({"model": "gemma", "messages": HELLO}, None),
    "/v1/responses/input_tokens": ({"input": "Hello"}, None),
    "/v1/chat/completions/input_tokens": ({"messages": HELLO}, None),
}
COMPUTED = [path for path, (_, endless) in ANSWERED.items() if endless]
# What the engine finds wrong, and no parser: a pattern that is none, a text that the encoder cannot take.
BROKEN: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"structured_outputs": {"regex": "(((("}},
    "/v1/completions": {"structured_outputs": {"regex": "(((("}},
    "/v1/embeddings": {"input": "word " * 700},
    "/v1/score": {"text_2": "word " * 700},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalog = make_catalog(tmp_path_factory.mktemp("accounts"))
    at = ("--catalog", str(catalog), "key", "create", "-q")
    keys = {
        "boss": run(*at, "boss", "--scopes", "all").strip(),
        # Whatever it left in flight would refuse its next call.
        "one": run(*at, "one", "--scopes", "inference,record", "--concurrent", "1").strip(),
        "none": run(*at, "none", "--tpm", "1").strip(),
    }
    with serving(catalog, "-c", "4096", "--chat-template", "chatml") as running:
        running.key = keys["boss"]
        running.keys = keys  # type: ignore[attr-defined]
        # Its minute's worth is used up: what is asked of it from here on is refused.
        running.ask("/v1/completions", {"prompt": "Hello", "max_tokens": 64}, authorization=f"Bearer {keys['none']}")
        yield running


def as_key(server: Server, name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {server.keys[name]}"}  # type: ignore[attr-defined]


def counted(server: Server, path: str) -> dict[int, int]:
    """Requests of an endpoint that the metrics have seen end, by status."""
    text = server.ask("/metrics").body.decode()
    sums: dict[int, int] = {}
    for labels, count in re.findall(r"^headrace_requests_total\{(.*)\} (\d+)$", text, re.MULTILINE):
        if f'endpoint="{path}"' in labels:
            status = int(labels.split('status="')[1][:3])
            sums[status] = sums.get(status, 0) + int(count)
    return sums


def hang_up(server: Server, path: str, call: dict[str, Any]) -> None:
    """Goes away as soon as the call is in flight."""
    body = json.dumps(call).encode()
    key = as_key(server, "one")["authorization"]
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        peer.sendall(head.encode() + body)
        until = time.monotonic() + 60
        while not server.ask("/load").json["requests"]:
            assert time.monotonic() < until
            time.sleep(0.01)


@pytest.mark.parametrize("path", ANSWERED)
def test_every_end_is_settled(server: Server, path: str) -> None:
    call, endless = ANSWERED[path]
    before = counted(server, path)
    statuses: list[int] = []

    def ask(body: Any, status: int, key: str = "one") -> None:
        """An answer with this status, after which nobody is in flight."""
        answer = server.ask(path, body, **as_key(server, key))
        assert answer.status == status, answer.body
        if status == 408 and path != "/v1/messages":  # Anthropic's errors have neither
            assert answer.json["error"]["code"] == answer.json["error"]["param"] == "deadline"
        statuses.append(status)
        server.idle()

    ask(call, 200)
    ask('{"model": 3}', 400)
    if path in BROKEN:
        ask({**call, **BROKEN[path]}, 400)
    if endless:
        ask(call, 429, "none")
        ask({**call, **endless, "deadline": 0.01}, 408)
        hang_up(server, path, {**call, **endless})
        statuses.append(499)
        server.idle()
        ask(call, 200)  # refused, if the key still had one in flight
    now = counted(server, path)
    more = {status: now[status] - before.get(status, 0) for status in now}
    assert {status: n for status, n in more.items() if n} == {s: statuses.count(s) for s in statuses}
    rows = server.sql(
        f"select id, status, ended, finish from traces where endpoint = '{path}' and key_name <> 'none' or status = 429 and "
        f"endpoint = '{path}' order by started"
    )
    # What no model computed has a row only where it was refused.
    assert [row["status"] for row in rows] == [s for s in statuses if endless or s != 200]
    assert all(row["finish"] == "timeout" for row in rows if row["status"] == 408)
    assert all(row["ended"] for row in rows) and len({row["id"] for row in rows}) == len(rows)
