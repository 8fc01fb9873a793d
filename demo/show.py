"""What the parts of ./dev demo show with. Any Python 3.11 runs it: no packages are needed."""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLOUR = sys.stdout.isatty()


def style(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def chapter(number: int, title: str) -> None:
    print(f"\n{style(f'{number}. {title}', '1')}", flush=True)


def run(*words: str, catalog: pathlib.Path) -> None:
    """Shows a headrace command as a user would type it, and runs it."""
    shown = " ".join(f'"{word}"' if any(c in word for c in " '*(>") else word for word in words)
    print(style(f"$ headrace {shown}", "36"), flush=True)
    subprocess.run(["headrace", *words], check=True, env={**os.environ, "HEADRACE_CATALOG": str(catalog)})


def python(code: str) -> None:
    for line in code.strip().splitlines():
        print(style(f">>> {line}", "36"))


def words() -> argparse.ArgumentParser:
    """What each part takes."""
    parser = argparse.ArgumentParser(prog="./dev demo")
    parser.add_argument(
        "--catalog", type=pathlib.Path, default=ROOT / "demo-catalog", help="where the demo's catalog is made"
    )
    return parser
