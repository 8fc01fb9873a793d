"""What users of comparable servers expect to find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from serving import GEMMA, Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
PAGE = "https://page.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalog = make_catalog(tmp_path_factory.mktemp("serve"))
    names = ("--alias", "gpt-4o=gemma", "--alias", "*=gemma", "--alias", "*=minilm")
    with serving(catalog, "--chat-template", "chatml", "-c", "4096", "--cors-origins", PAGE, *names) as running:
        yield running


def complete(server: Server, prompt: str, **fields: Any) -> Any:
    answer = server.ask("/v1/completions", {"model": "gemma", "prompt": prompt, "temperature": 0, **fields})
    assert answer.status == 200, answer.body
    return answer.json["choices"][0]


def tokens_of(server: Server, text: str) -> list[int]:
    found: list[int] = server.ask("/tokenize", {"prompt": text, "add_special_tokens": False}).json["tokens"]
    return found


def test_pages_of_browsers(server: Server) -> None:
    ask = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    told = server.ask("/v1/completions", method="OPTIONS", **ask)
    assert told.status == 204 and told.body == b"" and "content-length" not in told.headers
    assert told.headers["access-control-allow-origin"] == PAGE
    assert told.headers["access-control-allow-headers"] == "authorization"
    assert told.headers["access-control-allow-methods"] == "POST"
    assert server.ask("/nothing", method="OPTIONS", **ask).status == 404
    body = {"prompt": "Hi", "max_tokens": 1}
    for fields in (body, {**body, "stream": True}, {**body, "prompt": 3}):  # an answer, a stream, a refusal
        answer = server.ask("/v1/completions", fields, origin=PAGE)
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    other = server.ask("/v1/models", origin="https://other.example")
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in server.ask("/v1/models").headers


def test_streams_are_not_gathered_by_proxies(server: Server) -> None:
    stream = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 1, "stream": True})
    assert stream.headers["x-accel-buffering"] == "no"


def test_other_names_of_models(server: Server) -> None:
    for name in ("gemma", "gpt-4o", "whatever/they:say"):
        answer = server.ask("/v1/completions", {"model": name, "prompt": "Hi", "max_tokens": 1})
        assert answer.status == 200 and answer.json["model"] == name
        assert server.ask(f"/v1/models/{name}").json["root"] == "gemma"
    vectors = server.ask("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi"})
    assert vectors.status == 200 and len(vectors.json["data"][0]["embedding"]) == 384
    assert [m["id"] for m in server.ask("/v1/models").json["data"]] == ["gemma", "minilm", "gpt-4o"]
    loaded = server.ask("/load").json["models"]
    assert [m["name"] for m in loaded] == ["gemma", "minilm"]  # once


def test_aliases_lead_somewhere() -> None:
    def fault(*words: str) -> str:
        return run("serve", f"gemma={GEMMA}", "-c", "512", "--port", "0", *words, code=1)

    assert "which is not served; there are gemma" in fault("--alias", "a=b")
    assert "is served already" in fault("--alias", "gemma=gemma")
    assert "two aliases '*'" in fault("--alias", "*=gemma", "--alias", "*=gemma")
    assert "NAME=MODEL" in fault("--alias", "gemma")


def test_models_as_anthropic_lists_them(server: Server) -> None:
    def models(query: str = "") -> Any:
        return server.ask(f"/v1/models{query}", anthropic_version="2023-06-01").json

    whole = models()
    assert [m["id"] for m in whole["data"]] == ["gemma", "minilm", "gpt-4o"] and whole["has_more"] is False
    assert whole["first_id"] == "gemma" and whole["last_id"] == "gpt-4o"
    one = server.ask("/v1/models/gemma", anthropic_version="2023-06-01").json
    assert one == whole["data"][0] and one["type"] == "model" and one["created_at"].endswith("Z")
    page = models("?limit=2")
    assert page["has_more"] and [m["id"] for m in page["data"]] == ["gemma", "minilm"]
    assert [m["id"] for m in models(f"?limit=2&after_id={page['last_id']}")["data"]] == ["gpt-4o"]
    assert [m["id"] for m in models("?limit=1&before_id=gpt-4o")["data"]] == ["minilm"]


def test_tokens_that_stop_and_words_that_may_not_come(server: Server) -> None:
    """As vLLM's SamplingParams mean them."""
    free = complete(server, "1, 2, 3, 4,", max_tokens=12, logprobs=0)
    third = tokens_of(server, free["logprobs"]["tokens"][2])
    assert len(third) == 1
    cut = complete(server, "1, 2, 3, 4,", max_tokens=12, stop_token_ids=third)
    assert cut["finish_reason"] == "stop" and cut["stop_reason"] == third[0]
    assert free["text"].startswith(cut["text"]) and len(cut["text"]) < len(free["text"])
    held = complete(server, "1, 2, 3, 4,", max_tokens=12, stop_token_ids=third, min_tokens=8, logprobs=0)
    assert len(held["logprobs"]["tokens"]) >= 8
    assert free["logprobs"]["tokens"][2] not in held["logprobs"]["tokens"][:8]
    # A stop string that was said before so many tokens ends nothing.
    stop = free["text"][2:4]
    assert complete(server, "1, 2, 3, 4,", max_tokens=12, stop=stop)["text"] == free["text"][: free["text"].index(stop)]
    assert len(complete(server, "1, 2, 3, 4,", max_tokens=12, stop=stop, min_tokens=12)["text"]) == len(free["text"])
    capital = complete(server, "The capital of France is", max_tokens=1)["text"]
    other = complete(server, "The capital of France is", max_tokens=1, bad_words=[capital.strip()])["text"]
    assert capital.strip() and other.strip() != capital.strip()
    for wrong in (
        {"min_tokens": 9, "max_tokens": 3},
        {"stop_token_ids": [1 << 29]},
        {"bad_words": [" "]},
        {"dry_sequence_breakers": []},
        {"xtc_probability": 2},
    ):
        refused = server.ask("/v1/completions", {"prompt": "Hi", **wrong})
        assert refused.status == 400, wrong


def test_dry_ends_a_loop(server: Server) -> None:
    loop = "la di da do la di da do la di da do la di da do"
    again = complete(server, loop, max_tokens=8)["text"]
    assert again.strip().startswith("la di")
    fresh = complete(server, loop, max_tokens=8, dry_multiplier=20, dry_penalty_last_n=-1)["text"]
    assert not fresh.strip().startswith("la di")
    assert complete(server, "Once upon", temperature=1, seed=3, xtc_probability=1, xtc_threshold=0.05, max_tokens=4)


def test_how_fast_it_was_and_how_far(server: Server) -> None:
    prompt = "How fast? " + "word " * 600
    body = {"prompt": prompt, "max_tokens": 4, "temperature": 0, "model": "gemma"}
    fields = {**body, "stream": True, "timings_per_token": True, "return_progress": True}
    events = [data for _, data in server.ask("/v1/completions", fields).events][:-1]
    far = [e["prompt_progress"] for e in events if "prompt_progress" in e]
    assert far and far[-1]["processed"] == far[-1]["total"] > 600
    assert [p["processed"] for p in far] == sorted(p["processed"] for p in far)
    words = [e for e in events if "prompt_progress" not in e]
    assert [e["timings"]["predicted_n"] for e in words][-1] == 4
    assert all(e["timings"]["prompt_n"] + e["timings"]["cache_n"] == far[-1]["total"] for e in words)
    whole = server.ask("/v1/completions", body).json
    assert whole["timings"]["cache_n"] > 0 and whole["timings"]["predicted_per_second"] > 0
    assert whole["system_fingerprint"].startswith("fp_")
    assert {e["system_fingerprint"] for e in events} == {whole["system_fingerprint"]}
    plain = [data for _, data in server.ask("/v1/completions", {**body, "stream": True}).events][:-1]
    assert ["timings" in e for e in plain] == [False] * (len(plain) - 1) + [True]
    chat = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 2, "stream": True}
    said = [d for _, d in server.ask("/v1/chat/completions", {**chat, "return_progress": True}).events][:-1]
    assert any("prompt_progress" in e for e in said) and said[-1]["timings"]["predicted_n"] == 2


def test_only_allowed_tools_are_called(server: Server) -> None:
    def tool(name: str) -> dict[str, Any]:
        return {"name": name, "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}

    named = [{"type": "function", "function": {"name": "second"}}]
    chat = {
        "messages": [{"role": "user", "content": "Call first."}],
        "tools": [{"type": "function", "function": tool(name)} for name in ("first", "second", "third")],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}},
    }
    answer = server.ask("/v1/chat/completions", chat).json["choices"][0]["message"]
    assert {call["function"]["name"] for call in answer["tool_calls"]} == {"second"}  # how often is the model's choice
    response = {
        "input": "Call first.",
        "tools": [{"type": "function", **tool(name)} for name in ("first", "second")],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "second"}]},
    }
    items = server.ask("/v1/responses", response).json["output"]
    assert {item["name"] for item in items if item["type"] == "function_call"} == {"second"}
    response["tool_choice"]["tools"] = [{"type": "function", "name": "fourth"}]  # type: ignore[index]
    wrong = server.ask("/v1/responses", response)
    assert wrong.status == 400 and wrong.json["error"]["param"] == "tool_choice.tools[0].name"


def test_responses_again(server: Server) -> None:
    words = {"input": "My name is Zebedee.", "max_output_tokens": 6, "min_tokens": 6, "instructions": "Be brief."}
    first = server.ask("/v1/responses", words)
    assert first.status == 200 and first.json["store"] is True
    told = first.json
    assert told["completed_at"] >= told["created_at"] and told["frequency_penalty"] == 0 and told["top_logprobs"] == 0
    assert server.ask(f"/v1/responses/{told['id']}").json == told
    body = {"input": "What is my name?", "max_output_tokens": 4, "previous_response_id": told["id"]}
    for stream in (False, True):
        second = server.ask("/v1/responses", {**body, "stream": stream})
        assert second.status == 200
        later = second.events[-1][1]["response"] if stream else second.json
        assert later["previous_response_id"] == told["id"]
        prompt = server.sql(f"select prompt from traces where id = '{later['id'].removeprefix('resp_')}'")[0]["prompt"]
        said = told["output"][0]["content"][0]["text"].strip()
        at = 0
        for part in ("My name is Zebedee.", said, "What is my name?"):
            assert part in prompt[at:], (part, prompt)
            at = prompt.index(part, at) + len(part)
        assert prompt.count("Be brief.") == said.count("Be brief.")  # instructions are each call's own
        third = server.ask("/v1/responses/input_tokens", {"input": "And?", "previous_response_id": later["id"]}).json
        assert third["object"] == "response.input_tokens" and third["input_tokens"] > later["usage"]["input_tokens"]
    plain = server.ask("/v1/responses", {"input": "Hi", "max_output_tokens": 2, "store": False}).json
    assert plain["store"] is False and server.ask(f"/v1/responses/{plain['id']}").status == 404
    assert server.ask(f"/v1/responses/{told['id']}", method="DELETE").json["deleted"] is True
    assert server.ask(f"/v1/responses/{told['id']}").status == 404
    gone = server.ask("/v1/responses", body)
    assert gone.status == 400 and gone.json["error"]["code"] == "previous_response_not_found"
    assert server.ask(f"/v1/responses/{told['id']}", method="DELETE").status == 404
    assert server.ask("/v1/responses/resp_x'%20or%201=1").status == 404


def test_defaults_of_the_server() -> None:
    """What llama-server and vLLM take as options: a call that says nothing has them, a call's own word wins."""
    defaults = '{"temperature": 0, "max_tokens": 5, "top_k": 7, "chat_template_kwargs": {"word": "spoken"}}'
    template = "{% for m in messages %}{{ m.content }}{% endfor %} {{ word }} {{ more }}"
    with serving(None, f"gemma={GEMMA}", "--defaults", defaults, "--chat-template", template, "-c", "1024") as server:
        settings = server.ask("/props").json["default_generation_settings"]["params"]
        assert (settings["temperature"], settings["top_k"], settings["n_predict"]) == (0, 7, 5)
        assert settings["min_p"] == pytest.approx(0.05)  # llama.cpp's, of that endpoint
        messages = [{"role": "user", "content": "Hi"}]
        for path, body in (
            ("/v1/completions", {"prompt": "1, 2, 3,"}),
            ("/v1/chat/completions", {"messages": messages}),
            ("/v1/responses", {"input": "Hi"}),
            ("/completion", {"prompt": "1, 2, 3,"}),
        ):
            answer = server.ask(path, {**body, "ignore_eos": True}).json
            usage = answer.get("usage", {})
            counts = {answer.get("tokens_predicted"), usage.get("completion_tokens"), usage.get("output_tokens")}
            assert counts - {None} == {5}, (path, answer)
        own = {"prompt": "1, 2, 3,", "max_tokens": 3, "ignore_eos": True}
        assert server.ask("/v1/completions", own).json["usage"]["completion_tokens"] == 3
        prompt = server.ask("/apply-template", {"messages": messages}).json["prompt"]
        assert prompt == "Hi spoken "
        kwargs = {"word": "said", "more": "too"}
        prompt = server.ask("/apply-template", {"messages": messages, "chat_template_kwargs": kwargs}).json["prompt"]
        assert prompt == "Hi said too"
    for wrong, words in (
        ('{"temperature": -1}', "temperature must be from 0"),
        ('{"model": "x"}', "model has no default"),
        ("{", "not JSON"),
    ):
        assert words in run("serve", str(GEMMA), "--defaults", wrong, code=1)


def test_a_prompt_without_a_header(server: Server) -> None:
    body = {"model": "gemma", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    ends = {True: "<|im_start|>assistant\n", False: "<|im_end|>\n"}
    for wanted, end in ends.items():
        fields = {**body, "add_generation_prompt": wanted}
        assert server.ask("/apply-template", fields).json["prompt"].endswith(end)
        assert server.ask("/v1/chat/completions", fields).status == 200
    assert (
        not server.ask("/apply-template", {**body, "add_generation_prompt": False}).json["prompt"].endswith(ends[True])
    )


def test_streams_of_responses_tell_progress_and_timings(server: Server) -> None:
    body = {"model": "gemma", "input": "Hi", "max_output_tokens": 4, "stream": True, "ignore_eos": True}
    plain = server.ask("/v1/responses", body).events
    assert not any({"timings", "prompt_progress"} & data.keys() for _, data in plain)
    told = server.ask("/v1/responses", {**body, "timings_per_token": True, "return_progress": True}).events
    progress = [data for _, data in told if "prompt_progress" in data]
    assert progress and all(data["type"] == "response.in_progress" for data in progress)
    assert progress[-1]["prompt_progress"]["processed"] == progress[-1]["prompt_progress"]["total"]
    deltas = [data for kind, data in told if kind == "response.output_text.delta"]
    assert all("timings" in data for data in deltas)
    last = told[-1][1]
    assert last["type"] == "response.incomplete" and last["timings"]["predicted_n"] == 4
    numbers = [data["sequence_number"] for _, data in told]
    assert numbers == list(range(len(numbers)))


def test_the_rate_is_of_steps(server: Server) -> None:
    """The first token comes with the prompt's last step: n tokens take n - 1 steps."""
    for n in (1, 6):
        body = {"model": "gemma", "prompt": "1, 2, 3,", "n_predict": n, "temperature": 0, "ignore_eos": True}
        timings = server.ask("/completion", body).json["timings"]
        assert timings["predicted_n"] == n
        wanted = 1e3 * (n - 1) / timings["predicted_ms"] if n > 1 else 0
        assert timings["predicted_per_second"] == pytest.approx(wanted)


def test_fields_that_their_apis_require(server: Server) -> None:
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    body = {"model": "gemma", "input": "Hi", "max_output_tokens": 1, "tools": [tool]}
    (echoed,) = server.ask("/v1/responses", body).json["tools"]
    assert echoed == {**tool, "description": None, "strict": False}
    message = {"model": "gemma", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    whole = server.ask("/v1/messages", message).json
    assert {"stop_details", "container"} <= whole.keys() and whole["content"][0]["citations"] is None
    fields = {"cache_creation", "inference_geo", "output_tokens_details", "server_tool_use", "service_tier"}
    assert fields <= whole["usage"].keys()
    chat = server.ask("/v1/chat/completions", {"messages": message["messages"], "max_tokens": 1}).json
    assert chat["choices"][0]["message"]["annotations"] == []
    compact = server.ask("/v1/responses/compact", {"model": "gemma", "input": "Hi"})
    assert compact.status == 404 and compact.json["error"]["type"] == "not_found_error"
