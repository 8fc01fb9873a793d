"""LoRA adapters as named things of a catalog: added, listed, served as MODEL:NAME, opened by it, removed."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import headrace as hr
import pytest
from docs_files import adapter
from serving import GEMMA, MODELS, Server, needs_models, program, run, serving

SMOL = MODELS / "smollm2-135m-instruct-q4_1.gguf"
pytestmark = [needs_models, pytest.mark.skipif(not SMOL.exists(), reason="./dev setup models")]
ASK = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12, "temperature": 0}


@pytest.fixture
def at(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A folder with a catalog that has the model "smol", and two adapters of it, one and two."""
    monkeypatch.chdir(tmp_path)
    run("init", ".headrace")
    run("model", "add", str(SMOL), "--name", "smol", "-q")
    adapter("one.gguf", "smol", 0.2, seed=1)
    adapter("two.gguf", "smol", 0.2, seed=2)
    return tmp_path


def listed() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in map(json.loads, run("--json", "model", "ls").splitlines())}


def said(server: Server, model: str, code: int = 200) -> str:
    answer = server.ask("/v1/chat/completions", {**ASK, "model": model})
    assert answer.status == code, answer.body
    return str(answer.json["choices"][0]["message"]["content"] if code == 200 else answer.json["error"]["message"])


def ids(server: Server) -> dict[str, Any]:
    return {one["id"]: one for one in server.ask("/v1/models").json["data"]}


def test_an_adapter_has_a_name_a_history_and_a_base(at: pathlib.Path) -> None:
    run("model", "add", "one.gguf", "--name", "smol:team")
    run("model", "add", "two.gguf", "--name", "smol:team")
    run("model", "add", "two.gguf", "--name", "smol:other")
    names = listed()
    assert list(names) == ["smol", "smol:other", "smol:team"]
    assert [one["adapter_of"] for one in names.values()] == [None, "smol", "smol"]
    team = names["smol:team"]
    assert (team["kind"], team["rank"], team["revision"]) == ("adapter", 4, 2)
    assert team["base_sha256"] == names["smol"]["sha256"]
    assert "adapter of rank 4" in run("model", "ls")
    assert "rank         4, alpha 4" in run("model", "inspect", "smol:team")
    assert json.loads(run("--json", "model", "inspect", "one.gguf"))["kind"] == "adapter"

    history = [json.loads(line) for line in run("--json", "model", "log", "smol:team").splitlines()]
    assert [one["revision"] for one in history] == [2, 1]
    run("model", "rollback", "smol:team")
    assert listed()["smol:team"]["sha256"] == history[1]["sha256"]

    run("gc", "--grace", "0s", "--yes")
    assert hr.Model("smol:team", context=256).generate("Hello", max_tokens=2).finish
    run("model", "rm", "smol:team", "--data")
    assert not list(at.glob(f".headrace/models/{history[1]['sha256']}/*"))
    assert "smol:other" in run("model", "rm", "smol", code=1)  # it has an adapter yet
    run("model", "rm", "smol:other")
    run("model", "rm", "smol")
    assert listed() == {}


def test_what_does_not_fit_is_refused_by_name(at: pathlib.Path) -> None:
    adapter("gemma.gguf", "gemma")
    assert "--name gemma:team" in run("model", "add", "one.gguf", "--name", "team", code=1)
    assert "without ':'" in run("model", "add", str(SMOL), "--name", "smol:whole", code=1)
    refused = run("model", "add", "gemma.gguf", "--name", "smol:team", code=1)
    assert "it does not fit 'smol'" in refused and "gemma3" in refused
    assert "no model 'nobody'" in run("model", "add", "one.gguf", "--name", "nobody:team", code=1)
    pathlib.Path("half.gguf").write_bytes(pathlib.Path("one.gguf").read_bytes()[:9000])
    assert "half.gguf ends within" in run("model", "add", "half.gguf", "--name", "smol:half", code=1)
    assert list(listed()) == ["smol"]
    run("model", "add", "one.gguf", "--name", "smol:team")
    assert "'smol:team' is an adapter of 'smol'" in run("model", "quantize", "smol:team", "q.gguf", code=1)
    assert "'smol:team' is an adapter" in run("embed", "smol:team", "a", code=1)
    assert "serve 'smol'" in run("serve", "smol:team", "--port", "0", code=1)
    assert "is an adapter already" in run("run", "smol:team", "Hi", "--adapter", "two.gguf", code=1)
    assert "is an adapter of a model" in run("run", "one.gguf", "Hi", code=1)


def test_it_is_served_by_its_name(at: pathlib.Path) -> None:
    run("model", "add", "one.gguf", "--name", "smol:team")
    run("model", "add", "two.gguf", "--name", "smol:other")
    with serving(at / ".headrace", "-c", "1024", "--alias", "assistant=smol:team") as server:  # all of the catalog
        names = ids(server)
        assert list(names) == ["smol", "smol:other", "smol:team", "assistant"]
        assert names["smol:team"]["parent"] == names["smol:team"]["root"] == "smol" and not names["smol"]["parent"]
        answers = {name: said(server, name) for name in names}
        assert len(set(answers.values())) == 3 and answers["assistant"] == answers["smol:team"]
        assert said(server, "smol") == answers["smol"]
        assert "'smol:nobody'" in said(server, "smol:nobody", 404)
        server.idle()
        rows = server.sql("select model, adapter, count(*) as n from traces group by all order by all")
    found = {(row["model"], row["adapter"]): row["n"] for row in rows if row["adapter"]}
    assert sum(found.values()) == 3 and {adapter for _, adapter in found} == {"team", "other"}
    # As the file does, loaded by hand.
    with hr.Model("smol", context=1024, deterministic=True) as model:
        number = model.load_adapter("one.gguf")
        plain = model.generate("Once upon a time", max_tokens=12, temperature=0)
        want = model.generate("Once upon a time", max_tokens=12, temperature=0, adapter=number)
    with hr.Model("smol:team", context=1024, deterministic=True) as model:
        assert model.generate("Once upon a time", max_tokens=12, temperature=0).tokens == want.tokens != plain.tokens
        assert model.generate("Once upon a time", max_tokens=12, temperature=0, adapter=-1).tokens == plain.tokens
    words = ["run", "--raw", "-n", "12", "-t", "0", "-c", "1024", "--deterministic", "smol:team", "Once upon a time"]
    assert run(*words).strip() == want.text.strip()


def test_a_broken_one_is_a_warning(at: pathlib.Path) -> None:
    for name in ("team", "bad"):
        run("model", "add", "one.gguf" if name == "team" else "two.gguf", "--name", f"smol:{name}")
    weights = at / f".headrace/models/{listed()['smol:bad']['sha256']}/weights.gguf"
    whole = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(whole[:9000])
    with serving(at / ".headrace", "smol", "--load", "none", "-c", "1024") as server:
        assert list(ids(server)) == ["smol", "smol:bad", "smol:team"]  # nobody has looked at them yet
        assert "has no adapter 'bad'" in said(server, "smol:bad", 404)
        assert list(ids(server)) == ["smol", "smol:team"]
        assert said(server, "smol:team") != said(server, "smol")
        said(server, "smol:bad", 404)
        assert "'smol:bad' is not served: " in server.errors.read_text()
    # The name of the base moves on to a model that none fits.
    run("model", "add", str(GEMMA), "--name", "smol", "-q")
    with serving(at / ".headrace", "smol", "-c", "1024", "--chat-template", "gemma") as server:
        assert list(ids(server)) == ["smol"] and said(server, "smol")
        log = server.errors.read_text()
        assert "'smol:team' is not served: " in log and "the model is of gemma3" in log
    assert "'smol:team' does not fit 'smol' as it is now" in run("run", "smol:team", "Hi", code=1)


def test_one_that_is_added_meanwhile_is_served_from_the_next_load_on(at: pathlib.Path) -> None:
    with serving(at / ".headrace", "smol", "--load", "none", "-c", "1024") as server:
        assert list(ids(server)) == ["smol"]
        run("model", "add", "one.gguf", "--name", "smol:late")
        assert "late" in said(server, "smol:late", 404)
        plain = said(server, "smol")
        assert said(server, "smol:late") != plain


def test_a_fine_tuning_registers_what_it_learned(at: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PYTHON", sys.executable)
    catalog = hr.open(at / ".headrace")
    catalog.create_table("pairs", [{"q": f"What is {i}?", "a": f"It is {i}."} for i in range(8)])
    words = ["--data", "pairs", "--prompt", "q", "--answer", "a", "--rank", "2", "--validation", "0", "--steps", "1"]
    done = json.loads(run("--json", "tune", "smol", *words, "--out", "learned", "-q", timeout=300))
    assert done["model"] == "smol:learned"
    entry = listed()["smol:learned"]
    assert (entry["run"], entry["rank"], entry["data"]) == (done["run"], 2, f"pairs@v{catalog['pairs'].version}")
    assert entry["source"] == f"run:{done['run']}"
    assert json.loads(run("--json", "model", "log", "smol:learned"))["why"] == f"headrace tune, run {done['run']}"
    assert hr.Model("smol:learned", context=256).generate("Hello", max_tokens=2).finish
    # Of a file nothing is registered: there is no name that it could follow.
    told = subprocess.run(
        [program(), "tune", str(SMOL), *words, "--out", "byfile"], capture_output=True, text=True, timeout=300, check=True,
    ).stderr  # fmt: skip
    assert f"headrace serve {SMOL} --adapter byfile=FILE" in told
    assert list(listed()) == ["smol", "smol:learned"]
