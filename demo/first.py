"""The first chapters of ./dev demo: photographs and captions become tables, and answer questions in SQL.

The program alone does it, so that a new machine shows its first table while the rest is still compiled.
"""

from __future__ import annotations

import json
import pathlib
import random
import shutil
from collections.abc import Sequence

from show import chapter, run, style, words

SOURCE = pathlib.Path("/usr/share/backgrounds")


def captions(photos: Sequence[pathlib.Path], source: pathlib.Path, target: pathlib.Path) -> None:
    """Captions made from the files' names, with a made-up score: the JSONL that somebody would have lying about."""
    chance = random.Random(17)
    with target.open("w") as out:
        for photo in photos:
            words = photo.stem.replace("_", " ").replace("-", " ")
            path = str(photo.relative_to(source))
            score = round(chance.random(), 3)
            out.write(
                json.dumps({"path": path, "caption": f"A wallpaper: {words}", "lang": "en", "score": score}) + "\n"
            )


def main() -> None:
    catalog_path: pathlib.Path = words().parse_args().catalog
    photos = sorted(p for p in SOURCE.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    print(
        style("Headrace demo", "1")
        + f": {len(photos)} photographs from Debian's gnome-backgrounds and mate-backgrounds (CC BY-SA)"
    )
    print(f"The catalog is made in {catalog_path}")
    shutil.rmtree(catalog_path, ignore_errors=True)

    chapter(1, "Photographs and captions become tables")
    run("init", str(catalog_path), catalog=catalog_path)
    run("ingest", str(SOURCE), "--table", "photos", "--why", "the demo's photographs", catalog=catalog_path)
    lines = catalog_path.parent / f"{catalog_path.name}-captions.jsonl"
    captions(photos, SOURCE, lines)
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


if __name__ == "__main__":
    main()
