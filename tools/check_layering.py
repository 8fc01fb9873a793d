"""Each folder of src/ may include only itself and the folders that ARCHITECTURE.md's table allows it: always ones above."""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# folder: what it may use directly. What those use, it may use too.
USES: dict[str, list[str]] = {
    "base": [],
    "store": ["base"],
    "table": ["store"],
    "media": ["base"],
    "ingest": ["table", "media"],
    "query": ["table"],
    "stream": ["table", "media"],
    "trace": ["table"],
    "model": ["base"],
    "registry": ["table", "model"],
    "schema": ["base"],
    "engine": ["model", "schema"],
    "http": ["base"],
    "api": ["engine"],
    "serve": ["http", "api", "registry", "trace"],
    "cli": ["ingest", "query", "stream", "serve"],
}


def allowed(folder: str) -> set[str]:
    found = {folder}
    for used in USES[folder]:
        found |= allowed(used)
    return found


def violations(root: pathlib.Path = ROOT) -> list[str]:
    problems = []
    for folder in sorted(path.name for path in (root / "src").iterdir() if path.is_dir()):
        if folder not in USES:
            problems.append(f"src/{folder} is in no layer: add it to tools/check_layering.py and ARCHITECTURE.md")
            continue
        may = allowed(folder)
        for file in sorted((root / "src" / folder).glob("*.*")):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = re.match(r'#include "([a-z_]+)/', line)
                if match and match[1] not in may:
                    problems.append(f"{file.relative_to(root)}:{number}: {folder} may not use {match[1]}")
        if not (root / "src" / folder / "README.md").exists():
            problems.append(f"src/{folder} has no README.md")
    return problems


if __name__ == "__main__":
    found = violations()
    print("\n".join(found) or "layering: ok")
    sys.exit(bool(found))
