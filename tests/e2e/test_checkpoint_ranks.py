"""hr.Checkpointer with several ranks: each has chance of its own, and all go on together."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import pathlib
from typing import Any

import headrace as hr
import pytest
from checkpoint_program import Net, make_table, rank_main


def stored(catalog: hr.Catalog, run: str) -> set[str]:
    return {path.name for path in (pathlib.Path(catalog.location) / "checkpoints" / run).iterdir()}


def named(catalog: hr.Catalog, run: str) -> set[str]:
    kept = catalog.checkpoints(run)
    return {one.entry["sha256"] for one in kept} | {file.sha256 for one in kept for file in one.files.values()}


def ranks(catalog: hr.Catalog, run: str, world: int, stop: int | None, until: int) -> list[dict[str, Any]]:
    """All ranks of a start, which talk over this process; of those that were killed nothing."""
    spawn = multiprocessing.get_context("spawn")
    channels = [spawn.Pipe() for _ in range(world)]
    processes = [
        spawn.Process(target=rank_main, args=(rank, world, catalog.location, run, channels[rank][1], stop, until))
        for rank in range(world)
    ]
    for process, (_, theirs) in zip(processes, channels, strict=True):
        process.start()
        theirs.close()
    results: list[dict[str, Any]] = []
    while len(results) < world:
        try:
            told = [ours.recv() for ours, _ in channels]
        except EOFError:
            break
        if isinstance(json.loads(told[0]), dict):
            results = [json.loads(text) for text in told]
            break
        for ours, _ in channels:
            with contextlib.suppress(BrokenPipeError):
                ours.send(told)
    for ours, _ in channels:
        ours.close()
    for process in processes:
        process.join(60)
        assert process.exitcode is not None
    assert bool(results) == (stop is None), [process.exitcode for process in processes]
    return results


def test_ranks_go_on_together(catalog: hr.Catalog) -> None:
    make_table(catalog)
    world, until = 3, 14  # 11 steps an epoch
    expected = ranks(catalog, "straight", world, None, until)
    assert ranks(catalog, "killed", world, 7, until) == []
    assert {name for one in catalog.checkpoints("killed") for name in one.files} == {
        "model.safetensors", "training.safetensors", "rank-0.safetensors", "rank-1.safetensors", "rank-2.safetensors",
    }  # fmt: skip
    resumed = ranks(catalog, "killed", world, None, until)
    for rank in range(world):
        assert [step for step, _ in resumed[rank]["told"]] == list(range(5, until))
        assert resumed[rank]["told"] == expected[rank]["told"][5:]
        assert resumed[rank]["chance"] == expected[rank]["chance"]
        assert resumed[rank]["weights"] == expected[0]["weights"]
    assert len({one["chance"] for one in expected}) == world, "each rank has chance of its own"
    for rank in range(world):
        curves = [
            catalog.sql(
                "select step, value from points where run = ? and key = 'loss' and rank = ? order by step", [r, rank]
            )
            for r in ("straight", "killed")
        ]
        assert curves[0].to_pylist() == curves[1].to_pylist()
    assert stored(catalog, "killed") == named(catalog, "killed")


def test_another_number_of_ranks_goes_on_with_the_same_rows(catalog: hr.Catalog) -> None:
    make_table(catalog)
    order = [row for batch in hr.Stream(catalog["rows"], ["x"], batch_size=12, seed=9, epochs=9, rank=0, world_size=1)
             for row in batch["row_id"][batch["valid"]].tolist()][:130]  # fmt: skip
    ranks(catalog, "a", 3, None, 5)
    for world in (2, 4):
        results = ranks(catalog, "a", world, None, 5 + 2 * (world // 2))
        seen = sorted(row for one in results for _, rows in one["told"] for row in rows)
        begin = 60 if world == 2 else 60 + 16
        assert seen == sorted(order[begin : begin + len(seen)]) and len(seen) == 4 * world * 2


def test_ranks_that_cannot_talk_are_told_so(catalog: hr.Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with hr.run(id="a", catalog=catalog, system=False) as run:
        with pytest.raises(hr.Invalid, match=r"rank 0 of 2, and the ranks cannot talk"):
            hr.Checkpointer(run, model=Net()).save(0)

        def gather(value: Any) -> list[Any]:
            return [value, [None, ["Unavailable", "its disk is full"]] if isinstance(value, list) else None]

        with pytest.raises(hr.Unavailable, match="rank 1: its disk is full"):
            hr.Checkpointer(run, model=Net(), gather=gather).save(0)
    assert catalog.checkpoints("a") == []
