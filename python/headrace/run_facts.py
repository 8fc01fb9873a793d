"""What is known of a run from where it runs: its code, its command, its environment."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
from typing import Any

MOST_DIFF = 16 << 20  # bytes of a difference that is kept; of a longer one its hash is
GIT_SECONDS = 20  # for one question to git, which may read a large working tree


def who() -> str:
    """The user's name, or their number where the system knows no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def command() -> list[str]:
    """The words that started this program."""
    return list(getattr(sys, "orig_argv", sys.argv))


def script() -> pathlib.Path | None:
    """The file that Python runs; None in a notebook or at a prompt."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    return pathlib.Path(path).absolute() if path else None


def _git(folder: pathlib.Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def code() -> tuple[dict[str, Any], str | None]:
    """What ran: the script, and the commit that it belongs to; and how the working tree differs from that commit."""
    facts: dict[str, Any] = {}
    path = script()
    if path is not None:
        facts["script"] = str(path)
        with contextlib.suppress(OSError):  # deleted while it runs
            facts["script_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    folder = path.parent if path is not None else pathlib.Path.cwd()
    if shutil.which("git") is None:
        return facts, None
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return facts, None
    facts["commit"] = commit.decode().strip()
    for name, words in (
        ("branch", ("rev-parse", "--abbrev-ref", "HEAD")),
        ("remote", ("config", "--get", "remote.origin.url")),
        ("folder", ("rev-parse", "--show-toplevel")),
    ):
        if answer := _git(folder, *words):
            facts[name] = _without_password(answer.decode(errors="replace").strip())
    diff = _git(folder, "diff", "HEAD", "--no-ext-diff", "--no-color")
    if diff is None:
        return facts, None
    facts["changed"] = bool(diff)
    if diff:
        facts["diff_sha256"] = hashlib.sha256(diff).hexdigest()
    return facts, diff.decode(errors="replace") if 0 < len(diff) <= MOST_DIFF else None


def _without_password(url: str) -> str:
    scheme, found, rest = url.partition("://")
    user, at, place = rest.partition("@")
    return f"{scheme}://{place}" if found and at and "/" not in user else url


def environment() -> dict[str, Any]:
    """Versions of the system, of Python and of every package."""
    packages = {}
    for found in importlib.metadata.distributions():
        name = found.metadata["Name"]
        if name:
            packages[name.lower()] = found.version
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "packages": dict(sorted(packages.items())),
    }
