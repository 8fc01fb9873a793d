"""Models that are loaded when they are asked for, and sleep when they are not."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from serve_requests import settled
from serving import GEMMA, MINILM, Server, make_catalog, needs_models, program, run, serving

pytestmark = needs_models
HELLO = {"model": "gemma", "prompt": "Hello", "max_tokens": 2}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_catalog(tmp_path_factory.mktemp("sleep"))


def model(server: Server, name: str) -> dict[str, Any]:
    return next(one for one in server.ask("/load").json["models"] if one["name"] == name)


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def memory(server: Server) -> int:
    """Bytes that it holds now."""
    pages = pathlib.Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def metric(server: Server, name: str, of: str = "gemma") -> float:
    lines = server.ask("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith(f'{name}{{model="{of}"}}')).split()[-1])


def test_first_use_loads(catalog: pathlib.Path) -> None:
    with serving(catalog, "--load", "none", "-c", "2048", "--alias", "gpt-4o=gemma") as server:
        listed = {one["id"]: one for one in server.ask("/v1/models").json["data"]}
        assert {name: (one["state"], one["kind"]) for name, one in listed.items()} == {
            "gemma": ("asleep", "language"),
            "minilm": ("asleep", "embedding"),
            "gpt-4o": ("asleep", "language"),
        }
        assert listed["gemma"]["sha256"] is None
        assert server.ask("/v1/models", anthropic_version="2023-06-01").json["data"][0]["max_tokens"] is None
        health = server.ask("/health").json
        assert health == {"status": "ok", "not_loaded": {"gemma": "asleep", "minilm": "asleep"}}
        assert server.ask("/ready").status == 200
        assert server.ask("/props").json["is_sleeping"] is True
        assert metric(server, "headrace_model_ready") == 0
        # Many at once: it is loaded once, for all of them.
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(server.ask, "/v1/completions", {**HELLO, "model": "gpt-4o"}) for _ in range(8)]
            assert [one.result().status for one in asked] == [200] * 8
        assert model(server, "gemma")["loads"] == 1 and model(server, "gemma")["load_seconds"] > 0
        assert model(server, "minilm")["state"] == "asleep"
        assert server.ask("/health").json["not_loaded"] == {"minilm": "asleep"}
        entry = server.ask("/v1/models/gemma").json
        assert entry["state"] == "ready" and entry["sha256"] and entry["max_model_len"] == 2048
        assert metric(server, "headrace_model_ready") == 1 and metric(server, "headrace_model_loads_total") == 1
        vectors = server.ask("/v1/embeddings", {"input": "Hello"})
        assert vectors.status == 200 and model(server, "minilm")["loads"] == 1
        # What waited for a model says so: its time in the queue is the time of the load, or more.
        rows = server.sql("select queue_seconds, total_seconds from traces where status = 200 order by started limit 1")
        assert 0.5 * model(server, "gemma")["load_seconds"] < rows[0]["queue_seconds"] <= rows[0]["total_seconds"]
        wrong = server.ask("/v1/completions", {**HELLO, "model": "none"})
        assert wrong.status == 404 and "there are gemma, minilm, gpt-4o" in wrong.json["error"]["message"]


def test_every_endpoint_wakes_its_model(catalog: pathlib.Path) -> None:
    chat = [{"role": "user", "content": "Hello"}]
    calls: list[tuple[str, dict[str, Any], str]] = [
        ("/tokenize", {"content": "Hello"}, "gemma"),
        ("/v1/messages/count_tokens", {"model": "gemma", "messages": chat}, "gemma"),
        ("/v1/messages", {"model": "gemma", "messages": chat, "max_tokens": 1, "stream": True}, "gemma"),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}, "minilm"),
        ("/v1/score", {"text_1": "a", "text_2": "b"}, "minilm"),
    ]
    with serving(
        catalog, "--load", "none", "--sleep-after", "0.2s", "-c", "1024", "--chat-template", "chatml"
    ) as server:
        for path, body, name in calls:
            until(lambda name=name: model(server, name)["state"] == "asleep")
            loads = model(server, name)["loads"]
            assert server.ask(path, body).status == 200, path
            assert model(server, name)["loads"] == loads + 1


def test_sleep_keeps_prefixes_and_counts(catalog: pathlib.Path) -> None:
    long = {**HELLO, "prompt": "The mill stands by the river. " * 60, "max_tokens": 4, "temperature": 0}
    with serving(catalog, "gemma", "--sleep-after", "1s", "-c", "2048") as server:
        assert model(server, "gemma")["state"] == "ready"  # all are loaded at the start, unless told otherwise
        first = settled(server, "/v1/completions", long).json
        awake = memory(server)
        steps = metric(server, "headrace_steps_total")
        until(lambda: model(server, "gemma")["state"] == "asleep")
        assert server.ask("/health").json == {"status": "ok", "not_loaded": {"gemma": "asleep"}}
        until(lambda: memory(server) < awake - (100 << 20))  # it has given its weights and cells back
        again = server.ask("/v1/completions", long).json
        assert again["choices"][0]["text"] == first["choices"][0]["text"]
        assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 300
        assert metric(server, "headrace_model_sleeps_total") == 1
        assert steps > 0
        until(lambda: metric(server, "headrace_steps_total") > steps)  # a busy engine tells its figures now and then
        # While somebody reads, it stays, however long that takes.
        endless = {**HELLO, "max_tokens": 1500, "ignore_eos": True, "stream": True}
        connection = server.connect()
        connection.request("POST", "/v1/completions", json.dumps(endless))
        response = connection.getresponse()
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert response.readline() and model(server, "gemma")["state"] == "ready"
        connection.close()


def test_models_take_turns_in_too_little_memory(tmp_path: pathlib.Path) -> None:
    """Whoever has had no request for longest gives way; who answers does not."""
    other = tmp_path / "other.gguf"
    shutil.copyfile(GEMMA, other)
    both = (f"one={GEMMA}", f"two={other}", "--load", "one", "--memory", "400MB", "-c", "1024")
    with serving(None, *both) as server:
        for name, left in (("two", "one"), ("one", "two"), ("two", "one")):
            assert server.ask("/v1/completions", {**HELLO, "model": name}).status == 200
            assert model(server, name)["state"] == "ready" and model(server, left)["state"] == "asleep"
        endless = {**HELLO, "model": "two", "max_tokens": 1000, "ignore_eos": True, "stream": True}
        connection = server.connect()
        connection.request("POST", "/v1/completions", json.dumps(endless))
        assert connection.getresponse().readline()
        refused = server.ask("/v1/completions", {**HELLO, "model": "one"})
        assert refused.status == 503 and refused.headers["retry-after"] == "5"
        assert (
            "'one' needs" in refused.json["error"]["message"] and refused.json["error"]["code"] == "model_unavailable"
        )
        connection.close()
    assert "needs" in run("serve", *both[:2], "--port", "0", "--memory", "400MB", "-c", "1024", code=1)


def test_a_failed_load_is_told_and_not_for_ever(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "model.gguf"
    shutil.copyfile(MINILM, path)
    with serving(None, f"m={path}", "--load", "none") as server:
        path.write_bytes(b"GGUF" + b"\0" * 100)
        ask = {"model": "m", "input": "Hello"}
        refused = server.ask("/v1/embeddings", ask)
        assert refused.status == 503 and refused.headers["retry-after"] == "5"
        assert "cannot be loaded" in refused.json["error"]["message"]
        health = server.ask("/health").json
        assert health["status"] == "degraded" and "'m' cannot be loaded" in health["models"]
        assert "cannot be loaded" in model(server, "m")["trouble"] or model(server, "m")["trouble"]
        shutil.copyfile(MINILM, path)
        until(lambda: server.ask("/v1/embeddings", ask).status == 200)
        assert server.ask("/health").json == {"status": "ok"}
        assert "trouble" not in model(server, "m")


@contextlib.contextmanager
def slow_to_load(catalog: pathlib.Path, folder: pathlib.Path, *words: str) -> Iterator[Server]:
    """Loads take half a minute: the program that tries new files takes its time, and none was tried here."""
    slow = folder / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 30\nexec {program()} "$@"\n')
    slow.chmod(0o755)
    env = {"HEADRACE_PROGRAM": str(slow), "HEADRACE_CACHE": str(folder / "cache")}
    with serving(catalog, "gemma", "--load", "none", "-c", "512", *words, env=env) as server:
        yield server


def test_who_waits_for_a_load_may_leave(catalog: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with slow_to_load(catalog, tmp_path) as server:
        body = json.dumps(HELLO).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.sendall(head + body)
            until(lambda: model(server, "gemma")["waiting_for_load"] == 1)
            assert model(server, "gemma")["state"] == "loading"
            assert [one["state"] for one in server.ask("/load").json["requests"]] == ["loading"]
        until(lambda: model(server, "gemma")["waiting_for_load"] == 0)
        late = server.ask("/v1/completions", {**HELLO, "deadline": 0.3})
        assert late.status == 408 and late.json["error"]["code"] == "deadline"
        assert model(server, "gemma")["waiting_for_load"] == 0 and server.ask("/load").json["requests"] == []
        assert model(server, "gemma")["state"] == "loading"
        rows = server.sql("select status, finish from traces order by started desc limit 2")
        assert rows == [{"status": 408, "finish": "timeout"}, {"status": 499, "finish": "cancelled"}]
        # No thread waits with them: others are answered, more of them than there are threads.
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(server.ask, "/v1/completions", {**HELLO, "deadline": 2}) for _ in range(8)]
            until(lambda: model(server, "gemma")["waiting_for_load"] == 8)
            assert server.ask("/v1/completions", {"prompt": 5}).status == 400
            assert {one.result().status for one in waiting} == {408}


def test_the_end_while_it_loads(catalog: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with slow_to_load(catalog, tmp_path, "--drain", "0") as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        waits = pool.submit(server.ask, "/v1/completions", HELLO)
        until(lambda: model(server, "gemma")["waiting_for_load"] == 1)
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < 20  # the load takes 30 s: it did not wait for it
        assert waits.result().status == 503 and waits.result().json["error"]["code"] == "shutting_down"


def test_what_is_loaded_must_be_served() -> None:
    told = run("serve", f"gemma={GEMMA}", "--load", "gema", "-c", "512", "--port", "0", code=1)
    assert "'gema' cannot be loaded: it is not served; there are gemma" in told
    assert "sleep-after" in run("serve", f"gemma={GEMMA}", "--sleep-after", "5 parsecs", code=2)
