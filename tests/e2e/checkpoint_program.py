"""A small training program with every source of chance in it: the stream's order, dropout of numpy's and Python's own generators, and a
generator of its own. What it computes depends on each bit of each of them.

    python checkpoint_program.py CATALOG RUN [--kill-after STEP] [--kill-in WRITE] [--every N] [--until N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import signal
from typing import Any

import headrace as hr
import numpy as np

STEPS = 40
ROWS, BATCH, WIDTH = 130, 8, 6  # 17 steps an epoch: 40 end in the middle of the third


def make_table(catalog: hr.Catalog) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    catalog.create_table("rows", {"x": x, "y": x @ np.arange(WIDTH, dtype=np.float32)})


class Net:
    def __init__(self) -> None:
        self.weights = {"layer.weight": np.zeros(WIDTH, np.float32), "layer.bias": np.zeros((), np.float32)}

    def state_dict(self) -> dict[str, Any]:
        return self.weights

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            self.weights[name][...] = value


class Momentum:
    """Like torch's optimizers: a state by number, and groups."""

    def __init__(self, net: Net, lr: float) -> None:
        self.net, self.lr, self.steps = net, lr, 0
        self.velocity = {index: np.zeros_like(value) for index, value in enumerate(net.weights.values())}

    def state_dict(self) -> dict[str, Any]:
        state = {index: {"velocity": value, "step": self.steps} for index, value in self.velocity.items()}
        return {"state": state, "param_groups": [{"lr": self.lr, "betas": (0.9, 0.999)}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert isinstance(state["param_groups"][0]["betas"], tuple) and set(state["state"]) == set(self.velocity)
        self.lr = state["param_groups"][0]["lr"]
        for index, one in state["state"].items():
            self.velocity[index][...], self.steps = one["velocity"], one["step"]

    def step(self, gradients: list[Any]) -> None:
        self.steps += 1
        for index, (weight, gradient) in enumerate(zip(self.net.weights.values(), gradients, strict=True)):
            self.velocity[index][...] = np.float32(0.9) * self.velocity[index] + gradient
            weight -= np.float32(self.lr / (1 + self.steps / 50)) * self.velocity[index]


def train_step(net: Net, optimizer: Momentum, batch: dict[str, Any], own: np.random.Generator) -> float:
    keep = (np.random.random(batch["x"].shape) > 0.1).astype(np.float32) * np.float32(1 + random.random() / 10)
    x = batch["x"] * keep * batch["valid"][:, None] + own.normal(0, 0.01, batch["x"].shape).astype(np.float32)
    error = x @ net.weights["layer.weight"] + net.weights["layer.bias"] - batch["y"]
    optimizer.step([x.T @ error / np.float32(len(error)) / 20, error.mean() / 20])
    return float((error**2).mean())


def kill_in(run: hr.Run, what: str) -> None:
    """Dies in the middle of a checkpoint: "files:2" once two of its files are there, "row" before its row is written, "sweep" before files
    of earlier ones are deleted."""
    name, _, count = what.partition(":")
    left = [int(count or 0)]

    def dying(call: Any, after: int) -> Any:
        def wrapped(*words: Any) -> Any:
            if left[0] <= after:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*words)

        return wrapped

    writer = run._writer

    class Writer:
        def __getattr__(self, key: str) -> Any:
            return getattr(writer, key)

    if name == "files":
        Writer.save_checkpoint_file = staticmethod(dying(writer.save_checkpoint_file, 0))
    elif name == "row":
        Writer.record = staticmethod(dying(writer.record, 0))
    else:
        Writer.keep_checkpoint_files = staticmethod(dying(writer.keep_checkpoint_files, 0))
    run._writer = Writer()  # type: ignore[assignment]


def rank_main(rank: int, world: int, catalog: str, run_id: str, channel: Any, stop: int | None, until: int) -> None:
    """One rank, which talks to the others over a channel to whoever started them all. Killed after the step ``stop``."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), HEADRACE_JOB=f"job-{os.getppid()}-{stop}-{world}")

    def gather(value: Any) -> list[Any]:
        channel.send(json.dumps(value))
        return [json.loads(text) for text in channel.recv()]

    random.seed(rank)
    np.random.seed(rank)
    net, own = Net(), np.random.default_rng(rank)
    optimizer = Momentum(net, 0.05)
    opened = hr.open(catalog)
    stream = hr.Stream(opened["rows"], ["x", "y"], batch_size=4, seed=9, epochs=9)
    run = hr.run("ranks", id=run_id, catalog=opened, system=False)
    ckpt = hr.Checkpointer(run, model=net, optimizer=optimizer, stream=stream, own=own, every=5, gather=gather)
    told = []
    for batch in ckpt.steps(until=until):
        # The mean of all ranks' gradients, as in data-parallel training; and what only this rank's generators give.
        x, y = batch["x"] * batch["valid"][:, None], batch["y"] * batch["valid"]
        error = x @ net.weights["layer.weight"] - y + np.float32(random.random() + np.random.random() + own.random())
        parts = gather([(x.T @ error).tolist(), float(error.sum())])
        gradient = np.sum([part[0] for part in parts], axis=0, dtype=np.float32) / np.float32(4 * world * 20)
        optimizer.step([gradient, np.float32(sum(part[1] for part in parts) / (4 * world * 20))])
        told.append([ckpt.step, batch["row_id"][batch["valid"]].tolist()])
        run.log({"loss": float((error**2).mean())}, step=ckpt.step)
        if ckpt.step == stop:
            os.kill(os.getpid(), signal.SIGKILL)
    run.finish()
    channel.send(
        json.dumps({"told": told, "weights": net.weights["layer.weight"].tobytes().hex(), "chance": own.random()})
    )


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("catalog")
    words.add_argument("run")
    words.add_argument("--kill-after", type=int, default=-1)
    words.add_argument("--kill-in", default="")
    words.add_argument("--every", type=int, default=5)
    words.add_argument("--until", type=int, default=STEPS)
    words.add_argument("--keep-last", type=int, default=2)
    words.add_argument("--plain", action="store_true")
    words.add_argument("--out", type=pathlib.Path, default=None)
    given = words.parse_args()
    random.seed(1)
    np.random.seed(2)
    own = np.random.default_rng(3)
    net = Net()
    optimizer = Momentum(net, 0.05)
    catalog = hr.open(given.catalog)
    stream = hr.Stream(catalog["rows"], ["x", "y"], batch_size=BATCH, seed=9, epochs=9)
    seen: list[list[int]] = []
    with (
        hr.run("probe", id=given.run, catalog=catalog, system=False) as run,
        hr.Checkpointer(run, model=net, optimizer=optimizer, stream=stream, own=own, every=given.every,
                        keep_last=given.keep_last, keep_best="loss") as ckpt,
    ):  # fmt: skip
        begin = ckpt.restore()
        assert begin == ckpt.step == len(ckpt.extra.get("seen", []))
        seen = ckpt.extra.setdefault("seen", [])

        def one(step: int, batch: dict[str, Any]) -> None:
            if step == given.kill_after and given.kill_in:
                kill_in(run, given.kill_in)
            run.log({"loss": train_step(net, optimizer, batch, own)}, step=step)
            seen.append(batch["row_id"][batch["valid"]].tolist())
            if step == given.kill_after and not given.kill_in:
                os.kill(os.getpid(), signal.SIGKILL)

        if given.plain:
            for step, batch in enumerate(stream, start=begin):
                if step == given.until:
                    break
                one(step, batch)
                if (step + 1) % given.every == 0:
                    ckpt.save(step)
        else:
            for batch in ckpt.steps(stream, until=given.until):
                one(ckpt.step, batch)
    result = {
        "begin": begin,
        "weights": {name: value.tobytes().hex() for name, value in net.weights.items()},
        "velocity": {str(index): value.tobytes().hex() for index, value in optimizer.velocity.items()},
        "seen": seen,
        "kept": [one.step for one in ckpt.kept],
        "chance": [random.random(), float(np.random.random()), float(own.random())],
    }
    if given.out:
        given.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
