"""The README's Python example is run, and prints what the README says."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re

from conftest import ROOT


def test_the_example_prints_what_is_shown(tmp_path: pathlib.Path, monkeypatch: object) -> None:
    text = (ROOT / "README.md").read_text()
    found = re.search(r"```python\n(.*?)```\s*\n(?:[^\n]*\n)?\s*```text\n(.*?)```", text, re.S)
    assert found, "README.md has a python block followed by a text block with its output"
    monkeypatch.chdir(tmp_path)  # type: ignore[attr-defined]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(found[1], "README.md", "exec"), {})
    assert out.getvalue() == found[2]
