"""./dev check: format, lint, types, layering, links. --fix puts right what tools can."""

from __future__ import annotations

import ast
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import time

import check_layering

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(sys.executable).parent
FIX = "--fix" in sys.argv
MARKS = pathlib.Path(os.environ.get("HEADRACE_CACHE", "~/.cache/headrace")).expanduser() / "lint"


def files(*patterns: str) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in listed.stdout.split() if (ROOT / name).exists()]


def run(label: str, command: list[str]) -> bool:
    begin = time.monotonic()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    ok = result.returncode == 0
    print(f"{'ok  ' if ok else 'FAIL'} {label} ({time.monotonic() - begin:.1f} s)", flush=True)
    if not ok:
        print((result.stdout + result.stderr)[-6000:])
    return ok


def includes(name: str, known: dict[str, frozenset[str]]) -> frozenset[str]:
    """Our own headers that a file includes, and those that they include."""
    if name not in known:
        known[name] = frozenset()  # headers do not go round in circles; if they did, this would end it
        found = {
            header
            for header in (
                f"src/{path}" for path in re.findall(r'^#include "([^"]+)"', (ROOT / name).read_text(), flags=re.M)
            )
            if (ROOT / header).exists()
        }
        known[name] = frozenset(found).union(*(includes(header, known) for header in found))
    return known[name]


# Of tests, fuzzers and benchmarks: what makes one pass or measure without meaning it, and what a reader trips over. The rest of
# .clang-tidy's checks would double what they take.
TEST_CHECKS = [
    "bugprone-argument-comment", "bugprone-assert-side-effect", "bugprone-dangling-handle", "bugprone-inaccurate-erase",
    "bugprone-integer-division", "bugprone-redundant-branch-condition", "bugprone-sizeof-*", "bugprone-string-*",
    "bugprone-suspicious-memory-comparison", "bugprone-suspicious-missing-comma", "bugprone-suspicious-string-compare",
    "bugprone-terminating-continue", "bugprone-undefined-memory-manipulation",
    "bugprone-unused-raii", "bugprone-unused-return-value", "bugprone-use-after-move", "misc-unused-parameters",
    "modernize-use-override", "performance-for-range-copy",
]  # fmt: skip


# What clang 14 does not compile (GCC does): structured bindings in lambdas, a list that it takes for two iterators.
NOT_READ = {"src/table/change_rows_test.cc"}


class ClangTidy:
    """clang-tidy over sources. A source that passed is not linted again until it, a header of ours that it includes, the compiler's
    flags, the rules or clang-tidy itself change; the marks lie in ./dev's cache, so a fresh clone finds them too.
    """

    def __init__(self, build: pathlib.Path, marks: pathlib.Path) -> None:
        self.build, self.marks = build, marks
        marks.mkdir(parents=True, exist_ok=True)
        version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
        self.common = version + (ROOT / ".clang-tidy").read_text() + (ROOT / "dependencies.lock").read_text()
        self.flags = {
            str(pathlib.Path(entry["file"]).relative_to(ROOT)): entry["command"].replace(str(ROOT), ".")
            for entry in json.loads((build / "compile_commands.json").read_text())
        }
        self.known: dict[str, frozenset[str]] = {}

    @staticmethod
    def checks(name: str) -> list[str]:
        tests = name.endswith(("_test.cc", "_testing.cc")) or name.startswith(("fuzz/", "bench/"))
        return ["--checks=-*," + ",".join(TEST_CHECKS)] if tests else []

    def key(self, name: str) -> str:
        parts = [self.common, self.flags.get(name, ""), name, *self.checks(name)]
        parts += [(ROOT / one).read_text() for one in [name, *sorted(includes(name, self.known))]]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def lint(self, name: str) -> tuple[str, str]:
        """The file's name, and what is wrong with it."""
        mark = self.marks / self.key(name)
        if mark.exists():
            mark.touch()
            return name, ""
        result = subprocess.run(
            ["clang-tidy", "--quiet", "-p", str(self.build), *self.checks(name), name],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        if result.returncode == 0:
            mark.touch()
            return name, ""
        return name, result.stdout + result.stderr


def tidy() -> bool:
    linter = ClangTidy(ROOT / "build" / "lint", MARKS)
    sources = files("src/*.cc", "src/**/*.cc", "python/native/*.cc", "python/engine/*.cc", "fuzz/*.cc", "bench/*.cc")
    names = [name for name in sources if name not in NOT_READ]
    begin = time.monotonic()
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (name, output) in enumerate(pool.map(linter.lint, names), 1):
            if output:
                bad += 1
                print(f"FAIL clang-tidy {name}\n{output[-3000:]}")
            if done % 10 == 0:
                print(f"     clang-tidy {done} of {len(names)}", flush=True)
    print(f"{'FAIL' if bad else 'ok  '} clang-tidy, {len(names)} files ({time.monotonic() - begin:.0f} s)", flush=True)
    return bad == 0


def links() -> bool:
    broken = []
    for name in files("*.md", "**/*.md"):
        text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.S)
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
            if "://" not in target and not ((ROOT / name).parent / target).exists():
                broken.append(f"{name}: {target}")
    print("\n".join(["FAIL links", *broken]) if broken else "ok   links")
    return not broken


# Of a file, and of a function: what is longer holds two things.
MOST_LINES = 500
MOST_FUNCTION_LINES = 80
SCOPE = re.compile(r"\b(?:namespace|class|struct|enum|union)\b[^()]*\{$")


def functions_of_python(text: str) -> list[tuple[str, int, int]]:
    """Name, first line and lines of each function."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, kinds)
    ]


def functions_of_cpp(text: str) -> list[tuple[str, int, int]]:
    """The same, of formatted sources: a body that opens at some depth is closed by a brace alone at that depth. Those inside
    of another (lambdas) count to it."""
    found, begin, depth, head = [], 0, -1, ""
    raw = table = False
    for number, line in enumerate(text.splitlines(), 1):
        raw = (raw or 'R"' in line) and ')"' not in line.split('R"')[-1]
        indent = len(line) - len(line.lstrip())
        if depth < 0:
            if line.strip() and not line.lstrip().startswith(("//", "#", "}", ":")) and not line.startswith(" " * 6):
                begin, head = number, line
            if line.endswith("{") and not SCOPE.search(line) and not raw:
                depth, table = len(head) - len(head.lstrip()), line.endswith("= {")
        elif indent == depth and line.lstrip().startswith("}") and not raw:
            name = re.search(r"([\w:~]+)\(", head)
            if not table:
                found.append((name[1] if name else head.strip(), begin, number - begin + 1))
            depth = -1
    return found


def lengths() -> bool:
    """Sources, bindings, tests, fuzzers, benchmarks and tools alike."""
    problems = []
    for name in files("*.cc", "*.h", "*.py", "*.pyi", "**/*.cc", "**/*.h", "**/*.py"):
        text = (ROOT / name).read_text()
        lines = text.count("\n")
        if lines > MOST_LINES:
            problems.append(f"{name} has {lines} lines, of {MOST_LINES}: what of it is a file of its own?")
        read = functions_of_python if name.endswith((".py", ".pyi")) else functions_of_cpp
        for function, line, length in read(text):
            if length > MOST_FUNCTION_LINES:
                problems.append(f"{name}:{line}: {function} has {length} lines, of {MOST_FUNCTION_LINES}")
    print("\n".join(["FAIL lengths", *problems]) if problems else "ok   lengths")
    return not problems


def main() -> int:
    sources = files("*.cc", "*.h", "**/*.cc", "**/*.h")
    python = str(BIN / "python")
    ok = run("clang-format", ["clang-format", *(["-i"] if FIX else ["--dry-run", "--Werror"]), *sources])
    ok &= run(
        "ruff check",
        [str(BIN / "ruff"), "check", *(["--fix"] if FIX else []), "python", "tests", "bench", "tools", "demo"],
    )
    ok &= run(
        "ruff format",
        [str(BIN / "ruff"), "format", *([] if FIX else ["--check"]), "python", "tests", "bench", "tools", "demo"],
    )
    ok &= run("mypy --strict", [python, "-m", "mypy", "python/headrace"])
    problems = check_layering.violations() + check_layering.retold((ROOT / "ARCHITECTURE.md").read_text())
    print("\n".join(["FAIL layering", *problems]) if problems else "ok   layering")
    ok &= not problems
    ok &= links()
    ok &= lengths()
    if "--no-tidy" not in sys.argv:
        ok &= tidy()
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
