"""How well a stream mixes a label-sorted table, against a full permutation; writes docs/shuffle.md with its plots."""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
import numpy.typing as npt
from measure import Line

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS, CLASSES = 600_000, 1000
# What ChooseLayout takes for pictures of 96 KB over a bucket, at the default window.
LAYOUT = {"block": 10, "lanes": 48, "window": 300_000}

Labels = npt.NDArray[np.int64]


def stream_labels(seed: int) -> Labels:
    """The labels in the stream's order, of a table sorted by label."""
    import headrace as hr

    with tempfile.TemporaryDirectory() as folder:
        catalog = hr.init(pathlib.Path(folder) / "catalog", sync=False)
        table = catalog.create_table("rows", {"label": np.arange(ROWS) * CLASSES // ROWS})
        stream = hr.Stream(table, ["label"], seed=seed, **LAYOUT)  # type: ignore[arg-type]
        order = np.array([sample["ordinal"] for sample in stream.plan(ROWS)])
    return order * CLASSES // ROWS


def autocorrelation(labels: Labels, lags: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    x = labels - labels.mean()
    size = 1 << (2 * len(x) - 1).bit_length()
    spectrum = np.fft.rfft(x, size)
    full = np.fft.irfft(spectrum * np.conj(spectrum), size)[: len(x)]
    result: npt.NDArray[np.float64] = full[lags] / full[0]
    return result


def distinct(labels: Labels) -> npt.NDArray[np.float64]:
    windows = labels[: len(labels) // 1000 * 1000].reshape(-1, 1000)
    return np.array([len(np.unique(window)) for window in windows], dtype=float)


def probe(labels: Labels) -> npt.NDArray[np.float64]:
    """Losses of a linear probe (softmax over 10 groups of labels) trained in this order."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(10, 16))
    noise = rng.normal(size=(len(labels), 16)).astype(np.float32)
    weights = np.zeros((16, 10))
    losses = []
    for step in range(600):
        part = slice(step * 64, step * 64 + 64)
        groups = labels[part] * 10 // CLASSES
        x = centres[groups] + 2 * noise[part]
        scores = x @ weights
        scores -= scores.max(axis=1, keepdims=True)
        chances = np.exp(scores)
        chances /= chances.sum(axis=1, keepdims=True)
        losses.append(float(-np.log(chances[np.arange(64), groups] + 1e-12).mean()))
        chances[np.arange(64), groups] -= 1
        weights -= 0.05 * x.T @ chances / 64
    return np.array(losses)


def shuffle(scale: float) -> list[Line]:
    import plotext

    ours = stream_labels(17)
    permutations = [np.random.default_rng(seed).permutation(ROWS) * CLASSES // ROWS for seed in range(5)]
    lags = np.concatenate([np.arange(1, 2001), np.arange(2016, 20_000, 48)])
    mine = np.abs(autocorrelation(ours, lags))
    theirs = [np.abs(autocorrelation(labels, lags)) for labels in permutations]
    worst = max(float(values.max()) for values in theirs)
    mean_mine, mean_theirs = float(distinct(ours).mean()), float(np.mean([distinct(p).mean() for p in permutations]))
    spread = float(distinct(permutations[0]).std())  # from one thousand samples to the next
    loss, others = probe(ours), [probe(labels) for labels in permutations]
    tail, tails = float(loss[-200:].mean()), [float(other[-200:].mean()) for other in others]
    deviation = abs(tail - float(np.mean(tails))) / max(float(np.std(tails)), 1e-9)

    def plot(title: str, curves: list[tuple[str, npt.NDArray[np.float64]]], xs: list[float]) -> str:
        plotext.clear_figure()
        for (name, values), marker in zip(curves, ("braille", "."), strict=False):
            plotext.plot(xs, values.tolist(), label=name, marker=marker)
        plotext.title(title)
        plotext.plotsize(100, 18)
        plotext.theme("clear")
        text: str = plotext.uncolorize(plotext.build())
        return text

    smooth = lambda v: np.convolve(v, np.ones(20) / 20, "valid")  # noqa: E731 (a name for one formula, used here only)
    curves = plot(
        "loss of the probe, mean of 20 steps",
        [("stream", smooth(loss)), ("full permutation", smooth(others[0]))],
        [float(i) for i in range(len(smooth(loss)))],
    )
    few = lags <= 500
    bars = plot(
        "|autocorrelation| of labels by lag",
        [("stream", mine[few]), ("full permutation", theirs[0][few])],
        lags[few].astype(float).tolist(),
    )
    (ROOT / "docs" / "shuffle.md").write_text(
        f"# How well a stream mixes\n\nA table of {ROWS:,} rows sorted by label ({CLASSES:,} classes), streamed with the layout that pictures of 96 KB get over a bucket "
        f"(blocks of {LAYOUT['block']}, {LAYOUT['lanes']} lanes, a window of {LAYOUT['window']:,}), against full permutations by numpy. On a local disk a stream *is* a "
        "full permutation. Made by `./dev bench shuffle` (seed 17).\n\n"
        "| | stream | five full permutations |\n|---|---|---|\n"
        f"| largest autocorrelation of labels at {len(lags):,} lags (1 to 2,000, and multiples of 48 to 20,000) | {mine.max():.4f} | {worst:.4f} at most |\n"
        f"| distinct classes per 1,000 samples: mean, and deviation between thousands | {mean_mine:.1f} ± {distinct(ours).std():.1f} | {mean_theirs:.1f} ± {spread:.1f} |\n"
        f"| loss of a linear probe, mean of the last 200 of 600 steps | {tail:.4f} | {np.mean(tails):.4f} ± {np.std(tails):.4f} |\n\n"
        f"```text\n{curves}\n```\n\n```text\n{bars}\n```\n"
    )
    return [
        Line(
            "label-sorted table: largest lag autocorrelation ÷ full permutations'",
            f"{mine.max():.4f}",
            f"{worst:.4f}",
            float(mine.max()) / worst,
            "≤ 1.5",
            mine.max() <= 1.5 * worst,
        ),
        Line(
            "… distinct classes per 1,000 samples, in deviations between thousands",
            f"{mean_mine:.1f}",
            f"{mean_theirs:.1f}",
            abs(mean_mine - mean_theirs) / spread,
            "≤ 0.5 sd",
            abs(mean_mine - mean_theirs) <= 0.5 * spread,
        ),
        Line(
            "… loss of a probe, deviations", f"{tail:.4f}", f"{np.mean(tails):.4f}", deviation, "≤ 4 sd", deviation <= 4
        ),
    ]
