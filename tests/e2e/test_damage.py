"""A byte of each kind of file changes, it is cut off, or an older one stands in its place: what people read is the truth, or an error
that names the file. (What verify and repair say of damage: src/table/verify_test.cc.)"""

from __future__ import annotations

import os
import pathlib
import secrets
import subprocess
import sys

import pytest
from conftest import in_ci

LONG = bool(os.environ.get("HEADRACE_TEST_LONG"))
AMOUNT = ("4", "20") if LONG else ("3", "1") if in_ci() else ("1", "1")  # files of each kind, bits of each


def test_readers_see_the_truth_or_an_error_that_names_the_file(tmp_path: pathlib.Path) -> None:
    seed = os.environ.get("HEADRACE_DAMAGE_SEED", str(secrets.randbelow(1_000_000)))
    script = str(pathlib.Path(__file__).with_name("damaged_catalog.py"))
    words = [sys.executable, script, str(tmp_path), seed, *AMOUNT]
    done = subprocess.run(words, capture_output=True, text=True, timeout=3600)
    lines = done.stdout.replace("\r", "\n").splitlines()
    if done.returncode != 0:  # of what ended it, the last line says which damage it was at
        wrong = [line for line in lines if line.startswith("WRONG")] or lines[-1:]
        pytest.fail("\n".join([f"HEADRACE_DAMAGE_SEED={seed}", *wrong, done.stderr[-3000:]]))
    for kind in (
        ".json",
        ".parquet",
        ".arrow",
        ".sums",
        "manifests",
        "packs",
        "rowsets",
        "selections",
        "snapshots",
        "refs",
        "taken",
    ):
        assert f"'{kind}':" in lines[0], f"no file of the kind {kind}"
