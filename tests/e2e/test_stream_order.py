"""The order of a stream: the same rows for every number of ranks and workers, and from any interruption."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import headrace as hr
import numpy as np
import order_reference
import stream_tables as tables


def joined(streams: list[hr.Stream]) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Steps of a world in one process: row ids in position order, and the state after each."""
    iterators = [iter(stream) for stream in streams]
    while True:
        batches = [next(iterator, None) for iterator in iterators]
        if batches[0] is None:
            assert all(batch is None for batch in batches), "every rank makes the same steps"
            return
        pairs = []
        for batch in batches:
            assert batch is not None
            keep = batch["valid"]
            pairs += zip(batch["position"][keep].tolist(), batch["row_id"][keep].tolist(), strict=True)
        states = [stream.state_dict() for stream in streams]
        assert all(state == states[0] for state in states)
        yield [row for _, row in sorted(pairs)], states[0]


def test_the_order_is_the_one_of_the_specification(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=300)
    for options, layout in [
        ({}, (1, 1, 0)),
        ({"block": 7, "lanes": 12, "window": 60}, (7, 12, 60)),
        ({"block": 4, "lanes": 6, "window": 1000}, (4, 6, 1002)),
    ]:
        stream = hr.Stream(table, ["label"], batch_size=32, seed=99, **options)  # type: ignore[arg-type]
        for epoch in range(2):
            expected = order_reference.epoch_order(300, *layout, seed=99, epoch=epoch)
            assert [sample["ordinal"] for sample in stream.plan(300)] == expected
            assert tables.row_ids(stream) == expected


def test_one_sequence_for_every_world_workers_and_interruptions(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=257)
    random.seed(5)
    for layout in ({}, {"block": 5, "lanes": 24, "window": 96}):
        whole = tables.row_ids(hr.Stream(table, ["label"], batch_size=16, seed=3, **layout))  # type: ignore[arg-type]
        assert sorted(whole) == list(range(257))
        state: dict[str, Any] | None = None
        got: list[int] = []
        cuts = sorted(random.sample(range(1, 120), 50))
        steps = 0
        while True:
            world, workers = random.choice([1, 2, 3, 5, 8, 64]), random.choice([0, 1, 3])
            batch = random.choice([1, 2, 3]) if world <= 8 else 1
            ranks = [
                hr.Stream(
                    table,
                    ["label"],
                    batch_size=batch,
                    seed=3,
                    rank=rank,
                    world_size=world,
                    threads=1,
                    prefetch=2,
                    **layout,  # type: ignore[arg-type]
                )
                for rank in range(world)
            ]
            for stream in ranks:
                if state is not None:
                    stream.load_state_dict(json.loads(json.dumps(state)))
            if workers:  # the workers of rank 0 take turns; together they give what rank 0 gives
                parts = []
                for worker in range(workers):
                    part = hr.Stream(
                        table, ["label"], batch_size=batch, seed=3, rank=0, world_size=world, threads=1, **layout
                    )  # type: ignore[arg-type]
                    part._options |= {"worker": worker, "workers": workers}
                    part._native = part._open()
                    part._native.load(json.dumps(state or ranks[0].state_dict()))
                    parts.append(iter(part))
            interrupted = False
            for index, (rows, after) in enumerate(joined(ranks)):
                if workers:
                    turn = next(parts[index % workers])
                    mine = [row for row in turn["row_id"][turn["valid"]].tolist()]
                    assert set(mine) <= set(rows)
                got += rows
                state = after
                steps += 1
                if cuts and steps >= cuts[0]:
                    cuts.pop(0)
                    interrupted = True
                    break
            if not interrupted:
                break
        assert got == whole


RANK_PROGRAM = """
import json, sys
import headrace as hr
table = hr.open(sys.argv[1])["photos"]
stream = hr.Stream(table, ["image", "label"], image=hr.RandomResizedCrop(32) | hr.HorizontalFlip(), batch_size=4, seed=8, threads=1)
if sys.argv[2]:
    stream.load_state_dict(json.loads(sys.argv[2]))
for step, batch in enumerate(stream):
    if step == int(sys.argv[3]):
        break
    print(json.dumps({"step": step, "position": batch["position"].tolist(), "row_id": batch["row_id"].tolist(),
                      "valid": batch["valid"].tolist(), "sums": batch["image"].sum(axis=(1, 2, 3)).tolist(),
                      "state": stream.state_dict()}))
"""


def run_world(catalog: str, world: int, state: str, steps: int) -> tuple[dict[int, tuple[int, int]], str]:
    """Real processes; (row id, sum of pixels) by position, and the state after the last whole step."""
    import os

    programs = [
        subprocess.Popen(
            [sys.executable, "-c", RANK_PROGRAM, catalog, state, str(steps)],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": str(world),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(world),
            },
        )
        for rank in range(world)
    ]
    found: dict[int, tuple[int, int]] = {}
    after = state
    lengths = set()
    for program in programs:
        output = program.communicate(timeout=120)[0]
        assert program.returncode == 0
        lines = [json.loads(line) for line in output.splitlines()]
        lengths.add(len(lines))
        for line in lines:
            for position, row, valid, pixels in zip(
                line["position"], line["row_id"], line["valid"], line["sums"], strict=True
            ):
                if valid:
                    assert position not in found
                    found[position] = (row, pixels)
        after = json.dumps(lines[-1]["state"])
    assert len(lengths) == 1
    return found, after


def test_eight_real_processes_and_a_resume_at_three(catalog: hr.Catalog) -> None:
    tables.make(catalog, count=150)
    whole, _ = run_world(catalog.location, 1, "", 1000)
    assert sorted(whole) == list(range(150))
    first, state = run_world(catalog.location, 8, "", 3)
    assert len(first) == 96
    assert json.loads(state)["position"] == 96
    rest, _ = run_world(catalog.location, 3, state, 1000)
    assert {**first, **rest} == whole, "the same rows and the same pixels at every position"


def test_same_seed_same_bits_whatever_the_threads(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=60)
    steps = hr.RandomResizedCrop(40, filter="bicubic") | hr.HorizontalFlip() | hr.ColorJitter(0.4, 0.4, 0.4, 0.1)
    runs = []
    for threads, prefetch in [(1, 1), (2, 3), (5, 8)]:
        stream = hr.Stream(table, ["image"], image=steps, batch_size=13, seed=4, threads=threads, prefetch=prefetch)
        runs.append(np.concatenate([batch["image"][batch["valid"]].copy() for batch in stream]))
    assert np.array_equal(runs[0], runs[1])
    assert np.array_equal(runs[0], runs[2])
    again = hr.Stream(table, ["image"], image=steps, batch_size=13, seed=5)
    assert not np.array_equal(runs[0], np.concatenate([b["image"][b["valid"]].copy() for b in again]))


def test_commits_in_mid_run_change_nothing_and_join_at_the_next_epoch(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=100)
    expected = tables.row_ids(hr.Stream(table, ["label"], batch_size=10, seed=1))
    stream = hr.Stream(table, ["label"], batch_size=10, seed=1)
    batches = iter(stream)
    got = [row for _ in range(3) for row in next(batches)["row_id"].tolist()]
    state = stream.state_dict()
    tables.append(table, 50, start=100)
    table.add_columns({"extra": np.arange(150)})
    got += [row for batch in batches for row in batch["row_id"][batch["valid"]].tolist()]
    assert got == expected
    # From the checkpoint, on the newer snapshot: this epoch ends as it began; the next has the new rows.
    newer = hr.Stream(table, ["label"], batch_size=10, seed=1)
    newer.load_state_dict(state)
    assert tables.row_ids(newer) == expected[30:]
    assert newer.epoch == 1
    assert sorted(tables.row_ids(newer)) == list(range(150))


def test_mixtures_weights_and_their_resume(catalog: hr.Catalog) -> None:
    a, b = tables.make(catalog, "a", 40), tables.make(catalog, "b", 100)
    mixture = hr.Mixture([(a, 3), (b, 1, "label < 5")], schedule={400: [1, 1]})

    def stream() -> hr.Stream:
        return hr.Stream(mixture, ["label"], batch_size=20, seed=9)

    batches = iter(stream())
    sources: list[int] = []
    rows: list[tuple[int, int]] = []
    first = stream()
    first_batches = iter(first)
    for step in range(40):
        batch = next(batches)
        sources += batch["source"].tolist()
        rows += zip(batch["source"].tolist(), batch["row_id"].tolist(), strict=True)
        if step == 12:
            for _ in range(13):
                next(first_batches)
            resumed = stream()
            resumed.load_state_dict(first.state_dict())
            resumed_batches = iter(resumed)
        elif step > 12:
            assert next(resumed_batches)["row_id"].tolist() == batch["row_id"].tolist()
    assert abs(sources[:400].count(0) - 300) <= 1
    assert abs(sources[400:].count(0) - 200) <= 1
    for start in range(0, 280, 40):  # every pass over `a` holds each of its rows once
        own = [row for source, row in rows if source == 0][start : start + 40]
        assert sorted(own) == list(range(40))
    assert {row for source, row in rows if source == 1} == set(range(50))
    stops = hr.Stream(hr.Mixture([(a, 1), (b, 1)], stop="first"), ["label"], batch_size=16)
    assert stops.num_rows == 80
    weighted = hr.Stream(b, ["label"], weights="weight", batch_size=50, seed=2)
    drawn = np.bincount(np.array(tables.row_ids(weighted)), minlength=100)
    assert drawn[::7].sum() == 0, "rows of weight 0 never come"
    expected = (np.arange(100) % 7) / (np.arange(100) % 7).sum() * 100
    assert np.abs(drawn - expected).max() <= 1


def test_ranks_that_differ_are_refused(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    table = catalog.create_table("t", [{"a": i} for i in range(100)])
    program = """
import json, sys
import headrace as hr
table = hr.open(sys.argv[1])["t"]
for ask in json.loads(sys.argv[2]):
    at = ask.pop("at", None)
    hr.Stream(table if at is None else table.at(at), ["a"], **ask)
print("same")
"""

    def rank(number: int, asks: list[dict[str, Any]], job: str = "j", size: int = 2) -> str:
        environment = {**os.environ, "RANK": str(number), "WORLD_SIZE": str(size), "HEADRACE_JOB": job}
        words = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "catalog"), json.dumps(asks)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    train = {"batch_size": 8, "seed": 3}
    assert rank(0, [train]) == "same"
    assert rank(1, [train]) == "same"
    table.append([{"a": 100}])
    told = rank(1, [train])
    assert "rank 1 of job j reads version [3]" in told and "rank 0 reads [2]" in told and "table.at(2)" in told
    assert rank(1, [{**train, "at": 2}]) == "same"
    # What only one rank asks for, another job, one rank alone: nothing to compare with.
    assert rank(1, [{**train, "batch_size": 4}]) == "same"
    assert rank(1, [train], job="k") == "same" and rank(0, [train], size=1) == "same"
    # A stream that is opened again is another one: the table may have grown on purpose.
    assert rank(0, [train, {**train, "at": 2}], job="m") == "same"
    assert rank(1, [train, train], job="m").startswith("headrace.errors.Invalid")
    # A catalog that cannot be written to: told, and no reason to stop.
    if os.geteuid() != 0:
        (tmp_path / "catalog").chmod(0o555)
        assert "are not compared" in rank(0, [train], job="n")
