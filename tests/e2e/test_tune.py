"""headrace tune and hr.tune: a model learns from rows, is served, and goes on bit for bit where it was killed."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import headrace as hr
import numpy as np
import pytest
from conftest import wait_for
from headrace import safetensors_file
from headrace.tune_batches import Piece, TokenBatches, pieces_of
from run_programs import now, points

MODEL = (
    pathlib.Path(os.environ.get("HEADRACE_CACHE", pathlib.Path.home() / ".cache/headrace"))
    / "models"
    / "smollm2-135m-instruct-q4_1.gguf"
)
pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="./dev setup models")

COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}


def rows(count: int) -> list[dict[str, Any]]:
    chance = random.Random(3)
    made = []
    for _ in range(count):
        thing = chance.choice(list(COLOURS))
        made.append(
            {"question": f"{chance.choice(['What', 'Which'])} colour has {thing}?", "answer": f"<{COLOURS[thing]}>"}
        )
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> hr.Catalog:
    catalog = hr.init(tmp_path_factory.mktemp("tune") / "c", sync=False)
    catalog.create_table("pairs", rows(96))
    return catalog


def given(**more: Any) -> dict[str, Any]:
    values = {
        "model": str(MODEL),
        "data": "pairs",
        "prompt": "question",
        "answer": "answer",
        "out": "colours",
        "rank": 4,
        "threads": 1,
    }
    return {**values, "batch_tokens": 256, "learning_rate": 2e-3, "evaluations": 1, "validation": 0.1, **more}


def process(catalog: hr.Catalog, *words: str, **values: Any) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "headrace.tune_loop", catalog.location, json.dumps(values), "--json", *words]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, errors = process.communicate(timeout=240)
    assert process.returncode == code, errors
    return json.loads(out.splitlines()[-1]) if out else {}


def weights(catalog: hr.Catalog, run: str, folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Of the run's last checkpoint: adapters and moments."""
    last = catalog.checkpoints(run)[-1]
    found: dict[str, np.ndarray] = {}
    for name in ("model.safetensors", "training.safetensors"):
        path = last.fetch(name, folder / f"{run}-{name}")
        parts, _ = safetensors_file.read(path)
        found |= {f"{name}/{key}": np.array(safetensors_file.to_numpy(part)) for key, part in parts.items()}
    return found


def test_learns_and_what_it_learned_is_served(made: hr.Catalog, tmp_path: pathlib.Path) -> None:
    tuned = hr.tune(catalog=made, **given(epochs=2, name="by hand", tags=["t"]))
    run = now(made, tuned.run)
    assert run["state"] == "finished" and run["kind"] == "tune" and run["name"] == "by hand"
    assert run["config"]["rank"] == 4
    assert run["inputs"][0]["name"] == "pairs"
    curve = points(made, tuned.run)
    losses = [value for key, _, value in curve if key == "loss"]
    assert len(losses) == tuned.steps and losses[-1] < 0.3 * losses[0]
    validated = [value for key, _, value in curve if key == "val/loss"]
    assert validated[-1] == tuned.val_loss and validated[-1] < 0.3 * validated[0]
    file = made.artifact(tuned.sha256, tmp_path / "colours.gguf")
    model = hr.Model(str(MODEL))
    adapter = model.load_adapter(str(file))
    for thing, colour in COLOURS.items():
        asked = [{"role": "user", "content": f"What colour has {thing}?"}]
        assert str(model.generate(asked, adapter=adapter, max_tokens=8, temperature=0)).strip() == f"<{colour}>"
        assert str(model.generate(asked, max_tokens=8, temperature=0)).strip() != f"<{colour}>"


def test_killed_at_any_time_it_goes_on_bit_for_bit(made: hr.Catalog, tmp_path: pathlib.Path) -> None:
    values = given(steps=9, save_every=2, evaluations=2)
    straight = ended(process(made, **values, name="straight"))
    want = [one for one in points(made, straight["run"]) if not one[0].startswith("tokens_per")]
    chance = random.Random(5)
    killed = process(made, **values, name="killed")
    run = run_of(made, "killed", killed)
    for life in range(3):
        time.sleep(3 + 3 * chance.random())
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        if life < 2:
            killed = process(made, "--resume", run)
    done = ended(process(made, "--resume", "killed"))
    assert done["run"] == run and done["val_loss"] == straight["val_loss"] and done["steps"] == 9
    assert [one for one in points(made, run) if not one[0].startswith("tokens_per")] == want
    ours, theirs = weights(made, run, tmp_path), weights(made, straight["run"], tmp_path)
    assert ours.keys() == theirs.keys() and len(ours) > 600
    for name, value in ours.items():
        assert np.array_equal(value, theirs[name]), name


def run_of(catalog: hr.Catalog, name: str, training: subprocess.Popen[str]) -> str:
    """Its id, once it has begun."""
    while training.poll() is None:
        if "hr.runs" in catalog.tables() and (
            found := catalog.sql("select id from hr.runs where name = ?", [name]).to_pylist()
        ):
            return str(found[0]["id"])
        time.sleep(0.1)
    raise AssertionError(training.communicate()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_finishes_its_step(made: hr.Catalog, number: signal.Signals) -> None:
    stopped = process(made, **given(steps=1000, save_every=1000, name=f"stopped by {number.name}", evaluations=0))
    run = run_of(made, f"stopped by {number.name}", stopped)
    wait_for(lambda: any(key == "loss" for key, *_ in points(made, run)), "a step")
    stopped.send_signal(number)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 130 and f"go on with: headrace tune --resume {run}" in errors
    steps = max(step for key, step, _ in points(made, run) if key == "loss")
    assert now(made, run)["state"] == "interrupted" and made.checkpoints(run)[-1].step == steps


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ({"data": "nothing"}, hr.NotFound, "nothing"),
        ({"data": "pairs@v99"}, hr.NotFound, "99"),
        ({"prompt": "ask"}, hr.Invalid, "no column ask; it has question, answer"),
        ({"model": "/nowhere.gguf"}, hr.NotFound, "nowhere.gguf"),
        ({"where": "question = 'x'"}, hr.Invalid, "no row passes the filter"),
        ({"where": "answer <>"}, hr.Invalid, "in the filter"),
        ({"max_tokens": 4, "cut": "drop"}, hr.Invalid, "gives anything to learn"),
        ({"max_tokens": 1_000_000}, hr.Invalid, "1000000"),
        ({"learning_rate": float("inf")}, hr.Invalid, "learning_rate is inf"),
        ({"chat_template": "{{ nonsense("}, hr.Invalid, "template"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_learned(
    made: hr.Catalog, values: dict[str, Any], kind: type[hr.HeadraceError], said: str
) -> None:
    with pytest.raises(kind, match=".*" + said.replace("?", ".")):
        hr.tune(catalog=made, quiet=True, **{**given(steps=1), **values})


def test_a_loss_that_is_no_number_stops_it(made: hr.Catalog) -> None:
    with pytest.raises(
        hr.Invalid, match=r"the loss of step 1 is (nan|inf): nothing was learned from it. Its rows: \d+, "
    ):
        hr.tune(
            catalog=made, quiet=True, **given(learning_rate=1e30, clip=0, schedule="constant", warmup=0, evaluations=0)
        )


def test_goes_on_with_what_it_was_given(tmp_path: pathlib.Path) -> None:
    """Rows that came since are no part of it; nobody else goes on with it meanwhile; nothing else is given."""
    catalog = hr.init(tmp_path / "c", sync=False)
    table = catalog.create_table("pairs", rows(40))
    version = table.version
    running = process(catalog, **given(steps=1000, save_every=1, evaluations=0))
    run = run_of(catalog, "colours", running)
    wait_for(lambda: any(key == "loss" for key, *_ in points(catalog, run)), "a step")
    with pytest.raises(hr.Invalid, match="still going on, in another process"):
        hr.tune(catalog=catalog, quiet=True, resume=run)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    table.append(rows(40))
    assert now(catalog, run)["config"]["data"] == f"pairs@v{version}"
    later = process(catalog, "--resume", run)
    begun = max(step for key, step, _ in points(catalog, run) if key == "loss")
    wait_for(lambda: max(step for key, step, _ in points(catalog, run) if key == "loss") > begun + 2, "further steps")
    later.send_signal(signal.SIGTERM)
    said = later.communicate(timeout=60)[1]
    assert f" of pairs@v{version}, 10% kept back" in said and int(said.split("rows ")[1].split(" of")[0]) <= 40
    for words, said in ((("--resume", "nobody"), "no fine-tuning"), (("--resume", run), "cannot be given as well")):
        done = process(catalog, *words, **({"rank": 3} if "given" in said else {}))
        assert said in done.communicate(timeout=60)[1] and done.returncode == 2 - (said == "no fine-tuning")


def test_broken_rows_are_named(made: hr.Catalog) -> None:
    chats = [
        '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]',
        "[",
        '[{"role": "king", "content": ""}]',
    ]
    table = made.create_table("chats", [{"messages": text} for text in chats * 4])
    values = {
        **given(steps=2),
        "data": "chats",
        "messages": "messages",
        "prompt": None,
        "answer": None,
        "validation": 0.0,
    }
    with pytest.raises(hr.Invalid, match=r"row \d+"):
        hr.tune(catalog=made, quiet=True, **values)
    tuned = hr.tune(catalog=made, quiet=True, broken="drop", **values)
    assert tuned.val_loss is None
    assert "broken" in now(made, tuned.run)["summary"]["samples"]
    assert len(table) == 12


def test_shows_what_is_learned(made: hr.Catalog) -> None:
    done = process(made, "--show", "2", **given())
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0 and out.count("⟦<") == 2 and out.count("colour has") == 2


def test_plans_what_a_training_takes(made: hr.Catalog) -> None:
    """Tokens and steps are those of the training; nothing is recorded."""
    values = given(epochs=2, validation=0.2)
    before = made["hr.runs"].version if "hr.runs" in made.tables() else 0
    planned = ended(process(made, "--plan", **values))
    assert (made["hr.runs"].version if "hr.runs" in made.tables() else 0) == before
    tuned = ended(process(made, **values))
    curve = points(made, tuned["run"])
    assert abs(planned["steps"] - tuned["steps"]) <= 2  # rows of the second epoch lie otherwise in steps
    for key, name in (("tokens", "tokens"), ("learned_tokens", "learned_tokens")):
        assert planned[name] == sum(value for found, _, value in curve if found == key)
    assert planned["tokens_per_second"] > 0 and planned["seconds"] > 0 and planned["validation_seconds"] > 0
    assert 1e8 < planned["memory"] < 16e9


def test_a_configuration_is_json_and_back() -> None:
    config = hr.TuneConfig(**given(alpha=7.5, tags=["a", "b"], steps=3))
    assert hr.TuneConfig.from_json(config.to_json()) == config
    assert hr.TuneConfig(**given()).alpha == 8
    for values, said in [
        ({"ranks": 3}, "no 'ranks'; did you mean rank?"),
        ({"rank": "4"}, "rank is '4'; it is int"),
        ({"rank": 0}, "at least 1"),
        ({"rank": True}, "rank is True"),
        ({"schedule": "cosin"}, "cosine, linear"),
        ({"text": "question"}, "messages, prompt and answer, or text"),
        ({"answer": None}, "go together"),
        ({"out": "a/b"}, "is a name without"),
        ({"roles": []}, "roles is empty"),
        ({"validation": 1.0}, "less than 1"),
        ({"model": None}, "model is null"),
    ]:
        with pytest.raises(hr.Invalid, match=said.replace("?", ".")):
            hr.TuneConfig.from_dict(given(**values))
    with pytest.raises(hr.Invalid, match="needs model, data, out"):
        hr.TuneConfig.from_dict({})
    with pytest.raises(hr.Invalid, match="no JSON"):
        hr.TuneConfig.from_json("{")


def samples_of(batch: Any) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
    """Samples of lengths that depend on the row: none, one, or two."""
    import pyarrow as pa

    made = []
    for row in pa.record_batch(batch).to_pylist():
        if not row["valid"]:
            continue
        count = [1, 1, 0, 2][row["n"] % 4]
        tokens = np.full(1 + row["n"] * 7 % 40, row["n"], np.int32)
        made.append([(row["row_id"], tokens, np.ones(len(tokens), np.uint8))] * count)
    return made


def test_batches_go_on_where_any_step_ended(catalog: hr.Catalog) -> None:
    table = catalog.create_table("n", [{"n": i} for i in range(300)])

    def batches() -> TokenBatches:
        return TokenBatches(hr.Stream(table, ["n"], batch_size=16, seed=4, epochs=2), samples_of, 100, 60)

    def told(of: Iterator[Any]) -> list[Any]:
        return [([piece.tokens.tolist() for piece in step.pieces], step.row_ids, step.before, step.rows) for step in of]

    whole = told(iter(batches()))
    assert sum(len(piece) for pieces, *_ in whole for piece in pieces) == 2 * sum(
        (1 + i * 7 % 40) * [1, 1, 0, 2][i % 4] for i in range(300)
    )
    assert all(sum(map(len, pieces)) <= 100 for pieces, *_ in whole)
    assert all(len(piece) <= 60 or len(set(piece)) == 1 for pieces, *_ in whole for piece in pieces)
    for stop in range(1, len(whole), 7):
        first = batches()
        iterator = iter(first)
        for _ in range(stop):
            next(iterator)
        later = batches()
        later.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert told(iter(later)) == whole[stop:], stop
    with pytest.raises(hr.Invalid):
        batches().load_state_dict({})


def test_a_piece_has_no_token_of_another_document() -> None:
    samples = [
        (0, np.array([5, 6, 7], np.int32), np.array([0, 1, 1], np.uint8)),
        (1, np.array([8, 9], np.int32), np.array([0, 0], np.uint8)),
    ]
    samples.append((2, np.array([4], np.int32), np.array([1], np.uint8)))
    piece = Piece.of(samples)
    assert piece.tokens.tolist() == [5, 6, 7, 8, 9, 4] and piece.starts.tolist() == [0, 3, 5, 6]
    assert piece.targets.tolist() == [6, 7, -1, -1, -1, -1]
    assert [len(one.tokens) for one in pieces_of(samples, 4)] == [3, 3] and pieces_of([], 4) == []
