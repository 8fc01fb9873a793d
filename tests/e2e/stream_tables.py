"""Tables that the stream tests go over."""

from __future__ import annotations

import io
from typing import Any

import headrace as hr
import numpy as np
from PIL import Image


def jpeg(seed: int, width: int = 64, height: int = 48) -> bytes:
    """A small smooth picture, another for each seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def rows(count: int, start: int = 0, pictures: int = 40) -> dict[str, Any]:
    """`count` rows sorted by label; `pictures` different images among them."""
    images = [jpeg(i) for i in range(min(pictures, count))]
    ids = np.arange(start, start + count)
    rng = np.random.default_rng(start)
    return {
        "image": [images[i % len(images)] for i in range(count)],
        "caption": [f"picture {i}" for i in ids],
        "label": (ids * 10 // max(count, 1)).astype(np.int32),
        "weight": (ids % 7).astype(np.float64),
        "vec": rng.normal(size=(count, 8)).astype(np.float32),
    }


def make(catalog: hr.Catalog, name: str = "photos", count: int = 200, **more: Any) -> hr.Table:
    """A table of `rows`."""
    import pyarrow as pa

    table = catalog.create_table(
        name,
        {
            "image": "blob",
            "caption": "string",
            "label": "int32",
            "weight": "float64",
            "vec": "tensor<float32>[8]",
        },
    )
    append(table, count, **more)
    assert pa
    return table


def append(table: hr.Table, count: int, start: int = 0, **more: Any) -> None:
    import pyarrow as pa

    data = rows(count, start, **more)
    vec = pa.FixedSizeListArray.from_arrays(pa.array(data["vec"].reshape(-1)), 8)
    table.append(
        pa.table(
            {
                "image": pa.array(data["image"], pa.binary()),
                "caption": data["caption"],
                "label": data["label"],
                "weight": data["weight"],
                "vec": vec,
            }
        )
    )


def row_ids(stream: hr.Stream) -> list[int]:
    """The valid row ids of the rest of the epoch."""
    found: list[int] = []
    for batch in stream:
        found += batch["row_id"][batch["valid"]].tolist()
    return found
