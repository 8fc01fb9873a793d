"""Real S3 servers, one that ignores conditions, and one that goes away."""

from __future__ import annotations

import http.server
import os
import pathlib
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import ClassVar

import headrace as hr
import numpy as np
import pytest
from s3_servers import KINDS, SECRET, client_of, free_port, make_bucket, server, set_environment, start_moto


@pytest.fixture(params=KINDS)
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[str]:
    with server(request.param, tmp_path / "gateway") as endpoint:
        set_environment(monkeypatch, endpoint)
        yield "s3://bucket/some/prefix"


def test_https_trusts_the_certificates_that_SSL_CERT_FILE_names(
    headrace: Callable[..., subprocess.CompletedProcess[str]], tmp_path: pathlib.Path
) -> None:
    certificate, key, port = str(tmp_path / "own.pem"), str(tmp_path / "own.key"), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    process = start_moto(port, "-c", certificate, "-k", key)
    environment = {
        "PATH": "/usr/bin",
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"https://127.0.0.1:{port}",
        "HEADRACE_S3_DEADLINE": "1",
    }
    try:
        make_bucket(client_of(environment["AWS_ENDPOINT_URL"], verify=certificate))
        stranger = headrace("--catalog", "s3://bucket/x", "init", env=environment)
        assert stranger.returncode == 1 and "certificate" in stranger.stderr, stranger.stderr
        trusted = headrace("--catalog", "s3://bucket/x", "init", env=environment | {"SSL_CERT_FILE": certificate})
        assert trusted.returncode == 0, trusted.stderr
    finally:
        process.kill()
        process.wait()


def test_a_catalog_on_s3(bucket: str) -> None:
    catalog = hr.init(bucket)
    with pytest.raises(hr.Invalid, match="already"):
        hr.init(bucket)
    table = catalog.create_table("t", {"k": "int64", "image": "blob", "vec": "tensor<float32>[4]"})
    big = np.random.default_rng(1).integers(0, 256, 3_000_000, np.uint8).tobytes()
    import pyarrow as pa

    for i in range(3):
        table.append(
            pa.table(
                {
                    "k": range(i * 100, i * 100 + 100),
                    "image": pa.array([b"x" * 10] * 99 + [big]),
                    "vec": pa.array([[i] * 4] * 100, pa.list_(pa.float32(), 4)),
                }
            )
        )
    table.append(pa.table({"k": [300], "image": pa.array([big * 12])}))  # several parts
    again = hr.open(bucket)["t"]
    assert len(again) == 301 and again.count("k >= 150") == 151
    rows = again.take([299, 5, 100])
    assert [row["k"] for row in rows] == [299, 5, 100]
    assert bytes(rows[0]["image"]) == big and rows[0]["vec"].tolist() == [2.0] * 4
    assert bytes(again.take([300])[0]["image"]) == big * 12
    assert hr.open(bucket).sql("select sum(k) as s from t").to_pylist()[0]["s"] == 301 * 150
    assert again.add_columns({"twice": np.arange(301) * 2}).fragments == 4
    assert again.at("v2").count() == 100


def test_writers_race_on_s3(bucket: str) -> None:
    hr.init(bucket).create_table("t", {"k": "int64"})
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            table = hr.open(bucket)["t"]
            for i in range(5):
                table.append([{"k": index * 5 + i}])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(row["k"] for row in hr.open(bucket)["t"].scan()) == list(range(30))


class Careless(http.server.BaseHTTPRequestHandler):
    """Keeps objects and ignores If-None-Match."""

    objects: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        self.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    def do_GET(self) -> None:
        self.answer(200, self.objects[self.path]) if self.path in self.objects else self.answer(404)

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.objects.pop(self.path, None)
        self.answer(204)


def test_a_store_that_ignores_conditions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Careless)
    threading.Thread(target=careless.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{careless.server_port}")
    with pytest.raises(hr.Unsupported, match="ignores If-None-Match"):
        hr.init("s3://bucket/x")
    careless.shutdown()


class Flaky(Careless):
    """Honours conditions, but every third answer is lost: the request has taken effect, and 503 is what comes back."""

    objects: ClassVar[dict[str, bytes]] = {}
    requests = 0

    def lose(self) -> bool:
        Flaky.requests += 1
        return Flaky.requests % 3 == 0

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        taken = self.headers.get("If-None-Match") == "*" and self.path in self.objects
        if not taken:
            self.objects[self.path] = body
        self.answer(503 if self.lose() else 412 if taken else 200)

    def do_GET(self) -> None:
        if self.lose():
            return self.answer(503)
        if "list-type=2" not in self.path:
            return super().do_GET()
        query = {k: v[0] for k, v in urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).items()}
        keys = sorted(urllib.parse.unquote(path).removeprefix("/bucket/") for path in self.objects)
        found = [key for key in keys if key.startswith(query["prefix"]) and key > query.get("start-after", "")]
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in found[: int(query["max-keys"])]
        )
        return self.answer(
            200, f"<ListBucketResult>{entries}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
        )

    do_HEAD = do_GET


def test_lost_answers_are_settled_and_nothing_happens_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    careless = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=careless.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{careless.server_port}")
    table = hr.init("s3://bucket/x").create_table("t", {"n": "int64"})
    for i in range(12):
        assert not table.append([{"n": i}], writer="w", sequence=i).repeated
    assert [row["n"] for row in hr.open("s3://bucket/x")["t"].scan()] == list(range(12))
    assert len(table.history()) == 13
    # A server that is gone is told as such by SQL too.
    monkeypatch.setenv("HEADRACE_S3_DEADLINE", "1")
    catalog = hr.open("s3://bucket/x")
    careless.shutdown()
    careless.server_close()
    with pytest.raises(hr.Unavailable, match="gave up"):
        catalog.sql("select n from t").to_pylist()


def test_a_dead_server_and_wrong_keys_say_so_and_no_secret(
    headrace: Callable[..., subprocess.CompletedProcess[str]], tmp_path: pathlib.Path
) -> None:
    environment = {
        "PATH": "/usr/bin",
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "HEADRACE_S3_DEADLINE": "1",
    }
    out = headrace("--catalog", "s3://bucket/x", "ls", env=environment)
    assert out.returncode == 1 and "gave up" in out.stderr and "s3://bucket/x" in out.stderr
    assert SECRET not in out.stderr + out.stdout and "AKIAEXAMPLE" not in out.stderr + out.stdout
    del environment["AWS_SECRET_ACCESS_KEY"]
    assert "no S3 credentials" in headrace("--catalog", "s3://bucket/x", "ls", env=environment).stderr
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[default]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n"
    )
    del environment["AWS_ACCESS_KEY_ID"]
    assert "gave up" in headrace("--catalog", "s3://bucket/x", "ls", env=environment).stderr


def test_a_stream_from_s3(bucket: str, catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    """The same rows and pixels as from a folder, with and without a cache, filtered by a selection kept in the bucket."""
    import stream_tables as tables

    steps = hr.RandomResizedCrop(24) | hr.HorizontalFlip()
    distant = hr.init(bucket)
    for where in (distant, catalog):
        tables.make(where, count=120)

    def run(where: hr.Catalog, **options: object) -> tuple[list[int], np.ndarray]:
        stream = hr.Stream(
            where["photos"],
            ["image", "caption", "vec"],
            "label >= 2",
            image=steps,
            batch_size=16,
            seed=5,
            epochs=1,
            **options,  # type: ignore[arg-type]
        )
        rows: list[int] = []
        pictures = []
        for batch in stream:
            keep = batch["valid"]
            rows += batch["row_id"][keep].tolist()
            pictures.append(batch["image"][keep].copy())
            assert [text for text in batch["caption"] if text] == [f"picture {row}" for row in batch["row_id"][keep]]
        return rows, np.concatenate(pictures)

    rows, pictures = run(catalog)
    assert sorted(rows) == list(range(24, 120))
    for options in (
        {},
        {"cache": tmp_path / "cache"},
        {"cache": tmp_path / "cache"},
        {"block": 3, "lanes": 4, "window": 40},
    ):
        found_rows, found = run(distant, **options)
        if "block" in options:
            assert sorted(found_rows) == sorted(rows) and found_rows != rows
        else:
            assert found_rows == rows
            assert np.array_equal(found, pictures)
    assert any((tmp_path / "cache").rglob("*.blk"))


def test_bytes_and_differences_are_told_of_buckets_too(bucket: str) -> None:
    catalog = hr.init(bucket)
    table = catalog.create_table("t", {"k": np.arange(3000), "vec": np.zeros((3000, 16), np.float32)})
    version = table.version
    table.update({"k": -1}, "k % 100 = 3")
    table.delete("k % 7 = 0")
    table.append({"k": np.arange(10)})
    diff = table.diff(version)
    assert (diff.added, diff.deleted, diff.changed) == (10, 425, 30)  # -1 % 7 is not 0
    client = client_of(os.environ["AWS_ENDPOINT_URL"])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="some/prefix/tables/")
    sizes = [found["Size"] for page in pages for found in page.get("Contents", [])]
    storage = table.storage()
    assert storage.total == hr.Amount(len(sizes), sum(sizes)) and storage.unnamed.objects == 0


def test_versions_expire_in_a_bucket(bucket: str) -> None:
    table = hr.init(bucket).create_table("t", {"n": "int64"})
    for part in range(3):
        table.append({"n": np.arange(part * 10, part * 10 + 10)})
    table.delete("n < 15")
    time.sleep(2.1)  # the store tells times in whole seconds
    table.append({"n": np.array([99])})
    done = table.gc(keep=1, grace=0)
    assert done.expired == 0, "a distant store's clocks may differ by a minute"
    assert table.compact().commits == 1
    assert [row["n"] for row in table] == [*range(15, 30), 99]
    assert table.gc(grace=0, dry_run=True).damaged == []
    assert table.verify()
    other = hr.open(bucket)["t"]
    assert len(other) == 16 and other.verify(newest=True)
