"""Peers that are hostile or unlucky: what they cost others, and what is written down of them."""

from __future__ import annotations

import contextlib
import gzip
import json
import pathlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import VECTOR_NOISE, Server, make_catalog, needs_models, run, serving

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
    assert vectors[0]["data"][0]["embedding"] == pytest.approx(vectors[1]["data"][0]["embedding"], abs=VECTOR_NOISE)


def test_who_may_not_ask_sends_no_body(server: Server) -> None:
    def said(head: str) -> bytes:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as peer:
            peer.sendall(f"{head}\r\nHost: localhost\r\nContent-Length: 30000000\r\n\r\n".encode())
            return peer.recv(65536)

    assert said("POST /v1/completions HTTP/1.1").startswith(b"HTTP/1.1 401")
    assert said("POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer hr-none").startswith(b"HTTP/1.1 401")
    assert said("POST /nothing HTTP/1.1").startswith(b"HTTP/1.1 404")
    assert said("GET /health HTTP/1.1").startswith(b"HTTP/1.1 413")
    anthropic = said("POST /v1/messages HTTP/1.1")
    assert anthropic.startswith(b"HTTP/1.1 401") and b'"authentication_error"' in anthropic


def test_packed_bodies(server: Server) -> None:
    body = json.dumps({"model": "gemma", "prompt": "Hi", "max_tokens": 1}).encode()
    assert server.ask("/v1/completions", gzip.compress(body), content_encoding="gzip").status == 200
    assert server.ask("/v1/completions", gzip.compress(body)[:-9], content_encoding="gzip").status == 400
    assert server.ask("/v1/completions", body, content_encoding="br").status == 415
    bomb = gzip.compress(b" " * (64 << 20))
    assert server.ask("/v1/completions", bomb, content_encoding="gzip").status == 413


def test_strangers_and_their_pages(keys: dict[str, str]) -> None:
    """`--open`: a stranger may ask for text, from no page of another site, and not for the server's figures."""
    body = {"model": "gemma", "prompt": "Hi", "max_tokens": 1}
    with serving(pathlib.Path(keys["catalog"]), "gemma", "--open", "-c", "1024", "--allow-host", "box.lan") as open_:
        assert open_.ask("/v1/completions", body).status == 200
        assert open_.ask("/metrics").status == 403 and open_.ask("/load").status == 403
        assert open_.ask("/load", authorization=f"Bearer {keys['boss']}").status == 200
        for status, headers in (
            (403, {"host": "evil.example"}),
            (200, {"host": "box.lan"}),
            (403, {"origin": "https://evil.example", "content_type": "text/plain"}),
            (415, {"origin": "http://localhost:3000", "content_type": "text/plain"}),
            (200, {"origin": "http://localhost:3000", "content_type": "application/json"}),
            (200, {"origin": "https://evil.example", "authorization": f"Bearer {keys['ada']}"}),
        ):
            assert open_.ask("/v1/completions", body, **headers).status == status, headers
        # What is told of keys that cannot be read: those that were known stay.
        tables = pathlib.Path(keys["catalog"]) / "tables"
        tables.rename(tables.parent / "away")
        tables.write_text("in the way")
        until = time.monotonic() + 20
        while "keys" not in open_.ask("/health").json:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert "the table of keys cannot be read" in open_.errors.read_text()
        assert open_.ask("/load", authorization=f"Bearer {keys['boss']}").status == 200
        tables.unlink()
        (tables.parent / "away").rename(tables)
        while "keys" in open_.ask("/health").json:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_stopping_waits_for_embeddings_and_for_the_last_byte(keys: dict[str, str]) -> None:
    with serving(pathlib.Path(keys["catalog"]), "minilm", "--open", "--drain", "60") as stopping:
        texts = [f"{i} " + "word " * 200 for i in range(150)]
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(stopping.ask("/v1/embeddings", {"model": "minilm", "input": texts}))
        )
        asking.start()
        until = time.monotonic() + 20
        while not stopping.ask("/load", authorization=f"Bearer {keys['boss']}").json["requests"]:
            assert time.monotonic() < until
        # A large answer that its peer takes slowly.
        body = json.dumps({"model": "minilm", "input": [f"{i}" for i in range(2000)]}).encode()
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", stopping.port))
            head = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
            peer.sendall(head + body)
            got = peer.recv(4096)
            stopping.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            while piece := peer.recv(1 << 20):
                got += piece
        text, _, sent = got.partition(b"\r\n\r\n")
        size = int(text.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert text.startswith(b"HTTP/1.1 200") and len(sent) == size > 4_000_000
        asking.join()
        assert answers[0].status == 200 and len(answers[0].json["data"]) == 150
        assert stopping.process.wait(30) == 0


def run_times(server: Server) -> dict[str, float]:
    """Seconds of processor time of the server's threads, by their names: no load of the machine changes them."""
    times: dict[str, float] = {}
    for thread in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            name = (thread / "comm").read_text().strip()
            spent = int((thread / "schedstat").read_text().split()[0]) / 1e9
            times[name] = times.get(name, 0) + spent
    return times


def test_the_networks_thread_has_time(server: Server) -> None:
    """What takes long is done elsewhere: megabytes of an answer, and the hash of a vocabulary."""
    if not pathlib.Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not tell the threads' processor time")
    server.idle()
    before = run_times(server)
    body = {"model": "gemma", "prompt": list(range(100, 400)), "max_tokens": 1, "echo": True, "logprobs": 100}
    answer = server.ask("/v1/completions", body)
    after = run_times(server)
    assert answer.status == 200 and len(answer.body) > 500_000
    network, workers = (after[name] - before[name] for name in ("hr-http", "hr-serve"))
    assert workers > network, (workers, network)

    def spent(path: str) -> float:
        began = run_times(server)["hr-http"]
        for _ in range(40):
            assert server.ask(path).status == 200
        return run_times(server)["hr-http"] - began

    spent("/tokenizer_info")
    # A vocabulary of 262,144 pieces has megabytes to hash: 131 times the list of models when each call did it, 1 to 11
    # times as it is.
    assert spent("/tokenizer_info") < 40 * spent("/v1/models")
