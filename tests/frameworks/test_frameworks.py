"""hr.Checkpointer with torch, and the callbacks with the frameworks themselves: what was killed goes on bit for bit, with the same rows,
as one run."""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
from typing import Any

import headrace as hr
import numpy as np
import pytest
import torch

PROGRAM = pathlib.Path(__file__).with_name("program.py")


def points(catalog: hr.Catalog, run: str, key: str) -> list[tuple[int, float]]:
    rows = catalog.sql(
        "select step, value from points where run = ? and key = ? order by step, value", [run, key]
    ).to_pylist()
    return [(row["step"], row["value"]) for row in rows]


def start(framework: str, folder: pathlib.Path, run: str, *words: str, **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), framework, str(folder), run, *words],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    made = tmp_path_factory.mktemp("frameworks")
    x = np.random.default_rng(5).normal(size=(130, 6)).astype(np.float32)
    hr.init(made / "c", sync=False).create_table("rows", {"x": x, "labels": x @ np.arange(6, dtype=np.float32)})
    return made


def trained_on(folder: pathlib.Path, run: str) -> dict[int, Any]:
    """By step; of what was done twice the last."""
    return dict(json.loads(line) for line in (folder / f"{run}.seen").read_text().splitlines())


@pytest.mark.parametrize(
    ("framework", "key", "environment"),
    [
        ("torch", "loss", {}),
        ("lightning", "loss", {}),
        ("lightning", "loss", {"EVERY": "17"}),  # at the very end of an epoch
        ("transformers", "train/loss", {"NO_ID": "1"}),  # the run is found in the checkpoint
        ("transformers", "train/loss", {"ACCUMULATED": "2"}),
        ("composer", "loss/train/total", {}),
    ],
)
def test_17_steps_and_a_kill_and_23_are_40(
    folder: pathlib.Path, framework: str, key: str, environment: dict[str, str]
) -> None:
    if framework == "composer":
        pytest.importorskip("composer")
    straight, killed = (f"{framework}{''.join(environment.values())}-{name}" for name in ("straight", "killed"))
    every = int(environment.get("EVERY", "5"))
    kill = 16 if every == 5 else 20
    with concurrent.futures.ThreadPoolExecutor() as pool:
        whole = pool.submit(start, framework, folder, straight, **environment)
        assert start(framework, folder, killed, str(kill), **environment) == -signal.SIGKILL
        assert whole.result() == 0
    assert not (folder / f"{killed}.out").exists()
    assert start(framework, folder, killed, **environment) == 0
    assert json.loads((folder / f"{killed}.out").read_text()) == json.loads((folder / f"{straight}.out").read_text())
    lines = (folder / f"{killed}.seen").read_text().splitlines()
    steps = 40 // int(environment.get("ACCUMULATED", "1"))
    assert len(lines) == kill + 1 + steps - kill // every * every, "it went on after its checkpoint"
    assert trained_on(folder, killed) == trained_on(folder, straight)
    assert sorted(trained_on(folder, killed)) == list(range(steps))
    catalog = hr.open(folder / "c")
    if "NO_ID" in environment:
        straight, killed = ((folder / f"{name}.id").read_text() for name in (straight, killed))
    assert points(catalog, killed, key) == points(catalog, straight, key)
    assert len(points(catalog, killed, key)) == steps
    (row,) = catalog.sql(
        "select state, lives, config, inputs, summary from runs_now where id = ?", [killed]
    ).to_pylist()
    assert (row["state"], row["lives"]) == ("finished", 2)
    assert [one["kind"] for one in row["inputs"]] == ["stream"]
    if framework == "lightning":
        assert row["config"]["lr"] == 0.01 and f"/{killed}/" in row["summary"]["checkpoint"]
    if framework == "transformers":
        assert row["config"]["learning_rate"] == 0.01 and row["config"]["model"]["hidden_size"] == 16
        assert row["summary"]["checkpoint"].endswith(f"checkpoint-{steps}")  # Trainer saves at the end
        names = {
            one["name"]
            for one in catalog.sql("select outputs from runs_now where id = ?", [killed]).to_pylist()[0]["outputs"]
        }
        assert {"checkpoint", "checkpoint/trainer_state.json"} <= names


# ---------------------------------------------------------------- states of torch


def again(catalog: hr.Catalog, made: dict[str, Any], other: dict[str, Any]) -> None:
    """Other objects with the states that these have, by way of a checkpoint."""
    with hr.run(catalog=catalog, system=False) as run:
        hr.Checkpointer(run, **made).save(0)
    with hr.run(id=run.id, catalog=catalog, system=False) as run:
        assert hr.Checkpointer(run, **other).restore() == 1


def schedulers() -> dict[str, Any]:
    s = torch.optim.lr_scheduler
    return {
        "StepLR": lambda o: s.StepLR(o, 3),
        "MultiStepLR": lambda o: s.MultiStepLR(o, [2, 2, 5]),
        "LambdaLR": lambda o: s.LambdaLR(o, lambda step: 0.9**step),
        "ExponentialLR": lambda o: s.ExponentialLR(o, 0.9),
        "CosineAnnealingLR": lambda o: s.CosineAnnealingLR(o, 10),
        "CosineAnnealingWarmRestarts": lambda o: s.CosineAnnealingWarmRestarts(o, 3),
        "CyclicLR": lambda o: s.CyclicLR(o, 0.01, 0.1, cycle_momentum=False),
        "OneCycleLR": lambda o: s.OneCycleLR(o, 0.1, total_steps=20),
        "ReduceLROnPlateau": lambda o: s.ReduceLROnPlateau(o, patience=0),
        "SequentialLR": lambda o: s.SequentialLR(o, [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)], [3]),
        "ChainedScheduler": lambda o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9)]),
    }


OPTIMIZERS = [
    "SGD",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Adagrad",
    "Adadelta",
    "ASGD",
    "LBFGS",
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_go_on(name: str, catalog: hr.Catalog) -> None:
    check(catalog, lambda model: getattr(torch.optim, name)(model.parameters(), lr=0.01), schedulers()["ExponentialLR"])


@pytest.mark.parametrize("name", schedulers())
def test_schedules_go_on(name: str, catalog: hr.Catalog) -> None:
    check(catalog, lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), schedulers()[name])


def check(catalog: hr.Catalog, optimizer_of: Any, scheduler_of: Any) -> None:
    def make(seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)
        model = torch.nn.Linear(3, 2)
        optimizer = optimizer_of(model)
        return {"model": model, "optimizer": optimizer, "scheduler": scheduler_of(optimizer)}

    def steps(made: dict[str, Any], count: int) -> list[float]:
        losses = []
        for _ in range(count):

            def closure() -> torch.Tensor:
                made["optimizer"].zero_grad()
                loss = (made["model"](torch.arange(6.0).reshape(2, 3)) ** 2).mean()
                loss.backward()
                return loss

            losses.append(float(made["optimizer"].step(closure).detach()))
            plateau = type(made["scheduler"]).__name__ == "ReduceLROnPlateau"
            made["scheduler"].step(*([losses[-1]] if plateau else []))
        return losses

    one, other = make(1), make(2)
    steps(one, 4)
    again(catalog, one, other)
    assert steps(one, 6) == steps(other, 6)
    assert one["scheduler"].state_dict() == other["scheduler"].state_dict()


class Odd(torch.nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = torch.nn.Embedding(5, 4, dtype=torch.bfloat16)
        self.head = torch.nn.Linear(4, 5, bias=False, dtype=torch.bfloat16)
        self.head.weight = self.embedding.weight
        self.conv = torch.nn.Conv2d(3, 2, 3).to(memory_format=torch.channels_last)
        self.register_buffer("count", torch.tensor(seed))
        self.register_buffer("none", torch.zeros(0, 3, dtype=torch.bool))
        self.register_buffer("small", torch.rand(4).to(torch.float8_e4m3fn))
        self.register_buffer("waves", torch.fft.fft(torch.rand(4)))
        self.register_buffer("part", torch.rand(10)[2:8:2])


def test_odd_models_come_back(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    from safetensors.torch import load_file

    one, other = Odd(1), Odd(2)
    again(catalog, {"model": torch.compile(one)}, {"model": other})
    for name, value in one.state_dict().items():
        back = other.state_dict()[name]
        assert back.dtype == value.dtype and back.shape == value.shape
        assert torch.equal(
            back.reshape(-1).contiguous().view(torch.uint8), value.reshape(-1).contiguous().view(torch.uint8)
        ), name
    assert other.head.weight is other.embedding.weight
    (run,) = catalog.sql("select id from runs_now").to_pylist()
    path = catalog.checkpoints(run["id"])[0].fetch("model.safetensors", tmp_path / "m.safetensors")
    read = load_file(path)
    assert set(read) == set(one.state_dict()) - {"head.weight"}, "what is tied is there once"
    assert torch.equal(read["conv.weight"], one.conv.weight)
    assert catalog.checkpoints(run["id"])[0].states()["model"]["conv.weight"].dtype == torch.float32


def test_generators_and_what_cannot_be_saved(catalog: hr.Catalog) -> None:
    own, other = torch.Generator().manual_seed(5), torch.Generator()
    torch.rand(3, generator=own)
    again(catalog, {"own": own}, {"own": other})
    assert torch.equal(torch.rand(5, generator=own), torch.rand(5, generator=other))
    with hr.run(catalog=catalog, system=False) as run:
        for state, error in [
            (torch.eye(2).to_sparse(), hr.Unsupported),
            (torch.empty(2, device="meta"), hr.Unsupported),
            (torch.zeros(2, dtype=torch.complex128), hr.Invalid),
        ]:
            with pytest.raises(error, match=r"^x"):
                hr.Checkpointer(run, model={"x": state}).save(0)
        assert catalog.checkpoints(run.id) == []


RANKS = """
import os, signal, sys, json, pathlib
import torch, torch.distributed as dist
import headrace as hr
folder, stop = pathlib.Path(sys.argv[1]), int(sys.argv[2])
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo")
torch.manual_seed(1)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
model = torch.nn.parallel.DistributedDataParallel(model)
torch.manual_seed(rank)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
stream = hr.Stream(hr.open(folder / "c")["rows"], ["x", "labels"], batch_size=4, seed=5, epochs=9)
run = hr.run(sys.argv[3], id=sys.argv[3], catalog=folder / "c", system=False)
ckpt = hr.Checkpointer(run, model=model, optimizer=optimizer, stream=stream, every=5)
seen = []
for batch in ckpt.steps(stream.torch(), until=24):
    loss = ((model(batch["x"]).squeeze(-1) - batch["labels"]) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    run.log({"loss": loss}, step=ckpt.step)
    seen.append([ckpt.step, batch["row_id"].tolist()])
    if ckpt.step == stop:
        os.kill(os.getpid(), signal.SIGKILL)
run.finish()
weights = {name: value.numpy().tobytes().hex() for name, value in model.module.state_dict().items()}
(folder / f"{sys.argv[3]}-{rank}.out").write_text(json.dumps([seen, weights, torch.rand(1).item()]))
dist.destroy_process_group()
"""


def ranks(folder: pathlib.Path, run: str, stop: int) -> list[Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANKS, str(folder), str(stop), run],
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert stop >= 0 or process.returncode == 0, errors
    return [json.loads(p.read_text()) for rank in range(2) if (p := folder / f"{run}-{rank}.out").exists()]


def test_ranks_of_torch_distributed(folder: pathlib.Path) -> None:
    expected = ranks(folder, "ddp-straight", -1)
    assert ranks(folder, "ddp-killed", 12) == []
    resumed = ranks(folder, "ddp-killed", -1)
    for one, other in zip(resumed, expected, strict=True):
        assert one[0] == other[0][10:] and one[1] == other[1] and one[2] == other[2]
    assert expected[0][2] != expected[1][2], "each rank has chance of its own"
    catalog = hr.open(folder / "c")
    assert points(catalog, "ddp-killed", "loss") == points(catalog, "ddp-straight", "loss")


def test_a_loader_with_workers(folder: pathlib.Path) -> None:
    catalog = hr.open(folder / "c")

    def go(run_id: str, stop: int) -> list[Any]:
        torch.manual_seed(7)
        stream = hr.Stream(catalog["rows"], ["x"], batch_size=8, seed=1)
        loader = torch.utils.data.DataLoader(stream.torch_dataset(), batch_size=None, num_workers=2, prefetch_factor=4)
        with hr.run(id=run_id, catalog=catalog, system=False) as run:
            ckpt = hr.Checkpointer(run, stream=stream, every=3)
            ckpt.restore()
            seen: list[Any] = ckpt.extra.setdefault("seen", [])
            for batch in ckpt.steps(loader):
                seen.append([ckpt.step, batch["row_id"].tolist(), torch.rand(1).item()])
                if ckpt.step == stop:
                    break
        return list(seen)

    expected = go("workers-straight", -1)
    assert len(expected) == 17
    go("workers", 10)
    assert go("workers", -1) == expected


def test_what_was_read_ahead_is_not_used(folder: pathlib.Path) -> None:
    """A loop that asks for more batches than it has trained on, ends an epoch without asking whether there is one more, or leaves one early."""
    from headrace.stream_feed import Feed, loader

    catalog = hr.open(folder / "c")

    def make() -> Feed:
        return Feed(hr.Stream(catalog["rows"], ["x"], batch_size=8, seed=1), lambda batch: batch["row_id"].tolist())

    whole = [list(loader(feed)) for feed in [make()] for _ in range(3)]
    assert [len(epoch) for epoch in whole] == [17, 17, 17] and whole[0] != whole[1]
    feed = make()
    assert len(loader(feed)) == 17
    ahead = iter(loader(feed))
    assert [next(ahead) for _ in range(5)] == whole[0][:5]
    assert feed.state() == make().state(), "nothing is used yet"
    feed.used(2)
    state = json.loads(json.dumps(feed.state()))
    assert list(loader(feed)) == whole[0][2:], "another loop begins with what was not used"
    other = make()
    other.load(state)
    assert len(loader(other)) == 17
    other.skipped = 2
    assert list(loader(other)) == [{}, {}, *whole[0][2:]]
    feed = make()
    for epoch in range(3):  # by count, as Trainer and Lightning do
        counted = iter(loader(feed))
        for number in range(17):
            assert next(counted) == whole[epoch][number]
            feed.used()
        state = feed.state()
        other = make()
        other.load(state)
        assert other.state() == state
        assert list(loader(other)) == (whole[epoch + 1] if epoch < 2 else list(loader(feed)))
    with pytest.raises(TypeError, match="no fixed number"):
        len(Feed(hr.Stream(hr.Mixture([(catalog["rows"], 1)]), ["x"])))
