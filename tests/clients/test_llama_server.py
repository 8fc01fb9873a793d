"""llama.cpp's own tests of its server, run against headrace: those that docs/conformance.md lists as passing stay so.

The suite comes with the source of llama-cpp-python (./dev setup peers puts it into the cache); tools/llama_server_shim
stands in for llama-server.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest
from serving import MINILM

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("HEADRACE_CACHE", pathlib.Path.home() / ".cache/headrace"))
SOURCE = CACHE / "downloads/llama_cpp_python-0.3.36.tar.gz"
SMOL = CACHE / "models/smollm2-135m-instruct-q4_1.gguf"
INSIDE = "llama_cpp_python-0.3.36/vendor/llama.cpp/"
# The suite's own conftest starts every model of the suite once, to fetch them: they are not at hand.
CONFTEST = """
import pytest
from utils import *


@pytest.fixture(autouse=True)
def stop_server_after_each_test():
    yield
    for server in set(server_instances):
        server.stop()
"""


@pytest.mark.skipif(not os.environ.get("HEADRACE_TEST_LONG"), reason="./dev test --long")
@pytest.mark.skipif(not SOURCE.exists() or not SMOL.exists() or not MINILM.exists(), reason="./dev setup peers")
def test_what_passed_passes(tmp_path: pathlib.Path) -> None:
    with tarfile.open(SOURCE) as archive:
        wanted = (f"{INSIDE}tools/server/tests/", f"{INSIDE}models/templates/")
        for member in archive:
            if not member.name.startswith(wanted) or not (content := archive.extractfile(member)):
                continue
            (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / member.name).write_bytes(content.read())
    folder = tmp_path / INSIDE / "tools/server/tests"
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "wget.py").write_text("def download(*_: object) -> None:\n    raise OSError('there is no network')\n")
    passing = [line for line in (HERE / "llama_server_passing.txt").read_text().splitlines() if line]
    environment = {
        **os.environ,
        "LLAMA_SERVER_BIN_PATH": str(HERE.parent.parent / "tools/llama_server_shim"),
        "HEADRACE_SHIM_CHAT": str(SMOL),
        "HEADRACE_SHIM_EMBED": str(MINILM),
    }
    assert shutil.which("headrace")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *passing],
        **{"cwd": folder, "env": environment, "capture_output": True, "text": True, "check": False, "timeout": 3600},
    )
    assert done.returncode == 0, done.stdout[-6000:]
