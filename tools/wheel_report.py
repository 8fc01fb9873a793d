"""Prints a wheel's size, and the share of each of its parts, compressed: wheel_report.py WHEEL."""

from __future__ import annotations

import pathlib
import sys
import zipfile

# A file belongs to the first part one of whose words its name holds.
PARTS = {
    "DuckDB: SQL": ("libduckdb",),
    "Arrow and Parquet: columns and files": ("libarrow", "libparquet"),
    "llama.cpp: models, templates": ("libllama", "libggml-base", "libggml-"),
    "headrace: the program": ("headrace/bin/",),
    "headrace: Python modules": ("headrace/_",),
    "headrace: Python": ("headrace/", ".data/"),
    "pictures": ("libjpeg", "libpng", "libwebp", "libexif"),
    "OpenSSL: TLS, signatures": ("libssl", "libcrypto"),
    "oneDNN: products of matrices, to train": ("libdnnl", "libgomp", "libOpenCL"),
    "libcurl, and what Debian's is linked with": ("headrace.libs/",),
    "licences and metadata": ("dist-info/",),
}
FIRST = {"ggml's CPU variants: the best is chosen when it starts": ("headrace/backends/",)}


def main() -> None:
    """See the file's head."""
    wheel = pathlib.Path(sys.argv[1])
    shares: dict[str, tuple[int, int]] = {}
    small = ("libroaring", "libpugixml", "libxxhash", "libprometheus")
    for entry in zipfile.ZipFile(wheel).infolist():
        part = "CRoaring, pugixml, xxHash, prometheus-cpp" if any(word in entry.filename for word in small) else None
        part = part or next(
            part for part, words in (FIRST | PARTS).items() if any(word in entry.filename for word in words)
        )
        packed, whole = shares.get(part, (0, 0))
        shares[part] = packed + entry.compress_size, whole + entry.file_size
    for part, (packed, whole) in sorted(shares.items(), key=lambda item: -item[1][0]):
        print(f"  {packed / 1e6:6.1f} MB  {whole / 1e6:6.1f} MB installed  {part}")
    print(
        f"  {wheel.stat().st_size / 1e6:6.1f} MB  {sum(whole for _, whole in shares.values()) / 1e6:6.1f} MB installed  {wheel.name}"
    )


if __name__ == "__main__":
    main()
