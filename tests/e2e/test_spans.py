"""Spans of anyone: OTLP/HTTP in, rows of `traces` out; what is acknowledged survives; traces as trees and as a page."""

from __future__ import annotations

import base64
import concurrent.futures
import gzip
import html.parser
import http.client
import json
import os
import pathlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import browser
import pytest
from serving import Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def span(number: int, trace: str = TRACE, parent: int | None = None, **more: Any) -> dict[str, Any]:
    began = 1_700_000_000_000_000_000 + number * 1_000_000
    told = {"traceId": trace, "spanId": f"{number + 1:016x}", "name": f"span {number}", "kind": 1,
            "startTimeUnixNano": str(began), "endTimeUnixNano": str(began + 500_000), **more}  # fmt: skip
    return told if parent is None else {**told, "parentSpanId": f"{parent + 1:016x}"}


def attributes(**values: Any) -> list[dict[str, Any]]:
    def value(one: Any) -> dict[str, Any]:
        return {"intValue": str(one)} if isinstance(one, int) else {"doubleValue": one} if isinstance(one, float) else {"stringValue": one}  # fmt: skip

    return [{"key": name.replace("__", "."), "value": value(one)} for name, one in values.items()]


def export(*spans: dict[str, Any], service: str = "app") -> dict[str, Any]:
    resource = {"attributes": attributes(service__name=service)}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "test"}, "spans": list(spans)}]}]
    }


def field(number: int, data: bytes) -> bytes:
    """A protobuf field of bytes."""
    length, size = b"", len(data)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def protobuf(trace: bytes, identity: bytes, name: str) -> bytes:
    one = field(1, trace) + field(2, identity) + field(5, name.encode())
    return field(1, field(2, field(2, one)))


JSON = {"content_type": "application/json"}
PROTOBUF = {"content_type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_catalog(tmp_path_factory.mktemp("spans"))


@pytest.fixture(scope="module")
def server(catalog: pathlib.Path) -> Iterator[Server]:
    with serving(catalog, "minilm", "--commit-seconds", "1") as running:
        yield running


def test_what_is_sent_is_a_row(server: Server) -> None:
    said = attributes(gen_ai__operation__name="chat", gen_ai__request__model="gpt-x", gen_ai__usage__input_tokens=7,
                      gen_ai__usage__output_tokens=9, gen_ai__usage__cost=0.5, session__id="s")  # fmt: skip
    answer = server.ask("/v1/traces", export(span(0), span(1, parent=0, attributes=said)), **JSON)
    assert (answer.status, answer.json) == (200, {}) and answer.headers["content-type"] == "application/json"
    rows = server.sql(f"select * from traces where trace_id = '{TRACE}' order by started")
    assert [row["name"] for row in rows] == ["span 0", "span 1"]
    row = rows[1]
    assert row["id"] == TRACE + row["span_id"] and row["parent"] == rows[0]["span_id"] and row["service"] == "app"
    assert row["model"] == "gpt-x" and row["prompt_tokens"] == 7 and row["answer_tokens"] == 9 and row["cost"] == 0.5
    assert row["session"] == "s" and row["kind"] == "internal" and row["total_seconds"] == 0.0005
    assert json.loads(row["attributes"])["gen_ai.request.model"] == "gpt-x"
    assert json.loads(row["resource"]) == {"service.name": "app", "otel.scope.name": "test"}
    # Scores join, as those of requests do.
    assert server.ask("/v1/scores", {"request": row["id"], "value": 1, "name": "good"}).status == 200


def test_protobuf_is_answered_in_protobuf(server: Server) -> None:
    trace = bytes(range(16))
    body = protobuf(trace, b"12345678", "a") + protobuf(trace, b"short", "b")
    answer = server.ask("/v1/traces", body, **PROTOBUF)
    assert answer.status == 200 and answer.headers["content-type"] == "application/x-protobuf"
    assert answer.body[:2] == b"\x0a" + bytes([len(answer.body) - 2]) and answer.body[2:4] == b"\x08\x01"
    assert b"span_id" in answer.body
    packed = server.ask(
        "/v1/traces", gzip.compress(protobuf(trace, b"87654321", "c")), content_encoding="gzip", **PROTOBUF
    )
    assert packed.status == 200 and packed.body == b""
    names = server.sql(f"select name from traces where trace_id = '{trace.hex()}' order by name")
    assert names == [{"name": "a"}, {"name": "c"}]
    wrong = server.ask("/v1/traces", b"\xff\xff", **PROTOBUF)
    assert (
        wrong.status == 400
        and wrong.headers["content-type"] == "application/x-protobuf"
        and wrong.body[:2] == b"\x08\x03"
    )


def test_what_is_wrong_is_told(server: Server) -> None:
    for body, kind, status in [
        (b"{", "application/json", 400),
        (b"x", "text/plain", 415),
        (b"{}", "application/json", 200),
    ]:
        assert server.ask("/v1/traces", body, content_type=kind).status == status
    assert server.ask("/v1/traces", b"x", content_type="application/json", content_encoding="gzip").status == 400
    assert server.ask("/v1/traces", method="GET").status == 405
    partial = server.ask("/v1/traces", export({"traceId": "zz"}), **JSON).json["partialSuccess"]
    assert partial["rejectedSpans"] == "1" and "trace_id" in partial["errorMessage"]


def test_repeats_are_kept_once(server: Server) -> None:
    body = export(span(0, trace="1" * 32), span(1, trace="1" * 32))
    for _ in range(3):
        assert server.ask("/v1/traces", body, **JSON).status == 200
    assert server.sql(f"select count(*) n from traces where trace_id = '{'1' * 32}'") == [{"n": 2}]


def test_a_key_needs_the_scope(tmp_path: pathlib.Path) -> None:
    catalog = make_catalog(tmp_path)
    keys = {
        scope: run("--catalog", str(catalog), "key", "create", scope, "--scopes", scope, "-q").strip()
        for scope in ("inference", "record")
    }
    with serving(catalog, "minilm") as server:
        for scope, status in [("inference", 403), ("record", 200)]:
            answer = server.ask("/v1/traces", export(span(3)), authorization=f"Bearer {keys[scope]}", **JSON)
            assert answer.status == status
        assert server.ask("/v1/traces", export(span(3)), **JSON).status == 401
        (row,) = server.sql(f"select key_name from traces where trace_id = '{TRACE}'")
        assert row["key_name"] == "record"


def test_a_request_is_a_span_of_its_callers_trace(server: Server, catalog: pathlib.Path) -> None:
    trace = "a" * 32
    assert server.ask("/v1/traces", export(span(0, trace=trace)), **JSON).status == 200
    server.ask("/v1/embeddings", {"model": "minilm", "input": "x"}, traceparent=f"00-{trace}-{1:016x}-01")
    shown = json.loads(run("--catalog", str(catalog), "trace", "show", trace[:8], "--json"))
    assert [(one["name"], one["depth"]) for one in shown["spans"] if "phase" not in one] == [
        ("span 0", 0), ("embeddings minilm", 1),
    ]  # fmt: skip
    # Without a caller it is a trace by itself, which bears its id.
    server.ask("/v1/embeddings", {"model": "minilm", "input": "y"})
    (row,) = server.sql(
        "select id, trace_id, span_id, service, kind from traces where endpoint is not null order by started desc limit 1"
    )
    assert row["trace_id"] == row["id"] and row["span_id"] == row["id"][16:]
    assert row["service"] == "headrace" and row["kind"] == "server"
    assert "embeddings minilm" in run("--catalog", str(catalog), "trace", "show", "@last")


def test_a_trace_is_a_tree(server: Server, catalog: pathlib.Path) -> None:
    trace = "b" * 32
    hostile = "\x1b[31m</script><img src=x onerror=alert(1)>\u202e"
    spans = [
        span(0, trace=trace, attributes=attributes(gen_ai__operation__name="invoke_agent")),
        span(
            1, trace=trace, parent=0, attributes=attributes(gen_ai__usage__input_tokens=1200, gen_ai__usage__cost=0.25)
        ),
        span(
            2,
            trace=trace,
            parent=0,
            attributes=attributes(gen_ai__usage__input_tokens=34, gen_ai__usage__output_tokens=5),
        ),
        span(3, trace=trace, parent=77, name=hostile, status={"code": 2, "message": "no luck"}),
    ]
    assert server.ask("/v1/traces", export(*spans), **JSON).status == 200
    cli = ("--catalog", str(catalog), "trace")
    shown = json.loads(run(*cli, "show", trace, "--json"))
    assert [(one["name"], one["depth"]) for one in shown["spans"]] == [
        ("span 0", 0),
        ("span 1", 1),
        ("span 2", 1),
        (hostile, 0),
    ]
    assert (
        shown["spans"][0]["prompt_tokens"] == 1234 == shown["prompt_tokens"]
        and shown["cost"] == 0.25
        and shown["errors"] == 1
    )
    printed = run(*cli, "show", trace[:6])
    assert "1,234 → 5" in printed and "$0.25" in printed and "no luck" in printed and "\x1b" not in printed
    assert any(line.split()[0] == trace for line in run(*cli, "ls", "--where", "error = 'no luck'").splitlines())
    listed = [json.loads(line) for line in run("--json", *cli, "ls", "--limit", "50").splitlines()]
    assert next(one for one in listed if one["trace"] == trace)["spans"] == 4
    assert "there is no trace" in run(*cli, "show", "c" * 32, code=1)
    page = pathlib.Path(catalog.parent / "trace.html")
    run(*cli, "show", trace, "--html", str(page))
    text = page.read_text()
    assert "http://" not in text and "https://" not in text and "<img src=x" not in text

    class Scripts(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[tuple[str, str]] = []
            self.inside: str | None = None

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.inside = dict(attrs).get("id") or "" if tag == "script" else None
            assert tag != "img"

        def handle_data(self, data: str) -> None:
            if self.inside is not None and data.strip():
                self.found.append((self.inside, data))

    parser = Scripts()
    parser.feed(text)
    by_id = dict(parser.found)
    assert json.loads(by_id["waterfall"])["depth"] == [0, 1, 1, 0]
    assert "attributes" in json.loads(by_id["texts0"])[0]


def test_a_browser_draws_the_page(server: Server, catalog: pathlib.Path, tmp_path: pathlib.Path) -> None:
    if browser.find() is None:
        pytest.skip("no Chromium is on the path")
    trace, count = "e" * 32, 30_000
    hostile = "</script><script>document.title = 'taken'</script>"
    said = attributes(gen_ai__input__messages=json.dumps([{"role": "user", "content": hostile + " " + "word " * 100}]))
    for first in range(0, count, 1000):
        spans = [
            span(n, trace=trace, parent=n // 2 if n else None, name=hostile, attributes=said)
            for n in range(first, first + 1000)
        ]
        assert server.ask("/v1/traces", export(*spans), **JSON).status == 200
    page = tmp_path / "trace.html"
    run("--catalog", str(catalog), "trace", "show", trace, "--html", str(page))
    assert page.stat().st_size > count * 1000
    with browser.Browser() as opened:
        tab = opened.open(page.as_uri())
        assert tab.evaluate("document.title") == "Trace eeeeeeee"
        assert "30,000 spans" in tab.evaluate("document.body.innerText")
        assert 10 < tab.evaluate("document.querySelectorAll('.row').length") < 200  # those in sight
        assert "word word" in tab.evaluate("document.getElementById('detail').innerText")
        assert tab.errors == [] and tab.asked == [page.as_uri()] and tab.first_paint() > 0


def test_pictures_leave_the_texts(server: Server, catalog: pathlib.Path) -> None:
    picture = random.Random(1).randbytes(9000)
    text = json.dumps([{"role": "user", "content": "data:image/png;base64," + base64.b64encode(picture).decode()}])
    said = attributes(gen_ai__input__messages=text)
    turns = [span(n, trace="d" * 32, attributes=said) for n in range(2)]  # each has all that was said before
    for one in turns:
        assert server.ask("/v1/traces", export(one), **JSON).status == 200
    row, _ = server.sql(f"select input, attributes, media from traces where trace_id = '{'d' * 32}'")
    (media,) = json.loads(row["media"])
    assert media["type"] == "image/png" and media["bytes"] == len(picture)
    assert f"media:sha256:{media['sha256']}" in row["input"] and len(row["attributes"]) < 1000
    until = time.monotonic() + 60
    while "hr.media" not in run("--catalog", str(catalog), "ls"):  # it is made when the first of it is committed
        assert time.monotonic() < until
        time.sleep(0.2)
    assert server.sql(f"select kind, format, run from hr.media where sha256 = '{media['sha256']}'") == [
        {"kind": "image", "format": "image/png", "run": None}
    ]
    page = pathlib.Path(catalog.parent / "pictures.html")
    run("--catalog", str(catalog), "trace", "show", "d" * 32, "--html", str(page))
    assert base64.b64encode(picture).decode() in page.read_text()
    # One that nobody has committed yet, too.
    other = base64.b64encode(random.Random(2).randbytes(9000)).decode()
    said = attributes(
        gen_ai__input__messages=json.dumps([{"role": "user", "content": "data:image/png;base64," + other}])
    )
    assert server.ask("/v1/traces", export(span(0, trace="f" * 32, attributes=said)), **JSON).status == 200
    run("--catalog", str(catalog), "trace", "show", "f" * 32, "--html", str(page))
    assert other in page.read_text()


def exporter(server: Server, worker: int, acknowledged: list[str]) -> None:
    """Sends batch after batch, as SDKs do: without an answer, the same batch again, until the server is gone."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for batch in range(10_000):
        numbers = [batch * 8 + i for i in range(8)]
        body = json.dumps(export(*(span(n, trace=f"{worker + 1:032x}") for n in numbers)))
        for attempt in range(3):
            try:
                connection.request("POST", "/v1/traces", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if attempt == 2:
                    return
                continue
            if answer.status == 200:
                acknowledged += [f"{worker + 1:032x}{n + 1:016x}" for n in numbers]
                if batch % 5 == 0 and attempt == 0:
                    continue  # the answer got lost on the way: the sender repeats
            break


def test_what_was_acknowledged_survives_kills(tmp_path: pathlib.Path) -> None:
    catalog = make_catalog(tmp_path)
    acknowledged: list[str] = []
    rounds, wait = 100 if os.environ.get("HEADRACE_TEST_LONG") else 3, random.Random(5)
    for round_ in range(rounds):
        with serving(catalog, "minilm", "--commit-seconds", "0.2") as server:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                sent = [pool.submit(exporter, server, round_ * 2 + w, acknowledged) for w in range(2)]
                time.sleep(0.5 + wait.random())
                server.process.send_signal(signal.SIGKILL)
                for one in sent:
                    one.result()
            server.process.wait()
    with serving(catalog, "minilm") as server:
        assert server.stop(seconds=600) == 0  # it commits all that the killed ones left
    out = run(
        "--catalog",
        str(catalog),
        "sql",
        "select id, count(*) n from traces where span_id is not null group by id",
        "--format",
        "json",
    )
    kept = {row["id"]: row["n"] for row in map(json.loads, out.splitlines())}
    assert acknowledged and set(acknowledged) <= set(kept)
    assert set(kept.values()) == {1}
    assert not list((catalog / "spool").glob("w-*"))


def test_a_full_disk_is_no_200(tmp_path: pathlib.Path) -> None:
    """The spool lies on a small file system of its own: what does not fit is refused, and may come again."""
    catalog = make_catalog(tmp_path)
    (catalog / "spool").mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", catalog / "spool"], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        with serving(catalog, "minilm", "--commit-seconds", "600") as server:
            taken = []
            for n in range(60):
                answer = server.ask("/v1/traces", export(span(n, attributes=attributes(text="x" * 9000))), **JSON)
                if answer.status == 200:
                    taken.append(f"{n + 1:016x}")
            assert 0 < len(taken) < 60
            assert answer.status == 503 and int(answer.headers["retry-after"]) > 0 and answer.json["code"] == 14
            kept = [
                row["span_id"] for row in server.sql("select span_id from traces where span_id is not null order by 1")
            ]
            assert kept == taken
            server.stop()
    finally:
        subprocess.run(["umount", catalog / "spool"], check=True)
