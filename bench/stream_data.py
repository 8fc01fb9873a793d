"""The pictures that every loader streams: crops of Debian's photographs, about 500 × 375 and 96 KB, and the rivals' copies of
them in their own formats. Made once, kept in the cache folder.

    python stream_data.py FORMAT FOLDER COUNT      (pictures, mds, litdata, webdataset, lance, huggingface, headrace)
"""

from __future__ import annotations

import io
import pathlib
import shutil
import sys
from collections.abc import Iterator

PHOTOS = pathlib.Path("/usr/share/backgrounds")


def make_pictures(folder: pathlib.Path, count: int) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(7)
    sources = []
    for path in sorted(PHOTOS.rglob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((2400, 2400))
        if min(picture.size) >= 800:
            sources.append(picture)
    folder.mkdir(parents=True)
    for index in range(count):
        picture = sources[index * len(sources) // count]  # sorted by source, as a labelled folder would be
        width = int(rng.integers(520, min(picture.width, picture.height * 4 // 3)))
        height = width * 3 // 4
        left = int(rng.integers(0, picture.width - width + 1))
        top = int(rng.integers(0, picture.height - height + 1))
        small = picture.crop((left, top, left + width, top + height)).resize((500, 375), Image.Resampling.LANCZOS)
        noise = rng.normal(0, 5, (375, 500, 1))  # a sensor's grain, which JPEG must carry
        pixels = np.clip(np.asarray(small) + noise, 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=95)
        (folder / f"{index:05}.jpg").write_bytes(out.getvalue())


def pictures(folder: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    for index, path in enumerate(sorted((folder / "pictures").iterdir())):
        yield index, path.read_bytes()


def make_mds(folder: pathlib.Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder / "mds"), columns={"image": "bytes", "label": "int"}) as out:
        for index, data in pictures(folder):
            out.write({"image": data, "label": index})


def _litdata_sample(item: tuple[int, str]) -> dict[str, object]:
    return {"image": pathlib.Path(item[1]).read_bytes(), "label": item[0]}


def make_litdata(folder: pathlib.Path) -> None:
    from litdata import optimize

    items = [(index, str(path)) for index, path in enumerate(sorted((folder / "pictures").iterdir()))]
    optimize(fn=_litdata_sample, inputs=items, output_dir=str(folder / "litdata"), chunk_bytes="64MB", num_workers=1)


def make_webdataset(folder: pathlib.Path) -> None:
    import webdataset

    (folder / "webdataset").mkdir()
    with webdataset.ShardWriter(str(folder / "webdataset" / "%05d.tar"), maxcount=512, verbose=0) as out:
        for index, data in pictures(folder):
            out.write({"__key__": f"{index:05}", "jpg": data, "cls": str(index)})


def make_lance(folder: pathlib.Path) -> None:
    import lance
    import pyarrow as pa

    rows = list(pictures(folder))
    lance.write_dataset(
        pa.table({"image": pa.array([data for _, data in rows], pa.large_binary()), "label": [i for i, _ in rows]}),
        str(folder / "lance"),
    )


def make_huggingface(folder: pathlib.Path) -> None:
    import datasets

    rows = list(pictures(folder))
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": data, "path": None} for _, data in rows], "label": [i for i, _ in rows]}, features=features
    )
    made.save_to_disk(str(folder / "huggingface"))


def make_headrace(folder: pathlib.Path) -> None:
    import headrace as hr

    catalog = hr.init(folder / "headrace", sync=False)
    catalog.ingest(folder / "pictures", table="photos")


def main() -> None:
    what, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    if (folder / what).exists() and (folder / f"{what}.done").exists():
        return
    shutil.rmtree(folder / what, ignore_errors=True)
    if what == "pictures":
        make_pictures(folder / "pictures", int(sys.argv[3]))
    else:
        globals()[f"make_{what}"](folder)
    (folder / f"{what}.done").touch()


if __name__ == "__main__":
    main()
