"""What transformers computes for the small models of src/nn/decoder_testing.h: losses, and slopes of adapters' values.

Prints src/nn/transformers_numbers.h: `python tests/transformers_numbers.py > src/nn/transformers_numbers.h`, with torch and
transformers installed. Weights, adapters and batches are drawn as the C++ tests draw them; all is computed in float64.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

Array = npt.NDArray[np.float32]
MASK = (1 << 64) - 1
RANK, SCALE = 3, 2.0
LENGTHS = [7, 1, 12, 30]
SHARED = {
    "vocab_size": 30,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "rms_norm_eps": float(np.float32(1e-6)),
    "attn_implementation": "eager",
}


class Draws:
    """SplitMix64, as nn_testing.h has it."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
        return z ^ z >> 31

    def around(self, reach: float, *shape: int) -> Array:
        count = math.prod(shape)
        ones = np.array([self.next() >> 40 for _ in range(count)], np.float32) * np.float32(2.0**-23) - np.float32(1)
        return (ones * np.float32(reach)).reshape(shape)

    def narrow(self, reach: float, *shape: int) -> Array:
        """Numbers of bfloat16."""
        return torch.from_numpy(self.around(reach, *shape)).bfloat16().float().numpy()

    def weight(self, rows: int, columns: int) -> Array:
        return self.narrow(np.sqrt(np.float32(3) / np.float32(columns)), rows, columns)

    def norm(self, size: int) -> Array:
        return np.float32(1) + self.around(0.5, size)


class Adapted(torch.nn.Module):
    """A linear layer with an adapter: x · Wᵀ + scale · (x · Aᵀ) · Bᵀ."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.a = torch.zeros(RANK, linear.in_features, dtype=torch.float64, requires_grad=True)
        self.b = torch.zeros(linear.out_features, RANK, dtype=torch.float64, requires_grad=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + SCALE * (x @ self.a.T) @ self.b.T


def llama() -> Any:
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        **{**SHARED, "rms_norm_eps": float(np.float32(1e-5))},
    )
    return transformers.LlamaForCausalLM(config)


def qwen2() -> Any:
    config = transformers.Qwen2Config(
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        **SHARED,
    )
    return transformers.Qwen2ForCausalLM(config)


def qwen3() -> Any:
    config = transformers.Qwen3Config(
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=10,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        **SHARED,
    )
    return transformers.Qwen3ForCausalLM(config)


def gemma3() -> Any:
    sliding = "sliding_attention"
    config = transformers.Gemma3TextConfig(
        hidden_size=24,
        intermediate_size=20,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=6,
        query_pre_attn_scalar=25,
        sliding_window=5,
        layer_types=[sliding, sliding, "full_attention", sliding],
        rope_parameters={
            sliding: {"rope_type": "default", "rope_theta": 10.0},
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 300.0},
        },
        **SHARED,
    )
    return transformers.Gemma3ForCausalLM(config)


def put(parameter: torch.nn.Parameter, values: Array) -> None:
    assert parameter.shape == values.shape, (parameter.shape, values.shape)
    parameter.data = torch.from_numpy(values).double()


def draw_weights(model: Any, draws: Draws) -> None:
    """In the order of RandomWeights. Gemma's norms are 1 + what transformers holds."""
    gemma = "Gemma3" in type(model).__name__
    config = model.config
    width, hidden = config.hidden_size, config.intermediate_size

    def put_norm(norm: Any, values: Array) -> None:
        put(norm.weight, values)
        if gemma:
            norm.weight.data -= 1

    for layer in model.model.layers:
        attention, gated = layer.self_attn, layer.mlp
        put_norm(layer.input_layernorm, draws.norm(width))
        put_norm(layer.pre_feedforward_layernorm if gemma else layer.post_attention_layernorm, draws.norm(width))
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        ends = np.cumsum([linear.out_features for linear in projections])
        for linear, rows in zip(projections, np.split(draws.weight(ends[-1], width), ends[:-1]), strict=True):
            put(linear.weight, rows)
        put(attention.o_proj.weight, draws.weight(width, attention.o_proj.in_features))
        for linear, rows in zip(
            [gated.gate_proj, gated.up_proj], np.split(draws.weight(2 * hidden, width), 2), strict=True
        ):
            put(linear.weight, rows)
        put(gated.down_proj.weight, draws.weight(width, hidden))
        if hasattr(attention, "q_norm"):
            put_norm(attention.q_norm, draws.norm(attention.head_dim))
            put_norm(attention.k_norm, draws.norm(attention.head_dim))
        if gemma:
            put_norm(layer.post_attention_layernorm, draws.norm(width))
            put_norm(layer.post_feedforward_layernorm, draws.norm(width))
        if attention.q_proj.bias is not None:
            biases = np.split(draws.weight(ends[-1], 1)[:, 0], ends[:-1])
            for linear, bias in zip(projections, biases, strict=True):
                put(linear.bias, bias)
    put(model.model.embed_tokens.weight, draws.weight(config.vocab_size, width))
    put(model.lm_head.weight, 4 * draws.weight(config.vocab_size, width))
    put_norm(model.model.norm, draws.norm(width))


def add_adapters(model: Any, draws: Draws) -> list[torch.Tensor]:
    """A and B of each weight, in the decoder's order."""
    found = []
    for layer in model.model.layers:
        for part, names in ((layer.self_attn, "qkvo"), (layer.mlp, ("gate", "up", "down"))):
            for name in names:
                adapted = Adapted(getattr(part, f"{name}_proj"))
                setattr(part, f"{name}_proj", adapted)
                for values in (adapted.a, adapted.b):
                    values.data = torch.from_numpy(draws.narrow(0.25, *values.shape)).double()
                    found.append(values)
    return found


def loss_of(model: Any, draws: Draws) -> torch.Tensor:
    vocabulary = model.config.vocab_size
    sum_of = torch.zeros((), dtype=torch.float64)
    for length in LENGTHS:
        tokens, targets = [], []
        for _ in range(length):
            tokens.append(draws.next() % vocabulary)
            learned = draws.next() % 3 != 0
            target = draws.next() % vocabulary
            targets.append(target if learned else -100)
        logits = model(input_ids=torch.tensor([tokens])).logits[0]
        if any(target >= 0 for target in targets):
            sum_of = sum_of + torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum")
    return sum_of


def slopes_of(adapters: list[torch.Tensor], draws: Draws) -> list[float]:
    """Of each adapter's values, in a direction drawn at random."""
    slopes = []
    for values in adapters:
        direction = torch.from_numpy(draws.around(1.5, *values.shape)).double()
        assert values.grad is not None
        slopes.append(float((direction * values.grad).sum()))
    return slopes


def main() -> None:
    print("// Written by tests/transformers_numbers.py, which says what they are, with")
    print(f"// torch {torch.__version__.split('+')[0]} and transformers {transformers.__version__}.")
    print("#pragma once\n\n#include <string>\n#include <vector>\n\nnamespace headrace::nn {\n")
    print("struct TransformersNumbers {")
    print("  std::string architecture;")
    print("  double loss = 0;")
    print("  std::vector<double> slopes;  // of each adapter's values, in a direction drawn at random")
    print("};\n\ninline std::vector<TransformersNumbers> AllTransformersNumbers() {\n  return {")
    torch.set_default_dtype(torch.float64)
    for name, make in (("Llama", llama), ("Qwen25", qwen2), ("Qwen3", qwen3), ("Gemma3", gemma3)):
        model = make().double().eval()
        model.requires_grad_(False)
        draw_weights(model, Draws(21))
        adapters = add_adapters(model, Draws(22))
        loss = loss_of(model, Draws(23))
        loss.backward()
        slopes = slopes_of(adapters, Draws(24))
        print(f'      {{"{name}", {loss.item():.12g}, {{{", ".join(f"{slope:.9g}" for slope in slopes)}}}}},')
    print("  };\n}\n\n}  // namespace headrace::nn")


if __name__ == "__main__":
    sys.exit(main())
