"""The arrows between folders point the way ARCHITECTURE.md says; and the check can fail."""

from __future__ import annotations

import pathlib
import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import check_layering


def test_includes_point_upwards_only(tmp_path: pathlib.Path) -> None:
    assert check_layering.violations() == []
    for folder in ("base", "table"):
        (tmp_path / "src" / folder).mkdir(parents=True)
        (tmp_path / "src" / folder / "README.md").touch()
    (tmp_path / "src" / "base" / "x.cc").write_text('#include "table/table.h"\n')
    assert check_layering.violations(tmp_path) == ["src/base/x.cc:1: base may not use table"]


def test_the_table_in_the_documentation_is_cmakes() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    assert check_layering.retold(text) == []
    wrong = text.replace("| SQL over tables through DuckDB | table |", "| SQL over tables through DuckDB | media |")
    assert check_layering.retold(wrong) == [
        "ARCHITECTURE.md: src/query may use base, store, table, says CMakeLists.txt"
    ]
