"""`headrace runs show --html` and `runs diff --html`: one offline file, whose curves have exact extremes at every zoom."""

from __future__ import annotations

import json
import math
import pathlib
import random
import subprocess
from collections.abc import Iterator
from typing import Any

import browser
import headrace as hr
import numpy as np
import pytest

HOSTILE = "</script><script>window.taken = 1</script><img src=x onerror='window.taken = 2'> ünï \u202e💥 ' \" & <!--"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.taken = 3'><script>window.taken = 4</script></svg>"


@pytest.fixture(scope="module")
def tabs() -> Iterator[browser.Browser]:
    if browser.find() is None:
        pytest.skip("no Chromium is on the path")
    with browser.Browser() as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    hr.init(tmp_path / ".headrace")
    return tmp_path


def out(folder: pathlib.Path, *words: str) -> str:
    done = subprocess.run(["headrace", *words], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def page_of(folder: pathlib.Path, *words: str) -> pathlib.Path:
    file = folder / "page.html"
    out(folder, "runs", *words, "--html", str(file))
    return file


def opened(tabs: browser.Browser, file: pathlib.Path, **look: Any) -> browser.Page:
    tab = tabs.open(file.as_uri(), **look)
    tab.evaluate("ready.then(() => 0)")
    return tab


def unharmed(tab: browser.Page, file: pathlib.Path) -> None:
    """Nothing was thrown, nothing ran that is data, and nothing was asked of any network."""
    assert tab.errors == []
    assert tab.evaluate("window.taken ?? 0") == 0
    assert [one for one in tab.asked if not one.startswith("data:")] == [file.as_uri()]


EXTREMES = """(() => {
  const told = page.charts.find((one) => one.key === %s);
  const chart = new Chart(told, document.createElement("div")), answers = [];
  for (const [axis, from, to, pixels] of %s) {
    shown.axis = axis;
    const [low, high] = chart.whole();
    chart.zoom([low + (high - low) * from, low + (high - low) * to]);
    const view = chart.window(pixels), { width } = chart.data(told.series[0]);
    const columns = columnsOf(chart.data(told.series[0]), view.from, view.to, view.count);
    const asked = chart.windows[axis] ?? chart.whole();
    answers.push({ ...view, width, asked, min: [...columns.min].map(String), max: [...columns.max].map(String), n: [...columns.n],
      nans: [...columns.nans], plus: [...columns.plus], minus: [...columns.minus] });
  }
  shown.axis = "step";
  return { origin: told.origin, answers };
})()"""


def column_facts(x: np.ndarray, values: np.ndarray, view: dict[str, Any]) -> dict[str, list[Any]]:
    count = view["count"]
    inside = (x >= view["from"]) & (x < view["to"])
    place = np.floor((x[inside] - view["from"]) * count / (view["to"] - view["from"])).astype(int)
    place, values = np.minimum(place, count - 1), values[inside]
    finite = np.isfinite(values)
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, place[finite], values[finite])
    np.maximum.at(high, place[finite], values[finite])

    def counts(which: np.ndarray) -> list[int]:
        return np.bincount(place[which], minlength=count).tolist()

    return {
        "min": low.tolist(),
        "max": high.tolist(),
        "n": counts(finite),
        "nans": counts(np.isnan(values)),
        "plus": counts(values == np.inf),
        "minus": counts(values == -np.inf),
    }


@pytest.mark.parametrize("points", [3, 4_000, 120_000])
def test_every_column_has_the_extremes_of_all_its_points(
    tabs: browser.Browser, folder: pathlib.Path, points: int
) -> None:
    """At random windows, by step and by time, the page's own script beside numpy over the view `points`."""
    luck = random.Random(points)
    step = -50
    for life in range(2):
        with hr.run("exact", id="exact", catalog=folder, system=False) as run:
            for _ in range(points // 2 + 1):
                step += luck.choice((-1, 0, 1, 1, 1, 7))
                odd = luck.random()
                value = math.nan if odd < 0.001 else math.inf if odd < 0.002 else -math.inf if odd < 0.003 else None
                run.log({"loss": luck.gauss(0, 1) if value is None else value, "other": step}, step=step)
        step -= 200 if life == 0 and points > 3 else 0
    tab = opened(tabs, file := page_of(folder, "show", "exact"))
    started = hr.open(folder).sql("select epoch_us(started) as at from runs_now").to_pylist()[0]["at"]
    rows = hr.open(folder).sql("select step, epoch_us(time) as time, value from points where key = 'loss'").to_arrow()
    columns = {name: np.array(rows.column(name).to_pylist()) for name in ("step", "time", "value")}
    windows: list[tuple[str, float, float, int]] = [("step", 0, 1, 700), ("time", 0, 1, 700)]
    for number in range(40):
        width = 10 ** luck.uniform(-4, 0)
        begin = luck.uniform(0, 1 - width)
        windows.append((("step", "time")[number % 2], begin, begin + width, luck.randrange(20, 1500)))
    told = tab.evaluate(EXTREMES % (json.dumps("loss"), json.dumps(windows)))
    for (axis, *_), view in zip(windows, told["answers"], strict=True):
        x = columns["step"] - int(told["origin"]) if axis == "step" else columns["time"] - started
        assert view["from"] <= view["asked"][0] and view["to"] >= view["asked"][1]  # all that was asked for is in it
        wanted = column_facts(x.astype(float), columns["value"], view)
        assert [float(one.replace("Infinity", "inf")) for one in view["min"]] == wanted["min"], (axis, view["width"])
        assert [float(one.replace("Infinity", "inf")) for one in view["max"]] == wanted["max"], (axis, view["width"])
        assert {name: view[name] for name in ("n", "nans", "plus", "minus")} == {
            name: wanted[name] for name in ("n", "nans", "plus", "minus")
        }
    assert all((view["width"] > 0) == (points > 50_000) for view in told["answers"])
    limit = tab.evaluate("document.querySelector('.limit').textContent")
    assert ("minimum and maximum are exact" in limit) == (points > 50_000)
    unharmed(tab, file)


def test_a_page_has_all_that_is_known(tabs: browser.Browser, folder: pathlib.Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    with hr.run(
        HOSTILE, config={"lr": 0.1, HOSTILE: HOSTILE}, tags=[HOSTILE, "small"], catalog=folder, notes=HOSTILE
    ) as run:
        for step in range(3):
            run.log({"loss": 1 / (step + 1), HOSTILE: 1.0, "k" * 10_000: 2.0, "train/" + HOSTILE: step}, step=step)
            run.log({"sample": hr.Image(pixels, caption=HOSTILE), "note": f"{HOSTILE} {step}"}, step=step)
        run.log({"weights": hr.Histogram(np.arange(100)), "rows": np.arange(5)}, step=3)
        run.log({"confusion": [{HOSTILE: HOSTILE, "b": 1}], "sound": hr.Audio(np.zeros(100))}, step=3)
        run.summary["best"] = HOSTILE
        sha = run.save("w.bin", b"123")
        run.use("photos")
    with hr.run("user", catalog=folder, parent=run.id, system=False) as user:
        user.use(type("Thing", (), {"_as_input": lambda self: {"kind": "model", "name": "w", "sha256": sha}})())
    # What no run logs, but a table may hold.
    hr.open(folder)["hr.media"].append(
        [{"run": run.id, "key": f"forged {n}", "rank": 0, "step": 1, "kind": kind, "format": format_, "text": text, "data": SVG}
         for n, (kind, format_, text) in enumerate([
             ("image", "image/svg+xml", None), ("table", "application/json", "[" * 1_000_000), ("image", "text/html", None), ("image", 'image/png" onerror="window.taken=5', None),
             ("audio", "text/html", None), ("table", "application/json", '{"columns": 1, "rows": {"a": 1}}'),
             ("table", "application/json", "{"), ("histogram", "x", "</script>"), ("array", "x", "null"), (HOSTILE, HOSTILE, HOSTILE)])]
    )  # fmt: skip
    hr.open(folder)["hr.media"].append(
        [{"run": run.id, "key": f"facts {n}", "rank": 0, "step": 1, "kind": "histogram", "format": "x", "facts": json.dumps(facts)}
         for n, facts in enumerate([{"counts": [HOSTILE, None, -5, [1]], "edges": []}, {"counts": [], "edges": [HOSTILE]}, {"counts": {}, "edges": 1}, [1]])]
    )  # fmt: skip
    out(folder, "track", "--name", "shell", "--", "sh", "-c", "echo '<b>one</b>'; echo two >&2")
    file = page_of(folder, "show", run.id)
    assert "</script><script>window" not in file.read_text() and "onload='window" not in file.read_text()
    tab = opened(tabs, file)
    for box in range(tab.evaluate("document.querySelectorAll('details').length")):
        tab.evaluate(f"document.querySelectorAll('details')[{box}].open = true; scrollTo(0, 1e6)")
    text = tab.evaluate("new Promise((done) => setTimeout(() => done(document.body.innerText), 300))")
    for wanted in ("finished", "lr", "0.1", "small", "best", "w.bin", "used by user", "child", "photos", "sample", "weights",
                   "100 values", "0, 1, 2, 3, 4", "confusion", "onerror='window.taken = 2'", "Environment", "numpy",
                   "k" * 200):  # fmt: skip
        assert wanted in text, wanted
    images = "[...document.querySelectorAll('img')].map((one) => [one.naturalWidth, one.src.slice(0, 22)])"
    assert tab.evaluate(images) == [[8, "data:image/png;base64,"]]
    assert tab.evaluate("document.querySelectorAll('audio').length") == 1
    assert tab.evaluate("document.querySelectorAll('.bars').length") == 1
    assert tab.evaluate("page.charts.filter((one) => one.system).length") > 0
    # Earlier steps of what was logged.
    move = (
        "document.querySelector('figure.media input').value = 0; document.querySelector('figure.media input').oninput()"
    )
    tab.evaluate(move)
    unharmed(tab, file)
    tab = opened(tabs, file := page_of(folder, "show", "shell"))
    shown = tab.evaluate("document.querySelector('.output').innerText")
    assert "<b>one</b>" in shown and "two" in shown
    unharmed(tab, file)


def test_what_is_not_committed_yet_is_there(tabs: browser.Browser, folder: pathlib.Path) -> None:
    run = hr.run("goes on", catalog=folder, system=False)
    try:
        for step in range(3):
            pixels = np.full((step + 2, 5, 3), step * 50, np.uint8)
            run.log({"loss": step, "sample": [hr.Image(pixels), hr.Image(pixels.transpose(1, 0, 2))]}, step=step)
        tab = opened(tabs, file := page_of(folder, "show", "goes on"))
        images = "[...document.querySelectorAll('img')].map((one) => [one.naturalWidth, one.naturalHeight])"
        assert tab.evaluate(images) == [[5, 4], [4, 5]]
        assert tab.evaluate("page.facts[0].count") == 3 and "running" in tab.evaluate("document.body.innerText")
        unharmed(tab, file)
    finally:
        run.finish()


def test_people_zoom_and_read(tabs: browser.Browser, folder: pathlib.Path) -> None:
    with hr.run("zoom", catalog=folder, system=False) as run:
        for step in range(1000):
            run.log({"loss": 0.1 + 0.2 if step == 700 else step / 1000 - 0.1 if step != 500 else math.nan}, step=step)
    tab = opened(tabs, file := page_of(folder, "show", "@last"))
    box = tab.evaluate("(({x, y, width, height}) => [x, y, width, height])(document.querySelector('canvas').getBoundingClientRect())")  # fmt: skip
    chart = "charts.get(document.querySelector('figure'))"
    everything = tab.evaluate(f"{chart}.window(600)")
    assert everything["from"] == 0 and 999 < everything["to"] < 1002
    middle = box[1] + box[3] / 2
    tab.drag((box[0] + box[2] * 0.5, middle), (box[0] + box[2] * 0.9, middle))
    near = tab.evaluate(f"{chart}.window(600)")
    assert 300 < near["from"] < 600 and 700 < near["to"] < 950
    assert tab.evaluate("document.querySelector('.reset').hidden") is False
    tab.double_click(box[0] + box[2] / 2, middle)
    assert tab.evaluate(f"{chart}.window(600)") == everything
    # Keys: to the point itself, whose value is told as it was logged.
    tab.evaluate("document.querySelector('canvas').focus()")
    tab.evaluate(f"{chart}.zoom([695, 705]); 0")
    tab.press("Home")
    read = []
    for _ in range(200):
        tab.press("ArrowRight")
        read.append(tab.evaluate("document.querySelector('.readout').innerText"))
    assert any(line.startswith("step 700,") and line.endswith("0.30000000000000004") for line in read), read[:5]
    assert tab.evaluate("document.querySelector('.readout').ariaLive") == "polite"
    tab.press("0")
    assert tab.evaluate(f"{chart}.window(600)") == everything
    tab.press("+")
    assert tab.evaluate(f"{chart}.window(600).to - {chart}.window(600).from") == pytest.approx(everything["to"] / 2)
    tab.press("Escape")
    label = tab.evaluate("document.querySelector('canvas').ariaLabel").replace("\xa0", " ")
    assert "1,000 points" in label and "1 NaN" in label
    # What is drawn where: logarithms, time, an average.
    for change in ("shown.log = true", "shown.axis = 'time'", "shown.smooth = 0.9", "shown.log = false"):
        tab.evaluate(f"{change}; redraw()")
        drawn = "(() => { const c = document.querySelector('canvas'); return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v) => v > 0); })()"  # fmt: skip
        assert tab.evaluate(drawn)
    unharmed(tab, file)


SPIKE = """(() => {
  const chart = charts.get(document.querySelector("figure")), seen = [];
  for (const [from, to] of %s) {
    chart.zoom([from, to]);
    const { left, width } = chart.plot, view = chart.view, column = Math.floor((43210 - view.from) * view.count / (view.to - view.from));
    const x = Math.floor(left + (column + 0.5) * width / view.count), y = Math.floor(chart.y(10)) + 1;
    seen.push([x, x - 40].map((at) => [...chart.canvas.getContext("2d").getImageData(at, y, 1, 1).data]));
  }
  return seen;
})()"""


def test_a_spike_of_one_step_is_drawn_at_every_zoom(tabs: browser.Browser, folder: pathlib.Path) -> None:
    luck = random.Random(1)
    with hr.run("spike", catalog=folder, system=False) as run:
        for step in range(100_000):
            run.log({"loss": 10.0 if step == 43_210 else luck.random()}, step=step)
    tab = opened(tabs, file := page_of(folder, "show", "spike"))
    windows = [[43_210 - luck.randint(100, 43_000), 43_210 + luck.randint(100, 50_000)] for _ in range(20)]
    for drawn, beside in tab.evaluate(SPIKE % json.dumps([[0, 100_000], *windows])):
        assert drawn[3] > 0 and drawn != beside  # there may be a line of the grid
    unharmed(tab, file)


def test_runs_beside_each_other(tabs: browser.Browser, folder: pathlib.Path) -> None:
    for name, lr, count in (("one", 0.1, 60_000), ("two", 0.2, 100), ("one", 0.3, 10)):
        with hr.run(name, config={"lr": lr, "same": 1}, catalog=folder, system=False) as run:
            for step in range(count):
                run.log({"loss": lr * step, f"only {name}": 1}, step=step * 3)
    ids = [row["id"] for row in hr.open(folder).sql("select id from runs_now order by started").to_pylist()]
    text = out(folder, "runs", "diff", *ids)
    assert ["config.lr", "0.1", "0.2", "0.3"] in [
        line.split() for line in text.splitlines()
    ] and "config.same" not in text
    told = [json.loads(line) for line in out(folder, "runs", "diff", *ids, "--json").splitlines()]
    assert {"what": "config.lr", "a": "0.1", "b": "0.2", "c": "0.3"} in told
    tab = opened(tabs, file := page_of(folder, "diff", *ids))
    text = tab.evaluate("document.body.innerText")
    assert "3 runs" in text and "config.lr" in text and "config.same" not in text and "same in all" in text
    legend = tab.evaluate("[...document.querySelectorAll('figure')].map((one) => [one.told.key, one.told.series.map((s) => s.name)])")  # fmt: skip
    first, third = f"one {ids[0][:8]}", f"one {ids[2][:8]}"
    assert legend == [["loss", [first, "two", third]], ["only one", [first, third]], ["only two", ["two"]]]
    # Buckets of the long one and points of the others have their columns in common.
    view = tab.evaluate("charts.get(document.querySelector('figure')).window(900)")
    width = tab.evaluate("charts.get(document.querySelector('figure')).width()")
    assert width > 0 and view["from"] % width == 0 and (view["to"] - view["from"]) / view["count"] % width == 0
    tab.evaluate("document.querySelector('.legend button').click()")
    assert tab.evaluate("document.querySelector('.legend button').ariaPressed") == "false"
    unharmed(tab, file)
    out(folder, "runs", "diff", *ids[:2], "--html")
    assert (folder / f"runs-{ids[0][:8]}-{ids[1][:8]}.html").exists()
    out(folder, "runs", "show", ids[0], "--html")
    assert (folder / f"run-{ids[0][:8]}.html").exists()


def test_ten_thousand_keys_fit(tabs: browser.Browser, folder: pathlib.Path) -> None:
    with hr.run("many", catalog=folder, system=False) as run:
        for step in range(3):
            run.log({f"layer{key % 50}/{HOSTILE}{key}": key + step / 7 for key in range(10_000)}, step=step)
    file = page_of(folder, "show", "many")
    assert file.stat().st_size < 32 << 20
    tab = opened(tabs, file)
    assert tab.evaluate("page.charts.length") == 2_000 and tab.evaluate("page.facts.length") == 10_000
    assert "Of 10,000 curves this page draws the first 2,000" in tab.evaluate("document.body.innerText")
    assert tab.evaluate("document.querySelectorAll('canvas').length") < 200  # those in sight
    tab.evaluate("(() => { const one = byId('filter'); one.value = '9999'; one.oninput(); })()")
    unharmed(tab, file)
    tab = opened(tabs, file := page_of(folder, "show", "many", "--key", f"layer49/{HOSTILE}9999"))
    assert tab.evaluate("page.charts.length") == 1
    unharmed(tab, file)


def test_steps_anywhere_and_no_points(tabs: browser.Browser, folder: pathlib.Path) -> None:
    with hr.run("empty", catalog=folder, system=False):
        pass
    tab = opened(tabs, file := page_of(folder, "show", "empty"))
    assert "No numbers were logged" in tab.evaluate("document.body.innerText")
    unharmed(tab, file)
    ends = [-(2**63), 2**63 - 1, 0, 2**53 + 1]
    with hr.run("far", catalog=folder, system=False) as run:
        for step in ends:
            run.log({"loss": 1e308 if step < 0 else -1e308, "nan": math.nan, "inf": math.inf}, step=step)
    tab = opened(tabs, file := page_of(folder, "show", "far"))
    steps = "(() => { const one = loaded(page.charts.find((c) => c.key === 'loss').series[0], 'step', BigInt(page.charts[0].origin)); return [0, 1, 2, 3].map((i) => String(one.step(i))); })()"  # fmt: skip
    assert tab.evaluate(steps) == [str(step) for step in sorted(ends)]
    assert "3 NaN" in tab.evaluate("document.body.innerText") or "4 NaN" in tab.evaluate("document.body.innerText")
    unharmed(tab, file)


def test_a_page_is_usable_on_a_narrow_screen(tabs: browser.Browser, folder: pathlib.Path) -> None:
    with hr.run(
        "narrow " + "x" * 300, config={"a" * 200: "b" * 500, "seed": 14438498563190246941}, catalog=folder
    ) as run:
        for step in range(50):
            run.log({"loss": step, "long/" + "y" * 200: step}, step=step)
        run.log({"confusion": [{f"column {n}": n for n in range(30)}]})
    for dark in (False, True):
        tab = opened(tabs, file := page_of(folder, "show", "@last"), width=400, height=800, dark=dark)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 400
        assert "14438498563190246941" in tab.evaluate("document.body.textContent")  # longer than a float64 can be
        back = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, back[4:-1].split(","))) < 200) == dark
        unharmed(tab, file)
