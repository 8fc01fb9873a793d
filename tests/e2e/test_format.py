"""Tables after many changes, read by the format's page alone."""

from __future__ import annotations

import pathlib
import random
import time

import headrace as hr
import numpy as np
import pytest
from format_reference import Reference, roaring


@pytest.mark.parametrize("seed", range(3))
def test_a_reader_made_from_the_page_reads_deletes_and_overlays(catalog: hr.Catalog, seed: int) -> None:
    rng = random.Random(seed)
    columns = {"k": "int64", "name": "string", "vec": "tensor<float32>[2]"}
    table = catalog.create_table("t", columns)
    for begin in range(0, 3000, 600):
        keys = list(range(begin, begin + 600))
        table.append({"k": keys, "name": [f"n{k}" for k in keys], "vec": np.array([[k, -k] for k in keys], np.float32)})
    (folder,) = (pathlib.Path(catalog.location) / "tables").iterdir()
    kinds = set()
    for step in range(45):  # more entries than ride in a snapshot: manifests are written, and merge
        low = rng.randrange(2900)
        where = f"k >= {low} and k < {low + rng.choice([3, 40, 900])}"
        kind = rng.randrange(5)
        kinds.add(kind)
        if kind == 0:
            table.delete(where + " and k % 5 = 2")
        elif kind == 1:
            table.update({"name": f"step {step}"}, where)
        elif kind == 2:
            table.update({"vec": np.array([step, step], np.float32)}, where)
        elif kind == 3:
            keys = rng.sample(range(3500), 30)
            table.merge({"k": keys, "name": [f"merged {step}"] * 30}, on="k")
        else:
            table.add_columns({f"extra{step}": np.arange(len(table))})
        if step % 5 == 4:
            ours = table.scan(row_ids=True).to_arrow()
            reference = Reference(folder).read()
            assert reference.num_rows == ours.num_rows
            for name in reference.column_names:
                assert reference[name].to_pylist() == ours[name].to_pylist(), (step, name)
    assert kinds == set(range(5))
    assert Reference(folder).snapshot["manifests"], "manifests were written"

    # Compacted and sorted, with rows that are deleted and changed after it.
    for key in ((), ("name",), ("k", "name")):
        table.sort_by(*key)
        assert table.compact().replaced > 0
        for where in (f"k % 7 = {len(key)}", f"k % 11 = {len(key)}"):
            ours = table.scan(row_ids=True).to_arrow()
            reference = Reference(folder).read()
            for name in reference.column_names:
                assert reference[name].to_pylist() == ours[name].to_pylist(), name
            ids = ours["_row_id"].to_pylist()
            assert (ids == sorted(ids)) == (key == ())
            table.update({"name": f"late {len(key)}"}, where)
            table.delete(where + " and k % 2 = 0")


def test_a_reader_made_from_the_page_reads_what_expiry_left(catalog: hr.Catalog) -> None:
    """Stubs, versions that tags keep, rows that were erased, and media in packs that collection wrote anew."""
    images = [f"{n};".encode() * (100 if n % 3 else 2000) for n in range(40)]  # inline, or in packs
    table = catalog.create_table("t", {"k": "int64", "image": "blob", "vec": "tensor<float32>[2]"})
    for part in range(0, 40, 10):
        keys = range(part, part + 10)
        table.append(
            {"k": list(keys), "image": images[part : part + 10], "vec": np.array([[k, 1] for k in keys], np.float32)}
        )
    table.tag("golden")
    table.update({"image": b"other" * 900}, "k % 7 = 2")
    table.delete("k % 4 = 1", purge=True)
    table.keep(0)
    for _ in range(2):
        time.sleep(0.01)
        table.gc(grace=0)
    (folder,) = (pathlib.Path(catalog.location) / "tables").iterdir()
    newest, stubs = Reference(folder), 0
    for version in range(1, newest.snapshot["version"] + 1):
        reference = Reference(folder, version)
        stubs += reference.stub
        assert newest.expired(version) or not reference.stub
        if newest.expired(version):
            with pytest.raises(hr.NotFound, match="expired"):
                table.at(version)
            continue
        ours = table.at(version).scan(row_ids=True).to_arrow()
        theirs = reference.read()
        for name in ("_row_id", "k", "vec"):
            assert theirs[name].to_pylist() == ours[name].to_pylist(), (version, name)
        read = [None if row["image"] is None else bytes(row["image"]) for row in table.at(version)]
        assert theirs["image"].to_pylist() == read
    assert stubs > 3 and not newest.expired(newest.snapshot["version"])
    assert len(Reference(folder, table.at("golden").version).read()) == 40, (
        "the tag's version has the erased rows still"
    )


def test_the_reference_reads_every_container_of_roaring() -> None:
    assert roaring(bytes.fromhex("3b30000001 0000 0900 0100 0a00 0900".replace(" ", ""))) == list(range(10, 20))
    assert roaring(bytes.fromhex("3a300000 01000000 0000 0100 10000000 0300 0700".replace(" ", ""))) == [3, 7]
