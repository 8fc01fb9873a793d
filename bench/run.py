"""./dev bench [NAME…]: each claim of speed as one run of us and the rival, on the same data, alternating.

Prints a table of ours, theirs and the ratio (medians), and what the ratio must reach. A whole suite writes its section of
docs/benchmarks.md, with the machine and the date. Sections with other titles are written by hand and stay.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import platform
import re
import sys
from collections.abc import Callable

import record
import s3
import tables
import upkeep
from measure import Line

import engine
import serve
import stream
import tune

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


Bench = Callable[[float], list[Line]]
SUITES: dict[str, dict[str, Bench]] = {
    "tables": tables.BENCHES,
    "upkeep": upkeep.BENCHES,
    "s3": s3.BENCHES,
    "stream": stream.BENCHES,
    "engine": engine.BENCHES,
    "serve": serve.BENCHES,
    "record": record.BENCHES,
    "tune": tune.BENCHES,
}
NOTES = {
    "tune": "SmolLM2-135M-Instruct from the same GGUF file, LoRA of rank 16 on every linear layer, AdamW, 4 documents of 256 tokens a step (so nothing is padded, and "
    "packing has nothing to gain), all learned. The rival is transformers 5.24 and peft 0.21 on torch 2.15 in a bare loop, adapters of the model's type. Each side is a process; "
    "medians of the steps after the first.",
    "record": "The sampler's GPUs are those of a stub library: what a driver takes for its answers is not in it. The processor's caches are cleared between two samples. "
    "Receivers of spans: the same sender and the same bytes, on one kept connection. A 200 of ours means that the body is in the spool (in the kernel: it survives kill -9), "
    "one of Phoenix's that its spans wait in a queue in memory, so the clock stops when all are rows of either's table. Neither waits for the disk before it answers. "
    "Phoenix is sent 320 spans/s while it is killed, ours some 1,600. W&B's and TensorBoard's files are read by our importers.",
    "tables": "Lance does not fsync, so it is compared with a catalog made with `--no-sync`; the synced figure stands beside it.",
    "upkeep": "Neither fsyncs. Each work begins with a fresh copy of the files; pages are in memory.",
    "s3": "versitygw 1.8.0 on the same machine, behind a proxy that sends each answer 20 ms late and counts. Each round opens the table anew: nothing "
    "is cached, by either. One Python thread is the link: some 0.7 ms a request and 3 ms a megabyte, which is most of the time with vectors.",
    "stream": "Pictures are 4,096 JPEGs of 500 × 375 and about 94 KB, cut from Debian's photographs. Every loader is shuffled, has two "
    "workers (we: two threads), and every byte of every batch goes through a checksum.",
    "engine": "gemma3-270m Q4_K_M (base model) and MiniLM-L6 f16. The rival is llama-server v0.5.0 from the same source and commit with "
    "`-kvu --swa-full`; our engine runs in the load's process, without HTTP (the server is measured in its own suite).",
    "serve": "gemma3-270m Q4_K_M behind HTTP; llama-server v0.5.0 from the same source and commit with `-kvu --swa-full -c 16384 -np 32`, "
    "ours with the same cache and 32 slots. Prompts of 60 words (65 tokens), answers of 64 tokens, greedy; overload: 20 words and 16 tokens, and ours is sent the deadline (llama-server knows none); the clients run on the same two cores. A token's CPU is that of the server's default, which drafts: about two tokens a step and write.",
}
PAGE = ROOT / "docs" / "benchmarks.md"


def work_of(row: str) -> str:
    """What a row of the page measures, without the figures in brackets that change from run to run."""
    return re.sub(r"\([^)]*\)", "", row.split("|")[1]).strip()


def title(suite: str) -> str:
    return f"`./dev bench {suite}`"


def write_section(suite: str, lines: list[Line], whole: bool) -> None:
    """Puts the results of a whole suite, or of some of its lines, in their place on the page."""
    head = (
        "# Benchmarks\n\nThe last run of each line. Both sides ran in the same process run, alternating, on the same data; figures are "
        'medians. Ratios below 1 mean that we are faster (or write less), except where the line says "rate".\n'
    )
    text = PAGE.read_text() if PAGE.exists() else ""
    written = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    sections = {name: written.pop(title(name)) for name in SUITES if title(name) in written}
    new = [line.markdown() for line in lines]
    if not whole:
        fresh = {work_of(row): row for row in new}
        kept = re.findall(r"^\| (?!work )[^\n]*\|$", sections.get(suite, ""), re.MULTILINE)
        kept = [fresh.pop(work_of(row), row) for row in kept]
        new = kept + list(fresh.values())
    rows = "\n".join(new)
    sections[suite] = (
        f"\n{NOTES[suite]}\n\n- {machine()}\n- {datetime.date.today().isoformat()}\n\n"
        f"| work | ours | theirs | ratio | must reach | reached |\n|---|---|---|---|---|---|\n{rows}\n"
    )
    ordered = written | {title(name): sections[name] for name in SUITES if name in sections}
    body = "".join(f"\n## {heading}\n{section.rstrip()}\n" for heading, section in ordered.items())
    PAGE.write_text(head + body)
    print(f"written to {PAGE.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench")
    known = ", ".join(f"{suite} ({', '.join(benches)})" for suite, benches in SUITES.items())
    parser.add_argument("names", nargs="*", help=f"suites, or single lines of them: {known}")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full sizes (for a first look)")
    arguments = parser.parse_args()
    names: list[str] = arguments.names or list(SUITES)
    everything = {name: bench for benches in SUITES.values() for name, bench in benches.items()}
    unknown = [name for name in names if name not in SUITES and name not in everything]
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are {known}", file=sys.stderr)
        return 2
    total: list[Line] = []
    for name in names:
        lines: list[Line] = []
        for part, bench in SUITES.get(name, {name: everything.get(name)}).items():
            print(f"… {part}", file=sys.stderr, flush=True)
            assert bench is not None
            for line in bench(arguments.scale):
                print(line.text(), flush=True)
                lines.append(line)
        if arguments.scale == 1.0:
            suite = name if name in SUITES else next(s for s, benches in SUITES.items() if name in benches)
            write_section(suite, lines, whole=name in SUITES)
        total += lines
    missed = [line for line in total if not line.reached]
    print(f"{len(total) - len(missed)} of {len(total)} targets reached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
