"""hr.Checkpointer: a loop that was killed anywhere goes on as if nothing had happened, bit for bit."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import warnings
from typing import Any

import headrace as hr
import numpy as np
import pytest
from checkpoint_program import Net, make_table
from headrace import checkpointer
from run_programs import now, points

PROGRAM = pathlib.Path(__file__).with_name("checkpoint_program.py")


def train(catalog: hr.Catalog, run: str, *words: str, code: int = 0, **environment: str) -> dict[str, Any]:
    out = pathlib.Path(catalog.location) / f"{run}.out"
    out.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, str(PROGRAM), catalog.location, run, "--out", str(out), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    return result


def stored(catalog: hr.Catalog, run: str) -> set[str]:
    return {path.name for path in (pathlib.Path(catalog.location) / "checkpoints" / run).iterdir()}


def named(catalog: hr.Catalog, run: str) -> set[str]:
    kept = catalog.checkpoints(run)
    return {one.entry["sha256"] for one in kept} | {file.sha256 for one in kept for file in one.files.values()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[hr.Catalog, dict[str, Any]]:
    catalog = hr.init(tmp_path_factory.mktemp("straight") / "c", sync=False)
    make_table(catalog)
    return catalog, train(catalog, "straight")


@pytest.mark.parametrize(
    ("kill", "begin", "plain"),
    [
        ((16, ""), 15, False),  # 17 steps are done, 15 of them are in a checkpoint
        ((16, ""), 15, True),
        ((19, ""), 15, False),  # the step is done, its checkpoint is about to begin
        ((19, "files:0"), 15, False),
        ((19, "files:1"), 15, True),
        ((19, "files:2"), 15, False),
        ((19, "files:3"), 15, False),  # all files are there, and their manifest is not
        ((19, "row"), 15, False),  # and it is
        ((19, "sweep"), 20, False),
        ((2, ""), 0, False),  # before the first
        ((4, "row"), 0, False),
        ((39, "files:1"), 35, False),  # in the last one
    ],
)
def test_a_loop_that_was_killed_goes_on_bit_for_bit(
    straight: tuple[hr.Catalog, dict[str, Any]], kill: tuple[int, str], begin: int, plain: bool
) -> None:
    catalog, expected = straight
    run = f"killed-{kill[0]}-{kill[1].replace(':', '')}-{plain}"
    mode = ["--plain"] if plain else []
    words = ["--kill-after", str(kill[0])] + (["--kill-in", kill[1]] if kill[1] else [])
    assert train(catalog, run, *words, *mode, code=-signal.SIGKILL) == {}
    assert now(catalog, run)["state"] == "killed"
    resumed = train(catalog, run, *mode)
    assert resumed["begin"] == begin
    for key in ("weights", "velocity", "seen", "chance"):
        assert resumed[key] == expected[key], key
    assert points(catalog, run) == points(catalog, "straight") and len(points(catalog, run)) == 40
    assert (now(catalog, run)["state"], now(catalog, run)["lives"]) == ("finished", 2)
    assert stored(catalog, run) == named(catalog, run), "what a killed save left is gone"


def test_the_same_program_twice_is_the_same(straight: tuple[hr.Catalog, dict[str, Any]]) -> None:
    """Else the test above could pass for a program without chance in it; and without a checkpoint it is another."""
    catalog, expected = straight
    assert train(catalog, "again")["weights"] == expected["weights"]
    shifted = train(catalog, "shifted", "--until", "39")
    assert shifted["weights"] != expected["weights"] and shifted["chance"] != expected["chance"]


def test_a_run_that_is_done_is_not_trained_again(straight: tuple[hr.Catalog, dict[str, Any]]) -> None:
    catalog, expected = straight
    first = train(catalog, "done")
    again = train(catalog, "done")
    assert again["begin"] == 40 and again["weights"] == first["weights"] == expected["weights"]
    assert len(points(catalog, "done")) == 40


@pytest.mark.parametrize(
    "environment",
    [
        {"HEADRACE_RUN": "0123456789abcdef0123456789abcdef"},
        {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"},
    ],
)
def test_a_requeued_job_finds_its_run_and_its_checkpoint(tmp_path: pathlib.Path, environment: dict[str, str]) -> None:
    hr.init(tmp_path / "c")
    program = tmp_path / "train.py"
    program.write_text(
        "import os, signal, numpy as np, headrace as hr\n"
        "state = {'w': np.zeros(3)}\n"
        "with hr.run(catalog='c', system=False) as run, hr.Checkpointer(run, model=state, every=4) as ckpt:\n"
        "    for number in ckpt.steps(range(100), until=10):\n"
        "        state['w'] += 1\n"
        "        run.log({'w': state['w'][0]})\n"
        "        if 'RESTARTED' not in os.environ and ckpt.step == 6: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    print(run.id, state['w'], ckpt.last.step)\n"
    )

    def start(**more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(program)]
        return subprocess.run(
            words, cwd=tmp_path, env={**os.environ, **environment, **more}, capture_output=True, text=True, timeout=60
        )

    assert start().returncode == -signal.SIGKILL
    done = start(RESTARTED="1", SLURM_RESTART_COUNT="1")
    assert done.returncode == 0, done.stderr
    run, weights = done.stdout.split(maxsplit=1)
    assert weights == "[10. 10. 10.] 9\n"
    catalog = hr.open(tmp_path / "c")
    assert [row["id"] for row in catalog.sql("select id from runs_now").to_pylist()] == [run]
    # log() without a step goes on at the checkpoint's, not after the last that was logged.
    assert points(catalog, run) == [("w", step, step + 1.0) for step in range(10)]


# ---------------------------------------------------------------- what is kept


def saved(run: hr.Run, ckpt: hr.Checkpointer, losses: list[float]) -> list[int]:
    for step, loss in enumerate(losses):
        run.log({"val": {"loss": loss}}, step=step)
        ckpt.save(step)
    return [one.step for one in ckpt.kept]


def test_the_last_and_the_best_are_kept_and_the_others_are_deleted(tmp_path: pathlib.Path, catalog: hr.Catalog) -> None:
    net = Net()
    with hr.run(catalog=catalog, system=False) as run:
        run.save("other.json", {"a": 1})
        ckpt = hr.Checkpointer(run, model=net, keep_last=2, keep_best="val/loss")
        assert (ckpt.last, ckpt.best, ckpt.kept) == (None, None, [])
        net.weights["layer.bias"][...] = 7
        assert saved(run, ckpt, [5.0, 3.0, 1.0]) == [1, 2]
        net.weights["layer.bias"][...] = 8
        assert saved(run, ckpt, [float("nan"), 4.0, 0.5, 3.0, 2.0]) == [2, 3, 4]
        assert ckpt.best is not None and ckpt.best.step == 2 and ckpt.best.metrics == {"val/loss": 0.5}
    assert [one.step for one in catalog.checkpoints(run.id)] == [2, 3, 4]
    assert stored(catalog, run.id) == named(catalog, run.id) and len(stored(catalog, run.id)) == 3 * 4
    outputs = now(catalog, run.id)["outputs"]
    assert [one["name"] for one in outputs] == ["other.json", "checkpoint-2", "checkpoint-3", "checkpoint-4"]
    other = Net()
    catalog.checkpoints(run.id)[1].load(model=other)
    assert float(other.weights["layer.bias"]) == 8
    with pytest.raises(hr.Invalid, match="no state of 'optimizer'; it has model"):
        catalog.checkpoints(run.id)[1].load(optimizer=other)
    with pytest.raises(hr.NotFound, match=r"no file 'x'; it has .*model\.safetensors"):
        catalog.checkpoints(run.id)[0].fetch("x", tmp_path / "x")
    path = catalog.checkpoints(run.id)[0].fetch("model.safetensors", tmp_path / "model.safetensors")
    assert path.stat().st_size == catalog.checkpoints(run.id)[0].files["model.safetensors"].bytes
    kept = catalog.checkpoints(run.id)[1]
    with hr.run(id=run.id, catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=net, keep_last=1, keep_best="accuracy", mode="max")
        assert ckpt.restore() == 5 and [one.step for one in ckpt.kept] == [2, 3, 4]
        for step, accuracy in enumerate([0.5, 0.9, 0.9, 0.1], start=5):
            ckpt.save(step, metrics={"accuracy": accuracy})
        assert [one.step for one in ckpt.kept] == [6, 8], "of equal ones the first"
    with pytest.raises(hr.NotFound, match="not kept any more"):
        kept.fetch("model.safetensors", tmp_path / "gone")
    assert catalog.checkpoints("nothing") == []


def test_other_processes_of_a_run_do_not_take_its_checkpoints_away(tmp_path: pathlib.Path, catalog: hr.Catalog) -> None:
    with hr.run(id="a", catalog=catalog, system=False) as run:
        hr.Checkpointer(run, model=Net(), keep_last=1).save(0)
    with hr.run(id="a", catalog=catalog, system=False) as run:
        stale = hr.Run(
            catalog, "a", {**_known(catalog), "alive": False}, dict(run._facts), rank=1
        )  # knows the one of step 0
        ckpt = hr.Checkpointer(run, model=Net(), keep_last=1)
        ckpt.restore()
        ckpt.save(1)
        stale.config.x = 1
        stale.finish()
        assert [one.step for one in catalog.checkpoints("a")] == [1]
        assert [one["name"] for one in now(catalog, "a")["outputs"]] == ["checkpoint-1"]
        stale = hr.Run(catalog, "a", {**_known(catalog), "alive": False}, dict(run._facts), rank=1)
        ckpt.save(2)
        stale.save("late.json", {})
        stale.finish()
        assert [one.step for one in catalog.checkpoints("a")] == [2]
    with hr.run(id="a", catalog=catalog, system=False) as run:
        assert hr.Checkpointer(run, model=Net()).restore() == 3
        run.save("report.json", {})
    assert [one.step for one in catalog.checkpoints("a")] == [2]


def test_nothing_is_lost_where_nobody_restores_or_two_save(catalog: hr.Catalog) -> None:
    with hr.run(id="a", catalog=catalog, system=False) as run:
        for step in range(3):
            hr.Checkpointer(run, model=Net()).save(step)  # each knows what the others keep
        assert [one.step for one in catalog.checkpoints("a")] == [0, 1, 2]
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=Net())  # of which nobody asks to restore anything
        ckpt.save(3)
        other = hr.Checkpointer(run, model=Net())
        assert other.restore() == 4
        ckpt.save(4)
        other.save(5)
        assert [one.step for one in other.kept] == [one.step for one in catalog.checkpoints("a")] == [3, 4, 5]
        for one in catalog.checkpoints("a"):
            assert one.states()["model"]["layer.weight"].shape == (6,)
        for wrong, match in [({"step": -1}, "count from 0"), ({"step": 6, "metrics": {"a": "b"}}, "a is none")]:
            with pytest.raises(hr.Invalid, match=match):
                ckpt.save(**wrong)  # type: ignore[arg-type]
    assert stored(catalog, "a") == named(catalog, "a")
    assert [one["name"] for one in now(catalog, "a")["outputs"]] == ["checkpoint-3", "checkpoint-4", "checkpoint-5"]


def test_a_row_that_cannot_be_written_changes_nothing(catalog: hr.Catalog) -> None:
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=Net(), keep_last=1)
        ckpt.save(0)
        assert run._looking is not None
        run._looking.join()
        writer = run._writer

        class Full:
            def __getattr__(self, name: str) -> Any:
                return getattr(writer, name)

            def record(self, row: str) -> None:
                raise hr.Unavailable("no space left")

        run._writer = Full()  # type: ignore[assignment]
        with pytest.raises(hr.Unavailable, match="no space left"):
            ckpt.save(1)
        run._writer = writer
        assert [one.step for one in ckpt.kept] == [0]
        run.config.x = 1
    assert [one["name"] for one in now(catalog, "a")["outputs"]] == ["checkpoint-0"]
    assert [one.step for one in catalog.checkpoints("a")] == [0]
    assert len(stored(catalog, "a")) == 8, "what nobody names is there until the next"
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=Net(), keep_last=1)
        assert ckpt.restore() == 1
        ckpt.save(1)
    assert stored(catalog, "a") == named(catalog, "a")


def _known(catalog: hr.Catalog) -> dict[str, Any]:
    from headrace import runs

    known = runs._known(catalog, "a", 1)
    assert known is not None
    return known


def test_a_damaged_checkpoint_is_passed_over_and_the_one_before_is_taken(catalog: hr.Catalog) -> None:
    net = Net()
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=net, keep_last=None)
        for step in range(4):
            net.weights["layer.bias"][...] = step
            ckpt.save(step)
        folder = pathlib.Path(catalog.location) / "checkpoints" / "a"
        of = [{name: folder / file.sha256 for name, file in one.files.items()} for one in ckpt.kept]
        manifests = [folder / one.entry["sha256"] for one in ckpt.kept]
    whole = of[3]["model.safetensors"].read_bytes()
    of[3]["model.safetensors"].write_bytes(whole[:-1] + b"\x01")
    of[2]["rank-0.safetensors"].unlink()
    manifests[1].write_text("{")
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=net)
        with pytest.warns(UserWarning, match="cannot be read, so the one before is taken") as told:
            assert ckpt.restore() == 1
        assert len(told) == 3 and float(net.weights["layer.bias"]) == 0
        manifests[0].unlink()
        with pytest.warns(UserWarning), pytest.raises(hr.Corrupt, match="none of the 4 checkpoints of run a"):
            hr.Checkpointer(run, model=net).restore()


# ---------------------------------------------------------------- what does not go


def test_what_does_not_fit_is_told(catalog: hr.Catalog) -> None:
    with hr.run(id="a", catalog=catalog, system=False) as run:
        hr.Checkpointer(run, model=Net(), own=np.random.default_rng(1), other={"x": 1}).save(4)

    def restoring(**options: Any) -> int:
        with hr.run(id="a", catalog=catalog, system=False) as run:
            return hr.Checkpointer(run, **options).restore()

    with pytest.raises(
        hr.Invalid, match=r"the checkpoint of step 4 of run a has no state of optimizer, stream: it has "
    ):
        make_table(catalog)
        restoring(model=Net(), optimizer=Net(), stream=hr.Stream(catalog["rows"], ["x"], batch_size=2))
    with pytest.warns(UserWarning, match="has states that nothing takes: other, own"):
        assert restoring(model=Net()) == 5
    wrong = Net()
    wrong.weights = {"layer.weight": np.zeros(3, np.float32), "layer.bias": np.zeros((), np.float32)}
    with warnings.catch_warnings(), pytest.raises(hr.Invalid, match="does not fit: model: ValueError"):
        warnings.simplefilter("ignore")
        restoring(model=wrong)
    with hr.run(catalog=catalog, system=False) as run:
        for options, match in [
            ({"model": 5}, "model is a int, whose state is not known"),
            ({"keep_last": 0}, "at least 1"),
            ({"mode": "least"}, "min or max"),
            ({"rng2": Net(), "extra": {}}, "take another name"),
            ({"stream": 5}, "stream is a int"),
            ({"every": 0}, "number of steps, at least 1"),
            ({"every": "soon"}, "soon"),
        ]:
            with pytest.raises(hr.Invalid, match=match):
                hr.Checkpointer(run, **options)  # type: ignore[arg-type]
        with pytest.raises(hr.Invalid, match="nothing to go over"):
            next(hr.Checkpointer(run).steps())
        for state, match in [
            ({"f": {"g": print}}, r"model\.f\.g is a builtins\.builtin_function_or_method|f\.g is a "),
            ({"x": np.array([object()])}, "x: an array of object"),
            ({"x": np.zeros(2, "datetime64[s]")}, "x: an array of datetime64"),
        ]:
            with pytest.raises(hr.Invalid, match=match):
                hr.Checkpointer(run, model=state).save(0)
        loop: dict[str, Any] = {}
        loop["loop"] = loop
        with pytest.raises(hr.Invalid, match="holds itself"):
            hr.Checkpointer(run, model=loop).save(0)
    with pytest.raises(hr.Invalid, match="finished"):
        hr.Checkpointer(run, model=Net()).save(0)


def test_an_early_end_and_steps_of_anything(catalog: hr.Catalog) -> None:
    make_table(catalog)
    with hr.run(id="a", catalog=catalog, system=False) as run:
        net = Net()
        stream = hr.Stream(catalog["rows"], ["x"], batch_size=8, seed=1, epochs=1)
        ckpt = hr.Checkpointer(run, model=net, stream=stream, every=1000)
        seen = []
        for batch in ckpt.steps():
            seen.append(batch["row_id"].tolist())
            if ckpt.step == 3:
                ckpt.save()
                break
        assert [one.step for one in ckpt.kept] == [3]
    with hr.run(id="a", catalog=catalog, system=False) as run:
        stream = hr.Stream(catalog["rows"], ["x"], batch_size=8, seed=1, epochs=1)
        ckpt = hr.Checkpointer(run, model=net, stream=stream, every=1000)
        seen += [batch["row_id"].tolist() for batch in ckpt.steps()]
        assert [one.step for one in ckpt.kept] == [3, 16]
    whole = hr.Stream(catalog["rows"], ["x"], batch_size=8, seed=1, epochs=1)
    assert seen == [batch["row_id"].tolist() for batch in whole]


def test_epochs_that_end_between_checkpoints(catalog: hr.Catalog) -> None:
    """A checkpoint at the very end of an epoch, whose state stands there."""
    make_table(catalog)

    def go(run_id: str, stop: int) -> list[Any]:
        with hr.run(id=run_id, catalog=catalog, system=False) as run:
            stream = hr.Stream(catalog["rows"], ["x"], batch_size=8, seed=1, epochs=3)
            ckpt = hr.Checkpointer(run, stream=stream, every=17)
            ckpt.restore()
            seen = ckpt.extra.setdefault("seen", [])
            for batch in ckpt.steps():
                seen.append([batch["row_id"].tolist(), ckpt.step])
                if ckpt.step == stop:
                    break
            return list(seen)

    expected = go("a", -1)
    assert len(expected) == 51
    go("b", 17)  # 17 steps are in a checkpoint, and one more is not
    assert go("b", -1) == expected


# ---------------------------------------------------------------- a disk that is full

FULL = """
import os, pathlib, subprocess, sys, warnings
sys.path[:0] = [{tests!r}]
import headrace as hr, numpy as np
disk = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(disk)], check=True)
catalog = hr.init(disk / "c")
state = {{"w": np.zeros(250_000)}}  # 2 MB
ballast = disk / "ballast"

def fill(left):
    ballast.unlink(missing_ok=True)
    found = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(found.f_bavail * found.f_frsize - left, 1))

warnings.simplefilter("always")
with hr.run(id="a", catalog=catalog, system=False) as run:
    run.log({{"x": 0}}, step=0)
    ckpt = hr.Checkpointer(run, model=state, every=2, keep_last=1)
    with warnings.catch_warnings(record=True) as told:
        for number in ckpt.steps(range(20)):
            state["w"] += 1
            if number in (3, 5, 7): fill({{3: 0, 5: 1 << 20, 7: 3 << 20}}[number])
            if number == 9: ballast.unlink()
            if number == 15: ballast.write_bytes(b""); fill(0)
            if number == 18: ballast.unlink()
    steps = [str(one.message) for one in told if "no checkpoint" in str(one.message)]
    print([text.split(":")[0] for text in steps])
    assert all("No space left on device" in text and str(disk) in text for text in steps), steps
    assert [one.step for one in ckpt.kept] == [19]
    fill(0)
    try:
        ckpt.save(20)
    except hr.Unavailable as error:
        print("refused")
    assert [one.step for one in catalog.checkpoints("a")] == [19]
    ballast.unlink()
    ckpt.save(21)
assert [one.step for one in catalog.checkpoints("a")] == [21]
other = {{}}
catalog.checkpoints("a")[0].load(model=other)
assert other["w"].tolist() == [20.0] * 250_000
assert len(list((disk / "c" / "checkpoints" / "a").iterdir())) == 4
"""


def test_a_full_disk_keeps_the_last_checkpoint_and_training_goes_on(tmp_path: pathlib.Path) -> None:
    from test_full_disk import ENTER, may_mount

    if not may_mount():
        pytest.skip("this user may not mount a file system in a namespace of its own")
    done = subprocess.run(
        [*ENTER, sys.executable, "-c", FULL.format(tests=str(PROGRAM.parent)), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    warned, refused = done.stdout.splitlines()
    assert refused == "refused"
    assert warned == str(
        [
            "step 3 has no checkpoint, and the last one is of step 1",
            "step 5 has no checkpoint, and the last one is of step 1",
            "step 7 has no checkpoint, and the last one is of step 1",
            "step 15 has no checkpoint, and the last one is of step 13",
            "step 17 has no checkpoint, and the last one is of step 13",
        ]
    )


# ---------------------------------------------------------------- when


def test_time_decides_when(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpointer.time, "monotonic", lambda: clock[0])
    schedule = checkpointer._Schedule("100s")
    asked, at = 0, []
    for step in range(1, 1001):
        clock[0] += 1 if step < 500 else 10  # steps become slower
        if schedule.asks(step):
            asked += 1
            if schedule.due(step, lambda value: value):
                at.append(clock[0])
                schedule.begin(step)
    gaps = np.diff([0, *at])
    assert gaps.min() >= 100 and gaps.max() <= 400 and asked < 300, (gaps, asked)
    assert not checkpointer._Schedule("0.5d").asks(0)
