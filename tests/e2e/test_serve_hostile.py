"""Peers that are hostile or unlucky: what they cost others, and what is written down of them."""

from __future__ import annotations

import json
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
LONG = {"prompt": "Tell me a long story.", "max_tokens": 2000, "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A catalog with keys, by their names; its own place is under "catalog"."""
    catalog = make_catalog(tmp_path_factory.mktemp("hostile"))
    at = ("--catalog", str(catalog), "key", "create", "-q")
    made = {"catalog": str(catalog)}
    for name, words in {
        "boss": ["--scopes", "all"],
        "ada": [],
        "bob": [],
        "counted": ["--tpm", "10000"],
        "urgent": ["--max-priority", "5"],
        "one": ["--cache", "team"],
        "two": ["--cache", "team"],
    }.items():
        made[name] = run(*at, name, *words).strip()
    return made


@pytest.fixture(scope="module")
def server(keys: dict[str, str]) -> Iterator[Server]:
    with serving(pathlib.Path(keys["catalog"]), "-c", "4096", "--chat-template", "chatml") as running:
        running.key = keys["boss"]
        yield running


def rows(server: Server, answer: Any) -> list[dict[str, Any]]:
    return server.sql(f"select * from traces where id = '{answer.headers['x-request-id']}'")


def test_a_failed_embedding_is_one_row(server: Server) -> None:
    answer = server.ask("/v1/embeddings", {"model": "minilm", "input": "word " * 2000})
    assert answer.status == 400 and answer.json["error"]["code"] == "context_length_exceeded"
    (row,) = rows(server, answer)
    assert row["finish"] == "error" and row["status"] == 400 and row["model"] == "minilm" and row["model_sha256"]
    assert row["input"] and "tokens" in row["error"]


def test_several_answers_are_charged_as_they_are_told(server: Server, keys: dict[str, str]) -> None:
    body = {"model": "gemma", "prompt": ["Tell me a story.", "One two three"], "n": 3, "max_tokens": 4}
    answer = server.ask("/v1/completions", body)
    usage = answer.json["usage"]
    (row,) = rows(server, answer)
    assert (row["prompt_tokens"], row["answer_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert row["cached_tokens"] <= row["prompt_tokens"]
    # An answer is no longer than the context: that much is set aside, and not more.
    mine = {"authorization": f"Bearer {keys['counted']}"}
    short = {"prompt": "1, 2, 3,", "n": 2, "max_tokens": 1_000_000, "stop": ["5"], "temperature": 0}
    first = server.ask("/v1/completions", short, **mine)
    assert first.status == 200 and 1000 < int(first.headers["x-ratelimit-remaining-tokens"]) < 2000
    assert server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 2}, **mine).status == 200


def test_who_hangs_up_is_charged_for_every_answer(server: Server) -> None:
    body = json.dumps({**LONG, "n": 4, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.key}\r\n"
        peer.sendall(head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        until = time.monotonic() + 60
        while sum(r["answer_tokens"] for r in server.ask("/load").json["requests"]) < 40:
            assert time.monotonic() < until
            time.sleep(0.02)
    server.idle()
    (row,) = server.sql("select * from traces where status = 499 order by started desc limit 1")
    assert row["finish"] == "cancelled" and row["answer_tokens"] >= 40
    assert len(json.loads(row["answers"])) == 4 and 4 <= row["prompt_tokens"] < 10


def test_a_priority_is_the_keys_to_give(server: Server, keys: dict[str, str]) -> None:
    for name, asked, given in (("ada", 900, 0), ("ada", -3, -3), ("urgent", 900, 5), ("urgent", 4, 4)):
        body = {"prompt": "Hi", "max_tokens": 1, "priority": asked}
        answer = server.ask("/v1/completions", body, authorization=f"Bearer {keys[name]}")
        (row,) = rows(server, answer)
        assert (answer.status, row["priority"]) == (200, given)
        assert ("priority" in answer.headers.get("x-headrace-ignored", "")) == (asked != given)


def test_one_key_cannot_see_what_another_computed(server: Server, keys: dict[str, str]) -> None:
    body = {"prompt": "The password of the safe in the cellar is " + "swordfish " * 40, "max_tokens": 1}

    def cached(name: str) -> int:
        usage = server.ask("/v1/completions", body, authorization=f"Bearer {keys[name]}").json["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached("ada") == 0
    assert cached("bob") == 0 and cached("ada") > 30
    assert cached("one") == 0 and cached("two") > 30  # who shares by choice


def test_a_text_that_cannot_fit_is_not_cut(server: Server) -> None:
    huge = "a" * 4_000_000
    for path, body in {
        "/tokenize": {"model": "gemma", "prompt": huge},
        "/v1/messages/count_tokens": {"model": "gemma", "messages": [{"role": "user", "content": huge}]},
        "/v1/embeddings": {"model": "minilm", "input": huge},
    }.items():
        answer = server.ask(path, body)
        assert answer.status == 400, (path, answer.body[:200])
        assert ("bytes" if path == "/v1/embeddings" else "at least") in answer.json["error"]["message"], answer.json
    # What is a little longer than the context is counted.
    longer = server.ask("/tokenize", {"model": "gemma", "prompt": "word " * 6000})
    assert longer.status == 200 and longer.json["count"] > 4096
    # Cut, where that is asked for, to the same vector as the beginning gives.
    vectors = [
        server.ask("/v1/embeddings", {"model": "minilm", "input": text, "truncate_prompt_tokens": 512}).json
        for text in ("word " * 600, "word " * 800_000)
    ]
    assert vectors[0]["data"][0]["embedding"] == pytest.approx(vectors[1]["data"][0]["embedding"], abs=1e-3)
