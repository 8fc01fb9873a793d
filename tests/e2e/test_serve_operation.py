"""Running a server: keys, limits, hostile peers, models that move, stopping."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from serving import GEMMA, Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
LONG = {"prompt": "Tell me a long story.", "max_tokens": 2000, "ignore_eos": True, "temperature": 0}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_catalog(tmp_path_factory.mktemp("serve"))


def raw(server: Server, data: bytes, seconds: float = 20) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as peer:
        peer.sendall(data)
        got = b""
        try:
            while piece := peer.recv(65536):
                got += piece
        except ConnectionResetError:
            pass
        return got


def wait_until_answering(server: Server, requests: int, **headers: str) -> None:
    until = time.monotonic() + 60
    while sum(r["state"] == "answering" for r in server.ask("/load", **headers).json["requests"]) < requests:
        assert time.monotonic() < until
        time.sleep(0.02)


def test_keys(tmp_path: pathlib.Path, catalog: pathlib.Path) -> None:
    at = ("--catalog", str(catalog))
    mine = json.loads(run(*at, "--json", "key", "create", "mine", "--rpm", "3", "--tpm", "100000"))
    one = run(*at, "key", "create", "one", "--concurrent", "1", "-q").strip()
    boss = run(*at, "key", "create", "boss", "--scopes", "all").strip()
    theirs = run(*at, "key", "create", "theirs", "--value", "-", input="sk-from-elsewhere\n")
    assert "sk-from" not in theirs and "the key of 'theirs'" in theirs
    for value, fault in (("short", "8 to 1024"), ("has a space", "printable"), ("sk-from-elsewhere", "'theirs'")):
        assert fault in run(*at, "key", "create", "fourth", "--value", "-", input=value, code=1)
    assert "standard input" in run(*at, "key", "create", "fourth", "--value", "sk-in-the-open", code=1)
    assert mine["key"].startswith("hr-") and mine["key"] not in run(
        *at, "sql", "select * from keys", "--format", "json"
    )
    assert "there is a key 'mine'" in run(*at, "key", "create", "mine", code=1)
    assert "mine" in run(*at, "key", "ls")
    with serving(catalog, "gemma", "-c", "4096") as server:
        body = {"prompt": "Hi", "max_tokens": 2}
        none = server.ask("/v1/completions", body)
        assert none.status == 401 and none.json["error"]["code"] == "invalid_api_key"
        assert server.ask("/v1/completions", body, authorization="Bearer hr-wrong").status == 401
        assert server.ask("/health").status == 200
        assert server.ask("/v1/models/wrong-key", authorization="Bearer hr-wrong").status == 401
        bearer = f"Bearer {mine['key']}"
        first = server.ask("/v1/completions", body, authorization=bearer)
        assert first.status == 200 and first.headers["x-ratelimit-limit-requests"] == "3"
        assert int(first.headers["x-ratelimit-remaining-requests"]) == 2
        assert server.ask("/v1/completions", body, x_api_key=mine["key"]).status == 200
        assert server.ask("/v1/models", api_key=mine["key"]).status == 200  # as Azure's clients send it
        assert server.ask("/v1/models", api_key="hr-wrong").status == 401
        assert server.ask("/v1/models", authorization="Bearer sk-from-elsewhere").status == 200
        server.ask("/v1/completions", body, authorization=bearer)
        limited = server.ask("/v1/completions", body, authorization=bearer)
        assert limited.status == 429 and limited.json["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(limited.headers["retry-after"]) <= 21
        assert server.ask("/metrics", authorization=bearer).status == 403
        told = server.ask("/metrics", authorization=f"Bearer {boss}")
        assert told.status == 200 and b"wrong-key" not in told.body
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            slow = pool.submit(
                server.ask, "/v1/completions", {**LONG, "max_tokens": 100}, authorization=f"Bearer {one}"
            )
            wait_until_answering(server, 1, authorization=f"Bearer {boss}")
            second = server.ask("/v1/completions", body, authorization=f"Bearer {one}")
            assert second.status == 429 and "in flight" in second.json["error"]["message"]
            assert slow.result().status == 200
        run(*at, "key", "revoke", "one")
        until = time.monotonic() + 10
        while server.ask("/v1/completions", body, authorization=f"Bearer {one}").status != 401:
            assert time.monotonic() < until
            time.sleep(0.2)
        told = server.sql("select distinct key, key_name from traces where status = 200")
        assert {"key": mine["id"], "key_name": "mine"} in told
        joined = server.sql(
            "select distinct k.name from traces t join keys k on k.id = t.key where t.key_name = 'mine'"
        )
        assert joined == [{"name": "mine"}]
    # No keys, but strangers: refused.
    bare = tmp_path / "bare"
    run("init", str(bare))
    assert "there are no keys" in run(
        "--catalog", str(bare), "serve", str(GEMMA), "--host", "0.0.0.0", "--port", "0", code=1
    )
    run(*at, "key", "revoke", "mine")
    run(*at, "key", "revoke", "boss")
    run(*at, "key", "revoke", "theirs")


@pytest.fixture(scope="module")
def opened(catalog: pathlib.Path) -> Iterator[Server]:
    """The same catalog, where keys exist by now. Its figures are told to a key alone."""
    watch = run("--catalog", str(catalog), "key", "create", "watch", "--scopes", "all", "-q").strip()
    with serving(
        catalog,
        "gemma",
        "--open",
        "-c",
        "8192",
        "--max-body",
        "100000",
        "--write-seconds",
        "3",
        "--chat-template",
        "chatml",
    ) as running:
        running.key = watch
        yield running


def test_what_is_not_http(opened: Server) -> None:
    server = opened
    assert raw(server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(server, b"GET / HTTP/9.9\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(server, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n").startswith(
        b"HTTP/1.1 400"
    )
    assert raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 100000 + b"\r\n\r\n").startswith(
        b"HTTP/1.1 431"
    )
    large = raw(
        server, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n" + b" " * 200000
    )
    assert large.startswith(b"HTTP/1.1 413") and b"larger than 100000" in large
    chunked = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"4e20\r\n" + b" " * 20000 + b"\r\n") * 6
    )
    assert raw(server, chunked).startswith(b"HTTP/1.1 413")
    old = raw(server, b"GET /health HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.0 200") and old.endswith(b'{"status":"ok"}')
    both = raw(
        server,
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    assert both.count(b"HTTP/1.1 200") == 2  # one connection, two requests at once
    head = raw(server, b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and head.endswith(b"\r\n\r\n")
    body = b'{"prompt": "Hi", "max_tokens": 3, "stream": true}'
    ancient = raw(server, b"POST /v1/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert b"Transfer-Encoding" not in ancient and ancient.endswith(b"data: [DONE]\n\n")
    expect = raw(
        server,
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body), body),
    )
    assert expect.startswith(b"HTTP/1.1 100 Continue") and b"data: [DONE]" in expect
    assert server.ask("/load").json["http"]["malformed"] >= 3


def test_hang_ups_free_their_place(opened: Server) -> None:
    server = opened
    before = server.idle()
    for stream in (False, True):
        body = json.dumps({**LONG, "stream": stream}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as peer:
            peer.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            until = time.monotonic() + 20
            while [r["state"] for r in server.ask("/load").json["requests"]] != ["answering"]:
                assert time.monotonic() < until
                time.sleep(0.05)
    after = server.idle(10)
    assert after["http"]["hang_ups"] == before["http"]["hang_ups"] + 2
    rows = server.sql("select finish, status, why from traces where finish = 'cancelled' order by started desc limit 2")
    assert [r["status"] for r in rows] == [499, 499] and all("hung up" in r["why"] for r in rows)


def test_a_reader_that_does_not_read_is_dropped(opened: Server) -> None:
    server = opened
    body = json.dumps({**LONG, "max_tokens": 4000, "n": 24, "logprobs": 20, "stream": True}).encode()
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", server.port))
        peer.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        time.sleep(1)
        quick = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 2})
        assert quick.status == 200  # nobody else waits for it
        until = time.monotonic() + 300  # that the send queue fills takes as long as the answers do
        while server.ask("/load").json["http"]["too_slow"] == 0:
            assert time.monotonic() < until
            time.sleep(0.5)
    server.idle(10)


def test_a_deadline(opened: Server) -> None:
    before = time.monotonic()
    answer = opened.ask("/v1/completions", {**LONG, "deadline": 0.5})
    assert answer.status == 408 and answer.json["error"]["code"] == "deadline" and time.monotonic() - before < 3
    # 2,000 tokens in half a second: told before anything is computed. What the model may end sooner is begun.
    assert opened.ask("/v1/completions", {**LONG, "deadline": 0.5, "stream": True}).status == 408
    story = {"prompt": "1 2 3 4 5 6 7 8 9 10", "max_tokens": 4000, "logit_bias": {"1": -100}, "temperature": 0}
    events = opened.ask("/v1/completions", {**story, "deadline": 2, "stream": True}).events
    assert len(events) > 1 and events[-1][1]["error"]["code"] == "deadline"


def test_metrics_are_clean(opened: Server) -> None:
    opened.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 4})
    text = opened.ask("/metrics").body.decode()
    for name in (
        "time_to_first_token_seconds_bucket",
        "inter_token_seconds_count",
        "queue_seconds_sum",
        "kv_cells_used",
    ):
        assert f"headrace_{name}" in text
    if promtool := shutil.which("promtool"):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr.strip(), done.stdout + done.stderr


def test_labels_are_names_of_routes(opened: Server) -> None:
    """What strangers ask for makes no new series."""
    for path, method, status in (
        ("/v1/models/stray-1", "POST", 405),
        ("/v1/models/stray-2", "GET", 404),
        ("/stray-3", "GET", 404),
        ("/v1/stray-4", "PUT", 404),
    ):
        assert opened.ask(path, method=method).status == status
    assert (
        opened.ask("/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}).status
        == 200
    )
    assert opened.ask("/models").json == opened.ask("/v1/models").json
    labels = set(re.findall(r'endpoint="([^"]*)"', opened.ask("/metrics").body.decode()))
    assert {"other", "/v1/models/{model}", "/v1/chat/completions"} <= labels
    assert labels <= {"other", *opened.ask("/openapi.json").json["paths"]}
    wrong = opened.ask("/v1/messages", method="GET")
    assert wrong.status == 405 and wrong.headers["allow"] == "POST" and wrong.json["type"] == "error"
    told = opened.ask("/").body.decode().split()
    assert set(opened.ask("/openapi.json").json["paths"]) - {"/"} <= set(told)


def test_top(opened: Server) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        slow = pool.submit(opened.ask, "/v1/completions", {**LONG, "max_tokens": 600})
        time.sleep(0.5)
        seen = ""
        while not re.search(r"decode +[1-9]", seen) and not slow.done():  # a busy machine may not decode for seconds
            seen = run("top", opened.url, "-n", "3", "--every", "0.5", "--key", opened.key)
        assert slow.result().status == 200
    assert "gemma" in seen and "1 running" in seen and "answering" in seen and "decode" in seen
    assert re.search(r"decode +[1-9]", seen), seen
    assert json.loads(run("--json", "top", opened.url, "-n", "1", "--key", opened.key))["models"]
    assert "127.0.0.1:9" in run("top", "http://127.0.0.1:9", "-n", "1", code=1)


def test_many_idle_connections(opened: Server) -> None:
    def memory() -> int:
        text = pathlib.Path(f"/proc/{opened.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", text)[1])  # type: ignore[index]

    before = memory()
    peers = []
    for _ in range(500):
        peer = socket.create_connection(("127.0.0.1", opened.port))
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        peers.append(peer)
    for peer in peers:
        assert peer.recv(4096).startswith(b"HTTP/1.1 200")
    grown = memory() - before
    assert opened.ask("/load").json["http"]["connections"] >= 500
    for peer in peers:
        peer.close()
    assert grown < 500 * 40, f"{grown / 500:.1f} KB a connection"


def test_configuration(tmp_path: pathlib.Path) -> None:
    shown = run("serve", "--print-config", "--port", "9")
    assert "port=9" in shown.replace(" ", "") and "max-itl" in shown
    config = tmp_path / "serve.toml"
    config.write_text('port = 1234\nrecord = "hash"\nslots = 4\n')
    assert "port=1234" in run("serve", "--config", str(config), "--print-config").replace(" ", "")
    over = run("serve", "--config", str(config), "--print-config", "--port", "7").replace(" ", "")
    assert "port=7" in over and "slots=4" in over
    environment = {"HEADRACE_SERVE_PORT": "55", "PATH": "/usr/bin"}
    assert "port=55" in run("serve", "--config", str(config), "--print-config", env=environment).replace(" ", "")
    config.write_text("wat = 1\n")
    assert "there is no option 'wat'" in run("serve", "--config", str(config), code=1)
    config.write_text("port = many\n")
    assert "port" in run("serve", "--config", str(config), code=1)
    assert "needs" in run("serve", str(GEMMA), "--memory", "100MB", code=1)
    assert "no size" in run("serve", str(GEMMA), "--memory", "lots", code=1)


def test_tls(tmp_path: pathlib.Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            key,
            "-out",
            certificate,
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ],
        check=True,
        capture_output=True,
    )
    with serving(
        None, f"g={GEMMA}", "-c", "2048", "--certificate", str(certificate), "--private-key", str(key)
    ) as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(f"{server.url}/v1/models", context=context) as answer:
            assert json.load(answer)["data"][0]["id"] == "g"
        body = json.dumps({"prompt": "Hi", "max_tokens": 5, "stream": True}).encode()
        with urllib.request.urlopen(f"{server.url}/v1/completions", body, context=context) as answer:
            assert answer.read().endswith(b"data: [DONE]\n\n")
        # A peer that takes its leave (close_notify) has hung up, though its connection stays.
        body = json.dumps({**LONG, "max_tokens": 1500}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with (
            socket.create_connection(("127.0.0.1", server.port)) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as peer,
        ):
            peer.sendall(head + body)

            def load() -> dict[str, Any]:
                with urllib.request.urlopen(f"{server.url}/load", context=context) as answer:
                    return dict(json.load(answer))

            until = time.monotonic() + 20
            while not load()["requests"]:
                assert time.monotonic() < until
            peer.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                peer.unwrap()
            until = time.monotonic() + 20
            while load()["http"]["hang_ups"] == 0:
                assert time.monotonic() < until
                time.sleep(0.05)
    missing = run("serve", str(GEMMA), "--certificate", str(certificate), "--port", "0", code=1)
    assert "both a certificate and its private key" in missing


def test_several_hosts_and_a_socket_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "s.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()  # as a killed server leaves it
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        six = True
    except OSError:
        six = False
    hosts = ("--host", "127.0.0.1", "--host", f"unix:{path}", *(("--host", "::1") if six else ()))

    def health(family: int, address: object) -> bytes:
        with socket.socket(family) as peer:
            peer.connect(address)
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            got = b""
            while piece := peer.recv(4096):
                got += piece
            return got

    with serving(None, f"g={GEMMA}", "-c", "1024", *hosts) as server:
        assert health(socket.AF_INET, ("127.0.0.1", server.port)).startswith(b"HTTP/1.1 200")
        if six:
            assert health(socket.AF_INET6, ("::1", server.port)).startswith(b"HTTP/1.1 200")
        assert health(socket.AF_UNIX, str(path)).startswith(b"HTTP/1.1 200")
        assert path.stat().st_mode & 0o777 == 0o660
        assert "already" in run("serve", str(GEMMA), "-c", "1024", "--host", f"unix:{path}", code=1)
        assert server.stop() == 0
    assert not path.exists()
    path.write_text("mine")
    assert "is no socket" in run("serve", str(GEMMA), "-c", "1024", "--host", f"unix:{path}", code=1)


def test_stopping_waits_for_what_runs(catalog: pathlib.Path) -> None:
    watcher = run("--catalog", str(catalog), "key", "create", "watcher", "--scopes", "admin").strip()
    with (
        serving(catalog, "gemma", "--open", "-c", "4096", "--drain", "20") as server,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        running = pool.submit(server.ask, "/v1/completions", {**LONG, "max_tokens": 60})
        wait_until_answering(server, 1, authorization=f"Bearer {watcher}")
        server.process.send_signal(signal.SIGTERM)
        assert running.result().status == 200
        assert server.process.wait(20) == 0
    with serving(catalog, "gemma", "--open", "-c", "4096", "--drain", "0.3") as server:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = pool.submit(server.ask, "/v1/completions", {**LONG, "max_tokens": 3000})
            streaming = pool.submit(server.ask, "/v1/completions", {**LONG, "max_tokens": 3000, "stream": True})
            wait_until_answering(server, 2, authorization=f"Bearer {watcher}")
            server.process.send_signal(signal.SIGTERM)
            cut = running.result()
            assert cut.status == 503 and cut.json["error"]["code"] == "shutting_down"
            assert streaming.result().events[-1][1]["error"]["code"] == "shutting_down"
            assert server.process.wait(20) == 0
        found = json.loads(
            run(
                "--catalog", str(catalog), "sql", "select count(*) c from traces where status = 503", "--format", "json"
            )
        )
        assert found["c"] >= 2


def test_a_model_moves_while_it_serves(tmp_path: pathlib.Path) -> None:
    catalog = make_catalog(tmp_path)
    at = ("--catalog", str(catalog))
    other = tmp_path / "other.gguf"
    run("model", "quantize", str(GEMMA), str(other), "--type", "Q4_0", "--no-speed")
    with serving(catalog, "gemma", "-c", "4096") as server:
        old = server.ask("/v1/models").json["data"][0]["sha256"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            stop = threading.Event()

            def ask() -> list[int]:
                codes = []
                while not stop.is_set():
                    codes.append(server.ask("/v1/completions", {"prompt": "One two", "max_tokens": 8}).status)
                return codes

            load = [pool.submit(ask) for _ in range(3)]
            time.sleep(0.5)
            run(*at, "model", "add", str(other), "--name", "gemma", "-q")
            moved = time.monotonic()
            while server.ask("/v1/models").json["data"][0]["sha256"] == old and time.monotonic() < moved + 60:
                time.sleep(0.05)
            time.sleep(2)
            stop.set()
            codes = [code for one in load for code in one.result()]
        assert codes and set(codes) == {200}
        # Nothing that answers is slower for it: only the compilers of grammars let others go first.
        for thread in pathlib.Path(f"/proc/{server.process.pid}/task").iterdir():
            fields = (thread / "stat").read_text()
            name, nice = (
                fields[fields.index("(") + 1 : fields.rindex(")")],
                int(fields[fields.rindex(")") :].split()[17]),
            )
            assert nice == 0 or name == "hr-grammar", (name, nice)
        assert len(server.sql("select distinct model_sha256 from traces where model = 'gemma'")) == 2
        # A file that cannot be loaded changes nothing.
        assert server.ask("/health").json["status"] == "ok"
