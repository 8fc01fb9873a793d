"""Streams from Python: order, elasticity, exactness, transforms, hand-over, errors, budgets."""

from __future__ import annotations

import gc
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
import stream_tables as tables
from PIL import Image


def test_filters_are_kept_and_only_selected_rows_come(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    table = tables.make(catalog, count=200)
    where = "label >= 3 and caption != 'picture 77' and label < 8"
    expected = [row.row_id if hasattr(row, "row_id") else row["_row_id"] for row in table.scan(["_row_id"], where)]
    stream = hr.Stream(table, ["caption"], where, batch_size=7, seed=2)
    assert stream.num_rows == len(expected)
    assert sorted(tables.row_ids(stream)) == expected
    kept = list(pathlib.Path(catalog.location).rglob("*.sel"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    # Another spelling of the same filter finds the kept one.
    again = hr.Stream(table, ["caption"], "(label>=3) AND caption <> 'picture 77' and label<8", batch_size=7, seed=2)
    assert again.plan(50) == hr.Stream(table, ["label"], where, seed=2).plan(50)
    assert [path.stat().st_mtime_ns for path in pathlib.Path(catalog.location).rglob("*.sel")] == [before]
    with pytest.raises(hr.Invalid, match="no row passes"):
        hr.Stream(table, ["caption"], "label > 99")
    with pytest.raises(hr.Invalid, match="another selection"):
        hr.Stream(table, ["caption"], "label = 1").load_state_dict(stream.state_dict())
    # A damaged file is told, with what to do.
    kept[0].write_bytes(kept[0].read_bytes()[:-9])
    with pytest.raises(hr.HeadraceError):
        tables.row_ids(hr.Stream(table, ["caption"], where, batch_size=7))


def test_what_a_batch_holds(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=70)
    normalized = hr.Resize(40) | hr.CenterCrop((32, 40)) | hr.Normalize() | hr.Layout("NHWC")
    stream = hr.Stream(
        table.at(), ["image", "caption", "vec", "label"], "label >= 0", image=normalized, batch_size=32, seed=17
    )
    assert len(stream) == 3
    batch = next(iter(stream))
    assert batch["image"].shape == (32, 32, 40, 3)
    assert batch["image"].dtype == np.float32
    assert batch["vec"].shape == (32, 8)
    assert batch["label"].dtype == np.int32
    assert batch["valid"].dtype == bool
    everything = table.take(batch["row_id"].tolist())
    assert batch["caption"] == [row["caption"] for row in everything]
    assert np.array_equal(batch["vec"], everything.to_numpy("vec"))
    assert len(json.dumps(stream.state_dict())) < 200
    raw = next(iter(hr.Stream(table, ["image"], batch_size=4, seed=17)))
    for blob, row in zip(raw["image"], raw["row_id"].tolist(), strict=True):
        assert blob.tobytes() == tables.jpeg(row % 40)
    last = list(hr.Stream(table, ["image", "caption"], image=hr.Resize((8, 8)), batch_size=32, seed=17))[-1]
    assert last["valid"].tolist() == [True] * 6 + [False] * 26
    assert last["row_id"][6:].tolist() == [-1] * 26
    assert last["caption"][6:] == [None] * 26
    assert not last["image"][6:].any()


def test_pixels_are_pillows(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=20, pictures=20)
    for name, resample in [
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("lanczos", Image.Resampling.LANCZOS),
        ("box", Image.Resampling.BOX),
        ("nearest", Image.Resampling.NEAREST),
    ]:
        # Nearest where the ratio is exact in binary: elsewhere Pillow's sums of floats decide ties.
        size = (32, 16) if name == "nearest" else (31, 25)
        batch = next(
            iter(hr.Stream(table, ["image"], image=hr.Resize(size, filter=name), batch_size=20, shuffle=False))
        )
        for index in range(20):
            picture = Image.open(io.BytesIO(tables.jpeg(index))).convert("RGB").resize(size[::-1], resample)
            expected = np.asarray(picture).transpose(2, 0, 1).astype(float)
            error = float(((batch["image"][index] - expected) ** 2).mean())
            assert 10 * np.log10(255**2 / max(error, 1e-9)) > 40, name


def test_large_photographs_shrunk_far_are_pillows_too(catalog: hr.Catalog) -> None:
    """The decoder works at 1/2, 1/4 or 1/8 of the size where a filter follows that hides it."""
    table = catalog.create_table("large", {"image": "blob"})
    rng = np.random.default_rng(2)
    coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize(
        (1600, 1200), Image.Resampling.BICUBIC
    )
    out = io.BytesIO()
    coarse.save(out, "JPEG", quality=92)
    table.append({"image": [out.getvalue()]})
    for size in (300, 200, 100, 60, 30):
        batch = next(iter(hr.Stream(table, ["image"], image=hr.Resize((size, size)), batch_size=1)))
        expected = np.asarray(Image.open(out).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)).transpose(
            2, 0, 1
        )
        error = float(((batch["image"][0] - expected.astype(float)) ** 2).mean())
        assert 10 * np.log10(255**2 / max(error, 1e-9)) > 40, size


def test_epoch_ends(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=50)
    sizes = {
        end: [
            len(batch["row_id"])
            for batch in hr.Stream(table, ["label"], batch_size=8, rank=1, world_size=3, epoch_end=end)
        ]
        for end in ("pad", "drop", "short")
    }
    assert sizes == {"pad": [8, 8, 8], "drop": [8, 8], "short": [8, 8, 0]} or sizes["short"] == [8, 8, 1]
    wrap = iter(hr.Stream(table, ["label"], batch_size=40, epoch_end="wrap"))
    seen = [row for _ in range(5) for row in next(wrap)["row_id"].tolist()]
    for epoch in range(4):
        assert sorted(seen[epoch * 50 : (epoch + 1) * 50]) == list(range(50))


def damaged_table(catalog: hr.Catalog) -> tuple[hr.Table, set[int]]:
    good = tables.jpeg(1)
    bad = {7, 31}
    images = [good[: len(good) // 3] if i in bad else good for i in range(60)]
    table = catalog.create_table("damaged", {"image": "blob", "caption": "string"})
    table.append(pa.table({"image": pa.array(images, pa.binary()), "caption": [str(i) for i in range(60)]}))
    return table, bad


def test_a_loop_goes_over_the_epochs_asked_for(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=20)
    one = [tables.row_ids(s) for s in [hr.Stream(table, ["label"], batch_size=8, seed=2)] for _ in range(3)]
    assert len({tuple(order) for order in one}) == 3 and all(len(order) == 20 for order in one)
    stream = hr.Stream(table, ["label"], batch_size=8, seed=2, epochs=3)
    assert len(stream) == 9
    assert tables.row_ids(stream) == [row for order in one for row in order] and stream.epoch == 3
    assert tables.row_ids(stream) == [] and len(stream) == 0 and list(stream.epochs()) == []

    stream = hr.Stream(table, ["label"], batch_size=8, seed=2, epochs=3)
    seams = []
    for epoch in stream.epochs():
        assert len(epoch) == 3
        seams.append((epoch.number, [row for batch in epoch for row in batch["row_id"][batch["valid"]].tolist()]))
        assert list(epoch) == []
    assert seams == list(enumerate(one))

    stream = hr.Stream(table, ["label"], batch_size=8, seed=2)
    first = next(iter(stream))["row_id"].tolist()
    assert len(tables.row_ids(stream)) == 12 and stream.epoch == 1  # goes on where the first loop stopped
    stream.restart(0)
    assert next(iter(stream))["row_id"].tolist() == first
    stream.restart()
    assert tables.row_ids(stream) == one[0] and len(stream) == 3
    numbers = []
    for epoch in stream.epochs():  # without end, and left early
        numbers.append((epoch.number, next(iter(epoch.arrow())).__class__.__name__))
        if len(numbers) == 3:
            break
    assert numbers == [(1, "ArrowBatch"), (2, "ArrowBatch"), (3, "ArrowBatch")]

    mapped = hr.Stream(table, ["label"], batch_size=8, seed=2, epochs=2)
    rows = [row for part in mapped.map(lambda b: b["row_id"][b["valid"]].tolist(), workers=2) for row in part]
    assert rows == one[0] + one[1] and mapped.epoch == 2
    stream = hr.Stream(table, ["label"], batch_size=8, epoch_end="wrap", epochs=2, seed=2)
    assert sorted(tables.row_ids(stream)) == sorted([*range(20)] * 2)


def test_bad_samples(catalog: hr.Catalog) -> None:
    table, bad = damaged_table(catalog)
    options: dict[str, Any] = {"image": hr.Resize((16, 16)), "batch_size": 10, "seed": 6}
    stream = hr.Stream(table, ["image", "caption"], **options)
    with pytest.raises(hr.Corrupt, match=r"row (7|31) \(epoch 0, position \d+\): column 'image'"):
        list(stream)
    with pytest.raises(hr.Corrupt):
        next(iter(stream))
    whole = hr.Stream(table, ["caption"], **{k: v for k, v in options.items() if k != "image"})
    order = tables.row_ids(whole)
    masked = hr.Stream(table, ["image", "caption"], on_error="mask", **options)
    rows = np.concatenate([b["row_id"] for b in masked])
    assert rows.tolist() == order, "the position never drifts"
    masked = hr.Stream(table, ["image", "caption"], on_error="mask", **options)
    assert {row for b in masked for row in b["row_id"][~b["valid"]].tolist()} == bad
    assert {row for row, _ in masked.stats()["bad_rows"]} == bad
    runs = []
    for _ in range(2):
        stream = hr.Stream(table, ["image", "caption"], on_error="substitute", **options)
        runs.append([row for b in stream for row in b["row_id"].tolist()])
    assert runs[0] == runs[1]
    assert [a for a, b in zip(runs[0], order, strict=True) if b not in bad] == [b for b in order if b not in bad]
    assert not bad & set(runs[0])


def documents(catalog: hr.Catalog, count: int = 500) -> tuple[hr.Table, list[list[int]]]:
    rng = np.random.default_rng(3)
    lengths = rng.integers(0, 150, count)
    tokens = [list(range(1000 * i, 1000 * i + int(n))) for i, n in enumerate(lengths)]
    table = catalog.create_table("documents", {"tokens": "list<int32>", "n_tokens": "int32"})
    table.append(
        pa.table({"tokens": pa.array(tokens, pa.list_(pa.int32())), "n_tokens": pa.array(lengths, pa.int32())})
    )
    return table, tokens


def test_packing(catalog: hr.Catalog) -> None:
    table, tokens = documents(catalog)
    pack = hr.Pack("tokens", 128, "n_tokens", window=100)

    def collect(batches: Iterator[dict[str, Any]]) -> list[tuple[int, ...]]:
        rows = []
        for batch in batches:
            for row in range(len(batch["valid"])):
                if not batch["valid"][row]:
                    continue
                assert batch["tokens"].shape[1] == 128
                segments = batch["segment_ids"][row]
                for segment in range(1, segments.max() + 1):
                    inside = segments == segment
                    document = batch["documents"][row][segment - 1]
                    positions = batch["position_ids"][row][inside]
                    assert batch["tokens"][row][inside].tolist() == [tokens[document][p] for p in positions]
                rows.append(tuple(batch["tokens"][row][segments > 0].tolist()))
        return rows

    stream = hr.Stream(table, pack=pack, batch_size=4, seed=1)
    whole = collect(iter(stream))
    assert sorted(t for row in whole for t in row) == sorted(t for document in tokens for t in document)
    stats = stream.stats()
    assert stats["packed_tokens"] / stats["packed_slots"] > 0.9
    # Interrupted at any step and resumed at another world size: the same rows.
    for steps in (1, 3, 7):
        begun = hr.Stream(table, pack=pack, batch_size=4, seed=1)
        batches = iter(begun)
        head = collect(next(batches) for _ in range(steps))
        ranks = [hr.Stream(table, pack=pack, batch_size=2, rank=r, world_size=3, seed=1) for r in range(3)]
        for stream in ranks:
            stream.load_state_dict(begun.state_dict())
        rest: list[tuple[int, ...]] = []
        for parts in zip(*ranks, strict=True):
            columns = [collect(iter([part])) for part in parts]
            for index in range(2):
                rest += [column[index] for column in columns if index < len(column)]
        assert head + rest == whole
    with pytest.raises(hr.Invalid, match="another packing"):
        hr.Stream(table, pack=hr.Pack("tokens", 64, "n_tokens")).load_state_dict(begun.state_dict())
    with pytest.raises(hr.Invalid, match="stream that packs"):
        hr.Stream(table, ["tokens"]).load_state_dict(begun.state_dict())
    with pytest.raises(hr.NotFound, match="nothing"):
        hr.Stream(table, pack=hr.Pack("tokens", 128, "nothing"))


def test_hand_over(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=30)
    stream = hr.Stream(table, ["image", "vec", "caption"], image=hr.Resize((8, 8)), batch_size=10, seed=1)
    expected = [{k: v.copy() if hasattr(v, "copy") else v for k, v in b.items()} for b in stream]
    arrow = [
        pa.record_batch(batch)
        for batch in hr.Stream(
            table, ["image", "vec", "caption"], image=hr.Resize((8, 8)), batch_size=10, seed=1
        ).arrow()
    ]
    for plain, batch in zip(expected, arrow, strict=True):
        assert batch.column("row_id").to_pylist() == plain["row_id"].tolist()
        assert np.array_equal(batch.column("vec").flatten().to_numpy().reshape(10, 8), plain["vec"])
        assert np.array_equal(batch.column("image").flatten().to_numpy().reshape(10, 3, 8, 8), plain["image"])
        assert batch.column("caption").to_pylist() == plain["caption"]
    buffers = {"image": np.zeros((10, 3, 8, 8), np.uint8)}
    again = hr.Stream(table, ["image", "vec"], image=hr.Resize((8, 8)), batch_size=10, seed=1)
    for plain in expected:
        batch = again.read_into(buffers)
        assert batch is not None
        assert batch["image"] is buffers["image"]
        assert np.array_equal(buffers["image"], plain["image"])
    assert again.read_into(buffers) is None
    with pytest.raises(hr.Invalid, match="buffer for 'image'"):
        again.read_into({"image": np.zeros((3, 3, 8, 8), np.uint8)})
    half = next(iter(hr.Stream(table, ["image"], image=hr.Resize((8, 8)) | hr.To("bfloat16"), batch_size=10)))
    assert hasattr(half["image"], "__dlpack__")


def test_budgets(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=200)
    with pytest.raises(hr.LimitExceeded, match=r"needs \d+ MB of memory, and the budget is"):
        next(iter(hr.Stream(table, ["image"], image=hr.Resize((512, 512)), batch_size=64, memory="20MB")))
    stream = hr.Stream(table, ["image"], image=hr.Resize((128, 128)), batch_size=20, memory="6MB")
    kept = []
    with pytest.raises(hr.LimitExceeded, match="batches that are kept"):
        for batch in stream:
            kept.append(batch)
    assert len(kept) >= 2
    assert stream.stats()["memory_peak"] <= 6_000_000
    state = stream.state_dict()
    kept.clear()
    del batch
    gc.collect()
    resumed = hr.Stream(table, ["image"], image=hr.Resize((128, 128)), batch_size=20, memory="6MB")
    resumed.load_state_dict(state)
    assert len(tables.row_ids(resumed)) == 200 - state["position"]


def test_mistakes_are_named(catalog: hr.Catalog) -> None:
    table = tables.make(catalog, count=20)
    for options, message in [
        ({"columns": ["imge"]}, "imge"),
        ({"columns": ["image"], "image": hr.HorizontalFlip()}, "different sizes"),
        ({"columns": ["label"], "image": hr.Resize((8, 8))}, "not among the columns"),
        ({"columns": ["label"], "label": hr.Resize((8, 8))}, "not a blob"),
        ({"columns": ["label"], "batch_size": 0}, "batch_size is 0"),
        ({"columns": ["label"], "seed": -1}, "the seed is -1"),
        ({"columns": ["label"], "rank": 3, "world_size": 2}, "rank is 3"),
        ({"columns": ["label"], "epoch_end": "cut"}, "pad, drop, short, wrap"),
        ({"columns": ["label"], "memory": "lots"}, "no size"),
        ({"columns": ["image"], "image": hr.Resize((8, 8), filter="magic")}, "there is no filter 'magic'"),
        ({"columns": ["image"], "image": hr.Resize((8, 8)) | hr.Normalize() | hr.To("uint8")}, "do not fit in uint8"),
        ({"columns": ["label"], "where": "label >"}, "in the filter, at character 8"),
        ({"columns": ["label"], "weights": "caption"}, "number is needed"),
    ]:
        with pytest.raises(hr.HeadraceError, match=message):
            hr.Stream(table, **options)  # type: ignore[arg-type]
    own = catalog.create_table("own", {"valid": np.arange(5), "x": np.arange(5)})
    with pytest.raises(hr.Invalid, match="the column 'valid' has a name"):
        hr.Stream(own)
    assert len(tables.row_ids(hr.Stream(own, ["x"]))) == 5
    for name, message in [("drop_last", 'epoch_end="drop"'), ("num_workers", "threads"), ("lable", "column 'lable'")]:
        with pytest.raises(TypeError, match=message):
            hr.Stream(table, **{name: True})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"no argument 'bacth_size'; did you mean batch_size\?"):
        hr.Stream(table, bacth_size=3)  # type: ignore[arg-type]
    with pytest.raises(hr.Invalid, match="not a stream's state_dict"):
        hr.Stream(table, ["label"]).load_state_dict({"epoch": 1})
    stream = hr.Stream(table, ["label"])
    stream.close()
    with pytest.raises(hr.Invalid, match="closed"):
        list(stream)
    with pytest.raises(hr.Invalid, match="put a Resize before it"):
        list(hr.Stream(table, ["image"], image=hr.CenterCrop(500)))


def test_the_command(catalog: hr.Catalog, headrace: Any) -> None:
    tables.make(catalog, count=100)
    done = headrace(
        "--catalog",
        catalog.location,
        "stream",
        "photos",
        "--columns",
        "image,label",
        "--where",
        "label >= 2",
        "--batch",
        "16",
        "--image",
        "32",
        "--json",
    )
    report = json.loads(done.stdout)
    assert report["samples"] == 80
    assert report["state"]["epoch"] == 1
    assert done.stderr == ""
    plan = headrace(
        "--catalog", catalog.location, "stream", "photos", "--columns", "label", "--plan", "5", "--seed", "4", "--json"
    )
    lines = [json.loads(line)["row_id"] for line in plan.stdout.splitlines()]
    assert lines == [s["row_id"] for s in hr.Stream(catalog["photos"], ["label"], seed=4).plan(5)]
    words = headrace("--catalog", catalog.location, "stream", "photos", "-c", "label").stdout
    assert "samples/s" in words
    assert "\033" not in words
    wrong = headrace("--catalog", catalog.location, "stream", "photos", "-c", "label", "--image", "32")
    assert wrong.returncode == 1
    assert "blob" in wrong.stderr


def turned(width: int, height: int, orientation: int) -> bytes:
    """A JPEG stored as `width` × `height`, whose left half is red, to be shown by the EXIF orientation."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


def test_sizes_of_turned_pictures_are_those_people_see(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for orientation in range(1, 9):
        (folder / f"{orientation}.jpg").write_bytes(turned(96, 48, orientation))
    catalog.ingest(str(folder), table="photos")
    table = catalog["photos"]
    for row in table.scan(["image", "image.orientation"]):
        image = row["image"]
        assert image.decode().shape == (image.height, image.width, 3)
        assert (image.width < image.height) == (row["image.orientation"] >= 5)
    assert table.count("image.width > image.height") == 4
    # What an earlier Headrace wrote says the stored size: such rows decode all the same.
    names = ("pack", "uri", "offset", "checksum", "media_type")
    cell = {**dict.fromkeys(names), "length": None, "width": 96, "height": 48, "orientation": 6}
    old = catalog.create_table("old", columns={"image": "blob"})
    old.append(pa.table({"image": [{**cell, "inline": turned(96, 48, 6)}]}))
    new = catalog.create_table("new", table.scan(["image"], where="path = '6.jpg'"))
    pictures = []
    for source in (old, new):
        (batch,) = hr.Stream(source, columns=["image"], image=hr.Resize((96, 48)), batch_size=1)
        pictures.append(np.asarray(batch["image"])[0])
    assert np.array_equal(*pictures)
