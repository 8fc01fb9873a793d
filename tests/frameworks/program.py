"""One small training, in each framework's own loop: 40 steps with dropout, over two epochs and a part of the third. Killed, if that is wanted, and
started again with the same words it goes on.

    python program.py torch|lightning|transformers|composer FOLDER RUN [KILL_AFTER]
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
from typing import Any

import headrace as hr
import torch

STEPS, EVERY, BATCH = 40, int(os.environ.get("EVERY", "5")), 8
ROWS = 130  # 17 steps an epoch
KILLED = int(sys.argv[4]) if len(sys.argv) > 4 else -1
FOLDER, RUN = pathlib.Path(sys.argv[2]), sys.argv[3]
SEEN = FOLDER / f"{RUN}.seen"  # what was trained on, a line a step; a killed step's line is there, too
ACCUMULATED = int(os.environ.get("ACCUMULATED", "1"))


def begin() -> tuple[torch.nn.Module, hr.Stream, hr.Catalog]:
    torch.manual_seed(3)
    torch.set_num_threads(1)
    catalog = hr.open(FOLDER / "c")
    stream = hr.Stream(catalog["rows"], ["x", "labels"], batch_size=BATCH, seed=5, epochs=9)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3), torch.nn.ReLU(), torch.nn.Linear(16, 1)
    )
    return model, stream, catalog


def loss_of(model: torch.nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    return ((model(batch["x"]).squeeze(-1) - batch["labels"]) ** 2).mean()


def seen(step: int, batch: dict[str, Any]) -> None:
    with SEEN.open("a") as file:
        file.write(json.dumps([step, batch["row_id"].tolist()]) + "\n")
    if step == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)


def end(model: torch.nn.Module) -> None:
    weights = {name: value.numpy().tobytes().hex() for name, value in model.state_dict().items()}
    result = {"weights": weights, "chance": torch.rand(3).tolist()}
    (FOLDER / f"{RUN}.out").write_text(json.dumps(result))


def plain() -> None:
    model, stream, catalog = begin()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=STEPS)
    scaler = torch.amp.GradScaler("cpu")
    with (
        hr.run(RUN, id=RUN, catalog=catalog, system=False) as run,
        hr.Checkpointer(
            run, model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler, stream=stream, every=EVERY
        ) as ckpt,
    ):
        for batch in ckpt.steps(stream.torch(), until=STEPS):
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            run.log({"loss": loss}, step=ckpt.step)
            seen(ckpt.step, batch)
    end(model)


def lightning() -> None:
    import pytorch_lightning as pl
    from headrace.callbacks import HeadraceLogger, LightningCallback
    from pytorch_lightning.callbacks import ModelCheckpoint

    model, stream, catalog = begin()

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"lr": 0.01})
            self.model = model

        def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
            loss = loss_of(self.model, batch)
            self.log("loss", loss)
            self.batch = batch
            return loss

        def on_train_batch_end(self, *_: Any) -> None:
            seen(self.trainer.global_step - 1, self.batch)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams["lr"])
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=STEPS)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    with hr.run(RUN, id=RUN, catalog=catalog, system=False):
        callback = LightningCallback(stream)
        last = ModelCheckpoint(every_n_train_steps=EVERY, save_last=True, save_top_k=1)
        trainer = pl.Trainer(
            default_root_dir=FOLDER, accelerator="cpu", max_steps=STEPS, logger=HeadraceLogger(), callbacks=[last, callback],
            log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), callback.loader(), ckpt_path="last")
    end(model)


def transformers() -> None:
    from headrace.callbacks import HeadraceCallback
    from transformers import PretrainedConfig, Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    model, stream, _ = begin()

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.config = PretrainedConfig(hidden_size=16)

        def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
            return {"loss": loss_of(self.model, {"x": x, "labels": labels})}

    class Watch(TrainerCallback):
        """What was trained on, and the kill."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen(state.global_step - 1, {"row_id": torch.cat(batches[-ACCUMULATED:])})

    batches: list[torch.Tensor] = []
    arguments = TrainingArguments(
        output_dir=str(FOLDER / "hf" / RUN), max_steps=STEPS // ACCUMULATED, save_steps=EVERY, logging_steps=1, report_to=[], use_cpu=True,
        learning_rate=0.01, gradient_accumulation_steps=ACCUMULATED, disable_tqdm=True, seed=3, logging_nan_inf_filter=False,
    )  # fmt: skip
    os.environ["HEADRACE_CATALOG"] = str(FOLDER / "c")
    options = {"id": RUN} if "NO_ID" not in os.environ else {}
    wrapped = Wrapped()
    last = get_last_checkpoint(arguments.output_dir) if os.path.isdir(arguments.output_dir) else None
    run = (
        hr.run(RUN, system=False, **options) if options or last is None else None
    )  # else the callback finds it in the checkpoint
    callback = HeadraceCallback(run, stream=stream, artifacts=True)

    def convert(batch: dict[str, Any]) -> dict[str, Any]:
        batches.append(batch["row_id"])
        return {"x": batch["x"], "labels": batch["labels"]}

    trainer = callback.attach(Trainer(model=wrapped, args=arguments), convert)
    trainer.add_callback(Watch())
    trainer.train(resume_from_checkpoint=last)
    assert callback.run is not None
    callback.run.finish()
    (FOLDER / f"{RUN}.id").write_text(callback.run.id)
    end(model)


def composer() -> None:
    from composer import Callback, ComposerModel, Trainer
    from headrace.callbacks import ComposerLogger

    model, stream, catalog = begin()

    class Wrapped(ComposerModel):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: dict[str, Any]) -> Any:
            return self.model(batch["x"]).squeeze(-1)

        def loss(self, outputs: Any, batch: dict[str, Any]) -> torch.Tensor:
            return ((outputs - batch["labels"]) ** 2).mean()

    class Watch(Callback):
        def batch_end(self, state: Any, logger: Any) -> None:
            seen(int(state.timestamp.batch) - 1, state.batch)

    with hr.run(RUN, id=RUN, catalog=catalog, system=False):
        logger = ComposerLogger(stream=stream)
        wrapped = Wrapped()
        optimizer = torch.optim.AdamW(wrapped.parameters(), lr=0.01)
        trainer = Trainer(
            model=wrapped, train_dataloader=logger.loader(), max_duration=f"{STEPS}ba", optimizers=optimizer, loggers=[logger],
            callbacks=[Watch()], save_folder=str(FOLDER / "composer" / RUN), save_interval=f"{EVERY}ba", run_name=RUN, autoresume=True,
            device_train_microbatch_size=BATCH, spin_dataloaders=False, device="cpu", seed=3, progress_bar=False, save_overwrite=False,
        )  # fmt: skip
        trainer.fit()
        trainer.close()
    end(model)


if __name__ == "__main__":
    {"torch": plain, "lightning": lightning, "transformers": transformers, "composer": composer}[sys.argv[1]]()
