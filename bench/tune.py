"""Fine-tuning: steps of ours and of transformers with peft, on the same batches from the same file."""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import headrace as hr
import numpy as np
from headrace.tuning import ENVIRONMENT
from measure import Line

FOLDER = pathlib.Path(__file__).resolve().parent
DOCUMENTS, LENGTH = 4, 256
TARGETS = {"bf16": 1.5, "f32": 1.25}
MOST_MEMORY = 0.6
LOSSES_WITHIN = 0.01


def batches(model: str, steps: int, path: pathlib.Path) -> None:
    """Texts of this project's documents as tokens."""
    texts = sorted((FOLDER.parent / "docs").rglob("*.md"))
    tokens = hr.Model(model, context=256).tokenize("\n".join(text.read_text() for text in texts))
    size = steps * DOCUMENTS * LENGTH
    np.savez(path, tokens=np.array(tokens[:size], np.int32).reshape(steps, DOCUMENTS, LENGTH))


def side(name: str, *words: str) -> dict[str, Any]:
    """One process of one side: what it printed. Ours waits as `headrace tune` and `hr.tune` make it wait."""
    environment = {**ENVIRONMENT, **os.environ} if name == "ours" else None
    python = sys.executable if name == "ours" else os.environ["HEADRACE_BENCH_RIVALS_TUNE"]
    done = subprocess.run(
        [python, str(FOLDER / f"tune_{name}.py"), *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def lora(scale: float) -> list[Line]:
    """Tokens a second, memory, and whether both learn the same."""
    steps = max(3, round(10 * scale))
    model = str(pathlib.Path(os.environ["HEADRACE_BENCH_MODELS"]) / "smollm2-135m-instruct-q4_1.gguf")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "batches.npz"
        batches(model, steps, path)
        for precision, target in TARGETS.items():
            sides = [side(name, model, str(path), precision, str(steps)) for name in ("ours", "rival")]
            speeds = [one["tokens"] / statistics.median(one["seconds"][1:]) for one in sides]
            ratio = speeds[0] / speeds[1]
            work = f"LoRA of SmolLM2-135M, {precision}"
            lines.append(
                Line(
                    f"{work}: rate",
                    f"{speeds[0]:.0f} tok/s",
                    f"{speeds[1]:.0f} tok/s",
                    ratio,
                    f"≥ {target:g}",
                    ratio >= target,
                )
            )
            memory = [one["memory"] / 1e9 for one in sides]
            ratio = memory[0] / memory[1]
            lines.append(
                Line(
                    f"{work}: memory",
                    f"{memory[0]:.2f} GB",
                    f"{memory[1]:.2f} GB",
                    ratio,
                    f"≤ {MOST_MEMORY:g}",
                    ratio <= MOST_MEMORY,
                )
            )
            apart = max(abs(a / b - 1) for a, b in zip(*(one["losses"] for one in sides), strict=True))
            ends = [f"{one['losses'][-1]:.4f}" for one in sides]
            lines.append(
                Line(
                    f"{work}: losses apart at most",
                    ends[0],
                    ends[1],
                    apart,
                    f"≤ {LOSSES_WITHIN:g}",
                    apart <= LOSSES_WITHIN,
                )
            )
    return lines


BENCHES = {"lora": lora}
