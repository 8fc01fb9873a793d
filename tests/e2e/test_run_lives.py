"""Runs whose processes die, fork, come back, or are many."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pathlib
import signal
import subprocess
import time
from typing import Any

import headrace as hr
import pytest
from run_programs import now, output, points, script


@pytest.mark.parametrize(
    ("ending", "state"),
    [("", "finished"), ("raise ValueError('no')", "failed"), ("import os; os.kill(os.getpid(), 9)", "killed")],
)
def test_a_program_that_ends_without_finish(tmp_path: pathlib.Path, ending: str, state: str) -> None:
    process = script(
        tmp_path, f"run = hr.run(config={{'a': 1}})\nrun.log({{'x': 1}})\nprint(run.id, flush=True)\n{ending}"
    )
    out, _ = process.communicate(timeout=60)
    catalog = hr.open(tmp_path / ".headrace")  # made by the program: there was none
    row = now(catalog, out.strip())
    assert (row["state"], row["name"]) == (state, "train")
    assert points(catalog, out.strip()) == [("x", 0, 1.0)]
    if state == "failed":
        assert row["reason"] == "ValueError: no"


def test_a_killed_run_goes_on_as_its_next_life(tmp_path: pathlib.Path) -> None:
    text = """
        import os
        run = hr.run("probe", id="0123456789abcdef0123456789abcdef", config={"life": %d})
        print(run.resumed, run.step, flush=True)
        for step in range(%d, %d):
            run.log({"loss": %d + step / 100}, step=step)
        if %d: os.kill(os.getpid(), 9)
        run.log({"loss": 9})
    """
    first = script(tmp_path, text % (1, 0, 10, 1, 1))
    assert first.communicate(timeout=60)[0].split() == ["False", "-1"]
    catalog = hr.open(tmp_path)
    run = "0123456789abcdef0123456789abcdef"
    assert now(catalog, run)["state"] == "killed"
    second = script(tmp_path, text % (2, 6, 8, 2, 0))
    assert output(second).split()[0] == "True"
    expected = [("loss", step, 1 + step / 100) for step in range(6)] + [
        ("loss", 6, 2.06),
        ("loss", 7, 2.07),
        ("loss", 8, 9.0),
    ]
    assert points(catalog, run) == expected
    row = now(catalog, run)
    assert (row["state"], row["config"]) == ("finished", {"life": 2})
    # Nothing of the first is gone.
    lives = catalog.sql(
        "select life, sum(n)::bigint as n from hr.metrics where run = ? and key = 'loss' group by life order by life",
        [run],
    ).to_pylist()
    assert [life["n"] for life in lives] == [10, 3]
    assert catalog.sql("select count(*) as n from runs_now").to_pylist() == [{"n": 1}]


def test_two_processes_log_to_one_run(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog) as run:
        run.log({"mine": 1})
        other = script(
            tmp_path,
            f"run = hr.run(catalog={str(tmp_path / 'c')!r}, id={run.id!r})\nassert not run.resumed\nrun.log({{'theirs': 2}})",
        )
        output(other)
        assert now(catalog, run.id)["state"] == "running"
        run.log({"mine": 3})
    assert points(catalog, run.id) == [("mine", 0, 1.0), ("mine", 1, 3.0), ("theirs", 0, 2.0)]
    assert now(catalog, run.id)["state"] == "finished"


def test_ranks_of_a_job_are_one_run_also_when_it_is_requeued(tmp_path: pathlib.Path) -> None:
    hr.init(tmp_path / "c")
    text = f"""
        import os, sys, time
        start = int(os.environ["SLURM_RESTART_COUNT"])
        run = hr.run("job", catalog={str(tmp_path / "c")!r})
        for step in range(start * 5, start * 5 + 8):
            run.log({{"loss": 100 * start + step, "rank": run.rank}}, step=step)
        print(run.id, flush=True)
        if start < 2:
            os.kill(os.getpid(), 9)
    """
    ids = set()
    for start in range(3):
        ranks = [
            script(
                tmp_path,
                text,
                SLURM_JOB_ID="77",
                SLURM_STEP_ID="0",
                SLURM_STEP_NUM_TASKS="8",
                SLURM_PROCID=str(rank),
                SLURM_RESTART_COUNT=str(start),
            )
            for rank in range(8)
        ]
        for process in ranks:
            out, errors = process.communicate(timeout=120)
            assert out, (process.returncode, errors)
            ids.add(out.strip())
    (run,) = ids
    catalog = hr.open(tmp_path / "c")
    row = now(catalog, run)
    assert (row["state"], row["slurm_job"]) == ("finished", "77")
    for rank in range(8):
        rows = catalog.sql(
            "select step, value from points where key = 'loss' and rank = ? order by step", [rank]
        ).to_pylist()
        assert [(r["step"], r["value"]) for r in rows] == [
            (step, 100 * min(step // 5, 2) + step) for step in range(18)
        ], rank


def test_a_forked_child_logs_for_itself(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog) as run:
        run.log({"parent": 1})

        def child() -> None:
            for step in range(100):
                run.log({"child": step}, step=step)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        run.log({"parent": 2})
    rows = points(catalog, run.id)
    assert [row for row in rows if row[0] == "parent"] == [("parent", 0, 1.0), ("parent", 1, 2.0)]
    assert len(rows) == 102
    assert now(catalog, run.id)["state"] == "finished"


def test_ctrl_c_interrupts_the_run(tmp_path: pathlib.Path) -> None:
    process = script(
        tmp_path,
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in the background\n"
        "with hr.run() as run:\n    print(run.id, flush=True)\n    time.sleep(60)",
    )
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert now(hr.open(tmp_path), run)["state"] == "interrupted"


def test_a_full_folder_of_spools_is_committed_by_the_next_program(tmp_path: pathlib.Path) -> None:
    """Programs that were killed leave their spools; whoever comes next commits them."""
    ids = []
    for _ in range(3):
        process = script(
            tmp_path, "import os\nrun = hr.run()\nrun.log({'x': 1})\nprint(run.id, flush=True)\nos.kill(os.getpid(), 9)"
        )
        ids.append(process.communicate(timeout=60)[0].strip())
    catalog = hr.open(tmp_path)
    with hr.run(catalog=catalog):
        pass
    spool = tmp_path / ".headrace" / "spool"
    deadline = time.monotonic() + 60
    while [path for path in spool.iterdir() if path.name.startswith("w-")] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [path for path in spool.iterdir() if path.name.startswith("w-")]
    assert [now(catalog, run)["state"] for run in ids] == ["killed"] * 3


def test_a_fork_never_writes_for_its_parent(tmp_path: pathlib.Path) -> None:
    """Whatever a child does first, it does with a spool of its own, and its end is not the run's."""
    catalog = hr.init(tmp_path / "c")
    with hr.run(catalog=catalog, system=False) as run:
        for step in range(100):
            run.log({"parent": step}, step=step)
        firsts = (
            lambda: run.save("x.json", {"a": 1}),
            lambda: run.use("something"),
            lambda: run.finish(),
            lambda: setattr(run.config, "x", 1),
            lambda: run.log({"child": 1}),
        )
        for first in firsts:
            child = os.fork()
            if child == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    first()
                    code = 0
                os._exit(code)
            for step in range(100, 200):
                run.log({"parent": step}, step=step)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len([row for row in points(catalog, run.id) if row[0] == "parent"]) == 100 + 100 * len(firsts)
    assert now(catalog, run.id)["state"] == "finished"
    assert not list((tmp_path / "c" / "spool").glob("**/*damaged*"))


def test_a_child_that_outlives_a_killed_run_does_not_keep_it_running(tmp_path: pathlib.Path) -> None:
    process = script(
        tmp_path,
        """
        import os, time
        run = hr.run()
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        print(run.id, child, flush=True)
        os.kill(os.getpid(), 9)
        """,
    )
    assert process.stdout is not None
    run, child = process.stdout.readline().split()
    assert process.wait(60) == -signal.SIGKILL
    try:
        assert now(hr.open(tmp_path), run)["state"] == "killed"
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.communicate(timeout=60)


@pytest.mark.parametrize(
    ("ending", "state", "reason"),
    [("sys.exit(3)", "failed", "exit code 3"), ("sys.exit(0)", "finished", None), ("sys.exit()", "finished", None)],
)
def test_exit_codes(tmp_path: pathlib.Path, ending: str, state: str, reason: str | None) -> None:
    process = script(tmp_path, f"import sys\nrun = hr.run()\nprint(run.id, flush=True)\n{ending}")
    row = now(hr.open(tmp_path / ".headrace", create=True), process.communicate(timeout=60)[0].strip())
    assert (row["state"], row["reason"]) == (state, reason)


def test_a_run_that_was_killed_right_after_a_row_is_killed(tmp_path: pathlib.Path) -> None:
    process = script(
        tmp_path,
        "import os\nrun = hr.run(system=False)\nrun._looking.join()\nrun._tell()\nprint(run.id, flush=True)\nos.kill(os.getpid(), 9)",
    )
    assert (
        now(hr.open(tmp_path / ".headrace", create=True), process.communicate(timeout=60)[0].strip())["state"]
        == "killed"
    )


def test_programs_of_one_tracked_script_are_one_life(tmp_path: pathlib.Path) -> None:
    """One after the other: the second must not take the first one's place while the tracker lives."""
    catalog = hr.init(tmp_path / "c")
    with hr.run("outside", catalog=catalog, system=False) as outside:
        for key, count in (("train", 100), ("eval", 10)):
            text = f"run = hr.run()\nassert not run.resumed\nfor step in range({count}): run.log({{{key!r}: step}})\nrun.config.{key} = 1"
            output(script(tmp_path, text, HEADRACE_RUN=outside.id, HEADRACE_CATALOG=str(tmp_path / "c")))
        assert now(catalog, outside.id)["state"] == "running"
    assert len(points(catalog, outside.id)) == 110
    assert now(catalog, outside.id)["lives"] == 1


def test_ranks_agree_on_whether_a_run_goes_on(tmp_path: pathlib.Path) -> None:
    hr.init(tmp_path / "c")
    text = f"""
        import os, sys, time
        run = hr.run(catalog={str(tmp_path / "c")!r}, system=False)
        print(run.resumed, flush=True)
        run.log({{"a": 1}})
        sys.stdin.readline()
        os.kill(os.getpid(), 9)
    """
    for start in range(3):
        ranks = []
        for rank in range(3):  # each once the one before has begun
            environment = {"WORLD_SIZE": "3", "RANK": str(rank), "HEADRACE_JOB": "j"}
            ranks.append(script(tmp_path, text, stdin=subprocess.PIPE, **environment))
            assert ranks[-1].stdout is not None
            assert ranks[-1].stdout.readline().strip() == str(start > 0), (start, rank)
        for process in ranks:
            process.communicate("\n", timeout=60)


def test_an_end_that_cannot_be_written_whole_is_written(tmp_path: pathlib.Path) -> None:
    catalog = hr.init(tmp_path / "c")
    run = hr.run(catalog=catalog, system=False)
    loop: dict[str, Any] = {}
    loop["self"] = loop
    run.config.loop = loop
    with pytest.raises(hr.Invalid, match="holds itself"):
        run.finish("failed", "why")
    assert (now(catalog, run.id)["state"], now(catalog, run.id)["reason"]) == ("failed", "why")
    with pytest.raises(hr.Invalid, match="finished"):
        run.config.x = 1
    with (
        pytest.warns(UserWarning, match="not kept"),
        pytest.raises(ValueError, match="mine"),
        hr.run(catalog=catalog) as run,
    ):
        run.config.loop = loop
        raise ValueError("mine")
    assert now(catalog, run.id)["state"] == "failed"


def test_a_summary_is_what_was_logged_last_also_of_runs_that_run_or_were_killed(tmp_path: pathlib.Path) -> None:
    process = script(
        tmp_path,
        "import os, sys\nrun = hr.run(system=False)\nrun.summary['said'] = 'x'\nrun._looking.join()\n"
        "for step in range(1000): run.log({'loss': step, 'nan': float('nan'), 'said': 1})\n"
        "print(run.id, flush=True)\nsys.stdin.readline()\nos.kill(os.getpid(), 9)",
        stdin=subprocess.PIPE,
    )
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    catalog = hr.open(tmp_path)
    expected = {"loss": 999, "nan": "nan", "said": "x"}
    assert (now(catalog, run)["state"], now(catalog, run)["summary"]) == ("running", expected)
    process.communicate("\n", timeout=60)
    assert (now(catalog, run)["state"], now(catalog, run)["summary"]) == ("killed", expected)
    with hr.run(catalog=catalog):  # commits it
        pass
    assert now(catalog, run)["summary"] == expected


def test_a_resume_keeps_what_earlier_lives_said(tmp_path: pathlib.Path) -> None:
    catalog = hr.open(tmp_path / "c", create=True)
    with hr.run("first", id="kept", catalog=catalog, tags=["small"], config={"lr": 0.1, "seed": 3}) as run:
        run.log({"loss": 2.0, "warmup": 1.0}, step=1)
        run.summary["best"] = 0.9
    with hr.run(id="kept", catalog=catalog, config={"lr": 0.2}) as run:
        assert run.tags == ("small",)
        assert dict(run.config) == {"lr": 0.2, "seed": 3}
        assert run.summary.best == 0.9
        run.log({"loss": 1.0}, step=2)
    (row,) = catalog.sql("select tags, config, summary from runs_now where id = 'kept'").to_pylist()
    assert row == {
        "tags": ["small"],
        "config": {"lr": 0.2, "seed": 3},
        "summary": {"loss": 1.0, "warmup": 1.0, "best": 0.9},
    }
    with hr.run(id="kept", catalog=catalog, tags=["large"]) as run:
        run.summary["best"] = 0.95
        del run.config["seed"]
    (row,) = catalog.sql("select tags, config, summary from runs_now where id = 'kept'").to_pylist()
    assert row["tags"] == ["large"]
    assert row["config"] == {"lr": 0.2}
    assert row["summary"] == {"loss": 1.0, "warmup": 1.0, "best": 0.95}
