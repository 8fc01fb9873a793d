"""`headrace runs`, `track` and `watch`."""

from __future__ import annotations

import getpass
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import headrace as hr
import pytest
from run_programs import script

BRAILLE = re.compile("[\u2801-\u28ff]")


def shell(folder: pathlib.Path, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["headrace", *words], cwd=folder, capture_output=True, text=True, timeout=60, **options)


def out(folder: pathlib.Path, *words: str) -> str:
    done = shell(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def objects(folder: pathlib.Path, *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out(folder, *words, "--json").splitlines()]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    hr.init(tmp_path / ".headrace")
    return tmp_path


def try_out(folder: pathlib.Path, name: str, lr: float, **more: Any) -> str:
    with hr.run(
        name, config={"lr": lr, "opt": {"wd": 0.1}, "kind": "x", "flag": True}, catalog=folder, system=False, **more
    ) as run:
        for step in range(100):
            run.log({"loss": lr * 100 / (step + 1), "val/f1": step / 100}, step=step)
    return run.id


def test_lists_filter_and_sort(folder: pathlib.Path) -> None:
    assert "no runs yet" in shell(folder, "runs").stderr
    ids = {name: try_out(folder, name, lr) for name, lr in (("a", 0.1), ("b", 0.01), ("c", 0.001))}
    lines = out(folder, "runs").splitlines()
    assert lines[0].split() == ["id", "name", "state", "started", "took", "loss", "val/f1"]
    assert [line.split()[1] for line in lines[1:]] == ["c", "b", "a"]  # the newest first
    assert lines[1].split()[0] == ids["c"][:8]

    def names(*words: str) -> list[str]:
        return [run["name"] for run in objects(folder, "runs", *words)]

    assert names("--sort", "summary.loss") == ["c", "b", "a"]
    assert names("--sort", "-config.lr", "-n", "2") == ["a", "b"]
    assert names("--where", "config.lr < 0.05 and summary.loss > 0.005") == ["b"]
    assert names("--where", "summary.\"val/f1\" >= 0.99 and name in ('a', 'c')", "--sort", "name") == ["a", "c"]
    assert names("--where", "config.opt.wd = 0.1 and config.name is null", "--sort", "name") == ["a", "b", "c"]
    assert names(
        "--where", "'x' = config.kind and upper(config.kind) = 'X' and config.flag = true", "--sort", "name"
    ) == [
        "a",
        "b",
        "c",
    ]
    assert names("--where", "config.flag and length(config.kind) = 2") == []
    assert names("--state", "failed") == []
    shown = out(folder, "runs", "--columns", "config.opt.wd,summary.loss", "--sort", "name").splitlines()
    assert shown[0].split()[-2:] == ["config.opt.wd", "loss"] and shown[1].split()[-2:] == ["0.1", "0.1"]
    wrong = shell(folder, "runs", "--where", "nothing = 1")
    assert wrong.returncode == 1 and "nothing" in wrong.stderr


def test_one_run(folder: pathlib.Path) -> None:
    run = try_out(folder, "probe", 0.1, tags=["x", "y"], notes="a try")
    text = out(folder, "runs", "show", run[:8])
    for part in (run, "finished", "lr = 0.1", "opt.wd = 0.1", "x, y", "a try", "loss, 100 points"):
        assert part in text
    assert BRAILLE.search(text)
    assert out(folder, "runs", "show", "probe") == out(folder, "runs", "show", "@last")
    (row,) = objects(folder, "runs", "show", "@last")
    assert row["metrics"][0] == {"key": "loss", "points": 100, "min": 0.1, "max": 10.0, "last": 0.1, "step": 99}
    for told, reason in (("nobody", "headrace runs lists them"), ("abc", "headrace runs lists them")):
        missing = shell(folder, "runs", "show", told)
        assert missing.returncode == 1 and reason in missing.stderr


def test_two_runs_are_compared(folder: pathlib.Path) -> None:
    a, b = try_out(folder, "a", 0.1), try_out(folder, "b", 0.2)
    differences = {row["what"]: (row["a"], row["b"]) for row in objects(folder, "runs", "diff", a, b)}
    assert differences == {"config.lr": ("0.1", "0.2"), "summary.loss": ("0.1", "0.2")}
    assert "nothing that is known" in out(folder, "runs", "diff", a, a)


def test_lineage_both_ways(folder: pathlib.Path) -> None:
    catalog = hr.open(folder)
    rows = catalog.create_table("rows", [{"x": 1}])
    with hr.run("maker", catalog=catalog) as maker:
        maker.use(rows)
        sha = maker.save("weights.json", {"w": 1})
    with hr.run("user", catalog=catalog) as user:
        user.use(f"sha256:{sha}")
    text = out(folder, "runs", "show", "maker")
    assert f"rows@v{rows.version}" in text and sha[:12] in text
    assert re.search(rf"used by\s+user {user.id[:8]}", text)


def test_tracking_any_program(folder: pathlib.Path) -> None:
    done = shell(
        folder, "track", "--name", "job", "--project", "p", "--tag", "a", "--config", "lr=0.5", "--config", "who=me",
        "--", "sh", "-c", "echo said; echo complained >&2; exit 3",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "complained\n")
    (run,) = objects(folder, "runs")
    assert (run["name"], run["kind"], run["state"], run["reason"]) == ("job", "track", "failed", "exit code 3")
    assert (run["config"], run["tags"], run["project"]) == ({"lr": 0.5, "who": "me"}, ["a"], "p")
    assert run["command"][:2] == ["sh", "-c"]
    rows = hr.open(folder).sql("select key, text from hr.media order by key").to_pylist()
    assert rows == [{"key": "sys/stderr", "text": "complained\n"}, {"key": "sys/stdout", "text": "said\n"}]
    missing = shell(folder, "track", "--", "there-is-no-such-program")
    assert missing.returncode == 127 and "there-is-no-such-program" in missing.stderr
    killed = shell(folder, "track", "--", "sh", "-c", "kill -9 $$")
    assert killed.returncode == 128 + signal.SIGKILL
    assert objects(folder, "runs")[0]["state"] == "killed"


def test_a_tracked_program_logs_to_the_same_run(folder: pathlib.Path) -> None:
    program = "import headrace as hr; run = hr.run('inside', config={'x': 1}); run.log({'loss': 2}); print(run.id)"
    run = out(folder, "track", "--name", "outside", "--", sys.executable, "-c", program).strip()
    (row,) = objects(folder, "runs")
    assert (row["id"], row["name"], row["config"], row["state"]) == (run, "outside", {"x": 1}, "finished")
    assert objects(folder, "runs", "show", run)[0]["metrics"][0]["last"] == 2


def test_a_tracked_program_gets_signals(folder: pathlib.Path) -> None:
    text = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen(
        ["headrace", "track", "--", "sh", "-c", text], cwd=folder, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGTERM)
        assert run.stdout.read() == "asked\n"
        assert run.wait(60) == 0
    assert objects(folder, "runs")[0]["state"] == "finished"


def test_a_killed_tracker_leaves_a_killed_run(folder: pathlib.Path) -> None:
    with subprocess.Popen(
        ["headrace", "track", "--", "sh", "-c", "echo ready; exec sleep 60"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        (row,) = objects(folder, "runs")
        assert row["state"] == "running"
        run.kill()
        run.wait(60)
        os.kill(row["pid"], signal.SIGKILL) if row["pid"] else None
    assert objects(folder, "runs")[0]["state"] == "killed"


def on_terminal(folder: pathlib.Path, words: list[str], until: str, typed: bytes = b"") -> tuple[str, int]:
    """What a program shows on a terminal, and how it ends; `typed` once `until` was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvp(words[0], words)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if typed and until.encode() in shown:
            os.write(terminal, typed)
            typed = b""
    status = os.waitpid(pid, 0)[1]
    os.close(terminal)
    return shown.decode(errors="replace"), os.waitstatus_to_exitcode(status)


def test_a_tracked_program_has_a_terminal(folder: pathlib.Path) -> None:
    program = "import sys; print(sys.stdout.isatty(), sys.stderr.isatty(), flush=True); print('got', input())"
    shown, code = on_terminal(
        folder, ["headrace", "track", "--", sys.executable, "-c", program], "True True", b"words\r"
    )
    assert code == 0 and "got words" in shown
    shown, code = on_terminal(folder, ["headrace", "track", "--", "sh", "-c", "echo ready; sleep 60"], "ready", b"\x03")
    assert code == 128 + signal.SIGINT
    assert objects(folder, "runs")[0]["state"] == "interrupted"


def test_watching(folder: pathlib.Path) -> None:
    run = try_out(folder, "done", 0.1)
    assert out(folder, "watch", run).split()[:3] == ["done", run[:8], "finished"]
    program = (
        "import headrace as hr, sys\nwith hr.run('live') as run:\n    print(run.id, flush=True)\n"
        "    for line in sys.stdin:\n        run.log({'loss': float(line)})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as training:
        assert training.stdin is not None and training.stdout is not None
        run = training.stdout.readline().strip()
        with subprocess.Popen(
            ["headrace", "watch", run, "--json", "--every", "0.1"], cwd=folder, stdout=subprocess.PIPE, text=True
        ) as watch:
            assert watch.stdout is not None
            for value in (3.0, 2.0, 1.0):
                training.stdin.write(f"{value}\n")
                training.stdin.flush()
                while json.loads(watch.stdout.readline())["values"].get("loss") != value:
                    pass
            training.stdin.close()
            training.wait(60)
            assert json.loads(watch.stdout.read().splitlines()[-1])["state"] == "finished"
            assert watch.wait(60) == 0


def test_nothing_that_a_terminal_would_obey_is_printed(folder: pathlib.Path) -> None:
    evil = "\x1b[31mred\x07\r\n"
    with hr.run(evil, config={evil: evil}, tags=[evil], notes=evil, catalog=folder, system=False) as run:
        run.log({evil: 1}, step=0)
        run.log({evil: 2}, step=1)
        run.summary[evil] = evil
    for words in (
        ("runs",),
        ("runs", "show", run.id),
        ("watch", run.id),
        ("runs", "diff", run.id, try_out(folder, "b", 1)),
    ):
        text = out(folder, *words)
        assert "red" in text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f]", text), words


@pytest.mark.parametrize(
    ("squeue", "sacct", "state", "reason"),
    [
        ("4242|TIMEOUT|{user}", "", "killed", "Slurm says of its job 4242: TIMEOUT"),
        ("4242|RUNNING|{user}", "", "running", None),
        ("", "4242|CANCELLED by 0|{user}", "killed", "Slurm says of its job 4242: CANCELLED"),
        ("4242|FAILED|somebody", "", "running", None),  # another cluster's job of that number
        ("garbage\n|||\n4242|", "4242", "running", None),
    ],
)
def test_slurm_says_what_became_of_a_run_whose_machine_is_gone(
    tmp_path: pathlib.Path, squeue: str, sacct: str, state: str, reason: str | None
) -> None:
    program = """
        import time
        run = hr.run("lost", system=False)
        for step in range(800_000):  # as much as is committed at once
            run.log({"x": step}, step=step)
        print(run.id, flush=True)
        time.sleep(60)
    """
    process = script(tmp_path, program, SLURM_JOB_ID="4242")
    assert process.stdout is not None
    run = process.stdout.readline().strip()
    catalog = hr.open(tmp_path)
    until = time.monotonic() + 60
    while "hr.runs" not in catalog.tables() or run not in catalog.table("hr.runs").to_arrow()["id"].to_pylist():
        assert time.monotonic() < until
        time.sleep(0.1)
    process.kill()
    process.communicate()
    shutil.rmtree(tmp_path / ".headrace" / "spool")  # with its machine
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, answer in (("squeue", squeue), ("sacct", sacct)):
        (programs / name).write_text(f"#!/bin/sh\ncat <<'END'\n{answer.format(user=getpass.getuser())}\nEND\n")
        (programs / name).chmod(0o755)
    done = shell(tmp_path, "--json", "runs", env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    row = json.loads(done.stdout)
    assert (row["id"], row["state"], row["reason"]) == (run, state, reason), done.stderr
