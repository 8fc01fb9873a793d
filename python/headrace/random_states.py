"""Generators of random numbers: where they stand, and back there."""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np


def capture(all_devices: bool) -> dict[str, Any]:
    """Where Python's, numpy's and torch's own generators stand; of CUDA's, all devices' or the one that this process uses."""
    found: dict[str, Any] = {"python": random.getstate(), "numpy": np.random.get_state(legacy=False)}
    torch = sys.modules.get("torch")
    if torch is not None:
        found["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            devices = range(torch.cuda.device_count()) if all_devices else [torch.cuda.current_device()]
            found["cuda"] = [torch.cuda.get_rng_state(device) for device in devices]
    return found


def restore(state: dict[str, Any]) -> None:
    """Sets them back; those of devices that are not here any more are left out."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if "torch" in state:
        torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        cuda = state["cuda"]
        devices = [torch.cuda.current_device()] if len(cuda) == 1 else range(min(len(cuda), torch.cuda.device_count()))
        for device, one in zip(devices, cuda, strict=False):
            torch.cuda.set_rng_state(one, device)


def state_of(generator: Any) -> Any:
    """Where a generator of the program's own stands; None if this is no generator."""
    if isinstance(generator, np.random.Generator):
        return {"numpy": generator.bit_generator.state}
    if isinstance(generator, np.random.RandomState):
        return {"numpy": generator.get_state(legacy=False)}
    if isinstance(generator, random.Random):
        return {"python": generator.getstate()}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(generator, torch.Generator):
        return {"torch": generator.get_state()}
    return None


def set_state(generator: Any, state: Any) -> None:
    """Sets it back to what ``state_of`` gave."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state["numpy"]
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state["numpy"])
    elif isinstance(generator, random.Random):
        generator.setstate(state["python"])
    else:
        generator.set_state(state["torch"])
