"""Streams in the middle of an epoch, long scans and a server with its traces, while the table under them is changed, compacted, expired
and collected: neither a sequence nor a pixel is another."""

from __future__ import annotations

import hashlib
import json
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import headrace as hr
import numpy as np
import pytest
import stream_tables
from conftest import in_ci, wait_for
from serving import make_catalog, needs_models, run, serving

STEPS = hr.RandomResizedCrop(24) | hr.HorizontalFlip()


@pytest.fixture(params=["", "slow:latency=1ms:"], ids=["local", "distant"])
def location(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalog as those who read open it; they show at once that they read. (Of a distant one nothing is mapped that is in use.)"""
    monkeypatch.setenv("HEADRACE_LEASE_AFTER", "0")
    table = stream_tables.make(hr.init(tmp_path / "catalog", sync=False), count=160)
    stream_tables.append(table, 40, start=160)
    rng = np.random.default_rng(1)
    table.add_columns({"raw": "blob"})  # more than a stream may read ahead
    table.update(
        lambda batch: {"raw": [rng.bytes(120_000) for _ in batch["label"]]}, "true", inputs=["label"], columns=["raw"]
    )
    return f"{request.param}{tmp_path / 'catalog'}"


def everything_happens(folder: pathlib.Path, readers: int) -> Iterator[None]:
    """To the table, a step for each batch that is read; at the end its files are those of the newest version alone, and what is read."""
    # Other processes', which know nothing of the readers but what the catalog says.
    script = lambda words: run("--catalog", str(folder), *words.split("|"))  # noqa: E731
    wait_for(lambda: len(list((folder / "leases").rglob("*.json"))) >= readers, "who reads takes a lease")
    script("delete|photos|--where|label = 3|--yes")
    yield
    script("update|photos|--set|caption = 'another'|--where|label < 3")
    yield
    table = hr.open(folder)["photos"]
    table.update({"image": stream_tables.jpeg(999), "vec": np.zeros(8, np.float32)}, "label > 6")
    script("drop|photos|weight")
    yield
    script("rename|photos|caption|title")
    script("add-columns|photos|label + 1 as caption")  # the name of one that is read
    yield
    script("delete|photos|--where|label = 5|--purge|--yes")
    table.append({"label": np.full(30, 7, np.int32), "title": ["late"] * 30})
    script("compact|photos")
    yield
    script("keep|photos|0s")
    for _ in range(2):
        time.sleep(0.01)
        script("gc|photos|--grace|0s|--yes")
        yield
    table.restore(table.version - 1)
    script("delete|photos|--where|true|--yes")
    time.sleep(0.01)
    script("gc|photos|--grace|0s|--yes")
    while True:
        yield


def open_stream(table: hr.Table | hr.Snapshot, *more: str, **options: Any) -> hr.Stream:
    columns = ["image", "caption", "vec", "weight", *more]
    return hr.Stream(table, columns, image=STEPS, batch_size=16, seed=5, memory="12MB", **options)


def facts(batch: dict[str, Any]) -> tuple[Any, ...]:
    pixels = hashlib.sha256(np.ascontiguousarray(batch["image"]).tobytes()).hexdigest()
    raw = [None if cell is None else hashlib.sha256(cell).hexdigest() for cell in batch.get("raw", [])]
    return (
        batch["row_id"].tolist(),
        batch["valid"].tolist(),
        list(batch["caption"]),
        batch["vec"].tolist(),
        batch["weight"].tolist(),
        pixels,
        raw,
    )


def test_streams_in_the_middle_of_an_epoch(location: str, tmp_path: pathlib.Path) -> None:
    def streams() -> tuple[hr.Stream, hr.Stream]:
        photos = hr.open(location)["photos"]
        return open_stream(photos, "raw", epochs=2), open_stream(photos.at(), "raw", where="label > 1", epochs=1)

    whole, filtered = ([facts(batch) for batch in stream] for stream in streams())
    plain, some = streams()
    one, other = iter(plain), iter(some)
    got, got_some = [facts(next(one))], [facts(next(other))]
    happens = everything_happens(tmp_path / "catalog", 1)
    for batch in one:
        got.append(facts(batch))
        next(happens)
        if (following := next(other, None)) is not None:
            got_some.append(facts(following))
    assert got == whole, "both epochs of a stream that is open are those of its version"
    assert got_some == filtered
    table = hr.open(tmp_path / "catalog")["photos"]
    assert len(table) == 0 and table.verify()


def test_what_was_deleted_is_gone_in_the_epoch_after_a_resume(catalog: hr.Catalog) -> None:
    """A checkpoint on a newer version ends its epoch on the old one."""
    table = stream_tables.make(catalog, count=160)
    first = [facts(batch)[0] for batch in open_stream(table, epochs=1)]
    stream = open_stream(table, epochs=2)
    batches = iter(stream)
    got = [facts(next(batches))[0] for _ in range(3)]
    state = stream.state_dict()
    table.delete("label = 3")
    table.update({"caption": "another"}, "label = 4")
    table.compact()
    resumed = open_stream(table, epochs=2)
    resumed.load_state_dict(state)
    rest = [facts(batch) for batch in resumed]
    epoch = len(first) - 3
    assert got + [batch[0] for batch in rest[:epoch]] == first, "deleted rows are delivered in the epoch that had begun"
    assert "another" not in {caption for batch in rest[:epoch] for caption in batch[2]}
    later = [(row, caption) for batch in rest[epoch:] for row, valid, caption in zip(*batch[:3], strict=True) if valid]
    gone = set(range(48, 64))  # label 3
    assert sorted(row for row, _ in later) == sorted(set(range(160)) - gone), "and gone in the next"
    assert {row for row, caption in later if caption == "another"} == set(range(64, 80))


def test_a_long_scan_and_sql(location: str, tmp_path: pathlib.Path) -> None:
    def seen(row: hr.Row) -> tuple[Any, ...]:
        return row["caption"], row["vec"].tolist(), row["weight"], hashlib.sha256(bytes(row["image"])).hexdigest()

    query = "select caption, weight, row_number() over (order by label, caption) as n from photos order by n"
    whole = [seen(row) for row in hr.open(location)["photos"].scan()]
    told = hr.open(location).sql(query).to_arrow().to_pylist()
    snapshot = hr.open(location)["photos"].at()
    rows = iter(snapshot.scan(batch_rows=16))
    got = [seen(next(rows))]
    answer = iter(hr.open(location).sql(query))
    happens = everything_happens(tmp_path / "catalog", 1)
    for count, row in enumerate(rows):
        got.append(seen(row))
        if count % 16 == 3:
            next(happens)
    assert got == whole
    assert [dict(row) for row in answer] == told
    assert [seen(row) for row in snapshot.take(list(range(199, 0, -20)))] == whole[199:0:-20], (
        "the version that is held"
    )


@pytest.mark.skipif(not in_ci(), reason="./dev test --ci")
@needs_models
def test_a_server_and_its_traces(tmp_path: pathlib.Path) -> None:
    """Requests go on while their table is changed, compacted and collected: each has one row, and gives the same words."""
    folder = make_catalog(tmp_path)
    asked: dict[str, str] = {}
    with serving(folder, "gemma", "-c", "1024", "--commit-seconds", "0.2") as server:

        def ask(number: int) -> None:
            body = {"model": "gemma", "prompt": f"Count: {number},", "max_tokens": 4, "temperature": 0}
            answer = server.ask("/v1/completions", body).json
            asked[answer["id"].split("-", 1)[1]] = answer["choices"][0]["text"]

        over = threading.Event()

        def go_on() -> None:
            while not over.is_set():
                ask(len(asked))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            # Rows that are committed; SQL shows those of the spool, too.
            wait_for(
                lambda: "hr.traces" in hr.open(folder).tables() and len(hr.open(folder)["traces"]) > 3,
                "rows are committed",
            )
            traces = hr.open(folder)["traces"]
            gone = [row["id"] for row in traces.scan(["id"])][:2]
            for words in (
                ("delete", "traces", "--where", f"id = '{gone[0]}'", "--yes"),
                ("compact", "traces"),
                ("add-columns", "traces", "prompt_tokens * 2 as twice"),
                ("update", "traces", "--set", "user = 'somebody'", "--all"),
                ("delete", "traces", "--where", f"id = '{gone[1]}'", "--purge", "--yes"),
                ("keep", "traces", "0s"),
                ("gc", "--grace", "0s", "--yes"),
                ("drop", "traces", "twice"),
                ("compact", "traces"),
                ("gc", "--grace", "0s", "--yes"),
            ):
                before = len(asked)
                run("--catalog", str(folder), *words)
                wait_for(lambda before=before: len(asked) > before, "requests go on")
        finally:
            over.set()
            thread.join()
        assert server.stop() == 0, "it stops as asked"
    rows = json.loads(
        "["
        + ",".join(run("--catalog", str(folder), "sql", "select id, answer from traces", "--json").splitlines())
        + "]"
    )
    assert {row["id"]: row["answer"] for row in rows} == {id: text for id, text in asked.items() if id not in gone}
    assert len(rows) == len(asked) - 2 and all(hr.open(folder).verify())
    assert len(hr.open(folder)["traces"]) == len(rows), "all are committed"
