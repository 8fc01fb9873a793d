"""Scripts for W&B run with `import headrace.wandb as wandb`."""

from __future__ import annotations

import pathlib

import headrace as hr
import headrace.wandb as wandb
import numpy as np
import pytest


def test_a_script_for_wandb(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = wandb.init(project="p", name="n", config={"lr": 0.1}, tags=["t"], group="g", entity="me")
    assert wandb.run is run and wandb.init() is run
    wandb.config.epochs = 3
    wandb.config.update({"more": 1}, allow_val_change=True)
    assert (wandb.config.lr, wandb.config["epochs"]) == (0.1, 3)
    wandb.define_metric("loss", step_metric="epoch")
    for _ in range(3):
        wandb.log({"train": {"loss": 1.0}}, commit=False)
        wandb.log({"acc": 0.5})
    table = wandb.Table(columns=["a", "b"], data=[[1, "x"]])
    table.add_data(2, "y")
    wandb.log({"table": table, "image": wandb.Image(np.zeros((2, 2, 3), np.uint8), caption="c"), "h": wandb.Histogram([1, 2, 3]),
               "np": wandb.Histogram(np_histogram=np.histogram([1, 2]))}, step=9)  # fmt: skip
    (tmp_path / "f.txt").write_text("x")
    wandb.save("*.txt")
    wandb.summary["best"] = 2
    wandb.finish()
    assert wandb.run is None
    catalog = hr.open()
    (row,) = catalog.sql("select * from runs_now").to_pylist()
    assert (row["name"], row["project"], row["state"], row["tags"]) == ("n", "p", "finished", ["t", "group:g"])
    assert row["config"] == {"lr": 0.1, "epochs": 3, "more": 1}
    assert row["summary"] == {"train.loss": 1.0, "acc": 0.5, "best": 2}
    assert [output["name"] for output in row["outputs"]] == ["f.txt"]
    points = catalog.sql(
        "select key, step from points where not starts_with(key, 'sys/') order by key, step"
    ).to_pylist()
    assert [(p["key"], p["step"]) for p in points] == [
        (key, step) for key in ("acc", "train.loss") for step in (0, 1, 2)
    ]
    kinds = {r["key"]: r["kind"] for r in catalog.sql("select key, kind from hr.media").to_pylist()}
    assert kinds == {"table": "table", "image": "image", "h": "histogram", "np": "histogram"}


def test_what_is_not_there_says_so(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AttributeError, match=r"no 'sweep'; it has .*init"):
        _ = wandb.sweep
    with pytest.raises(hr.Invalid, match="init"):
        wandb.log({"a": 1})
    with pytest.raises(TypeError, match="'nonsense'"):
        wandb.init(nonsense=1)
    with pytest.raises(hr.Invalid, match="must"):
        wandb.init(resume="must")
    wandb.init()
    with pytest.warns(UserWarning, match="gradients"):
        wandb.watch(None)
    wandb.finish(exit_code=1)
    assert hr.open().sql("select state, reason from runs_now").to_pylist() == [
        {"state": "failed", "reason": "exit code 1"}
    ]
