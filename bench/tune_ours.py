"""Steps of a fine-tuning by our trainer: tune_ours.py MODEL BATCHES PRECISION STEPS. Prints losses, seconds of each step, and peak memory.

BATCHES is an .npz of `tokens` (steps, documents, length) int32; every token but the first is learned."""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np
from headrace import _tune

model, path, precision, steps = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
batches = np.load(path)["tokens"]
length = batches.shape[2]
trainer = _tune.open(model, precision, length, 16, 2.0, True, True, [0.9, 0.999, 1e-8, 0.0], 1, 0)
losses, seconds = [], []
for step in range(steps):
    tokens = np.ascontiguousarray(batches[step % len(batches)].reshape(-1), np.int32)
    starts = np.arange(0, len(tokens) + 1, length, dtype=np.int64)
    targets = np.concatenate([tokens[1:], [-1]]).astype(np.int32)
    targets[length - 1 :: length] = -1
    learned = int((targets >= 0).sum())
    start = time.perf_counter()
    loss, _ = trainer.step(tokens, starts, targets, 1.0 / learned)
    trainer.update(2e-4, 1.0)
    seconds.append(time.perf_counter() - start)
    losses.append(loss / learned)
print(
    json.dumps(
        {
            "losses": losses,
            "seconds": seconds,
            "tokens": int(batches[0].size),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
    )
)
