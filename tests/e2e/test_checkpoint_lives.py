"""hr.Checkpointer where a run has several lives: at once, or one that left damage."""

from __future__ import annotations

import pathlib

import headrace as hr
import pytest
from checkpoint_program import Net
from headrace.runs import _known


def test_of_two_owners_the_later_one_deletes(catalog: hr.Catalog) -> None:
    """A machine was taken for dead: its process goes on, and so does the run's next life."""
    with hr.run(id="a", catalog=catalog, system=False) as run:
        first = hr.Checkpointer(run, model=Net(), keep_last=1)
        first.save(0)
        known = _known(catalog, "a", 0)
        assert known is not None
        second_run = hr.Run(catalog, "a", {**known, "alive": False}, dict(run._facts), rank=0)
        second_run._begin()
        second = hr.Checkpointer(second_run, model=Net(), keep_last=1)
        assert second.restore() == 1
        second.save(1)
        with pytest.warns(UserWarning, match="another process goes on with this run"):
            first.save(5)
        assert [one.step for one in catalog.checkpoints("a")] == [1]
        assert catalog.checkpoints("a")[0].states()["model"]
        second.save(2)
        second_run.finish()
    with hr.run(id="a", catalog=catalog, system=False) as run:
        assert hr.Checkpointer(run, model=Net()).restore() == 3


def test_what_is_saved_before_the_loop_does_not_hide_earlier_lives(catalog: hr.Catalog) -> None:
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=Net(), every=1)
        ckpt.save(0)
        assert len(list(ckpt.steps(range(3)))) == 3  # nothing is to be restored
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=Net())
        ckpt.save(0)
        with pytest.raises(hr.Invalid, match="call restore\\(\\) first"):
            next(ckpt.steps(range(3)))


def test_a_damaged_checkpoint_does_not_keep_others(catalog: hr.Catalog) -> None:
    with hr.run(id="a", catalog=catalog, system=False) as run:
        hr.Checkpointer(run, model=Net(), keep_last=1, keep_best="loss").save(0, metrics={"loss": 0.1})
    (best,) = catalog.checkpoints("a")
    folder = pathlib.Path(catalog.location) / "checkpoints" / "a"
    (folder / best.entry["sha256"]).unlink()
    with hr.run(id="a", catalog=catalog, system=False) as run:
        ckpt = hr.Checkpointer(run, model=Net(), keep_last=1, keep_best="loss")
        for step in range(1, 5):
            ckpt.save(step, metrics={"loss": 1.0})
    assert len(list(folder.iterdir())) <= 2 * 4  # the files of one checkpoint, and what is left of the best
