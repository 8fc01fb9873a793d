"""Each folder of src/ may include only itself and what CMakeLists.txt says that it uses, which is always above it."""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def read_uses(root: pathlib.Path = ROOT) -> dict[str, list[str]]:
    """What each folder may use directly, from headrace_module() and the program's link line. What those use, it may use too."""
    text = (root / "CMakeLists.txt").read_text()
    uses: dict[str, list[str]] = {}
    for name, arguments in re.findall(r"headrace_module\((\w+)([^)]*)\)", text):
        words = re.search(r"\bUSES((?: [a-z]+)*)", arguments), re.search(r"\bHEADERS((?: [a-z]+)*)", arguments)
        found = [word for part in words if part for word in part[1].split()]
        uses[name] = sorted(set(uses.get(name, [])) | set(found))
    linked = re.findall(r"target_link_libraries\(headrace PRIVATE ([^)]*)\)", text)
    uses["cli"] = [word for line in linked for word in line.split() if word in uses]
    return uses


USES = read_uses()


def allowed(folder: str) -> set[str]:
    found = {folder}
    for used in USES[folder]:
        found |= allowed(used)
    return found


def retold(text: str) -> list[str]:
    """Where the table of ARCHITECTURE.md does not say the same as CMakeLists.txt; it may leave out what follows."""
    told = {
        folder: [] if words == "nothing of ours" else words.split(", ")
        for folder, words in re.findall(r"^\| \[src/(\w+)\].*\| ([^|]+) \|$", text, flags=re.M)
    }
    problems = []
    for folder in sorted({*USES, *told}):
        want = allowed(folder) if folder in USES else set()
        got = {folder}.union(*(allowed(used) for used in told[folder] if used in USES)) if folder in told else set()
        if got != want:
            problems.append(
                f"ARCHITECTURE.md: src/{folder} may use {', '.join(sorted(want - {folder}))}, says CMakeLists.txt"
            )
    return problems


def violations(root: pathlib.Path = ROOT) -> list[str]:
    problems = []
    for folder in sorted(path.name for path in (root / "src").iterdir() if path.is_dir()):
        if folder not in USES:
            problems.append(
                f"src/{folder} is in no layer: add a headrace_module() to CMakeLists.txt, and a line to ARCHITECTURE.md"
            )
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
    found = violations() + retold((ROOT / "ARCHITECTURE.md").read_text())
    print("\n".join(found) or "layering: ok")
    sys.exit(bool(found))
