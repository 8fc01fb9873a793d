"""Annotation queues: items handed out, judged in a pipe, made a column; and who may get what, whoever is killed."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from typing import Any

import headrace as hr
import numpy as np
import pytest
from test_cli import Run

PROGRAM = shutil.which("headrace") or "headrace"
SECONDS_TO_LIVE = "1"


def photos(catalog: hr.Catalog, count: int) -> hr.Table:
    return catalog.create_table("photos", {"path": [f"{i}.jpg" for i in range(count)]})


def create(headrace: Run, catalog: hr.Catalog, *words: str, query: str = "select path from photos") -> dict[str, Any]:
    labels = () if "--range" in words else ("--label", "sharp", "--label", "blurred")
    made = headrace("--catalog", catalog.location, "--json", "queue", "create", "q", query, "--name", "quality", *labels, *words)  # fmt: skip
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout)


def label(
    catalog: hr.Catalog, who: str, answers: str, *words: str
) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """The items that somebody saw who sends these lines."""
    done = subprocess.run(
        [PROGRAM, "--catalog", catalog.location, "--json", "label", "q", "--who", who, *words],
        input=answers,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done


def labels(catalog: hr.Catalog) -> list[dict[str, Any]]:
    return catalog.sql(
        "select target, who, label, value from scores_now where queue = 'q' order by target, who"
    ).to_pylist()


def test_a_person_labels(headrace: Run, catalog: hr.Catalog) -> None:
    table = photos(catalog, 4)
    version = table.at().version
    made = create(headrace, catalog, "--instructions", "Look at the edges.")
    assert made["items"] == 4 and made["inputs"] == [f"photos@v{version}"]
    assert made["rubric"]["labels"] == [{"key": "h", "label": "sharp"}, {"key": "b", "label": "blurred"}]
    table.append({"path": ["later.jpg"]})  # the queue stays as it was

    seen, done = label(catalog, "ada", "h\nc too dark\nwhat\nblurred\ns\nu\nq\n")
    assert done.returncode == 0, done.stderr
    assert "'what' is none of them" in done.stderr
    assert [item["item"] for item in seen] == [0, 1, 2, 3, 2]  # after the undo of the skip it is 2 again
    assert seen[0]["target"] == f"row:photos@v{version}:0" and seen[0]["shown"] == {"path": "0.jpg"}
    assert (seen[0]["left"], seen[3]["left"], seen[4]["left"]) == (4, 1, 2)
    rows = catalog.sql("select * from scores_now order by target").to_pylist()
    assert [(row["target"][-1], row["label"], row["comment"], row["who"], row["queue"], row["source"]) for row in rows] == [
        ("0", "sharp", None, "ada", "q", "person"),
        ("1", "blurred", "too dark", "ada", "q", "person"),
    ]  # fmt: skip
    assert all(row["seconds"] > 0 for row in rows)
    # In a later session: what is left, and an undo of what the earlier one said.
    seen, done = label(catalog, "ada", "u\nb\nh\nh\n")
    assert [item["item"] for item in seen] == [2, 1, 2, 3], done.stderr
    assert [row["label"] for row in labels(catalog)] == ["sharp", "blurred", "sharp", "sharp"]
    text = headrace("--catalog", catalog.location, "label", "q", "--who", "ada").stdout
    assert "Look at the edges." in text and "Nothing is left for you: 4 labels of yours, 4 of 4 in all" in text
    shown = json.loads(headrace("--catalog", catalog.location, "queue", "show", "q", "--json").stdout)
    assert shown["labelled"] == 4 and shown["people"] == {"ada": {"labels": 4, "skipped": 0}}
    assert "4" in headrace("--catalog", catalog.location, "queue", "ls").stdout
    assert headrace("--catalog", catalog.location, "queue", "rm", "q").returncode == 1  # without --yes
    assert headrace("--catalog", catalog.location, "queue", "rm", "q", "--yes").returncode == 0
    gone = headrace("--catalog", catalog.location, "label", "q")
    assert gone.returncode == 1 and "there is no queue 'q'" in gone.stderr
    assert len(labels(catalog)) == 4
    assert "removed" in headrace("--catalog", catalog.location, "queue", "log").stdout


def test_what_is_no_queue_is_told(headrace: Run, catalog: hr.Catalog) -> None:
    photos(catalog, 2)

    def refused(*words: str) -> str:
        done = headrace("--catalog", catalog.location, "queue", "create", *words)
        assert done.returncode == 1, done.stdout
        return done.stderr

    good = ("--label", "a", "--label", "b")
    assert "Give --label once for each label, or --range" in refused("q", "select path from photos")
    assert "nothing says what the items are" in refused("q", "select count(*) as n from photos", *good)
    assert "gives no rows" in refused("q", "select path from photos where path = 'x'", *good)
    assert "twice" in refused("q", "select 'run:r' as target from photos", *good)
    assert "u, s, c and q" in refused("q", "select path from photos", "--label", "u=ugly")
    assert "--range is LEAST..MOST" in refused("q", "select path from photos", "--range", "5..1")
    assert "letters, digits" in refused("a b", "select path from photos", *good)
    create(headrace, catalog)
    assert "there is a queue 'q'" in refused("q", "select path from photos", *good)


def test_numbers_and_their_mean_as_a_column(headrace: Run, catalog: hr.Catalog) -> None:
    table = photos(catalog, 3)
    create(headrace, catalog, "--range", "0..10", "--overlap", "2")
    _, done = label(catalog, "ada", "1\n11\n2\n3.5\n")
    assert "'11' is none of them" in done.stderr and done.returncode == 0, done.stderr
    label(catalog, "bob", "3\n2\n")
    table.append({"path": ["later.jpg"]})
    made = headrace("--catalog", catalog.location, "label", "q", "--into", "photos.quality", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["votes"], told["rows"], told["ties"]) == (5, 3, [])
    assert catalog.sql("select quality from photos order by _row_id").to_pylist() == [
        {"quality": 2.0}, {"quality": 2.0}, {"quality": 3.5}, {"quality": None},
    ]  # fmt: skip
    entry = table.history(1)[0]
    assert any("queue q" in one for one in entry.inputs) and any(one.startswith("photos@v") for one in entry.inputs)
    label(catalog, "bob", "9.5\n")
    again = headrace("--catalog", catalog.location, "label", "q", "--into", "photos.quality")
    assert again.returncode == 1 and "--yes" in again.stderr
    again = headrace("--catalog", catalog.location, "label", "q", "--into", "photos.quality", "--yes")
    assert again.returncode == 0, again.stderr
    assert catalog.sql("select quality from photos where path = '2.jpg'").to_pylist() == [{"quality": 6.5}]


def test_labels_become_a_column(headrace: Run, catalog: hr.Catalog) -> None:
    table = photos(catalog, 4)
    create(headrace, catalog, "--overlap", "3")
    for who, answers in (("ada", "hhbh"), ("bob", "hbbb"), ("carl", "bhb")):
        label(catalog, who, "".join(f"{key}\n" for key in answers))
    table.delete("path = '2.jpg'")
    made = headrace("--catalog", catalog.location, "label", "q", "--into", "photos.quality")
    assert made.returncode == 0, made.stderr
    assert "1 row is a tie" in made.stdout and "1 labelled rows are not in the table any more" in made.stdout
    rows = catalog.sql("select path, quality from photos order by path").to_pylist()
    assert [(row["path"], row["quality"]) for row in rows] == [("0.jpg", "sharp"), ("1.jpg", "sharp"), ("3.jpg", None)]


# Who is killed, and when, is drawn; what comes out is not.
def test_each_item_twice_whoever_is_killed(headrace: Run, catalog: hr.Catalog) -> None:
    """Three people, overlap 2, 500 items: each item has two labels of two people."""
    items, kills = 500, 25
    photos(catalog, items)
    create(headrace, catalog, "--overlap", "2")
    killed = 0
    draw = random.Random(5)
    stop = time.monotonic() + 400

    def work(who: str) -> None:
        nonlocal killed
        mine = random.Random(who)
        while time.monotonic() < stop:
            person = subprocess.Popen(
                [
                    PROGRAM,
                    "--catalog",
                    catalog.location,
                    "--json",
                    "label",
                    "q",
                    "--who",
                    who,
                    "--ttl",
                    SECONDS_TO_LIVE,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert person.stdin and person.stdout and person.stderr
            dies_after = draw.randrange(5, 60) if killed < kills else -1
            for count, _ in enumerate(person.stdout):
                person.stdin.write(mine.choice("hb") + "\n")
                person.stdin.flush()
                if count == dies_after:
                    time.sleep(draw.random() * 0.01)
                    person.send_signal(signal.SIGKILL)
                    killed += 1
                    break
            person.stdin.close()
            if person.wait() != -signal.SIGKILL:
                assert person.returncode == 0, person.stderr.read()
                return

    people = [threading.Thread(target=work, args=(who,)) for who in ("ada", "bob", "carl")]
    for one in people:
        one.start()
    for one in people:
        one.join()
    assert killed >= 10
    found = labels(catalog)
    by_target = Counter(row["target"] for row in found)
    assert len(by_target) == items and set(by_target.values()) == {2}
    assert len({(row["target"], row["who"]) for row in found}) == 2 * items
    shown = json.loads(headrace("--catalog", catalog.location, "queue", "show", "q", "--json").stdout)
    assert shown["labelled"] == 2 * items


def cohen(a: list[str], b: list[str]) -> float:
    table = np.array(
        [[sum(x == i and y == j for x, y in zip(a, b, strict=True)) for j in set(a + b)] for i in set(a + b)]
    )
    share = table / table.sum()
    by_chance = float(share.sum(axis=0) @ share.sum(axis=1))
    return float((np.trace(share) - by_chance) / (1 - by_chance))


def fleiss(units: list[list[str]]) -> float:
    counts = np.array([[unit.count(one) for one in ("blurred", "sharp")] for unit in units], float)
    n = counts.sum(axis=1)[0]
    agreement = ((counts**2).sum(axis=1) - n) / (n * (n - 1))
    by_chance = ((counts.sum(axis=0) / counts.sum()) ** 2).sum()
    return float((agreement.mean() - by_chance) / (1 - by_chance))


def krippendorff(units: list[list[str]]) -> float:
    """Nominal: from the matrix of coincidences."""
    words = sorted({word for unit in units for word in unit})
    pairs = np.zeros((len(words), len(words)))
    for unit in units:
        for i, x in enumerate(unit):
            for j, y in enumerate(unit):
                if i != j:
                    pairs[words.index(x), words.index(y)] += 1 / (len(unit) - 1)
    n = pairs.sum(axis=1)
    observed, expected = pairs.sum() - np.trace(pairs), n.sum() ** 2 - (n**2).sum()
    return float(1 - (n.sum() - 1) * observed / expected)


def sql_of_the_guide(name: str) -> str:
    from conftest import ROOT

    text = (ROOT / "docs" / "guide" / "scores.md").read_text()
    found = re.search(rf"-- {name}\n(.*?)```", text, re.DOTALL)
    assert found, name
    return found[1]


def test_agreement_by_sql(headrace: Run, catalog: hr.Catalog) -> None:
    photos(catalog, 60)
    create(headrace, catalog, "--overlap", "3")
    draw = random.Random(3)
    truth = [draw.choice("hb") for _ in range(60)]
    said: dict[str, list[str]] = {}
    for who in ("ada", "bob", "carl"):
        said[who] = [key if draw.random() < 0.8 else draw.choice("hb") for key in truth]
        label(catalog, who, "".join(f"{key}\n" for key in said[who][: 57 if who == "carl" else 60]))
    words = {"h": "sharp", "b": "blurred"}
    units = [[words[said[who][i]] for who in said] for i in range(60)]
    # Some labels are missing: alpha knows what to do with that.
    some = units[:57] + [unit[:2] for unit in units[57:]]
    (alpha,) = catalog.sql(sql_of_the_guide("Krippendorff's alpha"), {"queue": "q"}).to_pylist()
    assert alpha["alpha"] == pytest.approx(krippendorff(some), abs=1e-12)
    label(catalog, "carl", "".join(f"{key}\n" for key in said["carl"][57:]))
    (pair,) = catalog.sql(
        sql_of_the_guide("Cohen's kappa of two people"), {"queue": "q", "a": "ada", "b": "bob"}
    ).to_pylist()
    assert pair["kappa"] == pytest.approx(cohen(said["ada"], said["bob"]), abs=1e-12)
    (all_three,) = catalog.sql(sql_of_the_guide("Fleiss' kappa"), {"queue": "q"}).to_pylist()
    assert all_three["kappa"] == pytest.approx(fleiss(units), abs=1e-12)


def test_krippendorff_by_hand() -> None:
    """Two people, ten items, as worked out in Krippendorff's "Computing Krippendorff's alpha-reliability" (2011), example B."""
    a, b = "0100000000", "1110010001"
    units = [[x, y] for x, y in zip(a, b, strict=True)]
    assert krippendorff(units) == pytest.approx(0.095, abs=5e-4)


def test_queues_of_python(catalog: hr.Catalog) -> None:
    photos(catalog, 3)
    queue = hr.Queue(
        "q",
        "select path from photos where path <> '1.jpg'",
        hr.Rubric("quality", labels=("sharp", hr.Label("blurred", "x")), instructions="Look."),
        overlap=2,
    )
    assert hr.Queue.from_json(queue.to_json()).to_json() == queue.to_json()
    made = catalog.create_queue(queue)
    assert made.items == 2 and made.inputs[0].startswith("photos@v")
    assert made.rubric.labels == (hr.Label("sharp", "h"), hr.Label("blurred", "x"))
    assert catalog.queues() == [made]
    with pytest.raises(hr.Invalid, match="there is a queue 'q'"):
        catalog.create_queue(queue)
    with pytest.raises(hr.Invalid, match="has labels, or a range"):
        catalog.create_queue(hr.Queue("r", "select path from photos", hr.Rubric(range=(1, 1))))
    first = catalog.score(f"row:photos@v{catalog['photos'].at().version}:0", label="sharp", name="quality", who="ada")
    assert catalog.sql("select id, source from scores_now").to_pylist() == [{"id": first, "source": "program"}]
    catalog.score("run:a", 1, against="b", judge="gemma@3", repeat=2, run="r", seconds=0.5)
    catalog.score("run:a", True, supersedes=first)
    assert [row["target"] for row in catalog.sql("select target from scores_now order by time").to_pylist()] == [
        "a",
        "a",
    ]
    catalog.score("run:a", withdraw=True)
    (left,) = catalog.sql("select target_kind, against, judge, repeat, run, seconds, value from scores_now where against is not null").to_pylist()  # fmt: skip
    assert left == {"target_kind": "run", "against": "b", "judge": "gemma@3", "repeat": 2, "run": "r", "seconds": 0.5, "value": 1.0}  # fmt: skip
    for wrong in ({"target": "row:photos:1", "value": 1}, {"target": "run:a"}, {"target": "run:a", "value": 1, "source": "nobody"}):  # fmt: skip
        with pytest.raises(hr.Invalid):
            catalog.score(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["kitty", "iterm2", "sixel"])
def test_pictures_on_a_terminal(headrace: Run, catalog: hr.Catalog, how: str) -> None:
    import base64
    import pty

    from PIL import Image

    image = Image.new("RGB", (8, 6), (255, 0, 0))
    data = io.BytesIO()
    image.save(data, "png")
    catalog.create_table("photos", {"path": "string", "image": "blob"}).append(
        {"path": ["a"], "image": [data.getvalue()]}
    )
    create(headrace, catalog, query="select path, image from photos")
    owner, terminal = pty.openpty()
    person = subprocess.Popen(
        [PROGRAM, "--catalog", catalog.location, "label", "q", "--who", "ada", "--pictures", how],
        stdin=terminal, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(terminal)
    os.write(owner, b"huhq")  # one key each, no Return: the undo is of the last item
    shown = b""
    while True:
        try:
            part = os.read(owner, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert person.wait() == 0, shown
    assert b"image/png, 8" in shown and b"Nothing is left for you" in shown
    assert [row["label"] for row in labels(catalog)] == ["sharp"]
    if how == "kitty":
        found = re.search(rb"\033_Ga=T,f=24,s=8,v=6,m=0;([^\033]*)\033", shown)
        assert found and base64.b64decode(found[1]) == b"\xff\0\0" * 48
    if how == "iterm2":
        found = re.search(rb"\033\]1337;File=inline=1;[^:]*:([^\a]*)\a", shown)
        assert found and base64.b64decode(found[1]) == data.getvalue()
    if how == "sixel":
        # Eight columns of six red pixels in one band: '~' is six bits.
        found = re.search(rb"\033Pq\"1;1;8;6(.*?)\033", shown, re.DOTALL)
        assert found and b"#180;2;100;0;0" in found[1] and b"#180~~~~~~~~$-" in found[1]
