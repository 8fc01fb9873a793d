"""./dev bench [NAME…]: each claim of speed as one run of us and the rival, on the same data, alternating.

Prints a table of ours, theirs and the ratio (medians), and what the ratio must reach. Writes the same to
docs/benchmarks.md with the machine and the date.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import platform
import sys
from collections.abc import Callable

import tables
from measure import Line

ROOT = pathlib.Path(__file__).resolve().parent.parent


def machine() -> str:
    model = platform.processor() or "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) // 1_000_000
    return (
        f"{os.cpu_count()} cores ({model}), {memory} GB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench")
    parser.add_argument("names", nargs="*", help="tables, or single lines: " + ", ".join(tables.BENCHES))
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes (for a first look)")
    arguments = parser.parse_args()
    names = [name for name in arguments.names if name != "tables"] or list(tables.BENCHES)
    unknown = [name for name in names if name not in tables.BENCHES]
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are {', '.join(tables.BENCHES)}", file=sys.stderr)
        return 2
    lines: list[Line] = []
    for name in names:
        bench: Callable[[float], list[Line]] = tables.BENCHES[name]
        print(f"… {name}", file=sys.stderr, flush=True)
        for line in bench(arguments.scale):
            print(line.text(), flush=True)
            lines.append(line)
    if arguments.scale == 1.0 and names == list(tables.BENCHES):
        page = ROOT / "docs" / "benchmarks.md"
        rows = "\n".join(line.markdown() for line in lines)
        page.write_text(
            "# Benchmarks\n\nThe last full run of `./dev bench tables`. Both sides ran in the same process run, alternating, on the same "
            "data; figures are medians. Ratios below 1 mean that we are faster (or write less), except where the line says "
            '"rate". Lance does not fsync, so it is compared with a catalog made with `--no-sync`; the synced figure '
            f"stands beside it.\n\n- {machine()}\n- {datetime.date.today().isoformat()}\n- `./dev bench tables`\n\n"
            "| work | ours | theirs | ratio | must reach | reached |\n|---|---|---|---|---|---|\n" + rows + "\n"
        )
        print(f"written to {page.relative_to(ROOT)}")
    missed = [line for line in lines if not line.reached]
    print(f"{len(lines) - len(missed)} of {len(lines)} targets reached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
