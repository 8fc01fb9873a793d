"""./dev demo: photographs in, SQL, a new column, time travel, random rows to numpy, and stock DuckDB on the same files."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

import headrace as hr
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = [pathlib.Path("/usr/share/backgrounds")]
COLOUR = sys.stdout.isatty()


def style(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def chapter(number: int, title: str) -> None:
    print(f"\n{style(f'{number}. {title}', '1')}")


def run(*words: str, catalog: pathlib.Path) -> None:
    """Shows a headrace command as a user would type it, and runs it."""
    shown = " ".join(f'"{word}"' if any(c in word for c in " '*(>") else word for word in words)
    print(style(f"$ headrace {shown}", "36"), flush=True)
    subprocess.run(["headrace", *words], check=True, env={**os.environ, "HEADRACE_CATALOG": str(catalog)})


def python(code: str) -> None:
    for line in code.strip().splitlines():
        print(style(f">>> {line}", "36"))


def captions(photos: Sequence[pathlib.Path], source: pathlib.Path, target: pathlib.Path) -> None:
    """Captions made from the files' names, with a made-up score: the JSONL that somebody would have lying about."""
    rng = np.random.default_rng(17)
    with target.open("w") as out:
        for photo in photos:
            words = photo.stem.replace("_", " ").replace("-", " ")
            path = str(photo.relative_to(source))
            score = round(float(rng.random()), 3)
            out.write(
                json.dumps({"path": path, "caption": f"A wallpaper: {words}", "lang": "en", "score": score}) + "\n"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev demo")
    parser.add_argument(
        "--catalog", type=pathlib.Path, default=ROOT / "demo-catalog", help="where the demo's catalog is made"
    )
    arguments = parser.parse_args()
    catalog_path: pathlib.Path = arguments.catalog
    started = time.perf_counter()
    source = SOURCES[0]
    photos = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    print(
        style("Headrace demo", "1")
        + f": {len(photos)} photographs from Debian's gnome-backgrounds and mate-backgrounds (CC BY-SA)"
    )
    print(f"The catalog is made in {catalog_path}")
    shutil.rmtree(catalog_path, ignore_errors=True)

    chapter(1, "Photographs and captions become tables")
    run("init", str(catalog_path), catalog=catalog_path)
    run("ingest", str(source), "--table", "photos", "--why", "the demo's photographs", catalog=catalog_path)
    lines = catalog_path.parent / f"{catalog_path.name}-captions.jsonl"
    captions(photos, source, lines)
    run("ingest", str(lines), "--table", "captions", catalog=catalog_path)
    lines.unlink()
    run("ls", catalog=catalog_path)

    chapter(2, "Three questions in SQL")
    run(
        "sql",
        "select image.media_type, count(*) as n, round(avg(image.width)) as width, sum(image.length) as bytes from photos group by 1 order by n desc",
        catalog=catalog_path,
    )
    run(
        "sql",
        "select path, image.width as width, image.height as height from photos where image.width > 3000 order by width desc limit 5",
        catalog=catalog_path,
    )
    run(
        "sql",
        "select caption, score from captions join photos using (path) where image.width > 2500 order by score desc limit 5",
        catalog=catalog_path,
    )

    chapter(3, "A column added without rewriting anything")
    catalog = hr.open(catalog_path)
    table = catalog["photos"]
    before = table.version
    python('photos.add_columns({"mean_rgb": …})          # computed from the pixels, one small file')
    batch = table.take(range(len(table)), ["image"])
    begin = time.perf_counter()
    means = np.stack([row["image"].decode()[::16, ::16].reshape(-1, 3).mean(axis=0) for row in batch]).astype(
        np.float32
    )
    decoded = time.perf_counter() - begin
    size = sum(len(row["image"]) for row in batch)
    commit = table.add_columns({"mean_rgb": means}, why="mean colour of each photograph")
    print(
        f"decoded {len(batch)} photographs in {decoded:.1f} s; wrote {commit.bytes:,} bytes beside {size:,} bytes of media, which stayed as they are"
    )
    run("log", "photos", catalog=catalog_path)

    chapter(4, "Back in time")
    python(f'photos.at("v{before}").columns')
    print(list(table.at(before).columns))
    python("photos.columns")
    print(list(table.columns))

    chapter(5, "Random rows to numpy")
    python('photos.take([31, 4, 15], ["path", "image", "mean_rgb"])')
    for row in table.take([31, 4, 15], ["path", "image", "mean_rgb"]):
        pixels = row["image"].decode()
        print(
            f"{row['path']:44} {pixels.shape!s:>16} {pixels.dtype}   mean colour {row['mean_rgb'].round().astype(int).tolist()}"
        )

    chapter(6, "The files are ordinary: stock DuckDB reads them without us")
    import duckdb

    parquet = [path for path, _, _ in table.at().files() if path.endswith(".parquet")]
    python(f"duckdb.sql(\"select count(*), max(image.width) from '{pathlib.Path(parquet[0]).name}'\")")
    print(duckdb.sql(f"select count(*), max(image.width) from read_parquet({parquet!r})").fetchone())

    print(f"\n{style('Done', '1')} in {time.perf_counter() - started:.1f} s. The catalog is yours to play with:\n")
    build = ROOT / "build" / "release"
    print(f'  export PATH="{build}/bin:$PATH" PYTHONPATH="{build}/python" HEADRACE_CATALOG="{catalog_path}"')
    print("  headrace describe photos")
    print('  headrace sql "select path, mean_rgb from photos order by mean_rgb[3] desc limit 5"     # the bluest')
    print("  headrace get photos 31 image -o photo.jpg")
    print("  headrace ingest ~/Pictures --table mine")


if __name__ == "__main__":
    main()
