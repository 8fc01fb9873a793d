"""Structures and tools in the APIs: what is enforced, what is counted, where an answer is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from serve_requests import HELLO, TIME, WEATHER, chat, complete
from serving import Server, make_catalog, needs_models, serving

pytestmark = needs_models


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalog = make_catalog(tmp_path_factory.mktemp("serve"))
    with serving(catalog, "--chat-template", "chatml", "-c", "8192") as running:
        yield running


def test_structures(server: Server) -> None:
    schema = {
        "type": "object",
        # Bounded: a number without an end is cut by max_tokens once in a while.
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    shape = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": schema}}
    made = json.loads(chat(server, max_tokens=80, response_format=shape)["choices"][0]["message"]["content"])
    assert set(made) == {"name", "age"} and isinstance(made["age"], int)
    free = chat(server, max_tokens=120, seed=3, response_format={"type": "json_object"})["choices"][0]
    assert free["message"]["content"].startswith("{")  # an object, as the name says
    if free["finish_reason"] == "stop":
        json.loads(free["message"]["content"])
    word = complete(server, "Is water wet? ", max_tokens=8, structured_outputs={"choice": ["yes", "no"]})
    assert word["choices"][0]["text"] in ("yes", "no")
    number = complete(server, "Pi is ", max_tokens=8, guided_regex="3\\.[0-9]{2}")["choices"][0]["text"]
    assert number.startswith("3.") and len(number) == 4
    refused = server.ask(
        "/v1/chat/completions",
        {
            "messages": HELLO,
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nonsense"}}},
        },
    )
    assert refused.status == 400, refused.body


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_enforced_calls(server: Server, choice: Any, stream: bool) -> None:
    fields = {
        "messages": [{"role": "user", "content": "Weather in Paris?"}],
        "tools": [WEATHER] if choice == "required" else [WEATHER, TIME],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "max_tokens": 120,
        "seed": 1,
    }
    answer = server.ask("/v1/chat/completions", {**fields, "stream": stream})
    assert answer.status == 200, answer.body
    if stream:
        calls: dict[int, dict[str, str]] = {}
        for _, data in answer.events[:-1]:
            for part in data["choices"][0]["delta"].get("tool_calls", []):
                call = calls.setdefault(part["index"], {"id": part.get("id", ""), "name": "", "arguments": ""})
                call["name"] += part["function"].get("name", "")
                call["arguments"] += part["function"].get("arguments", "")
        made = list(calls.values())
        reason = answer.events[-2][1]["choices"][0]["finish_reason"]
    else:
        message = answer.json["choices"][0]["message"]
        assert message["content"] is None
        made = [{"id": c["id"], **c["function"]} for c in message["tool_calls"]]
        reason = answer.json["choices"][0]["finish_reason"]
    assert len(made) == 1 and made[0]["name"] == "get_weather" and made[0]["id"].startswith("call_")
    if reason == "tool_calls":
        arguments = json.loads(made[0]["arguments"])
        assert set(arguments) == {"city", "unit"} and arguments["unit"] in "CF"
    else:
        assert reason == "length"


NESTED = {  # as pydantic writes nested and recursive models
    "$defs": {
        "Address": {
            "properties": {"street": {"type": "string", "maxLength": 4}, "zip": {"$ref": "#/$defs/Zip"}},
            "required": ["street", "zip"],
            "type": "object",
        },
        "Zip": {"type": "string", "pattern": "^[0-9]{5}$"},
        "Node": {
            "properties": {
                "n": {"type": "integer", "minimum": 0, "maximum": 9},
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
            },
            "required": ["n", "next"],
            "type": "object",
        },
    },
    "properties": {
        "to": {"$ref": "#/$defs/Address"},
        "chain": {"$ref": "#/$defs/Node"},
        "again": {"$ref": "#/properties/to"},
    },
    "required": ["to", "chain", "again"],
    "type": "object",
}


@pytest.mark.parametrize("tool_choice", ["required", "auto"])
@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_references_in_tools(server: Server, api: str, tool_choice: str) -> None:
    if api == "messages":
        choice = {"type": "any" if tool_choice == "required" else "auto"}
        tools: list[Any] = [{"name": "send", "input_schema": NESTED}]
        body = {
            "model": "gemma",
            "messages": HELLO,
            "max_tokens": 300,
            "tools": tools,
            "tool_choice": choice,
            "seed": 3,
        }
        answer = server.ask("/v1/messages", body)
        blocks = answer.json["content"] if answer.json["stop_reason"] != "max_tokens" else []
        calls = [(b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"]
    elif api == "responses":
        tools = [{"type": "function", "name": "send", "parameters": NESTED}]
        body = {
            "model": "gemma",
            "input": HELLO,
            "max_output_tokens": 300,
            "tools": tools,
            "tool_choice": tool_choice,
            "seed": 3,
        }
        answer = server.ask("/v1/responses", body)
        calls = [
            (o["name"], json.loads(o["arguments"]))
            for o in answer.json["output"]
            if o["type"] == "function_call" and answer.json["status"] == "completed"
        ]
    else:
        tools = [{"type": "function", "function": {"name": "send", "parameters": NESTED}}]
        body = {
            "model": "gemma",
            "messages": HELLO,
            "max_tokens": 300,
            "tools": tools,
            "tool_choice": tool_choice,
            "seed": 3,
        }
        answer = server.ask("/v1/chat/completions", body)
        choice = answer.json["choices"][0]
        calls = [
            (c["function"]["name"], json.loads(c["function"]["arguments"]))
            for c in choice["message"].get("tool_calls") or []
            if choice["finish_reason"] != "length"
        ]
    assert answer.status == 200, answer.body
    assert "x-headrace-ignored" not in answer.headers
    for name, arguments in calls:
        assert name == "send" and list(arguments) == ["to", "chain", "again"]
        jsonschema.validate(arguments, NESTED)


def test_tools_count_as_tokens(server: Server) -> None:
    plain = server.ask("/tokenize", {"model": "gemma", "messages": HELLO}).json["count"]
    tools = server.ask("/tokenize", {"model": "gemma", "messages": HELLO, "tools": [WEATHER]}).json["count"]
    asked = chat(server, tools=[WEATHER], max_tokens=1)["usage"]["prompt_tokens"]
    assert plain < tools == asked
    bare = server.ask("/tokenize", {"model": "gemma", "content": "water"}).json["tokens"]
    assert (
        bare
        == server.ask("/tokenize", {"model": "gemma", "prompt": "water", "add_special_tokens": False}).json["tokens"]
    )


def test_properties_come_in_the_schemas_order(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"why": {"type": "string", "maxLength": 3}, "answer": {"type": "boolean"}, "a": {"type": "null"}},
        "required": ["why", "answer", "a"],
    }
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = chat(server, response_format=asked, max_tokens=60)["choices"][0]["message"]["content"]
    assert list(json.loads(text)) == ["why", "answer", "a"]
    body = {
        "model": "gemma",
        "messages": HELLO,
        "max_tokens": 60,
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    said = server.ask("/v1/messages", body).json["content"][0]["text"]
    assert list(json.loads(said)) == ["why", "answer", "a"]


def test_a_schema_without_an_end_is_cut(server: Server) -> None:
    """What must come next never stops coming: the answer ends at max_tokens, and nothing else suffers."""
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    endless = chat(
        server, max_tokens=100, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    )["choices"][0]
    assert endless["finish_reason"] == "length" and endless["message"]["content"].startswith('{"a": {"a": {"a": ')


def test_the_end_of_a_turn_may_be_quoted(server: Server) -> None:
    """The template's ``<|im_end|>`` inside a JSON string is text: only a client's own stop cuts it there."""
    quoted = "a<|im_end|>b"
    schema = {"type": "object", "properties": {"city": {"const": quoted}}, "required": ["city"]}
    whole = chat(
        server,
        max_tokens=60,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}},
    )["choices"][0]
    assert json.loads(whole["message"]["content"]) == {"city": quoted} and whole["finish_reason"] == "stop"
    tool = {"type": "function", "function": {"name": "go", "parameters": schema}}
    fields = {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 80}
    call = chat(server, **fields)["choices"][0]
    assert json.loads(call["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": quoted}
    assert call["finish_reason"] == "tool_calls"
    cut = chat(server, **fields, stop=["im_end"])["choices"][0]
    assert cut["message"]["tool_calls"][0]["function"]["arguments"].endswith("a<|")
    assert cut["finish_reason"] == "stop"


def test_a_tool_loop(server: Server) -> None:
    """What agents do: a call, its result, another answer."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": "What time is it?"}]
    first = chat(server, messages=turns, tools=[TIME], tool_choice="required", max_tokens=60, parallel_tool_calls=False)
    call = first["choices"][0]["message"]
    assert call["tool_calls"][0]["function"]["name"] == "get_time"
    turns += [call, {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "It is noon."}]
    second = chat(server, messages=turns, tools=[TIME], tool_choice="auto", max_tokens=20)
    assert second["choices"][0]["finish_reason"] in ("stop", "length", "tool_calls")
    none = chat(server, messages=turns, tools=[TIME], tool_choice="none", max_tokens=10)
    assert "tool_calls" not in none["choices"][0]["message"]
    # The last turn often offers no tools; what was called before is still said, also to a template that knows none.
    sizes = []
    for city in ("Rome", "Rome " * 40):
        call["tool_calls"][0]["function"]["arguments"] = json.dumps({"city": city})
        sizes.append(chat(server, messages=turns, max_tokens=1)["usage"]["prompt_tokens"])
    assert sizes[1] > sizes[0] + 30
