"""Where the program ``headrace`` that belongs to this package is."""

from __future__ import annotations

import contextlib
import os
import pathlib


def path() -> pathlib.Path:
    """The program ``headrace`` that belongs to this package.

    Raises:
        FileNotFoundError: the package was copied without it.
    """
    package = pathlib.Path(__file__).absolute().parent
    # In a wheel; in a build folder; below a prefix that CMake installed into.
    places = [package / "bin", package.parent.parent / "bin", package.parent.parent.parent.parent / "bin"]
    for place in places:
        found = place / "headrace"
        if os.access(found, os.X_OK) and found.is_file():
            return found
    raise FileNotFoundError(
        f"the program headrace is in none of {', '.join(map(str, places))}: install the package again"
    )


def announce() -> None:
    """New model files are tried in a process of the program first: this package's, where PATH may have another."""
    if "HEADRACE_PROGRAM" not in os.environ:
        with contextlib.suppress(FileNotFoundError):
            os.environ["HEADRACE_PROGRAM"] = str(path())
