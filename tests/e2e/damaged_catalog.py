"""Damage to each kind of file of a catalog, and what people then read: the truth, or an error that names the file.
``python damaged_catalog.py FOLDER SEED FILES SAMPLES`` (files of each kind, bits of each), a process of its own, since what is mapped and cut off could end it.
"""

from __future__ import annotations

import collections
import json
import pathlib
import random
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import headrace as hr
import numpy as np

COLUMNS = {
    "k": "int64",
    "name": "string",
    "tags": "list<string>",
    "at": "struct<x: float64>",
    "vec": "tensor<float32>[8]",
    "image": "blob",
}


def rows(first: int, count: int) -> list[dict[str, Any]]:
    return [
        {
            "k": k,
            "name": f"name {k % 13}",
            "tags": ["a", f"b{k}"],
            "at": {"x": k / 4},
            "vec": np.full(8, k, np.float32),
            "image": f"{k};".encode() * 600,
        }
        for k in range(first, first + count)
    ]


def make(folder: pathlib.Path) -> None:
    """Every kind of file, most of them several times."""
    catalog = hr.init(folder / "c", sync=False)
    table = catalog.create_table("t", COLUMNS)
    for part in range(3):
        table.append(rows(part * 500, 500))
    for part in range(3):
        (folder / f"more{part}.jsonl").write_text(
            "".join(json.dumps({"k": 3000 + part * 10 + i, "name": "taken"}) + "\n" for i in range(10))
        )
        catalog.ingest(folder / f"more{part}.jsonl", table="t")
    table.tag("golden")
    table.delete("k % 3 = 1 or k % 7 = 2")  # too many to lie in the snapshot
    table.delete("k % 11 = 5")
    table.update({"name": "new"}, "k % 5 = 2")
    table.update({"vec": np.ones(8, np.float32)}, "k % 8 = 3")
    for part in range(66):  # entries become manifests
        table.append(rows(10_000 + part * 3, 3))
    table.add_columns(lambda batch: {"twice": np.asarray(batch["k"]) * 2}, inputs=["k"])
    table.delete("k % 13 = 6")
    catalog.create_table("other", {"n": list(range(50))})
    list(hr.Stream(table, ["k"], "name = 'new' and k < 2000", batch_size=64, seed=1, epochs=1))  # keeps its selection


def reads(location: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    def table() -> hr.Table:
        return hr.open(location)["t"]

    def scan(version: str) -> Any:
        found = table().at(version or None).scan(row_ids=True).to_arrow()
        blobs = table().at(version or None).take(found["_row_id"].to_pylist(), ["image"])
        texts = {name: repr(found[name].to_pylist()) for name in found.column_names if name != "image"}
        return texts, [None if row["image"] is None else bytes(row["image"]) for row in blobs]

    def stream() -> Any:
        batches = hr.Stream(table(), ["k", "vec"], "name = 'new' and k < 2000", batch_size=64, seed=1, epochs=1)
        return [(batch["k"].tolist(), batch["vec"].tolist(), batch["valid"].tolist()) for batch in batches]

    def sql() -> Any:
        query = 'select name, count(*), sum(k), sum(twice), max("at".x), min(tags[2]) from t group by 1 order by 1'
        return repr(hr.open(location).sql(query).to_pylist())

    def taken() -> Any:
        report = hr.open(location).ingest(pathlib.Path(location).with_name("more1.jsonl"), table="t")
        return report["files"], report["skipped"]

    def filtered() -> Any:
        return table().count("name = 'new' and k > 200"), [row["k"] for row in table().scan(["k"], "twice < 1500")]

    yield "the newest version", lambda: scan("")
    yield "a tag's version", lambda: scan("golden")
    yield "a filter", filtered
    yield "SQL", sql
    yield "a stream", stream
    yield "what was taken in", taken
    yield "the log", lambda: [(entry.version, entry.kind, entry.rows_after) for entry in table().history()]
    yield "the tables", lambda: (hr.open(location).tables(), len(hr.open(location)["other"]))


def kind_of(key: str) -> str:
    folder = key.split("/")[-2] if "/" in key else ""
    if folder in ("data", "selections", ""):
        return pathlib.PurePath(key).suffix or key
    return "refs" if key.startswith("refs/") else "selections" if "selections" in key else folder


def damages(whole: bytes, others: list[bytes], rng: random.Random, samples: int) -> Iterator[tuple[str, bytes]]:
    for _ in range(samples):
        at = rng.randrange(len(whole))
        yield f"bit {at} of {len(whole)}", whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
    for size in sorted({0, len(whole) // 2, len(whole) - 1, rng.randrange(len(whole))})[-2 * samples :]:
        yield f"cut off at {size}", whole[:size]
    if samples > 1:
        yield "zeros at the end", whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)
    for other in others:
        if other != whole:
            yield f"another of its kind ({len(other)} bytes)", other


def main(folder: pathlib.Path, seed: int, files: int, samples: int) -> int:
    location = folder / "c"
    make(folder)
    rng = random.Random(seed)
    truth = {name: read() for name, read in reads(str(location))}
    kinds: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    for path in sorted(location.rglob("*")):
        key = str(path.relative_to(location))
        if path.is_file() and not key.endswith(".lock"):
            kinds[kind_of(key)].append(path)
    print("kinds:", {kind: len(paths) for kind, paths in kinds.items()}, flush=True)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    wrong = []
    for kind, paths in kinds.items():
        # The largest or the newest, and some by chance.
        large, new = max(paths, key=lambda p: p.stat().st_size), max(paths, key=lambda p: p.stat().st_mtime_ns)
        chosen = {rng.choice([large, new]), *rng.sample(paths, min(len(paths), files - 1))}
        for path in sorted(chosen):
            whole = path.read_bytes()
            others = [rng.choice(paths).read_bytes() for _ in range(samples)]
            path.chmod(0o644)
            key = str(path.relative_to(location))
            for what, bad in damages(whole, others, rng, samples):
                print(f"{key}: {what}", end="\r", flush=True)
                path.write_bytes(bad)
                noticed = False
                for name, read in reads(str(location)):
                    try:
                        same = read() == truth[name]
                    except (hr.HeadraceError, OSError) as error:  # pyarrow raises its own
                        noticed = True
                        said = " ".join(str(e) for e in (error, error.__cause__, error.__context__) if e)
                        if path.stem not in said and not names(kind, key, said):
                            wrong.append(f"{key}: {what}: {name} does not name it: {type(error).__name__}: {error}")
                    else:
                        if not same:
                            wrong.append(f"{key}: {what}: {name} is wrong, and nobody says so")
                counts[kind, "noticed" if noticed else "read right"] += 1
            path.write_bytes(whole)
    for line in wrong[:40]:
        print("WRONG", line)
    print(json.dumps({f"{kind} {what}": count for (kind, what), count in sorted(counts.items())}))
    return 1 if wrong else 0


def names(kind: str, key: str, said: str) -> bool:
    """By what a person knows it, too: a version, a ref."""
    if kind == "snapshots":
        version = 2**64 - 1 - int(pathlib.PurePath(key).stem)
        return re.search(rf"\b(version |v){version}\b", said) is not None
    return kind == "refs" and key.split("/")[1] in said


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])))
