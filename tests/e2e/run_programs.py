"""What tests of runs share: a run's rows, and programs that make one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import headrace as hr


def points(catalog: hr.Catalog, run: str) -> list[tuple[str, int, float]]:
    rows = catalog.sql(
        "select key, step, value from points where run = ? and not starts_with(key, 'sys/') order by key, step, value",
        [run],
    )
    return [(row["key"], row["step"], row["value"]) for row in rows]


def now(catalog: hr.Catalog, run: str) -> dict[str, Any]:
    (row,) = catalog.sql("select * from runs_now where id = ?", [run]).to_pylist()
    return row


def script(folder: pathlib.Path, text: str, stdin: int | None = None, **environment: str) -> subprocess.Popen[str]:
    path = folder / "train.py"
    program = "import headrace as hr\n" + textwrap.dedent(text)
    if not path.exists() or path.read_text() != program:  # a process that starts may be reading it
        path.write_text(program)
    return subprocess.Popen(
        [sys.executable, str(path)],
        cwd=folder,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def output(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out
