"""The same steps by transformers and peft: tune_rival.py MODEL BATCHES PRECISION STEPS, as tune_ours.py. Batches have no padding: documents are of one
length, so that packing has nothing to gain. Adapters are of the model's own type."""

from __future__ import annotations

import json
import os
import pathlib
import resource
import sys
import time

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model

model_path, path, precision, steps = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
batches = np.load(path)["tokens"]
torch.manual_seed(1)
torch.set_num_threads(len(os.sched_getaffinity(0)))
dtype = torch.bfloat16 if precision == "bf16" else torch.float32
base = transformers.AutoModelForCausalLM.from_pretrained(model_path.parent, gguf_file=model_path.name, dtype=dtype)
config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
model = get_peft_model(base, config, autocast_adapter_dtype=False)
model.config.use_cache = False
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0)
losses, seconds = [], []
for step in range(steps):
    tokens = torch.from_numpy(batches[step % len(batches)].astype(np.int64))
    start = time.perf_counter()
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    seconds.append(time.perf_counter() - start)
    losses.append(float(loss))
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
