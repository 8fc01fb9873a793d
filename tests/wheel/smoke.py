"""What an installed wheel must do, run by its environment's own Python in an empty folder: smoke.py [MODELS] [--beside NAME…].

Uses nothing but the wheel and what it depends on. `--beside` imports other packages that carry the same libraries (pyarrow,
duckdb, torch), half of them before headrace and half after, and uses both. Prints what it tried; any failure is an exception.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import urllib.request

SCRIPT = pathlib.Path(sysconfig.get_path("scripts")) / "headrace"


def run(*words: str) -> str:
    """The command's standard output; its standard error is shown where it fails."""
    done = subprocess.run([str(SCRIPT), *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"headrace {' '.join(words)}: {done.returncode}\n{done.stderr}"
    return done.stdout


def command_line() -> None:
    """The script, `python -m`, and data in and out."""
    version = run("--version")
    module = subprocess.run([sys.executable, "-m", "headrace", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout == version, (module.stdout, version)
    pathlib.Path("cats.csv").write_text("name,age,code\nTom,3,007\nKit,,010\n")
    run("init")
    run("ingest", "cats.csv", "--table", "cats")
    rows = [
        json.loads(line) for line in run("--json", "sql", "select name, age, code from cats order by name").splitlines()
    ]
    assert rows == [{"name": "Kit", "age": None, "code": "010"}, {"name": "Tom", "age": 3, "code": "007"}], rows
    print("command line:", version.strip())


def tables() -> None:
    """Rows, pictures and streams from Python."""
    import headrace as hr
    import numpy as np

    catalog = hr.open()
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 255, (100, 32, 32, 3), dtype=np.uint8)
    table = catalog.create_table(
        "points", [{"i": i, "v": rng.random(8, dtype=np.float32), "pixels": pixels[i]} for i in range(100)]
    )
    taken = table.take([3, 97])
    assert [row["i"] for row in taken] == [3, 97]
    assert np.array_equal(next(iter(table.scan(["pixels"])))["pixels"], pixels[0])
    seen: list[int] = []
    for batch in hr.Stream(table, ["i", "v"], batch_size=20, seed=1):
        seen += [int(i) for i in batch["i"]]
    assert sorted(seen) == list(range(100)) and seen != sorted(seen), seen[:10]
    assert next(iter(catalog.sql("select sum(i) as s from points")))["s"] == 4950
    print("tables:", hr.__version__)


def models(folder: pathlib.Path) -> None:
    """A model's words and vectors, and the server."""
    import headrace as hr
    import numpy as np

    words = str(folder / "smollm2-135m-instruct-q4_1.gguf")
    answer = hr.Model(words).generate("Once upon a time", max_tokens=4)
    assert answer.tokens, answer
    vectors = hr.Model(str(folder / "all-minilm-l6-v2-f16.gguf")).embed(["a cat", "a kitten", "tax law"])
    assert np.dot(vectors[0], vectors[1]) > np.dot(vectors[0], vectors[2])
    server = subprocess.Popen(
        [str(SCRIPT), "serve", words, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, address = [], None
        assert server.stdout is not None
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"http://[\w.\[\]:]+", line):
                address = found[0].replace("0.0.0.0", "127.0.0.1")
                break
        assert address, said
        body = json.dumps({"prompt": "Hello", "max_tokens": 4}).encode()
        with urllib.request.urlopen(address + "/v1/completions", body, timeout=120) as reply:
            assert json.load(reply)["usage"]["completion_tokens"] >= 1
    finally:
        server.terminate()
        server.wait(60)
    print("models: SmolLM2 and MiniLM")


def tuning(folder: pathlib.Path) -> None:
    """Two steps of a fine-tuning, in its process, by the program and from Python."""
    import headrace as hr
    from headrace import _tune  # noqa: F401  so that its libraries are looked at, too

    catalog = hr.open()
    catalog.create_table("pairs", [{"q": f"What is {i} + 1?", "a": str(i + 1)} for i in range(20)])
    words = str(folder / "smollm2-135m-instruct-q4_1.gguf")
    values = {
        "data": "pairs",
        "prompt": "q",
        "answer": "a",
        "out": "sums",
        "steps": 2,
        "batch_tokens": 128,
        "evaluations": 0,
    }
    tuned = hr.tune(catalog=catalog, model=words, quiet=True, **values)
    assert tuned.steps == 2
    run("tune", words, "--data=pairs", "--prompt=q", "--answer=a", "--out=sums", "--steps=2", "--batch-tokens=128")
    print("tuning: SmolLM2")


def libraries() -> None:
    """Every library of the wheel that is loaded comes from the wheel: no other copy, none of the build's folders."""
    mapped = {
        line.split(maxsplit=5)[5].strip()
        for line in pathlib.Path("/proc/self/maps").read_text().splitlines()
        if ".so" in line
    }
    import headrace

    assert headrace.__file__ is not None
    site = pathlib.Path(headrace.__file__).parent.parent
    ours = {path for path in mapped if path.startswith((str(site / "headrace/"), str(site / "headrace.libs/")))}
    assert any("libarrow" in path for path in ours) and any("libduckdb" in path for path in ours), sorted(mapped)
    system = re.compile(r"/(ld-linux-x86-64|lib(c|m|dl|pthread|rt|resolv|util|stdc\+\+|gcc_s|nss_\w+))[.-]")
    for path in sorted(mapped - ours):
        assert (
            path.startswith((str(site), sys.base_prefix, sys.prefix))
            or system.search(path)
            or "/python3" in path
            or _pythons(path)
        ), path
    print(f"libraries: {len(ours)} of the wheel")


def _pythons(path: str) -> bool:
    """Whether Python itself is linked with this library (expat, zlib, and those of its modules)."""
    return os.path.basename(path).split(".so")[0] in {
        "libz",
        "libexpat",
        "libffi",
        "libssl",
        "libcrypto",
        "libbz2",
        "liblzma",
        "libzstd",
        "libuuid",
    }


def beside(names: list[str]) -> None:
    """In one process with others that carry Arrow, DuckDB or OpenMP: each is used after the other was."""
    before, after = names[::2], names[1::2]
    loaded = {name: importlib.import_module(name) for name in before}
    import headrace as hr

    catalog = hr.open()
    table = catalog.create_table("beside", [{"x": i, "s": str(i)} for i in range(1000)])
    loaded |= {name: importlib.import_module(name) for name in after}
    for _ in range(3):
        if arrow := loaded.get("pyarrow"):
            import pyarrow.compute as pc

            whole = arrow.table(table.scan())
            assert pc.sum(whole["x"]).as_py() == 499500
            assert table.append(whole.slice(0, 0)).rows == 0
        if duckdb := loaded.get("duckdb"):
            assert duckdb.sql("select count(*) from range(77)").fetchone() == (77,)
        if torch := loaded.get("torch"):
            assert float(torch.ones(64, 64).matmul(torch.ones(64, 64)).sum()) == 64**3
        assert next(iter(catalog.sql("select sum(x) as s from beside")))["s"] == 499500
        assert sum(int(batch["x"].sum()) for batch in hr.Stream(table, ["x"], batch_size=100)) == 499500
    print(
        "beside:",
        ", ".join(f"{name} {loaded[name].__version__}" for name in names),
        "| before headrace:",
        ", ".join(before),
    )


def main() -> None:
    """See the file's head."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="?", type=pathlib.Path)
    parser.add_argument("--beside", nargs="+", default=[])
    asked = parser.parse_args()
    assert not list(pathlib.Path().iterdir()), "run it in an empty folder"
    print("Python", sys.version.split()[0])
    if asked.beside:
        run("init")
        return beside(asked.beside)
    command_line()
    tables()
    if asked.models:
        models(asked.models)
        tuning(asked.models)
    libraries()


if __name__ == "__main__":
    main()
