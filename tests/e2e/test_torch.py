"""Against the real torch, which is large: these run where `./dev bench stream` or `./dev test --long` has installed it, and are
skipped elsewhere. (So do the pages of the guide that need it: test_docs.py.)"""

from __future__ import annotations

import os
import pathlib
import subprocess

import headrace as hr
import pytest
import stream_tables as tables

CACHE = pathlib.Path(os.environ.get("HEADRACE_CACHE", pathlib.Path.home() / ".cache" / "headrace"))
PYTHON = next(
    (path for path in sorted(CACHE.glob("venv-rivals-hf-*/bin/python")) if (path.parent.parent / ".done").exists()),
    None,
)

pytestmark = pytest.mark.skipif(PYTHON is None, reason="torch is not installed (./dev test --long installs it)")


def python(code: str, folder: pathlib.Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(pathlib.Path(hr.__file__).parent.parent)]),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [str(PYTHON), "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADERS = """
import json, sys
import torch
import headrace as hr
table = hr.open(sys.argv[1] if len(sys.argv) > 1 else "catalog")["photos"]

def make():
    return hr.Stream(table, ["image", "vec", "caption"], image=hr.Resize((8, 8)), batch_size=16, seed=3)

def loader(stream, **options):
    return torch.utils.data.DataLoader(stream.torch_dataset(), batch_size=None, **options)

if __name__ == "__main__":
    expected = [batch["row_id"].tolist() for batch in make()]
    stream = make()
    for batch in stream.torch():
        assert batch["image"].dtype == torch.uint8 and batch["vec"].dtype == torch.float32
        assert isinstance(batch["caption"], list)
    half = next(iter(hr.Stream(table, ["image"], image=hr.Resize((8, 8)) | hr.To("bfloat16"), batch_size=4).torch()))
    assert half["image"].dtype == torch.bfloat16 and half["image"].float().max() <= 1
    assert [b["row_id"].tolist() for b in loader(make())] == expected
    for workers, context in [(1, "fork"), (3, "fork"), (2, "spawn")]:
        stream = make()
        seen = []
        for step, batch in enumerate(loader(stream, num_workers=workers, multiprocessing_context=context)):
            seen.append(batch["row_id"].tolist())
            if step == 2:
                state = stream.state_dict(batch)
        assert seen == expected, (workers, context, seen, expected)
        try:
            stream.state_dict()
        except hr.Invalid as error:
            assert "state_dict(batch)" in str(error)
        else:
            raise AssertionError("a stale state")
        resumed = make()
        resumed.load_state_dict(state)
        assert [b["row_id"].tolist() for b in resumed] == expected[3:]
    print("ok")
"""


def test_dataloaders(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    tables.make(catalog, count=150)
    (tmp_path / "loaders.py").write_text(LOADERS)
    assert (
        python(
            f"import runpy, sys; sys.argv = ['loaders.py', {catalog.location!r}]; runpy.run_path('loaders.py', run_name='__main__')",
            tmp_path,
        )
        == "ok\n"
    )
