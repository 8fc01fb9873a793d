"""Loggers, committers and receivers of spans that are killed at random: bench/record_kills.py, which has the rivals too."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from conftest import ROOT, in_ci
from serving import needs_models

pytestmark = needs_models


def test_what_was_acknowledged_is_there_once(tmp_path: pathlib.Path) -> None:
    kills = 200 if os.environ.get("HEADRACE_TEST_LONG") else 40 if in_ci() else 12
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "record_kills.py"), str(kills)],
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
