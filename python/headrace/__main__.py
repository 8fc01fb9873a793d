"""The command line: ``python -m headrace …`` and the script ``headrace`` that the wheel installs become the program."""

from __future__ import annotations

import os
import sys

from headrace import program


def main() -> None:
    """Becomes the program, with this process's arguments. Its parts that are written in Python run in this one."""
    os.environ.setdefault("HEADRACE_PYTHON", sys.executable)
    os.execv(program.path(), ["headrace", *sys.argv[1:]])


if __name__ == "__main__":
    main()
