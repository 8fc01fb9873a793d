"""Checkpoints in a bucket: what a machine wrote there is found by another, and goes only when no row can name it any more."""

from __future__ import annotations

import pathlib

import headrace as hr
import pytest
from checkpoint_program import Net
from headrace import checkpointer
from s3_servers import client_of, free_port, make_bucket, set_environment, start_moto


def test_checkpoints_in_a_bucket(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    server = start_moto(port)
    set_environment(monkeypatch, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_S3_DEADLINE", "5")
    try:
        client = client_of(f"http://127.0.0.1:{port}")
        make_bucket(client)

        def objects() -> int:
            listed = client.list_objects_v2(Bucket="bucket", Prefix="x/checkpoints/a%3Ab/")
            return int(listed["KeyCount"])

        catalog = hr.init("s3://bucket/x")
        net = Net()
        with hr.run(id="a:b", catalog=catalog, system=False) as run:
            ckpt = hr.Checkpointer(run, model=net, keep_last=1)
            for step in range(3):
                net.weights["layer.bias"][...] = step
                ckpt.save(step)
            assert objects() == 3 * 4, "the rows of the later ones may not be in the bucket yet"
            monkeypatch.setattr(checkpointer, "DISTANT_SECONDS", 0.0)
            ckpt._protected.clear()
            ckpt.save(3)
            assert [one.step for one in ckpt.kept] == [3] and objects() == 4
        other = Net()
        with hr.run(id="a:b", catalog=hr.open("s3://bucket/x"), system=False) as run:
            ckpt = hr.Checkpointer(run, model=other)
            assert ckpt.restore() == 4 and float(other.weights["layer.bias"]) == 2
            server.kill()
            server.wait()
            with pytest.raises((hr.Unavailable, hr.UnknownOutcome)):
                hr.Checkpointer(run, model=other).restore()
    finally:
        server.kill()
        server.wait()
