"""``headrace add-columns TABLE --from file.py:function``, which is ``Table.add_columns(function, inputs=[…])``."""

from __future__ import annotations

import argparse
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import headrace
from headrace.errors import HeadraceError, Invalid, NotFound


def function_of(source: str) -> Any:
    """The function that ``file.py:function`` names."""
    path, _, name = source.rpartition(":")
    if not path or not name:
        raise Invalid(f"--from {source} is not file.py:function")
    if not Path(path).is_file():
        raise NotFound(f"there is no file {path}")
    sys.path.insert(0, str(Path(path).resolve().parent))  # as `python file.py` has it
    names = runpy.run_path(path)
    if not callable(names.get(name)):
        known = [each for each, value in names.items() if callable(value) and not each.startswith("_")]
        raise NotFound(f"{path} has no function {name!r}; it has {', '.join(known) or 'none'}")
    return names[name]


def main(words: list[str]) -> int:
    """Runs the command; the exit code."""
    parser = argparse.ArgumentParser(prog="headrace add-columns")
    for option in ("--catalog", "--inputs", "--why"):
        parser.add_argument(option, required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("table")
    parser.add_argument("source")
    given = parser.parse_args(words)
    try:
        table = headrace.open(given.catalog)[given.table]
        done = table.add_columns(function_of(given.source), inputs=given.inputs.split(","), why=given.why)
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps({"table": given.table, "version": done.version, "rows": done.rows, "bytes": done.bytes}))
    else:
        print(f"{done.rows:,} rows of '{given.table}' have them (version {done.version})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
