"""Models from Python and from the shell: the small real ones that `./dev setup models` fetches."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

import headrace as hr
import numpy as np
import pytest
from docs_files import adapter
from headrace import answers
from serving import COSINE_NOISE, VECTOR_NOISE

MODELS = Path(os.environ.get("HEADRACE_CACHE", Path.home() / ".cache/headrace")) / "models"
GEMMA = MODELS / "gemma-3-270m-q4_k_m.gguf"
MINILM = MODELS / "all-minilm-l6-v2-f16.gguf"
pytestmark = pytest.mark.skipif(not GEMMA.exists(), reason="./dev setup models")


@pytest.fixture(scope="module")
def gemma() -> Iterator[hr.Model]:
    with hr.Model(GEMMA, context=4096) as model:
        yield model


@dataclasses.dataclass
class City:
    name: str
    country: str
    kind: Literal["capital", "town"]


class Point(TypedDict):
    x: Literal[1, 2, 3]
    y: bool


def run(*words: str, stdin: str = "", code: int = 0) -> str:
    done = subprocess.run(["headrace", *words], input=stdin, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, (done.returncode, done.stderr)
    return done.stdout if code == 0 else done.stderr


def test_an_adapter_may_be_loaded_after_the_first_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    adapter("first.gguf")
    adapter("second.gguf")
    with hr.Model(GEMMA, context=1024) as model:
        first = model.load_adapter("first.gguf")
        plain = model.generate("The capital of France is", max_tokens=4, temperature=0)
        running = model.stream("Once", max_tokens=400, temperature=0, ignore_end=True, adapter=first)
        next(running)
        second = model.load_adapter("second.gguf", scale=5000)
        answers = [
            model.generate("The capital of France is", max_tokens=4, temperature=0, adapter=a) for a in (second, -1)
        ]
        assert answers[0].text != answers[1].text == plain.text
        assert list(running)[-1].finish == "length"  # what ran keeps its context
        with pytest.raises(hr.HeadraceError, match="there is no adapter 2"):
            model.generate("One", adapter=2)


def test_generates_streams_and_is_seeded(gemma: hr.Model) -> None:
    answer = gemma.generate("The capital of France is", max_tokens=12, temperature=0)
    assert isinstance(answer, hr.Answer) and answer.finish == "length" and len(answer.tokens) == 12
    pieces = list(gemma.stream("The capital of France is", max_tokens=12, temperature=0))
    assert "".join(p.text for p in pieces) == answer.text
    assert pieces[-1].finish == "length" and pieces[-1].usage is not None and pieces[-1].usage["cached_tokens"] >= 5
    one, two = (gemma.generate("Once upon a time", max_tokens=10, seed=7).text for _ in range(2))
    assert gemma.generate("Once upon a time", max_tokens=10, seed=8).text != one or one == two
    many = gemma.generate(["One, two,", "Red, green,"], max_tokens=4, temperature=0)
    assert [type(a) for a in many] == [hr.Answer, hr.Answer]
    logged = gemma.generate("A", max_tokens=2, temperature=0, logprobs=3)
    assert (
        len(logged.logprobs) == 2
        and len(logged.logprobs[0][1]) == 3
        and logged.logprobs[0][0] == logged.logprobs[0][1][0][1]
    )
    stopped = gemma.generate("1, 2, 3, 4,", max_tokens=30, temperature=0, stop=[" 7"])
    assert stopped.finish == "stop" and " 7" not in stopped.text


def test_deterministic_text_does_not_depend_on_neighbours() -> None:
    with hr.Model(GEMMA, context=8 * 512, deterministic=True) as model:
        prompts = [f"Question {i}: what is {i} times {i}? Answer:" + " Well," * (7 * i) for i in range(6)]
        alone = [model.generate(p, max_tokens=12, seed=i, logprobs=0) for i, p in enumerate(prompts)]
        together: dict[int, hr.Answer] = {}

        def ask(i: int) -> None:
            time.sleep(0.03 * (5 - i))
            together[i] = model.generate(prompts[i], max_tokens=12, seed=i, logprobs=0)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, answer in enumerate(alone):
            assert together[i].tokens == answer.tokens and together[i].logprobs == answer.logprobs, i


def test_many_prompts_go_a_bounded_number_at_a_time(gemma: hr.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "IN_FLIGHT", 3)
    flying, most = 0, 0
    submit, wait = gemma._submit, answers.Pending.wait

    def counted(*given: Any) -> Any:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        return submit(*given)

    def waited(self: answers.Pending, *given: Any) -> hr.Answer:
        nonlocal flying
        answer = wait(self, *given)
        flying -= 1
        return answer

    monkeypatch.setattr(gemma, "_submit", counted)
    monkeypatch.setattr(answers.Pending, "wait", waited)
    told: list[tuple[int, int]] = []
    prompts = [f"The number {i} is" for i in range(8)]
    given = gemma.generate(
        prompts, max_tokens=3, temperature=0, progress=lambda done, total: told.append((done, total))
    )
    assert most == 3 and told == [(i, 8) for i in range(1, 9)]
    assert [answer.text for answer in given[:2]] == [
        gemma.generate(prompt, max_tokens=3, temperature=0).text for prompt in prompts[:2]
    ]


def test_what_is_done_is_kept_when_a_list_ends_early(gemma: hr.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "IN_FLIGHT", 2)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        gemma.generate(["a", "b", "c", "d", "e", "f"], max_tokens=2, progress=stop)
    kept = raised.value.answers  # type: ignore[attr-defined]
    assert len(kept) == 6 and all(isinstance(answer, hr.Answer) for answer in kept[:3]) and kept[4:] == [None, None]
    assert "of 6 answers are whole" in raised.value.__notes__[0]
    with pytest.raises(hr.HeadraceError) as broken:
        gemma.generate(["a", "b", "word " * 40_000, "d"], max_tokens=2)
    kept = broken.value.answers  # type: ignore[attr-defined]
    assert [answer is None for answer in kept] == [False, False, True, True]
    # The engine goes on.
    assert gemma.generate("a", max_tokens=2).finish == "length"


def test_answers_of_a_list_are_rows(catalog: hr.Catalog) -> None:
    subprocess.run(
        ["headrace", "--catalog", catalog.location, "model", "add", str(GEMMA), "--name", "gemma", "-q"], check=True
    )
    with hr.Model("gemma", catalog=catalog, context=2048) as model:
        given = model.generate(["One, two,", "Red, green,"], max_tokens=4, temperature=0, seed=5)
        rows = catalog.sql("select * from traces order by started").to_pylist()
        assert [row["id"] for row in rows] == [answer.id for answer in given] and len(rows[0]["id"]) == 32
        assert [row["answer"] for row in rows] == [answer.text for answer in given]
        assert rows[0]["prompt"] == "One, two," and rows[0]["model"] == "gemma" and rows[0]["finish"] == "length"
        assert rows[0]["answer_tokens"] == 4 and json.loads(rows[0]["sampling"])["seed"] == 5
        assert rows[0]["started"] <= rows[0]["ended"] and rows[0]["endpoint"] == "python"
        run("--catalog", catalog.location, "score", given[0].id, "--value", "1")
        assert model.generate("one", max_tokens=1).id == ""
        model.generate(["x", "y"], max_tokens=1, record=False)
        assert catalog.sql("select count(*) n from traces").to_pylist() == [{"n": 2}]
        assert model.generate("one", max_tokens=1, record=True).id
        assert catalog.sql("select count(*) n from traces").to_pylist() == [{"n": 3}]
    with hr.Model(GEMMA, context=2048) as model, pytest.raises(hr.Invalid, match=r"hr.Model\(…, catalog=…\)"):
        model.generate(["x"], record=True)


def test_schemas_become_values(gemma: hr.Model) -> None:
    city = gemma.generate("Paris as JSON:", schema=City, temperature=0, max_tokens=80)
    assert isinstance(city.value, City) and city.value.kind in ("capital", "town")
    point = gemma.generate("A point as JSON:", schema=Point, temperature=0, max_tokens=40)
    assert isinstance(point.value, dict) and point.value["x"] in (1, 2, 3) and isinstance(point.value["y"], bool)
    plain = gemma.generate(
        "Numbers:",
        schema={
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 99},
            "minItems": 2,
            "maxItems": 2,
        },
        temperature=0,
        max_tokens=40,
    )
    assert len(plain.value) == 2
    digits = gemma.generate("A date: ", regex=r"\d{4}-\d{2}-\d{2}", temperature=0, max_tokens=20)
    assert len(digits.text) == 10 and digits.text[4] == "-"


def test_errors_name_the_thing(gemma: hr.Model) -> None:
    with pytest.raises(hr.Invalid, match="temperature must be from 0 to 100"):
        gemma.generate("x", temperature=float("nan"))
    with pytest.raises(TypeError, match="generate has no option 'max_token'"):
        gemma.generate("x", max_token=3)
    with pytest.raises(hr.Invalid, match="wrong type"):
        gemma.generate("x", max_tokens="three")
    with pytest.raises(hr.Invalid, match="has no chat template: it is a base model"):
        gemma.generate([{"role": "user", "content": "Hello"}])
    with pytest.raises(hr.Unsupported, match="#/properties/a/not cannot be enforced"):
        gemma.generate("x", schema={"type": "object", "properties": {"a": {"not": {"const": 1}}}})
    with pytest.raises(hr.LimitExceeded, match="the context holds 4096"):
        gemma.generate([5] * 5000)
    assert gemma.generate("x", max_tokens=0).text == ""
    assert len(gemma.generate("1, 2, 3, 4,", temperature=0).tokens) == 256  # a text has no end of its own


def test_leaving_a_stream_frees_the_engine(gemma: hr.Model) -> None:
    for delta in gemma.stream("Count: 1, 2,", max_tokens=2000, ignore_end=True):
        if delta.tokens:
            break
    start = time.monotonic()
    gemma.generate("x", max_tokens=1)
    assert time.monotonic() - start < 5


def test_threads_share_a_model(gemma: hr.Model) -> None:
    answers: dict[int, str] = {}

    def ask(i: int) -> None:
        answers[i] = gemma.generate(f"Number {i % 2} is", max_tokens=6, seed=i % 2).text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8


def test_embeds() -> None:
    with hr.Model(MINILM) as model:
        vectors = model.embed(["a cat", "a kitten", "the stock exchange"])
        assert vectors.shape == (3, 384) and vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert vectors[0] @ vectors[1] > 0.7 > 0.3 > vectors[0] @ vectors[2]
        assert model.embed("a cat").shape == (384,)
        with pytest.raises(hr.Invalid, match="embedding model"):
            model.generate("x")
        # The same text is the same bits, whatever stands beside it in the call.
        texts = [f"text number {i} " * (i % 7 + 1) if i % 3 else "one text that comes again" for i in range(60)]
        vectors = model.embed(texts)
        again = vectors[::3]
        assert (again == again[0]).all() and len(np.unique(vectors, axis=0)) == 41
        np.testing.assert_allclose(vectors[1], model.embed(texts[1]), atol=VECTOR_NOISE)


def test_long_texts_are_cut_where_that_is_wanted() -> None:
    with hr.Model(MINILM) as model:
        reads = model.facts["context"]
        long = "a cat sleeps on the mat " * reads
        with pytest.raises(hr.LimitExceeded, match=f"reads at most {reads}"):
            model.embed(long)
        special = model.tokenize("")  # [CLS], [SEP]
        words = len(model.tokenize("cat")) - len(special)
        exact = " ".join(["cat"] * ((reads - len(special)) // words))
        assert len(model.tokenize(exact)) == reads
        np.testing.assert_allclose(model.embed(exact + " mat", cut=True), model.embed(exact), atol=1e-6)
        vectors = model.embed([exact, exact + " mat", long, "cat"], cut=True)
        assert vectors[0] @ vectors[1] > 0.999 and abs(vectors[0] @ vectors[3]) < 0.99  # not cut to a word
        with pytest.raises(hr.LimitExceeded):
            model.embed(exact + " mat")


def test_ranks_by_vectors() -> None:
    documents = ["the stock exchange fell", "a kitten sleeps", "cats and dogs", "a kitten sleeps"]
    with hr.Model(MINILM) as model:
        ranked = model.rerank("pets", documents)
        assert [r.index for r in ranked][-1] == 0 and [r.document for r in ranked] == [
            documents[r.index] for r in ranked
        ]
        vectors = model.embed(["pets", *documents])
        for one in ranked:
            assert one.score == pytest.approx(float(vectors[0] @ vectors[one.index + 1]), abs=COSINE_NOISE)
        assert [r.index for r in ranked if r.document == documents[1]] == [1, 3]  # of equal ones the earlier first
        assert model.rerank("pets", documents, top_n=2) == ranked[:2]
        assert model.rerank("pets", documents, top_n=9) == ranked and model.rerank("pets", []) == []
        with pytest.raises(hr.Invalid, match="top_n"):
            model.rerank("pets", documents, top_n=0)
        with pytest.raises(hr.LimitExceeded):
            model.rerank("pets", ["cat " * 2 * model.facts["context"]], cut=False)
    with hr.Model(GEMMA) as model, pytest.raises(hr.Unsupported, match="a reranker or an embedding model"):
        model.rerank("pets", documents)


def test_the_shell(tmp_path: Path) -> None:
    model = str(GEMMA)
    text = run("run", model, "The capital of France is", "-n", "8", "-t", "0")
    answer = json.loads(run("run", model, "The capital of France is", "-n", "8", "-t", "0", "--json"))
    assert answer["text"].strip() == text.strip() and answer["usage"]["answer_tokens"] == 8
    assert run("run", model, "-", "-n", "8", "-t", "0", stdin="The capital of France is") == text
    endless = json.loads(run("run", model, "1, 2, 3, 4,", "-t", "0", "--json"))  # nobody said how much
    assert endless["finish"] == "length" and endless["usage"]["answer_tokens"] == 256
    value = json.loads(
        run(
            "run",
            model,
            "JSON:",
            "--json-schema",
            '{"type":"object","properties":{"a":{"type":"integer","minimum":0,"maximum":99}},"required":["a"],"additionalProperties":false}',
            "-n",
            "40",
            "-t",
            "0",
        )
    )
    assert isinstance(value["a"], int)
    assert "base model" in run("chat", model, code=1)
    chat = run("chat", model, "--chat-template", "plain", "-n", "5", "-t", "0", stdin="Hello\n/new\nHello\n")
    assert len(chat) > 2
    lines = run("embed", str(MINILM), "-", stdin="a cat\na dog\n").splitlines()
    assert len(lines) == 2 and len(json.loads(lines[0])["embedding"]) == 384
    facts = json.loads(run("model", "inspect", model, "--quick", "--json"))
    assert facts["memory"] == "sliding window" and facts["window"] == 512

    env_catalog = str(tmp_path / "cat")
    run("--catalog", env_catalog, "init")
    assert (
        "no models yet"
        in subprocess.run(["headrace", "--catalog", env_catalog, "model", "ls"], capture_output=True, text=True).stderr
    )
    run("--catalog", env_catalog, "model", "add", str(MINILM), "--name", "minilm")
    listed = json.loads(run("--catalog", env_catalog, "model", "ls", "--json"))
    assert listed["name"] == "minilm" and listed["bytes"] == MINILM.stat().st_size and listed["licence"] == "apache-2.0"
    assert len(json.loads(run("--catalog", env_catalog, "embed", "minilm", "a cat", "--json"))["embedding"]) == 384
    assert hr.Model("minilm", catalog=hr.open(env_catalog)).embed(["x"]).shape == (1, 384)
    assert "there is no model 'mini'; " not in run("--catalog", env_catalog, "embed", "mini", "x", code=1)
    assert "there are minilm" in run("--catalog", env_catalog, "embed", "mini", "x", code=1)
    at = ("--catalog", env_catalog, "model")
    run(*at, "add", model, "--name", "minilm")
    assert json.loads(run(*at, "ls", "--json"))["revision"] == 2 and " r2 " in run(*at, "ls")
    assert "has no revision 7" in run(*at, "rollback", "minilm", "7", code=1)
    assert json.loads(run(*at, "rollback", "minilm", "--json"))["sha256"] == listed["sha256"]
    moves = [json.loads(line) for line in run(*at, "log", "minilm", "--json").splitlines()]
    assert [move["revision"] for move in moves] == [3, 2, 1] and all(move["kept"] for move in moves)
    assert moves[0]["sha256"] == moves[2]["sha256"] == listed["sha256"] != moves[1]["sha256"]
    assert "model rollback minilm" in moves[0]["why"] and "r3" in run(*at, "log", "minilm")
    assert "there is no model 'mini'" in run(*at, "log", "mini", code=1)
    run(*at, "rm", "minilm")
    assert "removed" in run(*at, "log", "minilm")
    assert json.loads(run(*at, "rollback", "minilm", "--json"))["revision"] == 5
    run(*at, "rollback", "minilm", "2")
    run(*at, "rm", "minilm", "--data")
    assert "not kept any more" in run(*at, "rollback", "minilm", "2", code=1)
    run(*at, "rollback", "minilm", "1")
    run("--catalog", env_catalog, "model", "rm", "minilm", "--data")
    assert not list((tmp_path / "cat/models").rglob("*.gguf"))

    small = tmp_path / "small.gguf"
    done = json.loads(run("model", "quantize", model, str(small), "--type", "Q2_K", "--no-speed", "--json"))
    assert done["bytes"] < done["bytes_before"] and small.exists()
    assert "there is no quantization" in run(
        "model", "quantize", model, str(tmp_path / "x.gguf"), "--type", "Q9", code=1
    )


def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    child = subprocess.Popen(
        ["headrace", "chat", str(GEMMA), "--chat-template", "plain", "-t", "0", "--stop", "\x01"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=0,
    )  # fmt: skip
    assert child.stdin and child.stdout
    child.stdin.write("Tell a very long story\n")
    assert child.stdout.read(1)
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert child.poll() is None
    child.stdin.write("Hello\n")
    child.stdin.close()
    child.stdout.read()
    assert child.wait(timeout=60) == 0


def test_being_told_to_end_ends_a_conversation() -> None:
    words = ["headrace", "chat", str(GEMMA), "--chat-template", "plain", "-t", "0", "--stop", "\x01"]
    for asked in (False, True):  # while it waits for a line, and while it answers
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=0)
        assert child.stdin and child.stdout
        child.stdin.write("Tell a very long story\n")
        assert child.stdout.read(1)
        if not asked:
            child.send_signal(signal.SIGINT)  # ends the answer: the next line is waited for
            while child.stdout.read(1) != "\n":
                pass
        child.send_signal(signal.SIGTERM)
        child.stdout.read()
        assert child.wait(timeout=60) == 130


def test_hostile_files_end_in_an_error(tmp_path: Path) -> None:
    whole = MINILM.read_bytes()
    small = whole[: 4 << 20]
    cases = {
        "empty": b"",
        "noise": os.urandom(5000),
        "cut in the header": whole[:1000],
        "cut in the weights": small,
        "a huge count of tensors": whole[:8] + (2**60).to_bytes(8, "little") + whole[16:],
        "a huge count of keys": whole[:16] + (2**62).to_bytes(8, "little") + whole[24:],
        "a huge first key": whole[:24] + (2**50).to_bytes(8, "little") + whole[32:],
        "version 99": whole[:4] + (99).to_bytes(4, "little") + whole[8:],
    }
    at = whole.index(b"bert.attention.head_count")
    cases["no heads"] = whole[: at + 25 + 4] + (0).to_bytes(4, "little") + whole[at + 33 :]
    cases["heads without end"] = whole[: at + 25 + 4] + (2**31 - 1).to_bytes(4, "little") + whole[at + 33 :]
    at = whole.index(b"bert.block_count")
    cases["a million layers"] = whole[: at + 16 + 4] + (1_000_000).to_bytes(4, "little") + whole[at + 24 :]
    at = whole.index(b"bert.embedding_length")
    cases["another width"] = whole[: at + 21 + 4] + (2**30).to_bytes(4, "little") + whole[at + 29 :]
    for name, data in cases.items():
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        done = subprocess.run(["headrace", "embed", str(path), "x"], capture_output=True, text=True, timeout=100)
        assert done.returncode == 1, (name, done.returncode, done.stdout[:100])
        assert str(path) in done.stderr and done.stderr.startswith("headrace: "), (name, done.stderr)
    with pytest.raises(hr.HeadraceError):
        hr.Model(tmp_path / "model.gguf")
    assert "there is no file" in run("run", str(tmp_path / "none.gguf"), "x", code=1)
    assert "is a folder" in run("run", str(tmp_path), "x", code=1)


def test_a_template_that_loops_is_found_out(tmp_path: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
    start = time.monotonic()
    done = subprocess.run(
        ["headrace", "run", str(GEMMA), "x", "--chat-template", loop], capture_output=True, text=True, timeout=110,
        env=os.environ | {"HEADRACE_CACHE": str(tmp_path), "HEADRACE_PROBE_SECONDS": "4"},
    )  # fmt: skip
    assert done.returncode == 1 and "did not finish within" in done.stderr, done.stderr
    assert time.monotonic() - start < 60


def test_a_forked_child_loads_the_model_for_itself() -> None:
    program = """
import os, sys
import headrace as hr
model = hr.Model(sys.argv[1])
vector = model.embed("a cat")
if os.fork() == 0:
    assert (model.embed("a cat") == vector).all()
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(MINILM)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "0\n" and "nanobind" not in done.stderr, done.stderr


def test_a_name_is_looked_up_where_the_command_line_would(catalog: hr.Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_CATALOG", catalog.location)
    with pytest.raises(hr.NotFound, match=f"no model 'nothing' in {catalog.location}"):
        hr.Model("nothing")
