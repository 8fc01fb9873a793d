"""./dev demo, from its third chapter (first.py has made the catalog): a new column, time travel, random rows to numpy, training
with an interruption, stock DuckDB; small models continue a text, fill a schema, find captions by meaning, and answer OpenAI's client while its requests become rows."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import headrace as hr
import numpy as np
from show import COLOUR, ROOT, chapter, python, run, style, words


class Probe:
    """A linear probe by logistic regression: is the picture a photograph of nature?"""

    def __init__(self, features: int) -> None:
        self.weight = np.zeros(features)
        self.bias = 0.0
        self.losses: list[float] = []

    def step(self, images: np.ndarray, labels: np.ndarray) -> None:
        x = images.reshape(len(images), -1).astype(np.float64)
        chance = 1 / (1 + np.exp(-(x @ self.weight + self.bias)))
        self.losses.append(float(-np.mean(np.where(labels, np.log(chance + 1e-12), np.log(1 - chance + 1e-12)))))
        error = chance - labels
        self.weight -= 0.01 * (x.T @ error) / len(x)
        self.bias -= 0.01 * float(error.mean())


STEPS = hr.RandomResizedCrop(8, scale=(0.5, 1)) | hr.HorizontalFlip() | hr.Normalize()


def open_stream(table: hr.Table, batch: int, rank: int = 0, world: int = 1) -> hr.Stream:
    return hr.Stream(
        table, ["image", "nature"], image=STEPS, batch_size=batch, seed=17, rank=rank, world_size=world, epochs=3
    )


def train(probe: Probe, streams: list[hr.Stream], steps: int) -> int:
    """Steps of all ranks together: their batches are joined in the order of positions before the gradient."""
    done = 0
    while streams[0].epoch < 3:
        for parts in zip(*streams, strict=True):
            keep = np.concatenate([part["valid"] for part in parts])
            order = np.argsort(np.concatenate([part["position"] for part in parts])[keep])
            images = np.concatenate([part["image"] for part in parts])[keep][order]
            labels = np.concatenate([part["nature"] for part in parts])[keep][order]
            probe.step(images, labels)
            done += 1
            if done == steps:
                return done
    return done


def train_twice(table: hr.Table, folder: pathlib.Path) -> None:
    import plotext

    paths = [row["path"] for row in table.scan(["path"])]
    table.add_columns({"nature": np.array(["nature" in path for path in paths])}, why="labels from the paths")
    python(
        'stream = hr.Stream(photos, ["image", "nature"], image=hr.RandomResizedCrop(8, scale=(0.5, 1)) | …,\n'
        "                   batch_size=6, seed=17, epochs=3)"
    )
    straight = Probe(3 * 8 * 8)
    stream = open_stream(table, 6)
    train(straight, [stream], 10**9)
    stats = stream.stats()
    print(
        f"one rank, no interruption: {len(straight.losses)} steps, {stats['samples']} samples, mean loss by epoch: "
        + ", ".join(f"{np.mean(part):.3f}" for part in np.split(np.array(straight.losses), 3))
    )
    resumed = Probe(3 * 8 * 8)
    stream = open_stream(table, 6)
    train(resumed, [stream], 11)
    state = stream.state_dict()
    stream.close()
    print(f"interrupted after 11 steps; the checkpoint is {len(json.dumps(state))} bytes: {json.dumps(state)}")
    ranks = [open_stream(table, 2, rank, 3) for rank in range(3)]
    for stream in ranks:
        stream.load_state_dict(state)
    train(resumed, ranks, 10**9)
    same = resumed.losses == straight.losses
    print(
        f"resumed on three ranks of 2: {len(resumed.losses)} steps; the losses are {'the same to the last digit' if same else 'NOT THE SAME'}"
    )
    plotext.plot(straight.losses, label="one rank", marker="braille")
    plotext.scatter(range(12, len(resumed.losses) + 1), resumed.losses[11:], label="three ranks, resumed", marker="o")
    plotext.title("loss of the probe")
    plotext.plotsize(90, 16)
    plotext.theme("clear")
    print(plotext.build() if COLOUR else plotext.uncolorize(plotext.build()))
    if not same:
        raise SystemExit("the resumed run went another way")
    run("stream", "photos", "--columns", "image", "--image", "32", "--batch", "6", "--seconds", "3", catalog=folder)


def main() -> None:
    catalog_path: pathlib.Path = words().parse_args().catalog
    started = time.perf_counter()
    tables(catalog_path)
    models(catalog_path)
    print(f"\n{style('Done', '1')} in {time.perf_counter() - started:.1f} s. The catalog is yours to play with:\n")
    build = ROOT / "build" / "release"
    print(f'  export PATH="{build}/bin:$PATH" PYTHONPATH="{build}/python" HEADRACE_CATALOG="{catalog_path}"')
    print("  headrace describe photos")
    print('  headrace sql "select path, mean_rgb from photos order by mean_rgb[3] desc limit 5"     # the bluest')
    print("  headrace get photos 31 image -o photo.jpg")
    print("  headrace ingest ~/Pictures --table mine")
    print("  headrace stream photos --columns image --image 224     # what could this be trained at?")
    print('  headrace run gemma "Once upon a time" -n 60')
    print("  headrace model inspect gemma     # what can it do on this machine?")
    print("  headrace chat smol")
    print("  headrace serve     # OpenAI's and Anthropic's APIs at http://127.0.0.1:8000")


def tables(catalog_path: pathlib.Path) -> None:
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

    chapter(6, "Training on it: interrupted, and resumed on three ranks")
    train_twice(table, catalog_path)

    chapter(7, "The files are ordinary: stock DuckDB reads them without us")
    import duckdb

    parquet = [path for path, _, _ in table.at(before).files() if path.endswith(".parquet")]
    python(f"duckdb.sql(\"select count(*), max(image.width) from '{pathlib.Path(parquet[0]).name}'\")")
    print(duckdb.sql(f"select count(*), max(image.width) from read_parquet({parquet!r})").fetchone())


def models(catalog_path: pathlib.Path) -> None:
    """A base model of 270 million parameters, which continues texts, one of 135 million that was tuned to chat, and one
    that makes embeddings. All are small: their answers hold to a schema because they must, not because they know much."""
    folder = pathlib.Path(os.environ.get("HEADRACE_MODELS", pathlib.Path.home() / ".cache/headrace/models"))

    chapter(8, "Models join the catalog, each tried in a process of its own first")
    run(
        "model",
        "add",
        str(folder / "gemma-3-270m-q4_k_m.gguf"),
        "--name",
        "gemma",
        "--licence",
        "Gemma Terms of Use",
        catalog=catalog_path,
    )
    smol = str(folder / "smollm2-135m-instruct-q4_1.gguf")
    run("model", "add", smol, "--name", "smol", "--licence", "Apache-2.0", catalog=catalog_path)
    run("model", "add", str(folder / "all-minilm-l6-v2-f16.gguf"), "--name", "minilm", catalog=catalog_path)
    run("model", "ls", catalog=catalog_path)

    chapter(9, "A model continues a text")
    run(
        "run",
        "gemma",
        "The capital of France is Paris. The capital of Italy is",
        "-n",
        "12",
        "-t",
        "0",
        catalog=catalog_path,
    )

    chapter(10, "A model fills a schema")
    catalog = hr.open(catalog_path)
    with hr.Model("gemma", catalog=catalog, context=4096) as gemma:
        prompt = "Lake at sunset, photographed in autumn. As JSON:"
        schema = {
            "type": "object",
            "properties": {"place": {"enum": ["lake", "forest", "city", "mountain"]}, "season": {"enum": ["spring", "summer", "autumn", "winter"]}, "outdoors": {"type": "boolean"}},
            "required": ["place", "season", "outdoors"],
            "additionalProperties": False,
        }  # fmt: skip
        python(f'gemma.generate("{prompt}", schema=…)')
        answer = gemma.generate(prompt, schema=schema, temperature=0, max_tokens=60)
        forced = answer.usage["forced_tokens"]
        print(
            f"{answer.value}     ({len(answer.tokens)} tokens, {forced} of them given by the schema without asking the model)"
        )
        python("gemma.generate([… 8 prompts with one beginning …])")
        answers = gemma.generate(
            [f"A list of words about a river and its mill, for photograph {i}:" for i in range(8)],
            max_tokens=16,
            temperature=0,
        )
        cached = sum(a.usage["cached_tokens"] for a in answers)
        print(
            f"{sum(a.usage['prompt_tokens'] for a in answers)} prompt tokens, {cached} of them taken from a neighbour's cache"
        )

    chapter(11, "Captions by meaning")
    captions_ = [row["caption"] for row in catalog["captions"].scan(columns=["caption"])]
    with hr.Model("minilm", catalog=catalog) as minilm:
        begin = time.perf_counter()
        vectors = minilm.embed(captions_)
        seconds = time.perf_counter() - begin
        python('vectors @ minilm.embed("water in the evening")')
        scores = vectors @ minilm.embed("water in the evening")
        print(f"{len(captions_)} captions embedded in {seconds:.2f} s")
        for i in np.argsort(-scores)[:3]:
            print(f"  {scores[i]:.3f}  {captions_[i]}")

    # OpenAI's client lives in a Python of its own.
    sys.stdout.flush()
    client = os.environ.get("HEADRACE_DEMO_CLIENT", sys.executable)
    subprocess.run([client, str(ROOT / "demo" / "serve.py"), str(catalog_path), "12"], check=True)


if __name__ == "__main__":
    main()
