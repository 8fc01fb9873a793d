"""Cross-encoders: what a server scores by them is what the model's arithmetic gives, worked out in numpy."""

from __future__ import annotations

import concurrent.futures
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import headrace as hr
import numpy as np
import pytest
import tiny_causal_reranker as tiny_causal
import tiny_reranker as tiny
from serving import Server, run, serving
from tiny_reranker import CLS, SEP, UNK, tokens_of

WEIGHTS = tiny.make_weights(1)
QUERY = "water turns the wheel"
DOCUMENTS = [
    "river",
    "the mill wheel",
    "a kitten",
    "stock exchange falls",
    "the stone of a river in the mill",
    "wheel wheel nothing of that",
]
# Of the model "templated", whose template puts the document first.
TEMPLATE = "[CLS] document : {document} [SEP] query : {query} [SEP]"


def plain(query: list[int], document: list[int]) -> list[int]:
    return [CLS, *query, SEP, SEP, *document, SEP]  # the vocabulary wants BOS, EOS and SEP


def templated(query: list[int], document: list[int]) -> list[int]:
    return [CLS, *tokens_of("document :"), *document, SEP, *tokens_of("query :"), *query, SEP]


CAUSAL_WEIGHTS = tiny_causal.make_weights(2)
CAUSAL_TEMPLATE = "query : {query} document : {document} [SEP]"


def causal(query: list[int], document: list[int]) -> list[int]:
    return [*tokens_of("query :"), *query, *tokens_of("document :"), *document, SEP]


PAIRS = {"plain": plain, "templated": templated, "yesno": causal}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("rerank")
    catalog = folder / "catalog"
    run("init", str(catalog))
    every = {f"tokenizer__ggml__add_{name}_token": True for name in ("bos", "eos", "sep")}
    files = {
        "embedder": tiny.write_model(folder / "embedder.gguf", tiny.make_weights(1, head=False), bert__pooling_type=1),
        "plain": tiny.write_model(folder / "plain.gguf", WEIGHTS, **every),
        "templated": tiny.write_model(folder / "templated.gguf", WEIGHTS, tokenizer__chat_template__rerank=TEMPLATE),
        "yesno": tiny_causal.write_model(folder / "yesno.gguf", CAUSAL_WEIGHTS, CAUSAL_TEMPLATE),
    }
    for name, file in files.items():
        said = run("--catalog", str(catalog), "model", "add", str(file), "--name", name)
        assert ("a reranker" in said) == (name != "embedder")
    with serving(catalog, "--load", "embedder") as running:
        yield running


def arithmetic(model: str, tokens: list[int]) -> tuple[float, float]:
    """The score of a pair, and how far the model's may be off."""
    if model == "yesno":
        return tiny_causal.score(CAUSAL_WEIGHTS, tokens), tiny_causal.noise_of(CAUSAL_WEIGHTS, tokens)
    return tiny.score(WEIGHTS, tokens), tiny.noise_of(WEIGHTS, tokens)


def check_scores(model: str, scores: list[float], query: list[int], documents: list[list[int]]) -> None:
    assert len(scores) == len(documents)
    for got, document in zip(scores, documents, strict=True):
        tokens = PAIRS[model](query, document)
        want, noise = arithmetic(model, tokens)
        assert got == pytest.approx(want, abs=noise, rel=0), tokens


def rerank(server: Server, model: str, documents: list[str], **more: Any) -> list[float]:
    answer = server.ask("/v1/rerank", {"model": model, "query": QUERY, "documents": documents, **more})
    assert answer.status == 200, answer.body
    results = answer.json["results"]
    assert [r["relevance_score"] for r in results] == sorted((r["relevance_score"] for r in results), reverse=True)
    return [r["relevance_score"] for r in sorted(results, key=lambda r: r["index"])]


def refusal(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = server.ask(path, body)
    assert answer.status == 400, answer.body
    error: dict[str, Any] = answer.json["error"]
    return error


def test_a_reranker_that_sleeps_is_known_as_one(server: Server) -> None:
    kinds = {entry["id"]: entry["kind"] for entry in server.ask("/v1/models").json["data"]}
    assert kinds == {"embedder": "embedding", **dict.fromkeys(PAIRS, "reranker")}
    assert "reranker" in refusal(server, "/v1/embeddings", {"model": "plain", "input": "x"})["message"]


@pytest.mark.parametrize("model", PAIRS)
def test_scores_are_those_of_the_arithmetic(server: Server, model: str) -> None:
    query, documents = tokens_of(QUERY), [tokens_of(text) for text in DOCUMENTS]
    want, noises = zip(*(arithmetic(model, PAIRS[model](query, document)) for document in documents), strict=True)
    worst = max(noises)
    assert np.diff(sorted(want)).max() > 20 * worst  # the bounds tell documents apart
    check_scores(model, rerank(server, model, DOCUMENTS), query, documents)
    check_scores(model, [rerank(server, model, [text])[0] for text in DOCUMENTS], query, documents)
    for pairs in ({"text_1": QUERY, "text_2": DOCUMENTS}, {"text_1": [QUERY] * len(DOCUMENTS), "text_2": DOCUMENTS}):
        answer = server.ask("/v1/score", {"model": model, **pairs}).json
        check_scores(model, [one["score"] for one in answer["data"]], query, documents)
        assert answer["usage"]["prompt_tokens"] == sum(len(PAIRS[model](query, document)) for document in documents)


def test_each_pair_has_its_own_first_text(server: Server) -> None:
    queries = ["cat", "water", "stone of the mill"]
    body = {"model": "plain", "text_1": queries, "text_2": DOCUMENTS[:3]}
    scores = [one["score"] for one in server.ask("/score", body).json["data"]]
    for score, query, document in zip(scores, queries, DOCUMENTS, strict=False):
        check_scores("plain", [score], tokens_of(query), [tokens_of(document)])


def test_many_callers_share_steps(server: Server) -> None:
    def text(i: int, j: int) -> str:
        return " ".join(tiny.WORDS[(i * 7 + j * 3 + k) % 15] for k in range(1 + (i + j) % 9))

    lists = [[text(i, j) for j in range(40)] for i in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for documents, scores in zip(lists, pool.map(lambda one: rerank(server, "plain", one), lists), strict=True):
            check_scores("plain", scores[:8], tokens_of(QUERY), [tokens_of(text) for text in documents[:8]])


@pytest.mark.parametrize("model", PAIRS)
def test_names_of_control_tokens_in_texts_are_letters(server: Server, model: str) -> None:
    check_scores(
        model, rerank(server, model, ["river [SEP] mill"]), tokens_of(QUERY), [tokens_of("river [ sep ] mill")]
    )
    assert tokens_of("[ sep ]") == [UNK] * 3


@pytest.mark.parametrize("model", PAIRS)
def test_documents_lose_their_end_where_that_is_wanted(server: Server, model: str) -> None:
    query, words = tokens_of(QUERY), ("river mill cat stone " * 20).split()
    around = len(PAIRS[model](query, []))
    kept = tokens_of(" ".join(words[: tiny.CONTEXT - around]))
    check_scores(model, rerank(server, model, ["river", " ".join(words)]), query, [tokens_of("river"), kept])
    exact = " ".join(words[: tiny.CONTEXT - around])
    check_scores(model, rerank(server, model, [exact], truncate=False), query, [kept])
    short = rerank(server, model, [" ".join(words)], truncate_prompt_tokens=around + 5)
    check_scores(model, short, query, [kept[:5]])

    body = {"model": model, "query": QUERY, "documents": ["river", exact + " cat"], "truncate": False}
    error = refusal(server, "/v1/rerank", body)
    assert error["code"] == "context_length_exceeded" and error["param"] == "documents[1]"
    assert f"{tiny.CONTEXT + 1} tokens together" in error["message"] and str(tiny.CONTEXT) in error["message"]
    error = refusal(server, "/v1/score", {"model": model, "text_1": QUERY, "text_2": exact + " cat"})
    assert error["code"] == "context_length_exceeded" and error["param"] == "text_2"
    for long in ("water " * tiny.CONTEXT, "water" * 100_000):
        error = refusal(server, "/v1/rerank", {"model": model, "query": long, "documents": ["river"]})
        if long.startswith("water "):
            assert "leaves a document no room" in error["message"]
        assert error["code"] == "context_length_exceeded" and error["param"] == "query"
    huge = "river " * 200_000
    check_scores(model, rerank(server, model, [huge]), query, [tokens_of("river " * (tiny.CONTEXT - around))])


def test_a_deadline_that_cannot_be_kept(server: Server) -> None:
    words = tiny.WORDS[:13]  # 2,048 documents, each another: 120,000 tokens in a millisecond
    many = [" ".join([words[i % 13], words[i // 13 % 13], words[i // 169], *(["river"] * 45)]) for i in range(2048)]
    late = {"model": "plain", "query": QUERY, "documents": many, "deadline": 1e-3}
    assert server.ask("/v1/rerank", late).status == 408


def test_answers_of_text_embeddings_inference(server: Server) -> None:
    body = {"model": "plain", "query": QUERY, "texts": DOCUMENTS}
    raw = server.ask("/rerank", {**body, "raw_scores": True}).json
    between = server.ask("/rerank", body).json
    assert [r["index"] for r in raw] == [r["index"] for r in between]
    for a, b in zip(raw, between, strict=True):
        assert b["score"] == pytest.approx(1 / (1 + math.exp(-a["score"])), abs=1e-6)
    assert len(rerank(server, "plain", DOCUMENTS, top_n=2)) == 2


def test_who_names_no_model_gets_the_one_that_is_for_it(server: Server) -> None:
    check_scores("plain", rerank(server, "", DOCUMENTS[:2]), tokens_of(QUERY), [tokens_of(d) for d in DOCUMENTS[:2]])
    vectors = [one["embedding"] for one in server.ask("/v1/embeddings", {"input": [QUERY, "river"]}).json["data"]]
    cosine = rerank(server, "embedder", ["river"])[0]
    assert cosine == pytest.approx(float(np.dot(vectors[0], vectors[1])), abs=1e-5) and abs(cosine) <= 1 + 1e-6


@pytest.mark.parametrize("model", [*PAIRS, "embedder"])
def test_python_gives_the_scores_of_the_server(server: Server, model: str) -> None:
    words = ("river mill cat stone " * 20).split()
    documents = [*DOCUMENTS, " ".join(words), "river [SEP] mill"]
    with hr.Model(model, catalog=str(server.catalog)) as opened:
        ranked = opened.rerank(QUERY, documents)
        assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
        assert all(r.document == documents[r.index] for r in ranked)
        # Beside other pairs a score's last digits may be others (see tiny_reranker.score).
        bound = 8 * tiny.HALF if model == "embedder" else 2 * max(
            arithmetic(model, PAIRS[model](tokens_of(QUERY), tokens_of(text)))[1] for text in DOCUMENTS
        )  # fmt: skip
        scores = [r.score for r in sorted(ranked, key=lambda r: r.index)]
        assert scores == pytest.approx(rerank(server, model, documents), abs=bound, rel=0)
        assert opened.rerank(QUERY, documents, top_n=3) == ranked[:3]
        exact = scores[: len(DOCUMENTS)]
        uncut = sorted(opened.rerank(QUERY, DOCUMENTS, cut=False), key=lambda r: r.index)
        assert [r.score for r in uncut] == pytest.approx(exact, abs=bound)
        with pytest.raises(hr.LimitExceeded, match="reads at most"):
            opened.rerank(QUERY, documents, cut=False)
        if model == "embedder":
            return
        check_scores(model, scores[: len(DOCUMENTS)], tokens_of(QUERY), [tokens_of(text) for text in DOCUMENTS])
        with pytest.raises(hr.LimitExceeded, match="leaves a document no room"):
            opened.rerank("water " * tiny.CONTEXT, ["river"])
        with pytest.raises(hr.Unsupported, match="is a reranker"):
            opened.embed("river")


# Qwen3's scores are probabilities, of "yes" against "no", at the pair's last token.
def test_scores_of_a_causal_reranker_are_probabilities(server: Server) -> None:
    scores = rerank(server, "yesno", DOCUMENTS)
    assert all(0 < score < 1 for score in scores) and np.ptp(scores) > 0.1


def test_what_a_reranker_does_not(server: Server, tmp_path: pathlib.Path) -> None:
    assert "makes no embeddings" in refusal(server, "/v1/embeddings", {"model": "plain", "input": "x"})["message"]
    chat = {"model": "plain", "messages": [{"role": "user", "content": "x"}]}
    assert "is a reranker; it writes no text" in refusal(server, "/v1/chat/completions", chat)["message"]
    file = str(tiny.write_model(tmp_path / "file.gguf", WEIGHTS))
    assert "is a reranker" in run("embed", file, "x", code=1)
    assert "is a reranker" in run("run", file, "x", code=1)
    assert "is a reranker" in run("chat", file, code=1)


def test_what_the_shell_says_of_one(tmp_path: pathlib.Path) -> None:
    file = str(tiny.write_model(tmp_path / "file.gguf", WEIGHTS))
    assert "a reranker: it scores a query and a document" in run("model", "inspect", file, "--quick")
    assert json.loads(run("model", "inspect", file, "--json"))["kind"] == "reranker"
    run("init", str(tmp_path / "catalog"))
    at = ("--catalog", str(tmp_path / "catalog"), "model", "add")
    assert json.loads(run(*at, file, "--name", "file", "--json"))["kind"] == "reranker"
    headless = tiny.write_model(tmp_path / "headless.gguf", tiny.make_weights(1, head=False))
    assert "no weights that make a score" in run(*at, str(headless), "--name", "headless", code=1)
    unnamed = tiny.write_model(tmp_path / "unnamed.gguf", WEIGHTS, tokenizer__chat_template__rerank="[CLS] {query}")
    assert "does not name each of {query} and {document}" in run(*at, str(unnamed), "--name", "unnamed", code=1)
