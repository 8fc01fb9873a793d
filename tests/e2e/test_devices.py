"""What computes: the CPU's variants, and a GPU backend, here with a Vulkan device in software (Mesa's lavapipe)."""

import json
import os
import pathlib
import subprocess
from typing import Any

import pytest

CACHE = pathlib.Path(os.environ.get("HEADRACE_CACHE", pathlib.Path.home() / ".cache/headrace"))
SMALL = CACHE / "models/smollm2-135m-instruct-q4_1.gguf"
VULKAN = CACHE / "backends/vulkan"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["headrace", *words], env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )


def inspect(**environment: str) -> dict[str, Any]:
    told = run("--json", "model", "inspect", str(SMALL), "--quick", **environment)
    assert told.returncode == 0, told.stderr
    machine: dict[str, Any] = json.loads(told.stdout)["machine"]
    return machine


def test_cpu_variants() -> None:
    assert inspect(HEADRACE_CPU="x64")["cpu"] == "x64"
    best = inspect(HEADRACE_CPU="")
    assert best["devices"][-1]["kind"] == "cpu" and best["devices"][-1]["memory_total"] > 0
    wrong = run("model", "inspect", str(SMALL), "--quick", HEADRACE_CPU="pentium")
    assert wrong.returncode != 0 and "no variant 'pentium'" in wrong.stderr and "x64" in wrong.stderr
    answers = {
        cpu: run("run", str(SMALL), "Hello", "-n", "4", "-t", "0", HEADRACE_CPU=cpu).stdout for cpu in ("x64", "")
    }
    assert all(answer.strip() for answer in answers.values()), answers


def test_no_gpu_is_told(tmp_path: pathlib.Path) -> None:
    told = run("model", "inspect", str(SMALL), "--quick", HEADRACE_BACKENDS="")
    assert "no GPU: the CPU computes everything" in told.stdout
    wrong = run("run", str(SMALL), "Hello", "--device", "CUDA0", HEADRACE_BACKENDS="")
    assert wrong.returncode != 0 and "there is no device 'CUDA0'" in wrong.stderr
    (tmp_path / "libggml-cuda.so").write_bytes(b"not a library")
    machine = inspect(HEADRACE_BACKENDS=f"{tmp_path / 'none'}:{tmp_path}")
    assert len(machine["problems"]) == 1 and machine["problems"][0].startswith("libggml-cuda.so: ")
    assert run("run", str(SMALL), "Hello", "-n", "2", HEADRACE_BACKENDS=str(tmp_path)).returncode == 0


@pytest.mark.skipif(not (VULKAN / "libggml-vulkan.so").exists(), reason="./dev setup vulkan lavapipe has not run")
def test_a_vulkan_device() -> None:
    # Visible devices are named, or ggml leaves software devices alone.
    vulkan = {"HEADRACE_BACKENDS": str(VULKAN), "GGML_VK_VISIBLE_DEVICES": "0"}
    machine = inspect(**vulkan)
    if machine["problems"]:
        pytest.skip(f"Vulkan has no device here: {machine['problems']}")
    assert [device["name"] for device in machine["devices"]] == ["Vulkan0", "CPU"], machine
    assert machine["devices"][0]["memory_total"] > 0
    prompt = "The sum of two and two is"
    schema = '{"type": "integer", "minimum": 0, "maximum": 9}'
    for device in ("Vulkan0", "none"):
        words = ("run", str(SMALL), prompt, "-n", "4", "-t", "0", "-c", "256", "--gpu-layers", "2", "--device", device)
        told = run("--json", *words, "--json-schema", schema, **vulkan)
        assert told.returncode == 0, told.stderr
        assert 0 <= json.loads(json.loads(told.stdout)["text"]) <= 9
