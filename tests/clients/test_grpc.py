"""Spans over gRPC: OpenTelemetry's exporters of Python and JavaScript, plain gRPC, TLS, and what is no gRPC."""

from __future__ import annotations

import concurrent.futures
import gzip
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def spans(trace: int, numbers: range, text: str = "") -> bytes:
    """An ExportTraceServiceRequest."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

    made = [
        Span(
            trace_id=trace.to_bytes(16, "big"),
            span_id=(n + 1).to_bytes(8, "big"),
            name=f"span {n}",
            start_time_unix_nano=1_700_000_000_000_000_000 + n * 1000,
            end_time_unix_nano=1_700_000_000_000_000_500 + n * 1000,
            attributes=[KeyValue(key="text", value=AnyValue(string_value=text))] if text else [],
        )
        for n in numbers
    ]
    request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=made)])])
    return bytes(request.SerializeToString())


def call(
    address: str, body: bytes, key: str = "", path: str = EXPORT, channel: Any = None, **more: Any
) -> tuple[str, bytes, dict[str, Any]]:
    """The status' name, the answer, and the trailers of one call."""
    import grpc

    with channel or grpc.insecure_channel(address) as opened:
        method = opened.unary_unary(path)
        metadata = [("authorization", f"Bearer {key}")] if key else []
        try:
            answer, done = method.with_call(body, metadata=metadata, timeout=60, **more)
            return "OK", answer, dict(done.trailing_metadata())
        except grpc.RpcError as error:
            told: Any = error
            return told.code().name, told.details().encode(), dict(told.trailing_metadata() or ())


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return make_catalog(tmp_path_factory.mktemp("grpc"))


@pytest.fixture(scope="module")
def keys(catalog: pathlib.Path) -> dict[str, str]:
    return {
        scope: run("--catalog", str(catalog), "key", "create", scope, "--scopes", scope, "-q").strip()
        for scope in ("record", "inference")
    }


@pytest.fixture(scope="module")
def server(catalog: pathlib.Path, keys: dict[str, str]) -> Iterator[Server]:
    with serving(catalog, "minilm", "--otlp-grpc-port", "0", "--commit-seconds", "1") as running:
        running.key = keys["record"]
        yield running


def count(server: Server, trace: int | str) -> int:
    identity = trace if isinstance(trace, str) else f"{trace:032x}"
    return int(server.sql(f"select count(*) n from traces where trace_id = '{identity}'")[0]["n"])


@pytest.mark.parametrize("compressed", [False, True])
def test_pythons_exporter(server: Server, compressed: bool) -> None:
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(
        endpoint=f"http://{server.facts['otlp_grpc']}",
        headers={"authorization": f"Bearer {server.key}"},
        compression=grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression,
    )
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=20_000, max_export_batch_size=4096))
    tracer = provider.get_tracer("clients")
    with tracer.start_as_current_span("outer") as outer:
        for n in range(10_000):
            tracer.start_span(f"part {n}", attributes={"n": n, "text": "word " * 20}).end()
    assert provider.force_flush()
    provider.shutdown()
    assert count(server, f"{outer.get_span_context().trace_id:032x}") == 10_001


def test_javascripts_exporter(server: Server) -> None:
    folder = os.environ.get("HEADRACE_CLIENTS_JS")
    if not folder:
        pytest.skip("./dev test --ci sets the JavaScript clients up")
    done = subprocess.run(
        ["node", str(pathlib.Path(folder) / "spans_grpc.mjs"), f"http://{server.facts['otlp_grpc']}", server.key, "1500"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert count(server, done.stdout.strip()) == 1501


def test_calls(server: Server, keys: dict[str, str]) -> None:
    import grpc

    at, body = server.facts["otlp_grpc"], spans(1, range(3))
    assert call(at, body, keys["record"])[:2] == ("OK", b"")
    for packed in (grpc.Compression.Gzip, grpc.Compression.NoCompression):
        assert call(at, body, keys["record"], compression=packed)[0] == "OK"
    assert count(server, 1) == 3  # repeats are none
    status, text, _ = call(at, body)
    assert status == "UNAUTHENTICATED" and b"API key" in text
    status, text, _ = call(at, body, keys["inference"])
    assert status == "PERMISSION_DENIED" and b"scope 'record'" in text
    for other in ("metrics.v1.MetricsService", "logs.v1.LogsService"):
        path = f"/opentelemetry.proto.collector.{other}/Export"
        assert call(at, b"", keys["record"], path)[0] == "UNIMPLEMENTED"
    assert call(at, b"\xff\xff", keys["record"])[0] == "INVALID_ARGUMENT"
    assert call(at, body, keys["record"], compression=grpc.Compression.Deflate)[0] == "UNIMPLEMENTED"
    # Spans that are none are counted in the answer.
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    half = spans(2, range(1)) + spans(0, range(2))
    status, answer, _ = call(at, half, keys["record"])
    told = ExportTraceServiceResponse.FromString(answer).partial_success
    assert status == "OK" and told.rejected_spans == 2 and "trace_id" in told.error_message
    assert count(server, 2) == 1


def test_a_call_that_is_too_large(catalog: pathlib.Path, keys: dict[str, str]) -> None:
    import grpc

    with serving(catalog, "minilm", "--otlp-grpc-port", "0", "--max-body", "1000000") as server:
        at = server.facts["otlp_grpc"]
        with grpc.insecure_channel(at) as channel:
            method = channel.unary_unary(EXPORT)
            for number, (size, packed) in enumerate(
                [(3_000_000, None), (3_000_000, grpc.Compression.Gzip), (10, None)]
            ):
                body = spans(3, range(number, number + 1), "x" * size)
                try:
                    method(body, metadata=[("authorization", f"Bearer {keys['record']}")], compression=packed)
                    assert size == 10
                except grpc.RpcError as error:
                    told: Any = error
                    assert size > 10 and told.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    # Without a time it is not to be tried again.
                    assert "grpc-status-details-bin" not in dict(told.trailing_metadata())
        assert count(server, 3) == 1


def test_a_full_disk_is_told_with_a_time(tmp_path: pathlib.Path) -> None:
    from google.rpc import status_pb2
    from google.rpc.error_details_pb2 import RetryInfo

    catalog = make_catalog(tmp_path)
    (catalog / "spool").mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", catalog / "spool"], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting needs root")
    try:
        with serving(catalog, "minilm", "--otlp-grpc-port", "0", "--commit-seconds", "600") as server:
            told = [call(server.facts["otlp_grpc"], spans(4, range(n, n + 1), "x" * 9000)) for n in range(60)]
            taken = sum(status == "OK" for status, _, _ in told)
            assert 0 < taken < 60
            status, text, trailers = told[-1]
            assert status == "UNAVAILABLE" and b"could not be written" in text
            details, info = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]), RetryInfo()
            assert details.code == 14 and details.details[0].Unpack(info) and info.retry_delay.seconds == 5
            assert RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"]) == info
            assert count(server, 4) == taken
            server.stop()
    finally:
        subprocess.run(["umount", catalog / "spool"], check=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_an_exporter_outlives_servers(tmp_path: pathlib.Path) -> None:
    """What an exporter sends while the server is killed and comes back is there once."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    catalog, port = make_catalog(tmp_path), free_port()
    words = ("minilm", "--otlp-grpc-port", str(port), "--commit-seconds", "0.2")
    provider = TracerProvider()
    exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{port}", timeout=60)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=20_000, schedule_delay_millis=50, export_timeout_millis=60_000)
    )
    tracer = provider.get_tracer("clients")
    with tracer.start_as_current_span("outer") as outer:
        for round_ in range(3):
            with serving(catalog, *words) as server:
                for n in range(200):
                    tracer.start_span(f"part {round_} {n}").end()
                    time.sleep(0.001)
                server.stop(signal.SIGKILL)
    with serving(catalog, *words) as server:
        assert provider.force_flush(60_000)
        provider.shutdown()
        trace = f"{outer.get_span_context().trace_id:032x}"
        assert count(server, trace) == 601
        server.stop()
    kept = server.sql(f"select count(*) n, count(distinct span_id) d from traces where trace_id = '{trace}'")
    assert kept == [{"n": 601, "d": 601}]


def send(address: str, trace: int, acknowledged: list[str]) -> None:
    """Batch after batch until the server is gone; every fifth again, as if its answer had been lost."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(EXPORT)
        for batch in range(10_000):
            numbers = range(batch * 8, batch * 8 + 8)
            for _ in range(2 if batch % 5 == 0 else 1):
                try:
                    method(spans(trace, numbers), timeout=30)
                except grpc.RpcError:
                    return
                acknowledged += [f"{trace:032x}{n + 1:016x}" for n in numbers]


def test_what_was_acknowledged_survives_kills(tmp_path: pathlib.Path) -> None:
    catalog = make_catalog(tmp_path)
    acknowledged: list[str] = []
    rounds, wait = 50 if os.environ.get("HEADRACE_TEST_LONG") else 3, random.Random(5)
    for round_ in range(rounds):
        with serving(catalog, "minilm", "--otlp-grpc-port", "0", "--commit-seconds", "0.2") as server:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                sent = [
                    pool.submit(send, server.facts["otlp_grpc"], round_ * 2 + w + 1, acknowledged) for w in range(2)
                ]
                so_far = len(acknowledged)
                while len(acknowledged) == so_far:
                    time.sleep(0.01)
                time.sleep(0.1 + wait.random() / 4)
                server.process.send_signal(signal.SIGKILL)
                for one in sent:
                    one.result()
            server.process.wait()
    with serving(catalog, "minilm") as server:
        assert server.stop(seconds=600) == 0  # it commits all that the killed ones left
    kept = {
        row["id"]: row["n"]
        for row in server.sql("select id, count(*) n from traces where span_id is not null group by id")
    }
    assert acknowledged and set(acknowledged) <= set(kept)
    assert set(kept.values()) == {1}


def test_tls(catalog: pathlib.Path, keys: dict[str, str], tmp_path: pathlib.Path) -> None:
    import grpc

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("no openssl here")
    words = ("--certificate", str(certificate), "--private-key", str(key), "--otlp-grpc-port", "0")
    with serving(catalog, "minilm", *words) as server:
        at = server.facts["otlp_grpc"]
        trusted = grpc.secure_channel(at, grpc.ssl_channel_credentials(certificate.read_bytes()))
        assert call(at, spans(5, range(2)), keys["record"], channel=trusted)[0] == "OK"
        assert call(at, spans(5, range(2)), keys["record"])[0] == "UNAVAILABLE"  # without TLS
        assert count(server, 5) == 2


def test_a_server_that_stops_answers_what_it_took(catalog: pathlib.Path, keys: dict[str, str]) -> None:
    """SIGTERM while calls come: each is answered, or not taken at all; what was acknowledged is there."""
    import grpc

    with serving(catalog, "minilm", "--otlp-grpc-port", "0") as server:
        at, done = server.facts["otlp_grpc"], []

        def client(trace: int) -> list[int]:
            taken = []
            with grpc.insecure_channel(at) as channel:
                method = channel.unary_unary(EXPORT)
                for n in range(100_000):
                    try:
                        method(spans(trace, range(n, n + 1)), metadata=[("authorization", f"Bearer {keys['record']}")])
                    except grpc.RpcError as error:
                        told: Any = error
                        assert told.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), told
                        break
                    taken.append(n)
                    done.append(n)
            return taken

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            running = [pool.submit(client, 100 + worker) for worker in range(3)]
            while len(done) < 50:
                time.sleep(0.01)
            assert server.stop() == 0
            for worker, one in enumerate(running):
                taken = one.result()
                rows = server.sql(f"select span_id from traces where trace_id = '{100 + worker:032x}'")
                assert {int(row["span_id"], 16) - 1 for row in rows} >= set(taken) and len(rows) - len(taken) <= 1


def wire(server: Server) -> tuple[Any, socket.socket]:
    """A connection of HTTP/2 by the h2 library, which lets much through that is wrong."""
    import h2.config
    import h2.connection

    config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = h2.connection.H2Connection(config)
    host, port = server.facts["otlp_grpc"].rsplit(":", 1)
    plain = socket.create_connection((host, int(port)), timeout=30)
    connection.initiate_connection()
    plain.sendall(connection.data_to_send())
    return connection, plain


def heard(connection: Any, plain: socket.socket) -> dict[str, Any]:
    """What is told of the next stream that ends, or of the connection."""
    import h2.events

    told: dict[str, Any] = {"body": b""}
    while data := plain.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                told |= {name.decode(): value.decode() for name, value in event.headers or []}
            elif isinstance(event, h2.events.DataReceived):
                told["body"] += event.data
            elif isinstance(event, h2.events.StreamEnded):
                return told
            elif isinstance(event, h2.events.StreamReset):
                return told | {"reset": event.error_code}
            elif isinstance(event, h2.events.ConnectionTerminated):
                return told | {"goaway": event.error_code}
        plain.sendall(connection.data_to_send())
    return told


def test_hand_made_requests(server: Server) -> None:
    connection, plain = wire(server)
    body = spans(6, range(1))
    framed = b"\0" + len(body).to_bytes(4, "big") + body
    head = [(":method", "POST"), (":scheme", "http"), (":path", EXPORT), (":authority", "localhost"),
            ("te", "trailers"), ("authorization", f"Bearer {server.key}")]  # fmt: skip
    grpc = [("content-type", "application/grpc")]

    def ask(headers: list[tuple[str, str]], *pieces: bytes) -> dict[str, Any]:
        stream = connection.get_next_available_stream_id()
        connection.send_headers(stream, headers)
        for n, piece in enumerate(pieces):
            connection.send_data(stream, piece, end_stream=n + 1 == len(pieces))
        plain.sendall(connection.data_to_send())
        return heard(connection, plain)

    assert ask(head + grpc, framed)["grpc-status"] == "0"
    assert ask(head + grpc, *(framed[n : n + 1] for n in range(len(framed))))["grpc-status"] == "0"
    packed = gzip.compress(body)
    packed = b"\1" + len(packed).to_bytes(4, "big") + packed
    assert ask([*head, *grpc, ("grpc-encoding", "gzip")], packed)["grpc-status"] == "0"
    assert ask([*head, ("content-type", "application/json")], b"{}")[":status"] == "415"
    assert ask(head + grpc, framed + framed)["grpc-status"] == "12"
    assert ask(head + grpc, framed[:-1])["grpc-status"] == "3"
    assert ask(head + grpc, b"\0\xff\xff\xff\xff")["grpc-status"] == "3"
    assert ask([(":method", "GET"), *head[1:], *grpc], b"")["grpc-status"] == "12"
    assert ask([*head, *grpc, ("Upper", "x")], framed)["reset"] == 1
    assert ask([*head, *grpc, ("x", "y" * 40_000), ("z", "y" * 40_000)], framed)["reset"] == 2
    assert ask(head + grpc, framed)["grpc-status"] == "0"  # after all that
    plain.close()
    assert count(server, 6) == 1
    # A stream that ends in the middle is nothing.
    connection, plain = wire(server)
    connection.send_headers(1, head + grpc)
    connection.send_data(1, b"\0" + (len(body) + 5).to_bytes(4, "big") + spans(7, range(1)))
    plain.sendall(connection.data_to_send())
    plain.close()
    time.sleep(0.2)
    assert count(server, 7) == 0
