"""Deletes, updates, merges and restores, as people use them: from Python, from the shell, many at once."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import duckdb
import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from conftest import in_ci
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]


def people(catalog: hr.Catalog) -> hr.Table:
    return catalog.create_table(
        "people", {"name": ["ada", "bob", "cyd", "dan"], "age": [36, 41, 29, 52], "city": ["x", "y", "x", "z"]}
    )


def names(table: hr.Table | hr.Snapshot) -> list[str]:
    return [row["name"] for row in table]


def test_rows_go_and_come_back(catalog: hr.Catalog) -> None:
    table = people(catalog)
    before = table.version
    done = table.delete("city = 'x'", why="they moved")
    assert (done.rows, done.version) == (2, before + 1)
    assert names(table) == ["bob", "dan"] == [row["name"] for row in table[:5]] == [row["name"] for row in table.head()]
    assert table[0]["name"] == "bob" and table[-1]["name"] == "dan" and len(table) == 2
    assert catalog.sql("select count(*), min(age) from people").to_pylist() == [{"count_star()": 2, "min(age)": 41}]
    assert table.history()[0].kind == "delete" and table.history()[0].why == "they moved"
    with pytest.raises(hr.NotFound, match="0 is deleted"):
        table.take([0])
    assert table.delete(row_ids=[1]).rows == 1
    assert names(pickle.loads(pickle.dumps(table.at()))) == ["dan"]
    assert "<table" in table._repr_html_()
    table.restore(before)
    assert names(table) == ["ada", "bob", "cyd", "dan"]
    assert names(table.at(before + 1)) == ["bob", "dan"], "what was in between stays"
    with pytest.raises(hr.Invalid, match="which rows"):
        table.delete()
    with pytest.raises(TypeError):
        table.delete("age > 3", row_ids=[1])


def test_values_change(catalog: hr.Catalog) -> None:
    table = people(catalog)
    assert table.update({"city": "w", "age": None}, "age > 40").rows == 2
    assert [(row["city"], row["age"]) for row in table] == [("x", 36), ("w", None), ("x", 29), ("w", None)]
    done = table.update(
        lambda batch: {"age": [a + 1 for a in batch["age"]]}, "age < 40", inputs=["age"], columns=["age"]
    )
    assert done.rows == 2 and [row["age"] for row in table] == [37, None, 30, None]
    assert table.update({"age": 1}, row_ids=[1]).rows == 1
    assert table.update({"age": 1}, "name = 'nobody'").rows == 0
    version = table.version
    for bad in ({"age": "old"}, {"age": 0.5}):
        with pytest.raises(hr.Invalid, match="age"):
            table.update(bad, "true")
    with pytest.raises(ZeroDivisionError):
        table.update(lambda batch: 1 / 0, "true", columns=["age"])
    with pytest.raises(hr.NotFound):
        table.update({"height": 3}, "true")
    assert table.version == version, "nothing was committed"


def test_upserts(catalog: hr.Catalog) -> None:
    table = people(catalog)
    done = table.merge([{"name": "bob", "age": 42}, {"name": "eve", "age": 23}], on="name")
    assert (done.updated, done.added, done.deleted, done.rows) == (1, 1, 0, 2)
    assert [tuple(row.values()) for row in table.to_arrow().to_pylist()] == [
        ("ada", 36, "x"),
        ("bob", 42, "y"),
        ("cyd", 29, "x"),
        ("dan", 52, "z"),
        ("eve", 23, None),
    ]
    assert (
        table.merge(pa.table({"name": ["ada", "zoe"]}), on=["name"], matched="delete", not_matched="ignore").deleted
        == 1
    )
    assert names(table) == ["bob", "cyd", "dan", "eve"]
    assert table.merge([], on="name").rows == 0
    with pytest.raises(hr.Invalid, match="same key"):
        table.merge([{"name": "bob", "age": 1}, {"name": "bob", "age": 2}], on="name")
    with pytest.raises(ValueError, match="matched"):
        table.merge([{"name": "bob"}], on="name", matched="replace")


def test_upserts_take_the_types_that_appends_take(catalog: hr.Catalog) -> None:
    """Views of text, in which polars gives its columns, large text and dictionaries among them."""
    table = catalog.create_table("t", {"k": "string", "s": "string", "l": "list<string>", "b": "blob"})
    table.append([{"k": "a", "s": "old", "l": ["old"], "b": b"old"}])
    view = pa.string_view()
    rows = {
        "k": pa.array(["a", "b"], view),
        "s": pa.array(["new", "added"], view),
        "l": pa.array([["new"], ["added"]], pa.list_(view)),
        "b": pa.array([b"new", b"added"], pa.binary_view()),
    }
    done = table.merge(pa.table(rows), on="k")
    assert (done.updated, done.added) == (1, 1)
    done = table.merge(
        pa.table({"k": pa.array(["b"]).dictionary_encode(), "s": pa.array(["x"], pa.large_string())}), on="k"
    )
    assert done.updated == 1
    assert table.scan(["k", "s", "l"]).to_pylist() == [
        {"k": "a", "s": "new", "l": ["new"]},
        {"k": "b", "s": "x", "l": ["added"]},
    ]
    assert table.take([0, 1]).blobs("b") == [b"new", b"added"]


def test_pictures_vectors_and_lists_change(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    rows = []
    for shade in range(6):
        Image.new("L", (8, 8), shade).save(tmp_path / f"{shade}.png")
        rows.append(
            {
                "n": shade,
                "image": (tmp_path / f"{shade}.png").read_bytes() + bytes(4000),
                "vector": np.full(4, shade, np.float32),
                "words": ["w"] * shade,
                "facts": {"a": shade},
            }
        )
    types = {
        "n": "int64",
        "image": "blob",
        "vector": "tensor<float32>[4]",
        "words": "list<string>",
        "facts": "struct<a: int64>",
    }
    table = catalog.create_table("t", rows, types=types)
    fresh = (tmp_path / "0.png").read_bytes() + bytes(9000)
    new = {"image": fresh, "vector": np.zeros(4, np.float32), "words": ["new", "words"], "facts": {"a": 70}}
    for key, value in new.items():
        table.update({key: value}, "n = 2 or n = 5")
    for row in table.scan(row_ids=True):
        changed = row["n"] in (2, 5)
        assert bytes(row["image"]) == (fresh if changed else rows[row["n"]]["image"])
        assert np.array_equal(row["vector"], np.zeros(4) if changed else rows[row["n"]]["vector"])
        assert list(row["words"]) == (new["words"] if changed else rows[row["n"]]["words"])
        assert row["facts"]["a"] == (70 if changed else row["n"])
    assert table.count("facts.a = 70") == 2 and table.count("facts.a = 2") == 0


def test_sql_and_duckdb_agree_after_every_change(catalog: hr.Catalog) -> None:
    """Random deletes, updates and merges; DuckDB does the same to a table of its own."""
    rng = random.Random(5)
    rows = [{"k": i, "a": rng.randrange(50), "s": f"s{rng.randrange(9)}"} for i in range(5000)]
    table = catalog.create_table("t", rows)
    theirs = duckdb.connect()
    first = pa.Table.from_pylist(rows)  # noqa: F841  (DuckDB finds it)
    theirs.sql("create table t as from first")
    for _ in range(40 if in_ci() else 15):
        low = rng.randrange(50)
        where = rng.choice(
            [f"a between {low} and {low + rng.randrange(8)}", f"s = 's{rng.randrange(9)}' and a < {low}"]
        )
        kind = rng.randrange(3)
        if kind == 0 and len(table) > 1000:
            where += " and k % 7 = 3"
            ours = table.delete(where).rows
            assert theirs.sql(f"select count(*) from t where {where}").fetchone() == (ours,)
            theirs.sql(f"delete from t where {where}")
        elif kind == 1:
            ours = table.update(
                lambda batch: {"a": (np.asarray(batch["a"]) * 7 + 1) % 50}, where, inputs=["a"], columns=["a"]
            ).rows
            assert theirs.sql(f"select count(*) from t where {where}").fetchone() == (ours,)
            theirs.sql(f"update t set a = (a * 7 + 1) % 50 where {where}")
        else:
            keys = rng.sample(range(8000), 50)
            source = pa.table({"k": keys, "a": [rng.randrange(50) for _ in keys]})
            table.merge(source, on="k")
            theirs.sql(
                "merge into t using source on t.k = source.k when matched then update set a = source.a "
                "when not matched then insert (k, a) values (source.k, source.a)"
            )
        for query in ("select k, a, s from t order by k", f"select sum(a), count(s) from t where {where}"):
            assert catalog.sql(query).to_arrow().to_pylist() == theirs.sql(query).to_arrow_table().to_pylist()
    assert [row["k"] for row in table.scan(["k"])] == sorted(
        (row["k"] for row in table.scan(["k", "a"])), key=[row["k"] for row in table].index
    )


def test_a_stream_ends_its_epochs_on_its_version(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"n": list(range(1000))})
    stream = hr.Stream(table, ["n"], batch_size=50, seed=3)
    reference = [list(batch["n"][batch["valid"]]) for batch in hr.Stream(table, ["n"], batch_size=50, seed=3)]
    got: list[list[int]] = []
    for step, batch in enumerate(stream):
        if step == 3:
            table.delete("n % 2 = 0")
            table.update({"n": -1}, "n > 900")
            table.add_columns({"m": np.zeros(500)})
        got.append(list(batch["n"][batch["valid"]]))
    assert got == reference, "changes in the middle of an epoch change nothing of it"
    later = np.concatenate([batch["n"][batch["valid"]] for batch in hr.Stream(table, ["n"], batch_size=50, seed=3)])
    assert sorted(later) == sorted([n if n <= 900 else -1 for n in range(1000) if n % 2])
    filtered = hr.Stream(table, ["n"], where="n < 100 and n > 0", batch_size=10, seed=3)
    assert sorted(np.concatenate([b["n"][b["valid"]] for b in filtered])) == list(range(1, 100, 2))


def test_the_shell(headrace: Run) -> None:
    headrace("init", check=True)
    headrace("ingest", "-", "--table", "t", input="".join(f'{{"n": {i}, "s": "a"}}\n' for i in range(10)), check=True)
    dry = headrace("delete", "t", "--where", "n > 6", "--dry-run")
    assert dry.returncode == 0 and "3 rows of 10 would go" in dry.stdout
    asked = headrace("delete", "t", "--where", "n > 6")
    assert asked.returncode == 1 and "delete 3 rows of 10 from 't'" in asked.stderr and "--yes" in asked.stderr
    done = headrace("delete", "t", "--where", "n > 6", "--yes", "-m", "too many")
    assert done.returncode == 0 and "3 rows of 't' are deleted" in done.stdout, done.stderr
    assert "headrace restore t v" in done.stdout
    assert "No row" in headrace("delete", "t", "--where", "n > 6", "-y").stdout
    changed = headrace("update", "t", "--set", "s = s || n", "--set", "n=n*10", "--where", "n >= 5", "--json")
    assert json.loads(changed.stdout)["rows"] == 2, changed.stderr
    rows = headrace("sql", "select n, s from t where n > 4", "--json").stdout.splitlines()
    assert [json.loads(row) for row in rows] == [{"n": 50, "s": "a5"}, {"n": 60, "s": "a6"}]
    for words, said in (
        (("delete", "t"), "--where FILTER, --rows ID,ID"),
        (("update", "t", "--set", "n=1"), "--all"),
        (("update", "t", "--set", "n", "--all"), "COLUMN=EXPRESSION"),
        (("update", "t", "--set", "n='x'", "--all"), "'n'"),
        (("update", "t", "--set", "m=1", "--all"), "no column 'm'"),
        (("delete", "t", "--rows", "99", "-y"), "99"),
        (("restore", "t", "v99", "-y"), "no version 99"),
    ):
        wrong = headrace(*words)
        assert wrong.returncode == 1 and said in wrong.stderr, (words, wrong.stderr)
    log = headrace("log", "t").stdout
    assert "too many" in log and "delete" in log and "update" in log
    back = headrace("restore", "t", "v2", "--yes")
    assert back.returncode == 0, back.stderr
    assert json.loads(headrace("sql", "select count(*) as c from t", "--json").stdout) == {"c": 10}


def test_small_commits_become_one_fragment(catalog: hr.Catalog, headrace: Run) -> None:
    table = catalog.create_table("t", {"k": "int64", "text": "string"})
    for i in range(60):
        table.append([{"k": i, "text": f"row {i}"}])
    table.delete("k % 9 = 2")
    table.update({"text": "new"}, "k % 7 = 3")
    before, rows, ids = table.version, table.scan(row_ids=True).to_pylist(), list(table.take([0, 59]))
    shown = json.loads(headrace("--catalog", "catalog", "compact", "t", "--dry-run", "--json").stdout)
    assert (shown["replaced"], shown["written"]) == (60, 1) and table.version == before
    done = table.compact(why="night")
    assert (done.commits, done.replaced, done.fragments) == (1, 60, 1)
    assert table.scan(row_ids=True).to_pylist() == rows == table.at(before).scan(row_ids=True).to_pylist()
    assert list(table.take([0, 59])) == ids and table.history()[0].kind == "compact"
    counted = catalog.sql("select count(*) as n, count(*) filter (text = 'new') as new from t").to_pylist()
    assert counted == [{"n": len(rows), "new": sum(row["text"] == "new" for row in rows)}]
    assert table.compact().commits == 0
    assert "nothing was written" in headrace("--catalog", "catalog", "compact", "t").stdout
    with pytest.raises(hr.NotFound, match="2 is deleted"):
        table.take([2])


def test_a_stream_does_not_see_compaction(catalog: hr.Catalog) -> None:
    table = catalog.create_table("t", {"k": "int64"})
    for i in range(50):
        table.append([{"k": i * 4 + j} for j in range(4)])
    table.delete("k % 5 = 1")

    def stream() -> hr.Stream:
        return hr.Stream(table, ["k"], batch_size=8, seed=5, epochs=2)

    whole = [batch["k"].tolist() for batch in stream()]
    running = stream()
    got = []
    for index, batch in enumerate(running):
        got.append(batch["k"].tolist())
        if index == 3:
            state = running.state_dict()
            assert table.compact().commits == 1
    assert got == whole
    resumed = hr.Stream(table, ["k"], batch_size=8, seed=5, epochs=2)
    resumed.load_state_dict(state)
    assert [batch["k"].tolist() for batch in resumed] == whole[4:]


WORKER = """
import os, sys
import headrace as hr
path, name, base, log = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
table = hr.open(path)["t"]
acknowledged = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sequence = len(open(log).read().split())
while True:
    key = base + sequence % 7
    try:
        if sequence % 5 == 4:
            table.delete(f"k = {key}", writer=name, sequence=sequence)
        elif sequence % 5 == 3:
            table.update({"v": -sequence}, f"k = {key}", writer=name, sequence=sequence)
        else:
            table.merge([{"k": key, "v": sequence}], on="k", writer=name, sequence=sequence)
    except (hr.Conflict, hr.NotFound):
        continue  # it was slower than the collector's grace; the same sequence again
    os.write(acknowledged, f"{sequence}\\n".encode())
    sequence += 1
    if sequence % 20 == base // 100:
        try:
            table.compact()
        except (hr.Conflict, hr.NotFound):
            pass  # others changed its rows again and again, or its version went
"""

# All but the newest version goes, as soon as it may, with a grace that a busy writer may well exceed.
COLLECTOR = """
import sys, time
import headrace as hr
table = hr.open(sys.argv[1])["t"]
while True:
    try:
        table.gc(keep=0, grace=0.3)
    except hr.Conflict:
        pass
    time.sleep(0.05)
"""


def state_after(base: int, steps: int) -> dict[int, int]:
    state: dict[int, int] = {}
    for sequence in range(steps):
        key = base + sequence % 7
        if sequence % 5 == 4:
            state.pop(key, None)
        elif sequence % 5 == 3:
            if key in state:
                state[key] = -sequence
        else:
            state[key] = sequence
    return state


def test_a_storm_of_changes(tmp_path: pathlib.Path) -> None:
    """Processes that merge, update and delete rows of their own in one table, and compact it, beside one that collects what is
    old, killed at random: after it, each one's rows are those after its last acknowledged step, or the one after that, and
    everything that is left is whole."""
    processes, seconds = (8, 30.0) if in_ci() else (3, 6.0)
    catalog = hr.init(tmp_path / "c", sync=False)
    table = catalog.create_table("t", {"k": "int64", "v": "int64"})
    rng = random.Random(11)

    def start(index: int) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", COLLECTOR, str(tmp_path / "c")]
        if index < processes:
            log = str(tmp_path / f"log{index}")
            words = [sys.executable, "-c", WORKER, str(tmp_path / "c"), f"w{index}", str(index * 100), log]
        return subprocess.Popen(words, stderr=subprocess.PIPE)

    workers = [start(i) for i in range(processes + 1)]
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            time.sleep(0.2 + rng.random() * 0.4)
            index = rng.randrange(processes + 1)
            if workers[index].poll() is not None:
                error: Any = workers[index].stderr
                raise AssertionError(error.read().decode())
            os.kill(workers[index].pid, signal.SIGKILL)
            workers[index].wait()
            workers[index] = start(index)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    rows = {row["k"]: row["v"] for row in table}
    assert len(rows) == len(table), "no key twice"
    steps = 0
    for index in range(processes):
        log = tmp_path / f"log{index}"
        said = len(log.read_text().split()) if log.exists() else 0
        mine = {key: value for key, value in rows.items() if index * 100 <= key < index * 100 + 100}
        assert mine in (state_after(index * 100, said), state_after(index * 100, said + 1)), (index, said, mine)
        steps += said
    assert steps > 20
    found = table.verify()
    assert found, found.damaged[:3]
    assert sum(entry.expired for entry in table.history()) > 10, "versions went meanwhile"


def test_writers_are_known_until_they_are_forgotten(tmp_path: pathlib.Path) -> None:
    table = hr.init(tmp_path / "c", sync=False).create_table("t", {"k": "int64"})
    assert not table.append([{"k": 1}], writer="loader", sequence=7).repeated
    assert table.append([{"k": 1}], writer="loader", sequence=7).repeated
    table.keep_writer("flow")
    assert table.writers() == [hr.Writer("flow", -1, 3, True), hr.Writer("loader", 7, 2, False)]
    assert not table.append([{"k": 2}], writer="flow", sequence=0).repeated
    table.keep_writer("flow", keep=False)
    table.forget_writer("loader")
    assert [writer.name for writer in table.writers()] == ["flow"]
    with pytest.raises(hr.UnknownOutcome, match="'since'"):
        table.append([{"k": 1}], writer="loader", sequence=7)
    for change in (
        lambda: table.delete("k = 1", writer="loader", sequence=8, since=1),
        lambda: table.update({"k": 3}, "k = 1", writer="loader", sequence=8, since=1),
        lambda: table.merge([{"k": 9}], on="k", writer="loader", sequence=8, since=1),
    ):
        with pytest.raises(hr.UnknownOutcome):
            change()
    assert table.to_arrow()["k"].to_pylist() == [1, 2]
    since = table.version  # looked: it does not have the next one
    assert not table.append([{"k": 3}], writer="loader", sequence=8, since=since).repeated
    assert table.append([{"k": 3}], writer="loader", sequence=8, since=since).repeated
    assert not table.delete("k = 3", writer="other", sequence=0, since=table.version).repeated
    with pytest.raises(hr.NotFound):
        table.forget_writer("nobody")
    with pytest.raises(hr.Invalid):
        table.keep_writer("")
    assert table.history()[0].kind == "delete"
    assert any(entry.kind == "retain" and entry.columns == ["writer 'flow'"] for entry in table.history())
