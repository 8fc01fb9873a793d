"""What is kept of a bucket on this machine, and what a crash leaves in the bucket."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import headrace as hr
import numpy as np
import pytest
from fake_aws import FakeAws
from s3_servers import client_of, server, set_environment


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[FakeAws]:
    fake = FakeAws()
    keys = fake.hand_out("ENV", token=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", fake.url)
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    yield fake
    fake.close()


def read_all() -> None:
    """As another process would: nothing in memory."""
    table = hr.open("s3://bucket/x")["t"]
    assert [row["n"] for row in table.scan()] == list(range(3000))
    assert bytes(table.take([7])[0]["photo"]) == b"7" * 50_000
    assert table.take([2999])[0]["vec"].tolist() == [2999.0] * 8


def fill() -> None:
    table = hr.init("s3://bucket/x").create_table("t", {"n": "int64", "photo": "blob", "vec": "tensor<float32>[8]"})
    vectors = np.repeat(np.arange(3000, dtype=np.float32), 8).reshape(3000, 8)
    table.append({"n": np.arange(3000), "vec": vectors, "photo": [str(i % 10).encode() * 50_000 if i < 10 else None for i in range(3000)]})  # fmt: skip


def test_a_table_that_was_read_is_read_from_this_machine(aws: FakeAws, tmp_path: pathlib.Path) -> None:
    asked: list[str] = []
    aws.hook = lambda method, path, headers: asked.append(path)  # type: ignore[func-returns-value]
    fill()
    read_all()
    asked.clear()
    read_all()
    left = [
        path
        for path in asked
        if not any(part in path for part in ("/snapshots/", "catalog.json", "/refs/", "list-type"))
    ]
    assert not left, "only what may change is asked for again"
    stored = list((tmp_path / "cache" / "objects").rglob("*.*"))
    assert stored and all(path.stat().st_mode & 0o077 == 0 for path in stored)
    for path in stored:
        path.write_bytes(b"\0" * path.stat().st_size)
    asked.clear()
    read_all()
    assert [path for path in asked if "/data/" in path], "what is damaged is read anew"


def test_verify_sees_the_store_itself(aws: FakeAws) -> None:
    fill()
    read_all()
    table = hr.open("s3://bucket/x")["t"]
    for path, whole in list(aws.objects.items()):
        if path.endswith(".parquet") and "/data/" in path:
            aws.objects[path] = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
            assert not table.verify(), "though what is kept here is sound"
            aws.objects[path] = whole
    assert table.verify()


def test_the_budget_is_said_by_a_variable(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("HEADRACE_CACHE_BYTES", "0")
    fill()
    read_all()
    assert not (tmp_path / "cache" / "objects").exists()
    monkeypatch.setenv("HEADRACE_CACHE_BYTES", "lots")
    with pytest.raises(hr.Invalid, match="HEADRACE_CACHE_BYTES"):
        hr.open("s3://bucket/x")


CRASH = """
import os, time, headrace as hr, pyarrow as pa
schema = pa.schema({"image": pa.large_binary()})
def batches():
    for i in range(3):
        yield pa.record_batch([pa.array([os.urandom(20 << 20)], pa.large_binary())], schema=schema)
    time.sleep(600)
hr.open("s3://bucket/some/prefix")["t"].append(pa.RecordBatchReader.from_batches(schema, batches()))
"""


def test_uploads_that_a_crash_left_are_removed_after_a_day(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, headrace: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """On versitygw, where an upload is as old as its folder."""

    def left() -> set[str]:
        found = client_of(endpoint).list_multipart_uploads(Bucket="bucket").get("Uploads", [])
        return {upload["Key"] for upload in found}

    def gc(*words: str) -> int:
        done = headrace("--catalog", "s3://bucket/some/prefix", "--json", "gc", *words, env=dict(os.environ))
        assert done.returncode == 0, done.stderr
        return sum(one["uploads"] for one in json.loads(done.stdout) if one["table"] is None)

    with server("versitygw", tmp_path / "gateway") as endpoint:
        set_environment(monkeypatch, endpoint)
        hr.init("s3://bucket/some/prefix").create_table("t", {"image": "blob"})
        writer = subprocess.Popen([sys.executable, "-c", CRASH])
        while not left():
            assert writer.poll() is None, "it has put nothing in parts"
            time.sleep(0.1)
        writer.kill()
        writer.wait()
        client_of(endpoint).create_multipart_upload(Bucket="bucket", Key="some/other")  # not ours
        assert len(left()) == 2, "the crash left one"
        assert gc() == 0, "it is young"
        for folder in (tmp_path / "gateway" / "bucket" / ".sgwtmp").rglob("*"):
            os.utime(folder, (time.time() - 90_000,) * 2)
        assert gc("--dry-run") == 1 and len(left()) == 2
        shown = headrace("--catalog", "s3://bucket/some/prefix", "gc", "--dry-run", env=dict(os.environ))
        assert "1 upload left half done by programs that died: would be removed" in shown.stdout, shown.stdout
        assert gc() == 1 and left() == {"some/other"}
        assert gc() == 0
