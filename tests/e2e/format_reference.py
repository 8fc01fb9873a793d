"""Reads a version of a table from its files as docs/format says, without our code: scalars, text, tensors and media."""

from __future__ import annotations

import json
import pathlib
import struct
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq


def roaring(data: bytes) -> list[int]:
    """The portable format of https://github.com/RoaringBitmap/RoaringFormatSpec."""
    cookie = struct.unpack_from("<I", data)[0]
    at = 4
    if cookie & 0xFFFF == 12347:
        count = (cookie >> 16) + 1
        runs = data[at : at + (count + 7) // 8]
        at += (count + 7) // 8
        offsets = count >= 4
    else:
        assert cookie == 12346
        count = struct.unpack_from("<I", data, at)[0]
        at += 4
        runs = bytes((count + 7) // 8)
        offsets = True
    heads = [struct.unpack_from("<HH", data, at + 4 * i) for i in range(count)]
    at += 4 * count + (4 * count if offsets else 0)
    rows: list[int] = []
    for i, (high, last) in enumerate(heads):
        base = high << 16
        if runs[i // 8] >> (i % 8) & 1:
            pairs = struct.unpack_from("<H", data, at)[0]
            at += 2
            for _ in range(pairs):
                start, length = struct.unpack_from("<HH", data, at)
                rows += range(base + start, base + start + length + 1)
                at += 4
        elif last + 1 <= 4096:
            rows += (base + low for low in struct.unpack_from(f"<{last + 1}H", data, at))
            at += 2 * (last + 1)
        else:
            words = data[at : at + 8192]
            rows += (base + k for k in range(65536) if words[k // 8] >> (k % 8) & 1)
            at += 8192
    return rows


class Reference:
    """One table's folder."""

    def __init__(self, folder: pathlib.Path, version: int | None = None) -> None:
        self.folder = folder
        number = "*" if version is None else f"{2**64 - 1 - version:020}"
        newest = min(folder.joinpath("snapshots").glob(f"{number}.json"))
        self.snapshot = json.loads(newest.read_text())["snapshot"]
        assert set(self.snapshot.get("requires", [])) <= {
            "taken", "deletes", "updates", "writers", "follow", "expiry", "stub", "sorted"
        }  # fmt: skip
        assert version in (None, self.snapshot["version"])
        self.stub = bool(self.snapshot.get("stub"))  # it has expired, and only a line of it is left
        self.fragments: dict[int, list[dict[str, Any]]] = {}
        if self.stub:
            return
        for entry in self.snapshot["fragments"]:
            self.fragments.setdefault(entry["id"], []).append(entry)
        for manifest in self.snapshot["manifests"]:
            for entry in self.manifest(manifest["id"]):
                self.fragments.setdefault(entry["id"], []).append(entry)

    def manifest(self, name: str) -> list[dict[str, Any]]:
        table = pq.read_table(self.folder / "manifests" / f"{name}.parquet")
        metadata = table.schema.metadata
        assert set(json.loads(metadata.get(b"headrace.requires", b"[]"))) <= {"deletes", "updates", "follow", "sorted"}
        families = json.loads(metadata[b"headrace.families"])
        entries = []
        for row in table.to_pylist():
            files = [
                {"id": row[f"file_{k}"].hex(), **family, "v": row.get(f"version_{k}") or 0}
                for k, family in enumerate(families)
                if row[f"file_{k}"] is not None
            ]
            entry = {"id": row["fragment"], "row": row["first_row_id"], "rows": row["rows"], "files": files}
            for name in ("deleted", "overlays"):
                if row.get(name) is not None:
                    entry[name] = json.loads(row[name])
            entries.append(entry)
        return entries

    def rows_of(self, rows: dict[str, Any]) -> list[int]:
        if "set" in rows:
            data = bytes.fromhex(rows["set"].removeprefix("s:"))
        else:
            whole = (self.folder / "rowsets" / f"{rows['file']}.roaring").read_bytes()
            data = whole[rows["offset"] : rows["offset"] + rows["bytes"]]
        members = roaring(data)
        assert len(members) == rows["rows"]
        return members

    def values(self, file: dict[str, Any], field: int) -> list[Any]:
        if file["kind"] == "tensor":
            return ipc.open_file(self.folder / "data" / f"{file['id']}.arrow").read_all().column(0).to_pylist()  # type: ignore[no-any-return]
        table = pq.read_table(self.folder / "data" / f"{file['id']}.parquet")
        ids = [int(column.metadata[b"PARQUET:field_id"]) for column in table.schema]
        return table.column(ids.index(field)).to_pylist()  # type: ignore[no-any-return]

    def expired(self, version: int) -> bool:
        """What this version says of another."""
        said = self.snapshot.get("expired", {"before": 0, "kept": []})
        return bool(version < said["before"] and version not in said["kept"])

    def blob(self, cell: dict[str, Any] | None) -> bytes | None:
        if cell is None or cell["inline"] is not None:
            return None if cell is None else cell["inline"]
        with (self.folder / "packs" / f"{cell['pack'].split('/')[-1]}.pack").open("rb") as pack:
            pack.seek(cell["offset"])
            return pack.read(cell["length"])

    def column(self, entries: list[dict[str, Any]], field: int) -> list[Any]:
        files = [file for entry in entries for file in entry.get("files", []) if field in file["fields"]]
        newest = max(files, key=lambda file: file.get("v", 0), default=None)
        values = [None] * entries[0]["rows"] if newest is None else self.values(newest, field)
        base = 0 if newest is None else newest.get("v", 0)
        for overlay in sorted((o for entry in entries for o in entry.get("overlays", [])), key=lambda o: o["v"]):
            for file in overlay["files"]:
                if field not in file["fields"] or overlay["v"] <= base:
                    continue
                fresh = self.values(file, field)
                for k, row in enumerate(self.rows_of(overlay["rows"])):
                    values[row] = fresh[overlay["first"] + k]
        return values

    def read(self) -> pa.Table:
        """All rows with their ids, in the order of a scan."""
        fields = {field["name"]: field["id"] for field in self.snapshot["schema"]}
        media = {field["name"] for field in self.snapshot["schema"] if field["type"] == "blob"}
        out: dict[str, list[Any]] = {name: [] for name in ["_row_id", *fields]}
        for entries in sorted(self.fragments.values(), key=lambda entries: entries[0]["row"]):
            sets = [entry["deleted"] for entry in entries if "deleted" in entry]
            gone = set(self.rows_of(max(sets, key=lambda rows: rows["rows"]))) if sets else set()
            live = [row for row in range(entries[0]["rows"]) if row not in gone]
            sorted_ids = [file for entry in entries for file in entry.get("files", []) if 0 in file["fields"]]
            first = entries[0]["row"]
            ids = self.values(sorted_ids[0], 0) if sorted_ids else range(first, first + entries[0]["rows"])
            assert sorted(ids) == list(range(first, first + entries[0]["rows"]))
            out["_row_id"] += [ids[row] for row in live]
            for name, field in fields.items():
                values = self.column(entries, field)
                out[name] += [self.blob(values[row]) if name in media else values[row] for row in live]
        assert len(out["_row_id"]) == self.snapshot["rows"]
        return pa.table(out)
