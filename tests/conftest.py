"""What the Python tests share."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import headrace as hr
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture
def catalog(tmp_path: pathlib.Path) -> hr.Catalog:
    return hr.init(tmp_path / "catalog", sync=False)


@pytest.fixture
def headrace(tmp_path: pathlib.Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program in a folder of its own, without HEADRACE_CATALOG."""
    program = shutil.which("headrace")
    assert program, "./dev test puts headrace on the path"
    environment = {key: value for key, value in os.environ.items() if key != "HEADRACE_CATALOG"}

    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        defaults: dict[str, object] = {
            "cwd": tmp_path,
            "env": environment,
            "capture_output": True,
            "text": True,
            "timeout": 120,
        }
        return subprocess.run([program, *words], **{**defaults, **options})  # type: ignore[call-overload,no-any-return]

    return run


def in_ci() -> bool:
    return bool(os.environ.get("HEADRACE_TEST_CI"))


def wait_for(condition: Callable[[], Any], what: str) -> None:
    """At most half a minute; `what` is what did not come true."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(what)
