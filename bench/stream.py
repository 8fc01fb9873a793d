"""./dev bench stream: our streams against the loaders that people train with, on one machine, in turn.

Every loader runs in a process of its own (stream_worker.py), with two workers or threads, shuffled, and every byte goes through a
checksum; the clock starts at the first batch; torch is imported before. Figures are medians of alternating runs.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from measure import Line
from shuffle import shuffle

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("HEADRACE_CACHE", pathlib.Path.home() / ".cache" / "headrace"))
RIVALS = ["mds", "litdata", "webdataset", "lance", "huggingface"]
COUNT = 4096


def interpreter(loader: str) -> str:
    return os.environ["HEADRACE_BENCH_RIVALS_HF" if loader == "huggingface" else "HEADRACE_BENCH_RIVALS"]


def data(scale: float) -> pathlib.Path:
    """The pictures in everybody's format, made once."""
    count = max(256, int(COUNT * scale))
    folder = CACHE / "bench-data" / f"stream-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    for what in ["pictures", *RIVALS, "headrace"]:
        if (folder / f"{what}.done").exists():
            continue
        print(f"  making {what} …", file=sys.stderr, flush=True)
        command = [interpreter(what), str(HERE / "stream_data.py"), what, str(folder), str(count)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def run(loader: str, work: str, folder: pathlib.Path, seed: int) -> dict[str, Any]:
    command = [interpreter(loader), str(HERE / "stream_worker.py"), loader, work, str(folder), str(seed)]
    # Some loaders keep state in shared memory by name; each run begins clean.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise RuntimeError(f"{loader} {work}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["command_seconds"] = 0.0
    return found


def rates(work: str, loaders: list[str], folder: pathlib.Path, rounds: int) -> dict[str, float]:
    """Samples a second, medians, all loaders in turn in each round."""
    seen: dict[str, list[float]] = {loader: [] for loader in loaders}
    for index in range(rounds):
        for loader in loaders if index % 2 == 0 else reversed(loaders):
            found = run(loader, work, folder, index + 1)
            seen[loader].append(found["images"] / found["seconds"])
    return {loader: statistics.median(values) for loader, values in seen.items()}


def line_rate(name: str, ours: float, theirs: float, rival: str, least: float) -> Line:
    ratio = ours / theirs
    return Line(name, f"{ours:,.0f}/s", f"{theirs:,.0f}/s ({rival})", ratio, f"≥ {least:g} (rate)", ratio >= least)


def pictures(scale: float) -> list[Line]:
    folder = data(scale)
    rounds = 3 if scale >= 1 else 1
    lines = []
    pil = rates("pil", ["headrace", *RIVALS], folder, rounds)
    print(f"  as documented: { {k: round(v) for k, v in pil.items()} }", file=sys.stderr)
    best = max(RIVALS, key=lambda loader: pil[loader])
    lines.append(
        line_rate(
            "JPEG → RandomResizedCrop 224 → batch of 64, ÷ best as documented", pil["headrace"], pil[best], best, 2.0
        )
    )
    fast_rivals = [loader for loader in RIVALS if loader != "huggingface"]
    fast = rates("fast", ["headrace", *fast_rivals, "huggingface"], folder, rounds)
    print(f"  fastest decoder: { {k: round(v) for k, v in fast.items()} }", file=sys.stderr)
    best = max(RIVALS, key=lambda loader: fast[loader])
    lines.append(line_rate("… ÷ best with its fastest decoder (simplejpeg)", fast["headrace"], fast[best], best, 1.5))
    ours, bare = [], []
    for index in range(rounds + 2):
        found = run("headrace", "pil", folder, index + 1)
        ours.append(found["images"] / found["seconds"])
        command = [os.environ["HEADRACE_BENCH_CEILING"], str(folder / "pictures"), "2", "3"]
        bare.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    lines.append(
        line_rate(
            "… ÷ the same decode in a bare C++ loop on the same cores",
            statistics.median(ours),
            statistics.median(bare),
            "bare loop",
            0.9,
        )
    )
    return lines


def raw(scale: float) -> list[Line]:
    folder = data(scale)
    found = rates("raw", ["headrace", *RIVALS], folder, 3 if scale >= 1 else 1)
    print(f"  raw: { {k: round(v) for k, v in found.items()} }", file=sys.stderr)
    best = max(RIVALS, key=lambda loader: found[loader])
    return [line_rate("raw samples without decoding, ÷ best shuffled rival", found["headrace"], found[best], best, 2.0)]


def pixels(scale: float) -> list[Line]:
    """Our pixels against Pillow's at the same box and filter."""
    import io

    import headrace as hr
    import numpy as np
    from PIL import Image

    folder = data(scale)
    table = hr.open(folder / "headrace")["photos"]
    worst = 1e9
    # 64 of 3 filters as a training run would, and far smaller, where the decoder works at a quarter of the size.
    for name, size in [(name, size) for name in ("bilinear", "bicubic", "lanczos") for size in (224, 32)]:
        resample = getattr(Image.Resampling, name.upper())
        stream = hr.Stream(table, ["image"], image=hr.Resize((size, size), filter=name), batch_size=64, seed=3)
        batch = next(iter(stream))
        blobs = table.take(batch["row_id"].tolist(), ["image"])
        for ours, row in zip(batch["image"], blobs, strict=True):
            theirs = Image.open(io.BytesIO(bytes(row["image"]))).convert("RGB").resize((size, size), resample)
            error = float(((ours.astype(float) - np.asarray(theirs).transpose(2, 0, 1)) ** 2).mean())
            worst = min(worst, 10 * float(np.log10(255**2 / max(error, 1e-9))))
    return [
        Line(
            "pixels against Pillow's, worst PSNR of 64 pictures × 3 filters × sizes 224 and 32",
            f"{worst:.1f} dB",
            "Pillow",
            worst,
            "≥ 40",
            worst >= 40,
        )
    ]


def timed_process(program: str, *arguments: str, python: str = "") -> tuple[float, str]:
    begun = time.perf_counter()
    done = subprocess.run(
        [python or sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - begun, done.stdout


FIRST_OURS = """
import sys
import headrace as hr
table = hr.open(sys.argv[1])["photos"]
batch = next(iter(hr.Stream(table, ["image"], image=hr.RandomResizedCrop(224), batch_size=64, seed=1)))
assert batch["image"].shape == (64, 3, 224, 224)
import os
os._exit(0)
"""


def first(scale: float) -> list[Line]:
    """A cold process to its first batch."""
    folder = data(scale)
    ours = statistics.median(timed_process(FIRST_OURS, str(folder / "headrace"))[0] for _ in range(5))
    lines = [Line("first batch from a cold process, numpy only", f"{ours:.2f} s", "-", ours, "< 0.5 s", ours < 0.5)]
    mine = statistics.median(run("headrace", "first", folder, 1)["first"] for _ in range(3))
    rivals = {
        loader: statistics.median(run(loader, "first", folder, i)["first"] for i in (1, 2, 3)) for loader in RIVALS
    }
    print(
        f"  first batch, torch imported: ours {mine:.3f}, { {k: round(v, 2) for k, v in rivals.items()} }",
        file=sys.stderr,
    )
    # `first` of the worker decodes as the guides show.
    best = min(rivals, key=lambda loader: rivals[loader])
    ratio = mine / rivals[best]
    lines.append(
        Line(
            "… against the best rival, torch imported before",
            f"{mine:.3f} s",
            f"{rivals[best]:.2f} s ({best})",
            ratio,
            "≤ 0.3",
            ratio <= 0.3,
        )
    )
    return lines


SLOW = """
import json, sys, time
import headrace as hr
begun = time.perf_counter()
table = hr.open(sys.argv[1])["photos"]
stream = hr.Stream(table, ["image"], batch_size=64, seed=1, epochs=1)
batches = iter(stream)
batch = next(batches)
first = time.perf_counter() - begun
size = 0
rate = float(sys.argv[2])          # bytes a second that the consumer takes
waited = 0.0
start = time.perf_counter()
due = start
for index in range(50):
    due += sum(len(blob) for blob in batch["image"] if blob is not None) / rate
    time.sleep(max(0.0, due - time.perf_counter()))
    asked = time.perf_counter()
    batch = next(batches)
    waited += time.perf_counter() - asked
    due = max(due, asked)
print(json.dumps({"first": first, "waited": waited / (time.perf_counter() - start)}))
import os
sys.stdout.flush()
os._exit(0)
"""


def distant(scale: float) -> list[Line]:
    """A store with a round trip of 50 ms and 100 MB/s."""
    location = f"slow:latency=50ms,rate=100MB:{data(scale) / 'headrace'}"
    runs = [json.loads(timed_process(SLOW, location, "50e6")[1]) for _ in range(3)]
    begin = statistics.median(found["first"] for found in runs)
    waited = statistics.median(found["waited"] for found in runs)
    return [
        Line("first batch over a store of 50 ms and 100 MB/s", f"{begin:.2f} s", "-", begin, "≤ 1.5 s", begin <= 1.5),
        Line(
            "… consumer at half the link's rate: share of time waited",
            f"{waited * 100:.2f} %",
            "-",
            waited,
            "< 0.01",
            waited < 0.01,
        ),
    ]


def resume(scale: float) -> list[Line]:
    found = json.loads(
        subprocess.run([os.environ["HEADRACE_BENCH_RESUME"]], check=True, capture_output=True, text=True).stdout
    )
    bits = max(found["bits_in_memory"], found["bits_stored"])
    return [
        Line(
            "resume in the middle of 1e9 rows, unfiltered",
            f"{found['unfiltered'] * 1000:.2f} ms",
            "-",
            found["unfiltered"],
            "< 0.1 s",
            found["unfiltered"] < 0.1,
        ),
        Line(
            "… with a stored random half of the rows",
            f"{found['selected'] * 1000:.2f} ms",
            "-",
            found["selected"],
            "< 1 s",
            found["selected"] < 1,
        ),
        Line("… bits a row of that selection", f"{bits:.2f}", "-", bits, "≤ 2", bits <= 2),
    ]


EPOCHS = """
import json, os, sys, time
import headrace as hr
table = hr.open(sys.argv[1])["photos"]
options = json.loads(sys.argv[2])
begun = time.perf_counter()
stream = hr.Stream(table, ["image"], sys.argv[3] or None, batch_size=32, seed=1, **options)
count = 0
for _ in range(options["epochs"]):
    for batch in stream:
        count += int(batch["valid"].sum())
print(json.dumps({"count": count, "seconds": time.perf_counter() - begun, "media": stream.stats()["media_bytes"]}))
sys.stdout.flush()
os._exit(0)
"""


def fetched(log: pathlib.Path, part: str = "/packs/") -> int:
    total = sum(int(line.rsplit(" ", 1)[1]) for line in log.read_text().splitlines() if part in line)
    log.write_text("")
    return total


def filtered(table: Any, catalog: pathlib.Path, location: str, log: pathlib.Path) -> list[Line]:
    """What a filter of 5 % reads, from the disk and from the store that writes `log`."""
    lines = []
    where = "_row_id % 20 = 7"
    needed = sum(len(row["image"]) for row in table.scan(["image"], where))
    local = json.loads(timed_process(EPOCHS, str(catalog), json.dumps({"epochs": 1}), where)[1])
    ratio = local["media"] / needed
    lines.append(
        Line(
            "filter at 5 %: bytes read ÷ bytes of the selected blobs, local",
            f"{local['media'] / 1e6:.1f} MB",
            f"{needed / 1e6:.1f} MB",
            ratio,
            "≤ 1.3",
            ratio <= 1.3,
        )
    )
    log.write_text("")
    timed_process(EPOCHS, location, json.dumps({"epochs": 1}), where)
    total = fetched(log, "")
    lines.append(
        Line(
            "… over a distant store, everything that was fetched",
            f"{total / 1e6:.1f} MB",
            f"{needed / 1e6:.1f} MB",
            total / needed,
            "≤ 2",
            total / needed <= 2,
        )
    )
    return lines


def cache(scale: float) -> list[Line]:
    """Bytes fetched with a cache of half the data over three epochs; four machines; a filter of 5 %."""
    import headrace as hr

    folder = data(scale)
    catalog = folder / "headrace"
    table = hr.open(catalog)["photos"]
    size = sum(row["n"] for row in hr.open(catalog).sql("select sum(image.length)::bigint as n from photos"))
    lines = []
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        log = scratch / "log"
        log.write_text("")
        location = f"slow:latency=2ms,rate=400MB,log={log}:{catalog}"
        budget = size // 2
        plain = json.loads(timed_process(EPOCHS, location, json.dumps({"epochs": 3}), "")[1])
        log.write_text("")
        options = {"epochs": 3, "cache": str(scratch / "cache"), "cache_size": budget}
        found = json.loads(timed_process(EPOCHS, location, json.dumps(options), "")[1])
        bound = (3 - 2 * budget / size) * size
        ratio = fetched(log) / bound
        lines.append(
            Line(
                "cache of half the data, 3 epochs: bytes fetched ÷ (E − (E−1)·c) × data",
                f"{ratio * bound / 1e6:.0f} MB",
                f"{bound / 1e6:.0f} MB",
                ratio,
                "≤ 1.02",
                ratio <= 1.02,
            )
        )
        gain = plain["seconds"] / found["seconds"]
        lines.append(
            Line(
                "… throughput ÷ without a cache",
                f"{found['count'] / found['seconds']:,.0f}/s",
                f"{plain['count'] / plain['seconds']:,.0f}/s",
                gain,
                "≥ 1 (rate)",
                gain >= 1,
            )
        )
        machines = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    EPOCHS,
                    location,
                    json.dumps({"epochs": 1, "cache": str(scratch / f"m{rank}"), "cache_size": size * 2}),
                    "",
                ],
                env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "4"},
                stdout=subprocess.DEVNULL,
            )
            for rank in range(4)
        ]
        for machine in machines:
            if machine.wait() != 0:
                raise RuntimeError("a machine failed")
        ratio = fetched(log) / size
        lines.append(
            Line(
                "4 machines with caches of their own, one epoch: bytes fetched ÷ needed",
                f"{ratio * size / 1e6:.0f} MB",
                f"{size / 1e6:.0f} MB",
                ratio,
                "≤ 1.05",
                ratio <= 1.05,
            )
        )
        lines += filtered(table, catalog, location, log)
        shutil.rmtree(scratch / "cache", ignore_errors=True)
    return lines


BENCHES = {
    "pictures": pictures,
    "pixels": pixels,
    "raw": raw,
    "first": first,
    "distant": distant,
    "resume": resume,
    "cache": cache,
    "shuffle": shuffle,
}
