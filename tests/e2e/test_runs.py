"""hr.run(): what a program logs is rows, whatever becomes of the program."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import os
import pathlib
import subprocess
import threading
from typing import Any

import headrace as hr
import numpy as np
import pytest
from run_programs import now, output, points, script


def test_a_run_from_beginning_to_end(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run("probe", config={"lr": 0.01, "layers": [1, 2]}, tags=["small"], catalog=catalog) as run:
        assert hr.current_run() is run
        for step in range(5):
            run.log({"loss": 1 / (step + 1), "lr": np.float32(0.5)}, step=step)
            run.log({"train": {"acc": step}}, step=step)
        assert now(catalog, run.id)["state"] == "running"  # live, from the spool
        assert len(points(catalog, run.id)) == 15
    assert hr.current_run() is None
    row = now(catalog, run.id)
    assert (row["name"], row["state"], row["kind"], row["tags"]) == ("probe", "finished", "run", ["small"])
    assert row["config"] == {"lr": 0.01, "layers": [1, 2]}
    assert row["summary"] == {"loss": 0.2, "lr": 0.5, "train/acc": 4}
    assert row["started"] <= row["ended"]
    assert row["pid"] == os.getpid() and row["command"]
    assert points(catalog, run.id)[:2] == [("loss", 0, 1.0), ("loss", 1, 0.5)]
    with pytest.raises(hr.Invalid, match="finished"):
        run.log({"loss": 1})


def test_steps_count_by_themselves_and_may_go_back(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog) as run:
        run.log({"a": 1})
        run.log({"a": 2})
        run.log({"a": 3}, step=10)
        run.log({"a": 4})
        run.log({"a": 5}, step=3)
        run.log({"a": math.nan, "b": -math.inf})
    rows = [(key, step, value) for key, step, value in points(catalog, run.id) if not math.isnan(value)]
    assert rows == [("a", 0, 1), ("a", 1, 2), ("a", 3, 5), ("a", 10, 3), ("a", 11, 4), ("b", 4, -math.inf)]
    assert catalog.sql("select count(*) as n from points where isnan(value)").to_pylist() == [{"n": 1}]


@dataclasses.dataclass
class Optimizer:
    lr: float
    betas: tuple[float, float] = (0.9, 0.99)


class Size(enum.Enum):
    LARGE = "large"


def test_configs_of_all_kinds(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    config: dict[str, Any] = {
        "optimizer": Optimizer(0.1),
        "size": Size.LARGE,
        "path": pathlib.Path("a/b"),
        "arguments": argparse.Namespace(x=1),
        "numpy": np.float32(0.5),
        "count": np.int64(7),
        "array": np.arange(3),
        "none": None,
        "infinite": math.inf,
        "function": math.sqrt,
        "set": {2, 1},
        7: "seven",
    }
    with hr.run(config=config, catalog=catalog) as run:
        run.config.extra = 1
        run.config["more"] = {"x": 2}
        run.summary["best"] = "b"
        assert run.config.extra == 1
        with pytest.raises(AttributeError, match="optimizer"):
            _ = run.config.nothing
    row = now(catalog, run.id)
    assert row["config"] == {
        "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]},
        "size": "large",
        "path": "a/b",
        "arguments": {"x": 1},
        "numpy": 0.5,
        "count": 7,
        "array": [0, 1, 2],
        "none": None,
        "infinite": "inf",
        "function": "math.sqrt",
        "set": [1, 2],
        "7": "seven",
        "extra": 1,
        "more": {"x": 2},
    }
    assert row["summary"] == {"best": "b"}
    config["self"] = config
    with pytest.raises(hr.Invalid, match="holds itself"):
        hr.run(config=config, catalog=catalog)
    assert hr.current_run() is None


def test_what_is_no_number_is_named(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog) as run:
        with pytest.raises(hr.Invalid, match="'a/b' is a list"):
            run.log({"a": {"b": [1, 2]}})
        with pytest.raises(hr.Invalid, match="larger than any float"):
            run.log({"a": 10**400})
        with pytest.raises(hr.Invalid, match="needs a name"):
            run.log({"": 1})
        run.log({"x" * 10_000: 1, "ü/ñ.x y": 2, "flag": True})
    assert {key for key, _, _ in points(catalog, run.id)} == {"x" * 10_000, "ü/ñ.x y", "flag"}


def test_an_exception_fails_the_run(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with pytest.raises(ZeroDivisionError), hr.run(catalog=catalog) as run:
        run.log({"a": 1})
        _ = 1 // 0
    row = now(catalog, run.id)
    assert (row["state"], row["reason"]) == ("failed", "ZeroDivisionError: integer division or modulo by zero")


def test_many_threads_and_many_keys(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog, system=False) as run:

        def work(thread: int) -> None:
            for step in range(200):
                run.log({f"t{thread}": step}, step=step)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for step in range(3):
            run.log({f"key {key}": key for key in range(10_000)}, step=step)
    counts = catalog.sql("select count(*) as n, count(distinct key) as keys from points").to_pylist()[0]
    assert counts == {"n": 800 + 30_000, "keys": 10_004}


def test_inputs_are_noted(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    rows = catalog.create_table("rows", [{"x": i} for i in range(10)])
    with hr.run(catalog=catalog) as run:
        assert run.use(rows) is rows
        run.use("sha256:abc")
        for _ in hr.Stream(rows, columns=["x"], batch_size=5, epochs=1):
            pass
        with pytest.raises(hr.Invalid, match="int"):
            run.use(7)
    inputs = now(catalog, run.id)["inputs"]
    assert inputs[0] | {"catalog": "", "table": ""} == {
        "kind": "table", "name": "rows", "version": rows.version, "table": "", "catalog": "",
    }  # fmt: skip
    assert inputs[1] == {"kind": "ref", "name": "sha256:abc"}
    assert inputs[2]["kind"] == "stream" and inputs[2]["sources"][0]["version"] == rows.version


def test_code_and_packages_are_noted(tmp_path: pathlib.Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    git("init", "-q")
    (tmp_path / "train.py").write_text("before\n")
    git("add", "train.py")
    git("commit", "-qm", "one")
    git("remote", "add", "origin", "https://user:secret@example.com/x.git")
    text = """
        import time
        run = hr.run(catalog="c")
        for _ in range(600):
            row = run._catalog.sql("select code from runs_now where code is not null").to_pylist()
            if row: break
            time.sleep(0.1)
        print(run.id)
    """
    run = output(script(tmp_path, text)).strip()
    row = now(hr.open(tmp_path / "c"), run)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert row["code"]["commit"] == head.stdout.strip()
    assert row["code"]["changed"] and "-before" in row["diff"] and "+import headrace as hr" in row["diff"]
    assert row["code"]["remote"] == "https://example.com/x.git"
    assert row["env"]["packages"]["numpy"] == np.__version__


def test_everything_that_is_no_number_is_a_row_of_media(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with hr.run(catalog=catalog, system=False) as run:
        run.log(
            {
                "grey": grey,
                "channels_first": np.zeros((3, 8, 9), np.uint8),
                "floats": hr.Image(np.full((2, 2, 3), 2.0), caption="too bright"),
                "clear": hr.Image(np.zeros((1, 1, 4), np.uint8)),
                "several": [grey, grey],
                "histogram": hr.Histogram([1.0, 2.0, math.nan, 3.0], bins=2),
                "counted": hr.Histogram([3, 4], edges=[0, 1, 2]),
                "table": [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
                "text": "words",
                "sound": hr.Audio(np.zeros((100, 2)), rate=8000),
                "ids": np.array([7, 9]),
                "loss": 1.0,
            },
            step=5,
        )
        for wrong, reason in (
            (hr.Image(np.zeros((2, 2, 2), np.uint8)), "no picture"),
            (hr.Image(np.zeros((2, 2), np.int64)), "int64"),
            (hr.Image(b"no picture"), "JPEG|image"),
            ([{"a": 1}] * 10_001, "10,000 rows"),
        ):
            with pytest.raises(hr.HeadraceError, match=reason):
                run.log({"x": wrong})
    rows = {(row["key"], row["index"]): row for row in catalog["hr.media"].scan()}
    assert {step for step in (row["step"] for row in rows.values())} == {5}
    assert (rows["grey", 0]["data"].decode() == grey[:, :, None]).all()
    assert (rows["channels_first", 0]["width"], rows["channels_first", 0]["height"]) == (9, 8)
    assert rows["floats", 0]["caption"] == "too bright" and (rows["floats", 0]["data"].decode() == 255).all()
    assert (rows["clear", 0]["data"].decode() == 255).all()
    assert ("several", 1) in rows
    facts = {key: row["facts"] for (key, _), row in rows.items() if row["facts"] is not None}
    assert facts["histogram"] == {"edges": [1.0, 2.0, 3.0], "counts": [1, 2], "nans": 1}
    assert facts["counted"] == {"edges": [0.0, 1.0, 2.0], "counts": [3, 4]}
    assert rows["table", 0]["text"] == '{"columns": ["a", "b"], "rows": [[1, "x"], [2, null]]}'
    assert (rows["text", 0]["text"], rows["ids", 0]["text"]) == ("words", "[7, 9]")
    assert bytes(rows["sound", 0]["data"])[:4] == b"RIFF" and facts["sound"]["channels"] == 2
    assert points(catalog, run.id) == [("loss", 5, 1.0)]


def test_artifacts(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    (tmp_path / "f" / "g").mkdir(parents=True)
    (tmp_path / "f" / "a.txt").write_text("a")
    (tmp_path / "f" / "g" / "b.bin").write_bytes(b"b" * 5_000_000)
    with hr.run(catalog=catalog, system=False) as run:
        shas = {
            "array.npy": run.save("array.npy", np.arange(3)),
            "facts.json": run.save("facts.json", {"x": np.float32(0.5)}),
            "raw": run.save("raw", b"bytes"),
        }
        run.save("f", tmp_path / "f")
        run.save("array.npy", np.arange(4))  # the name's newest
        with pytest.raises(hr.Invalid, match=r"\.png"):
            run.save("x.png", 5)
        with pytest.raises(hr.NotFound, match="nothing-here"):
            run.save("nothing-here")
    outputs = {entry["name"]: entry for entry in now(catalog, run.id)["outputs"]}
    assert set(outputs) == {"array.npy", "facts.json", "raw", "f", "f/a.txt", "f/g/b.bin"}
    assert outputs["array.npy"]["sha256"] != shas["array.npy"]
    back = catalog.artifact("sha256:" + outputs["array.npy"]["sha256"], tmp_path / "back.npy")
    assert np.load(back).tolist() == [0, 1, 2, 3]
    assert catalog.artifact(outputs["f/g/b.bin"]["sha256"], tmp_path / "b").read_bytes() == b"b" * 5_000_000
    with pytest.raises(hr.Invalid):
        catalog.artifact("../x", tmp_path / "x")
    # Bytes that are not what they were are never given out.
    stored = tmp_path / "c" / "artifacts" / shas["raw"]
    stored.chmod(0o600)
    stored.write_bytes(b"other")
    with pytest.raises(hr.Corrupt):
        catalog.artifact(shas["raw"], tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_texts_that_are_no_unicode_end_no_run(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with pytest.raises(ValueError, match="bad"), hr.run("n\udcff", catalog=catalog, config={"x": "\ud800"}) as run:
        run.summary["s"] = "\udc80"
        run.log({"text": "a\udcffb"})
        raise ValueError("bad \udcff")
    row = now(catalog, run.id)
    assert (row["state"], row["name"], row["config"]) == ("failed", "n?", {"x": "?"})
    for wrong in ("", "a b", "a\0b", "x" * 129, "a'b"):
        with pytest.raises(hr.Invalid, match="no id of a run"):
            hr.run(id=wrong, catalog=catalog)


def test_steps_of_all_kinds(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog, system=False) as run:
        run.log({"a": 1}, step=np.int64(3))
        run.log({"a": 2}, step=4.0)
        run.log({"a": 3}, step=-5)
        for step, reason in ((0.5, "integer"), ("8", "integer"), (2**63, "64 bits")):
            with pytest.raises(hr.Invalid, match=reason):
                run.log({"a": 1}, step=step)
        with pytest.raises(hr.Invalid, match="Unicode"):
            run.log({"\udcff": 1})
        run.log({"a": 4}, step=2**63 - 1)
        with pytest.raises(hr.Invalid, match="after the last"):
            run.log({"a": 5})
    assert [step for _, step, _ in points(catalog, run.id)] == [-5, 3, 4, 2**63 - 1]
