"""Runs the code of one page of the docs, block after block, in the folder where it is started.

    python docs_run.py PAGE.md

Code is fenced with its language, and what is not marked runs:

- ``python`` blocks share one namespace, ``sh`` blocks are bash, and stop at the first command that fails.
- A ``text`` block right after a block is what that block prints. Other ``text`` and ``sql`` blocks are only read.
- ``<!-- needs: gemma torch -->`` before a block: it runs where all of these are there (``NEEDS``).
- ``<!-- server -->`` before a ``sh`` block: it is started in the background, on a port of its own instead of 8000, until
  the page ends.
- ``<!-- setup: what the reader has … -->``: Python that is not shown, with the functions of docs_files.py. It makes the files
  that the page takes for granted, which the first line names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import docs_files

SECONDS = 60  # of one command of the shell
READY = 90  # seconds until a server answers
MODULES = {"torch", "torchvision", "datasets", "openai", "opentelemetry", "pandas", "polars", "pyarrow",
           "pytorch_lightning", "transformers", "composer"}  # fmt: skip
PROGRAMS = {"curl"}
NEEDS = {*MODULES, *PROGRAMS, *docs_files.MODELS, "s3", "fresh-machine"}
RUN = {"python", "sh", "setup"}
READ = {"text", "sql"}


@dataclasses.dataclass
class Block:
    """A block of code: its kind, the line where its text begins, and what its marks say."""

    kind: str
    line: int
    text: str
    needs: list[str]
    server: bool = False
    prints: str | None = None


def blocks_of(page: pathlib.Path) -> list[Block]:
    """The blocks of a page; ValueError names the line that cannot be understood."""
    found: list[Block] = []
    needs: list[str] = []
    server = False
    last: Block | None = None  # with nothing but empty lines since
    lines = page.read_text().splitlines()
    at = 0

    def until(end: str) -> str:
        nonlocal at
        begin = at + 1
        while at + 1 < len(lines) and lines[at + 1].strip() != end:
            at += 1
        if at + 1 == len(lines):
            raise ValueError(f"{page}:{begin}: this has no end; it ends with a line {end}")
        body = "".join(line + "\n" for line in lines[begin : at + 1])
        at += 1
        return body

    while at < len(lines):
        line, number = lines[at], at + 1
        if mark := re.fullmatch(r"<!-- needs: (.+) -->", line):
            needs = mark[1].split()
            if strange := set(needs) - NEEDS:
                raise ValueError(
                    f"{page}:{number}: nobody knows {', '.join(strange)}; needs are {', '.join(sorted(NEEDS))}"
                )
        elif line == "<!-- server -->":
            server = True
        elif line.startswith("<!-- setup"):
            if not re.match(r"<!-- setup: \S", line):
                raise ValueError(f"{page}:{number}: say what the reader has: <!-- setup: photographs in photos/")
            found.append(Block("setup", number + 1, until("-->"), needs))
            needs = []
        elif line.lstrip().startswith(("```", "~~~")):
            fence = re.fullmatch(r"```(\w+)", line)
            if not fence:
                raise ValueError(f"{page}:{number}: a fence is ``` at the line's beginning and a language")
            kind, body = fence[1], until("```")
            if kind == "text" and last is not None:
                last.prints = body
            elif kind in RUN - {"setup"}:
                last = Block(kind, number + 1, body, needs, server)
                found.append(last)
                needs, server = [], False
                at += 1
                continue
            elif kind not in READ:
                raise ValueError(f"{page}:{number}: ```{kind} is neither run ({RUN}) nor only read ({READ})")
        elif line.startswith("    ") and line.strip() and (at == 0 or not lines[at - 1].strip()):
            raise ValueError(f"{page}:{number}: code is fenced with its language: ```sh, ```python or ```text")
        if line.strip():
            last = None
        at += 1
    if needs or server:
        raise ValueError(f"{page}: the last mark stands before no block")
    return found


def is_there(need: str) -> bool:
    """Whether this machine has it."""
    if need in MODULES:
        return importlib.util.find_spec(need) is not None
    if need in PROGRAMS:
        return shutil.which(need) is not None
    if need == "s3":
        return bool(os.environ.get("AWS_ENDPOINT_URL"))
    return need in docs_files.MODELS and docs_files.MODELS[need].exists()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Page:
    """A page that is being run."""

    def __init__(self, page: pathlib.Path) -> None:
        self.page = page
        self.port = free_port()
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "HEADRACE_SERVE_PORT": str(self.port), "HEADRACE_PYTHON": sys.executable}

    def run(self, block: Block) -> None:
        """Runs a block; whatever it raises names the page and the line."""
        text = block.text.replace(":8000", f":{self.port}")
        if block.server:
            self.serve(text)
            return
        if block.kind == "sh":
            printed = self.shell(text, block.line)
        else:
            names = vars(docs_files).copy() if block.kind == "setup" else self.names
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                # Empty lines before it: a traceback names the page's own lines.
                exec(compile("\n" * (block.line - 1) + text, str(self.page), "exec"), names)
            printed = out.getvalue()
        if block.prints is not None and printed != block.prints:
            raise AssertionError(f"{self.page}:{block.line}: the page says\n{block.prints}and it printed\n{printed}")

    def shell(self, text: str, line: int) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=self.environment,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"{self.page}:{line}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def serve(self, text: str) -> None:
        self.stop()
        self.servers.append(
            subprocess.Popen(
                ["bash", "-c", text], env=self.environment, start_new_session=True, stdout=subprocess.DEVNULL
            )
        )
        until = time.monotonic() + READY
        while True:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=5).close()
                return
            if self.servers[-1].poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.page}: no server came of\n{text}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends the servers."""
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(SECONDS)
        self.servers.clear()


@contextlib.contextmanager
def opened(page: pathlib.Path) -> Iterator[Page]:
    running = Page(page)
    try:
        yield running
    finally:
        running.stop()


def main(page: pathlib.Path) -> int:
    """0: all ran that could; 1: one failed; 5: none could run here."""
    ran = 0
    with opened(page) as running:
        for block in blocks_of(page):
            if missing := [need for need in block.needs if not is_there(need)]:
                print(f"{page.name}:{block.line} is not run here: it needs {', '.join(missing)}")
                continue
            try:
                running.run(block)
            except BaseException:
                traceback.print_exc()
                return 1
            ran += block.kind != "setup"
    return 0 if ran else 5


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
