"""The endpoints of comparable servers: llama.cpp's own, vLLM's scores, text-embeddings-inference's rerank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from serving import COSINE_NOISE, VECTOR_NOISE, Server, make_catalog, needs_models, serving

pytestmark = needs_models


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalog = make_catalog(tmp_path_factory.mktemp("serve"))
    with serving(catalog, "--chat-template", "chatml", "-c", "2048", "--slots", "3") as running:
        yield running


def complete(server: Server, **fields: Any) -> Any:
    answer = server.ask("/completion", {"prompt": "1, 2, 3, 4,", "n_predict": 8, "temperature": 0, **fields})
    assert answer.status == 200, answer.body
    return answer.json


def test_completion_of_llama(server: Server) -> None:
    complete(server)  # so that all answers begin from a cached prompt
    whole = complete(server, return_tokens=True, n_probs=3)
    assert whole["stop"] is True and whole["stop_type"] == "limit" and whole["truncated"] is False
    assert whole["tokens_predicted"] == len(whole["tokens"]) == len(whole["completion_probabilities"]) == 8
    assert all(len(p["top_logprobs"]) == 3 and p["id"] in whole["tokens"] for p in whole["completion_probabilities"])
    assert whole["timings"]["predicted_n"] == 8 and whole["prompt"] == "1, 2, 3, 4,"
    assert whole["generation_settings"]["n_predict"] == 8
    plain = complete(server)
    assert plain["content"] == whole["content"] and plain["tokens"] == [] and "completion_probabilities" not in plain
    body = {"prompt": "1, 2, 3, 4,", "n_predict": 8, "temperature": 0, "stream": True}
    events = [data for _, data in server.ask("/completion", body).events]
    assert [e["stop"] for e in events] == [False] * (len(events) - 1) + [True]
    assert "".join(e["content"] for e in events) == whole["content"] and events[-1]["content"] == ""
    assert [t for e in events[:-1] for t in e["tokens"]] == whole["tokens"]
    stopped = complete(server, stop=[whole["content"][2:4]])
    assert stopped["stop_type"] == "word" and stopped["stopping_word"] == whole["content"][2:4]
    assert set(complete(server, response_fields=["content", "timings/predicted_n", "no"])) == {
        "content",
        "timings/predicted_n",
    }


def test_prompts_of_llama(server: Server) -> None:
    tokens = server.ask("/tokenize", {"prompt": "1, 2, 3, 4,", "add_special_tokens": True}).json["tokens"]
    begin = server.ask("/tokenize", {"prompt": "1, 2,", "add_special_tokens": True}).json["tokens"]
    complete(server)
    want = complete(server)["content"]
    mixed = [*begin, " 3, 4,"]
    for prompt in (tokens, mixed, {"prompt_string": "1, 2, 3, 4,"}):
        assert complete(server, prompt=prompt)["content"] == want
    several = complete(server, prompt=["1, 2, 3, 4,", tokens, mixed])
    assert [one["content"] for one in several] == [want] * 3 and [one["index"] for one in several] == [0, 1, 2]
    assert len(complete(server, n_cmpl=2)) == 2
    long = server.ask("/completion", {"prompt": "word " * 3000}).json["error"]
    assert long["code"] == "context_length_exceeded" and long["n_ctx"] == 2048 < long["n_prompt_tokens"]
    picture = server.ask("/completion", {"prompt": {"prompt_string": "a", "multimodal_data": ["x"]}})
    assert picture.status == 400 and "multimodal_data" in picture.json["error"]["param"]
    first = server.ask("/tokenize", {"prompt": want[:2], "add_special_tokens": False}).json["tokens"][0]
    for bias in ([[first, False]], [[want[:2], -100]], {str(first): -100}):
        assert not complete(server, logit_bias=bias)["content"].startswith(want[:2])


def test_tokens_with_their_pieces(server: Server) -> None:
    told = server.ask("/tokenize", {"content": "a \U000f0123", "with_pieces": True, "add_special": False}).json[
        "tokens"
    ]
    plain = server.ask("/tokenize", {"content": "a \U000f0123", "add_special": False}).json["tokens"]
    assert [t["id"] for t in told] == plain
    pieces = b"".join(t["piece"].encode() if isinstance(t["piece"], str) else bytes(t["piece"]) for t in told)
    assert pieces == "a \U000f0123".encode() and any(isinstance(t["piece"], list) for t in told)


def test_props_slots_and_templates(server: Server) -> None:
    props = server.ask("/props").json
    assert props["total_slots"] == 3 and props["default_generation_settings"]["n_ctx"] == 2048
    assert props["default_generation_settings"]["params"]["temperature"] == pytest.approx(0.8)
    assert "<|im_start|>" in props["chat_template"] and "/" not in props["model_path"]
    slots = server.ask("/slots?fail_on_no_slot=1").json
    assert [slot["is_processing"] for slot in slots] == [False] * 3 and slots[0]["n_ctx"] == 2048
    chat = {"messages": [{"role": "user", "content": "What is today?"}]}
    rendered = server.ask("/apply-template", chat).json["prompt"]
    assert "What is today?" in rendered and rendered.endswith("<|im_start|>assistant\n")


def test_scores_of_vllm(server: Server) -> None:
    one = server.ask(
        "/v1/score", {"model": "minilm", "text_1": "a cat", "text_2": ["a kitten", "the stock exchange"]}
    ).json
    assert one["object"] == "list" and [d["index"] for d in one["data"]] == [0, 1]
    assert one["data"][0]["score"] > 0.7 > 0.3 > one["data"][1]["score"]
    assert one["usage"]["prompt_tokens"] > 0
    pairs = {"model": "minilm", "text_1": ["a cat", "the stock exchange"], "text_2": ["a kitten", "a kitten"]}
    two = server.ask("/score", pairs).json["data"]
    assert two[0]["score"] == pytest.approx(one["data"][0]["score"], abs=COSINE_NOISE) and two[1]["score"] < 0.3
    wrong = server.ask("/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]})
    assert wrong.status == 400 and wrong.json["error"]["param"] == "text_2"


def test_inputs_of_embeddings_as_llama_takes_them(server: Server) -> None:
    def embed(value: Any) -> list[list[float]]:
        answer = server.ask("/v1/embeddings", {"model": "minilm", "input": value})
        assert answer.status == 200, answer.body
        return [one["embedding"] for one in answer.json["data"]]

    tokens = server.ask("/tokenize", {"model": "minilm", "prompt": "a cat", "add_special_tokens": True}).json["tokens"]
    assert len(tokens) == 4  # [CLS] a cat [SEP]
    (want,) = embed("a cat")
    parts = {"content": [{"type": "text", "text": "a "}, {"type": "text", "text": "cat"}]}
    mixed = [*tokens[:1], "a cat", *tokens[-1:]]
    same = [tokens, {"prompt_string": "a cat"}, parts, mixed]
    for value in same:
        assert embed(value)[0] == pytest.approx(want, abs=VECTOR_NOISE)
    # In one call they stand for themselves, and not for parts of one text.
    for row in embed(["a cat", *same]):
        assert row == pytest.approx(want, abs=VECTOR_NOISE)
    empty, other = embed(["", "a cat"])
    assert len(empty) == len(other) and other == pytest.approx(want, abs=VECTOR_NOISE)
    assert sum(x * x for x in empty) == pytest.approx(1, abs=VECTOR_NOISE)


def test_texts_of_scores_are_cut_where_they_are_asked_to_be(server: Server) -> None:
    long = "a cat sat on the mat and looked at the moon"

    def vector(text: str, most: int) -> np.ndarray:
        body = {"model": "minilm", "input": text, "truncate_prompt_tokens": most}
        return np.array(server.ask("/v1/embeddings", body).json["data"][0]["embedding"])

    found = {}
    for most in (4, 6, -1):
        pairs = {"model": "minilm", "text_1": "a cat", "text_2": [long], "truncate_prompt_tokens": most}
        ranks = {"model": "minilm", "query": "a cat", "documents": [long], "truncate_prompt_tokens": most}
        expected = float(vector("a cat", most) @ vector(long, most))
        scored = server.ask("/v1/score", pairs).json["data"][0]["score"]
        ranked = server.ask("/v1/rerank", ranks).json["results"][0]["relevance_score"]
        assert scored == pytest.approx(expected, abs=COSINE_NOISE)
        assert ranked == pytest.approx(expected, abs=COSINE_NOISE)
        found[most] = expected
    assert len({round(value, 2) for value in found.values()}) == 3, found
    texts = {"query": "a cat", "texts": ["a cat " * 400]}
    assert (
        server.ask("/rerank", texts).status == 200 and server.ask("/rerank", {**texts, "truncate": False}).status == 400
    )
    left = server.ask("/rerank", {**texts, "truncation_direction": "Left"})
    assert left.headers["x-headrace-ignored"] == "truncation_direction"
    right = server.ask("/rerank", {**texts, "truncation_direction": "Right"})
    assert "x-headrace-ignored" not in right.headers


def test_rerank_of_text_embeddings_inference(server: Server) -> None:
    body = {"query": "a cat", "texts": ["the stock exchange", "a kitten"], "raw_scores": True, "return_text": True}
    raw = server.ask("/rerank", body).json
    assert [r["index"] for r in raw] == [1, 0] and raw[0]["text"] == "a kitten" and raw[0]["score"] > 0.7
    between = server.ask("/rerank", {**body, "raw_scores": False, "return_text": False}).json
    assert [r["index"] for r in between] == [1, 0] and "text" not in between[0]
    assert all(0 < r["score"] < 1 for r in between)
