"""Real S3 servers for the tests: moto's, and versitygw where it is installed (./dev setup versitygw)."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

ACCESS = "AKIAEXAMPLE"
SECRET = "wJalrXUtnFEMIsecretEXAMPLEKEY"
KINDS = ["moto", "versitygw"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_moto(port: int, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *options],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def start_versitygw(port: int, folder: pathlib.Path) -> subprocess.Popen[bytes]:
    """Over a folder. Unlike moto it checks signatures, their time, and the hashes of bodies."""
    cache = pathlib.Path(os.environ.get("HEADRACE_CACHE") or "~/.cache/headrace").expanduser()
    programs = sorted(cache.glob("deps/versitygw-*/versitygw"))
    if not programs:
        pytest.skip("versitygw is not installed: ./dev setup versitygw, where Go is there")
    folder.mkdir(parents=True)
    return subprocess.Popen(
        [programs[-1], "--quiet", "--port", f"127.0.0.1:{port}", "posix", folder],
        env={**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def client_of(endpoint: str, **options: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        **options,
    )


def make_bucket(client: Any) -> None:
    """Once the server is there."""
    for _ in range(300):
        try:
            client.create_bucket(Bucket="bucket")
            return
        except Exception:
            time.sleep(0.1)
    raise AssertionError("the S3 server does not come up")


@contextlib.contextmanager
def server(kind: str, folder: pathlib.Path) -> Iterator[str]:
    """The address of a server with an empty bucket."""
    port = free_port()
    process = start_moto(port) if kind == "moto" else start_versitygw(port, folder)
    try:
        make_bucket(client_of(f"http://127.0.0.1:{port}"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def set_environment(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
