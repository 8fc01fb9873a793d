"""Every request is a row: what is kept, what survives, what SQL sees."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from serving import Server, make_catalog, needs_models, program, run, serving

pytestmark = needs_models
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_catalog(tmp_path_factory.mktemp("serve"))


def test_a_row_says_what_happened(catalog: pathlib.Path) -> None:
    with serving(catalog, "--chat-template", "chatml", "-c", "4096") as server:
        body = {
            "model": "gemma",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 6,
            "temperature": 0.5,
            "seed": 3,
            "user": "ada",
            "stop": ["zzz"],
        }
        answer = server.ask("/v1/chat/completions", body, traceparent=PARENT, user_agent="test/1").json
        (row,) = server.sql("select * from traces")
        assert answer["id"] == "chatcmpl-" + row["id"]
        assert row["endpoint"] == "/v1/chat/completions" and row["model"] == "gemma" and row["user"] == "ada"
        assert row["model_sha256"] == server.ask("/v1/models/gemma").json["sha256"]
        assert row["trace_id"] == PARENT[3:35] and row["parent_span_id"] == PARENT[36:52] and row["client"] == "test/1"
        assert (
            row["prompt"].startswith("<|im_start|>user\nHello")
            and json.loads(row["input"])["messages"] == body["messages"]
        )
        assert row["answer"] == answer["choices"][0]["message"]["content"]
        assert row["finish"] == answer["choices"][0]["finish_reason"] and row["status"] == 200
        sampling = json.loads(row["sampling"])
        assert sampling["temperature"] == 0.5 and sampling["seed"] == 3 and "zzz" in sampling["stop"]
        assert row["prompt_tokens"] == answer["usage"]["prompt_tokens"] and row["max_tokens"] == 6
        assert 0 < row["first_token_seconds"] <= row["total_seconds"]
        assert row["queue_seconds"] + row["prefill_seconds"] <= row["total_seconds"] + 0.05
        assert "prompt tokens" in row["why"] and "llama.cpp" in row["engine"] and row["template_hash"]
        # A refusal is a row too, and an embedding.
        server.ask("/v1/completions", {"prompt": []})
        server.ask("/v1/embeddings", {"model": "minilm", "input": "x"})
        seen = server.sql("select endpoint, status, error from traces order by started")
        assert [(r["endpoint"], r["status"]) for r in seen[1:]] == [("/v1/completions", 400), ("/v1/embeddings", 200)]
        assert "prompt" in seen[1]["error"]
        # Scores join.
        assert server.ask("/v1/scores", {"request": answer["id"], "value": 0.25, "name": "helpful"}).status == 200
        run("--catalog", str(catalog), "score", answer["id"][:20], "--label", "good", "--who", "ada")
        assert "there is no request" in run("--catalog", str(catalog), "score", "chatcmpl-0", "--value", "1", code=1)
        joined = server.sql(
            "select s.name, s.value, s.label, t.model from scores s join traces t on s.request = t.id order by s.time"
        )
        assert joined == [
            {"name": "helpful", "value": 0.25, "label": None, "model": "gemma"},
            {"name": "score", "value": None, "label": "good", "model": "gemma"},
        ]
        run("--catalog", str(catalog), "score", "@last", "--value", "1", "--name", "last")
        (last,) = server.sql("select t.endpoint from scores s join traces t on s.request = t.id where s.name = 'last'")
        assert last == {"endpoint": "/v1/embeddings"}
        # A request that runs is seen as such.
        running = threading.Thread(
            target=lambda: server.ask("/v1/completions", {"prompt": "x", "max_tokens": 200, "ignore_eos": True})
        )
        running.start()
        time.sleep(0.7)
        (now,) = server.sql("select finish, why from traces where ended is null")
        assert now == {"finish": None, "why": "running"}
        # It has no place among rows yet: who asks for places gets the rows that have one.
        (placed,) = server.sql("select count(_row_place) as n, count(*) as rows from traces")
        assert placed["n"] == placed["rows"]
        running.join()
        assert server.stop() == 0
    # All of it is in the table, once, and the spool has gone.
    run("--catalog", str(catalog), "log", "traces")
    assert not list((catalog / "spool").glob("w-*"))
    count = json.loads(
        run("--catalog", str(catalog), "sql", "select count(*) n, count(distinct id) d from traces", "--format", "json")
    )
    assert count == {"n": 4, "d": 4}


@pytest.mark.parametrize("mode", ["hash", "none"])
def test_texts_are_not_kept(tmp_path: pathlib.Path, mode: str) -> None:
    catalog = make_catalog(tmp_path)
    with serving(catalog, "gemma", "-c", "2048", "--record", mode) as server:
        server.ask("/v1/completions", {"prompt": "a secret word", "max_tokens": 3})
        (row,) = server.sql("select * from traces")
        assert row["prompt"] is None and row["answer"] is None and row["input"] is None
        assert (row["prompt_hash"] is None) == (mode == "none") and row["answer_tokens"] == 3
        server.stop()
    assert b"secret" not in b"".join(
        p.read_bytes() for p in catalog.rglob("*") if p.is_file() and "models" not in p.parts
    )


def waited(done: Callable[[], bool], seconds: float = 60) -> None:
    """Until something is so, however busy the machine."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def storm(catalog: pathlib.Path, rounds: int, seed: int) -> tuple[set[str], set[str]]:
    """Kills servers at random moments; the ids that clients had seen begin, and end."""
    begun: set[str] = set()
    ended: set[str] = set()
    chance = random.Random(seed)
    for number in range(rounds):
        before = len(ended)
        server = Server(catalog, "gemma", "-c", "4096", "--commit-seconds", "0.3")

        def client(port: int = server.port) -> None:
            try:
                while True:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                    body = json.dumps({"prompt": "Hi", "max_tokens": chance.choice([1, 5, 40]), "stream": True})
                    connection.request("POST", "/v1/completions", body)
                    response = connection.getresponse()
                    request = response.getheader("x-request-id") or ""
                    begun.add(request)
                    if response.read().endswith(b"data: [DONE]\n\n"):
                        ended.add(request)
                    connection.close()
            except (OSError, http.client.HTTPException):
                return

        threads = [threading.Thread(target=client) for _ in range(4)]
        for thread in threads:
            thread.start()
        if number % 4 != 3:  # on a busy machine too, most rounds see an answer to its end; some are killed before
            waited(lambda before=before: len(ended) > before)
        time.sleep(chance.uniform(0.1, 1.2))
        server.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        server.errors.unlink()
    return begun, ended


def test_a_killed_server_loses_no_row(catalog: pathlib.Path) -> None:
    rounds = 50 if os.environ.get("HEADRACE_TEST_CI") else 4
    begun, ended = storm(catalog, rounds, seed=rounds)
    assert len(ended) > rounds / 2

    def check(sql: str) -> None:
        rows = [
            json.loads(line) for line in run("--catalog", str(catalog), "sql", sql, "--format", "json").splitlines()
        ]
        ids = [row["id"] for row in rows]
        assert len(ids) == len(set(ids))
        finished = {row["id"] for row in rows if row["finish"] in ("stop", "length")}
        assert begun <= set(ids) and ended <= finished
        assert all(row["finish"] for row in rows)  # nobody is said to run

    query = "select id, finish from traces where endpoint = '/v1/completions'"
    check(query)  # most of it from spools
    with serving(catalog, "gemma", "-c", "2048") as server:
        time.sleep(1)
        server.stop()
    assert not list((catalog / "spool").glob("w-*"))
    check(query)  # all of it from the table


def test_a_full_disk_costs_rows_not_answers(tmp_path: pathlib.Path) -> None:
    """The spool lies on a small file system of its own."""
    catalog = make_catalog(tmp_path)
    (catalog / "spool").mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", catalog / "spool"], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        with serving(catalog, "gemma", "-c", "2048", "--commit-seconds", "600") as server:
            for _ in range(30):
                assert server.ask("/v1/completions", {"prompt": "word " * 1000, "max_tokens": 1}).status == 200
            load = server.ask("/load").json["traces"]
            assert load["dropped"] > 0 and "No space left" in load["trouble"]
            assert server.ask("/health").json["status"] == "degraded"
            assert "serving goes on" in server.errors.read_text()
            assert "headrace_trace_degraded 1" in server.ask("/metrics").body.decode()
            assert len(server.sql("select id from traces")) > 0
            server.stop()
    finally:
        subprocess.run(["umount", catalog / "spool"], check=True)


def test_a_store_that_is_away(tmp_path: pathlib.Path) -> None:
    """The catalog's folder of traces cannot be written: requests are kept in the spool, and committed later."""
    catalog = make_catalog(tmp_path)
    tables = catalog / "tables"
    with serving(catalog, "gemma", "-c", "2048", "--commit-seconds", "0.2") as server:
        server.ask("/v1/completions", {"prompt": "a", "max_tokens": 1})
        time.sleep(1)
        tables.rename(catalog / "away")
        tables.write_text("in the way")
        for _ in range(5):
            assert server.ask("/v1/completions", {"prompt": "b", "max_tokens": 1}).status == 200
        time.sleep(1)
        assert server.ask("/health").json["status"] == "degraded"
        tables.unlink()
        (catalog / "away").rename(tables)
        until = time.monotonic() + 10
        while server.ask("/health").json["status"] != "ok":
            assert time.monotonic() < until, server.ask("/health").json
            time.sleep(0.2)
        assert len(server.sql("select id from traces")) == 6
        server.stop()


def test_a_clock_that_jumps(tmp_path: pathlib.Path) -> None:
    """Two days back, ten years on, and home again, while answers are written: they go on, and their rows are sound."""
    shim, offset = tmp_path / "clock.so", tmp_path / "offset"
    source = pathlib.Path(__file__).with_name("clock_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    offset.write_text("0")
    catalog = make_catalog(tmp_path)
    clock = {"LD_PRELOAD": str(shim), "HEADRACE_TEST_CLOCK": str(offset)}
    with serving(catalog, "gemma", "-c", "4096", "--commit-seconds", "0.3", env=clock) as server:
        stop = threading.Event()
        answers: list[tuple[int, int]] = []

        def client() -> None:
            while not stop.is_set():
                answer = server.ask(
                    "/v1/completions", {"prompt": "One day", "max_tokens": 24, "timeout": 30, "ignore_eos": True}
                )
                answers.append((answer.status, len(answer.body)))

        clients = [threading.Thread(target=client) for _ in range(3)]
        for thread in clients:
            thread.start()
        for jump in (-2 * 86400, 10 * 365 * 86400, 0):
            so_far = len(answers)
            time.sleep(1.5)
            waited(lambda so_far=so_far: len(answers) >= so_far + 2)
            (tmp_path / "next").write_text(str(jump))
            (tmp_path / "next").rename(offset)  # at once: a half-written file would be another jump
        time.sleep(2.5)
        stop.set()
        for thread in clients:
            thread.join()
        assert len(answers) > 6 and {status for status, _ in answers} == {200}
        health = server.ask("/health").json
        assert health["status"] == "ok" and "the machine's clock jumped by -3153" in health["clock"]
        told = server.errors.read_text()
        assert "jumped by -172800" in told and "jumped by +3155" in told and "serving goes on" in told
        assert "headrace_clock_jumps_total 3" in server.ask("/metrics").body.decode()
        server.stop()
    rows = [
        json.loads(line)
        for line in run(
            *("--catalog", str(catalog), "sql", "--format", "json"),
            "select id, finish, ended >= started as forward, total_seconds from traces",
        ).splitlines()
    ]
    assert len(rows) == len({row["id"] for row in rows}) == len(answers)
    assert all(row["finish"] == "length" and row["forward"] and 0 < row["total_seconds"] < 30 for row in rows)


def test_what_could_not_be_read_is_told(tmp_path: pathlib.Path) -> None:
    """A damaged segment of a server that died: kept, and told by /health and by each command until it is removed."""
    catalog = make_catalog(tmp_path)
    with serving(catalog, "gemma", "-c", "2048") as server:
        server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 1})
        server.stop(signal.SIGKILL)
    (segment,) = (catalog / "spool").glob("w-*/*.seg")
    raw = bytearray(segment.read_bytes())
    raw[40] ^= 1
    segment.write_bytes(raw)
    with serving(catalog, "gemma", "-c", "2048") as server:
        waited(lambda: server.ask("/health").json["status"] == "degraded")
        (kept,) = (catalog / "spool").glob("damaged-*")
        assert str(kept) in server.ask("/health").json["damaged_records"]
        server.stop()
    words = [program(), "--catalog", str(catalog), "ls"]
    assert str(kept) in subprocess.run(words, capture_output=True, text=True, check=True).stderr
    for file in kept.iterdir():
        file.unlink()
    kept.rmdir()
    assert not subprocess.run(words, capture_output=True, text=True, check=True).stderr
