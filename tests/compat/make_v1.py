"""Made the fixture v1/ once. A fixture is never made again: it shows that today's program reads what yesterday's wrote."""

from __future__ import annotations

import os
import pathlib

import headrace as hr
import numpy as np
import pyarrow as pa

os.environ["HEADRACE_USER"] = "fixture"
folder = pathlib.Path(__file__).parent / "v1"
catalog = hr.init(folder, sync=False)
table = catalog.create_table(
    "fixture",
    {
        "id": "int64",
        "name": "string",
        "tags": "list<string>",
        "where": "struct<lat: float64, lon: float64>",
        "vec": "tensor<float32>[3]",
        "image": "blob",
        "gone": "float64",
    },
)
vec = pa.list_(pa.float32(), 3)
table.append(
    pa.table(
        {
            "id": [1, 2],
            "name": ["one", None],
            "tags": [["a", "b"], None],
            "where": [{"lat": 0.0, "lon": 0.0}, None],
            "vec": pa.array([[1, 2, 3], None], vec),
            "image": pa.array([b"small", None], pa.binary()),
            "gone": [0.5, 0.5],
        }
    )
)
table.tag("golden")
table.add_columns({"late": np.array([10, 20], np.int32)})
table.append(
    pa.table(
        {
            "id": [3],
            "tags": [[]],
            "where": [{"lat": 1.5, "lon": -2.5}],
            "vec": pa.array([[7, 8, 9]], vec),
            "image": pa.array([b"large" * 1000], pa.binary()),
        }
    )
)
table.rename_column("name", "title")
table.drop_column("gone")
