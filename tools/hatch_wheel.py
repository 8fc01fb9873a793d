"""Hatchling's hook for the wheel: what `cmake --install` put into build/wheel/stage, under the tag of the stable ABI.

`./dev wheel` is what calls it; the platform tag is then auditwheel's, from the symbols that the libraries need.
"""

from __future__ import annotations

import pathlib
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ABI = "cp311-abi3"  # python/CMakeLists.txt: STABLE_ABI_VERSION


class StagedFiles(BuildHookInterface):  # type: ignore[type-arg]
    """Package, program and ggml's CPU variants; auditwheel adds the libraries that they are linked with."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling's documentation of BuildHookInterface."""
        stage = pathlib.Path(self.root) / "build" / "wheel" / "stage"
        files = {
            path: path.relative_to(stage / "lib/headrace/python")
            for path in stage.glob("lib/headrace/python/headrace/*")
        }
        files[stage / "bin/headrace"] = pathlib.Path("headrace/bin/headrace")
        # Loaded by name, so nothing is linked with them: model/backends.cc looks for them here.
        for path in stage.glob("lib/headrace/libggml-cpu-*.so"):
            files[path] = pathlib.Path("headrace/backends") / path.name
        if not any(path.name.startswith("_native") for path in files):
            raise FileNotFoundError(f"{stage} holds no build of headrace: ./dev wheel makes it")
        build_data["force_include"] = {str(path): str(to) for path, to in files.items()}
        build_data["pure_python"] = False
        build_data["tag"] = f"{ABI}-linux_x86_64"
