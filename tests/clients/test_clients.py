"""The libraries that people have already, pointed at the server: run by ./dev test --ci in a Python of their own."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from serving import KERNEL_NOISE, Server, make_catalog, needs_models, run, serving

pytestmark = needs_models
HERE = pathlib.Path(__file__).resolve().parent


class Person(BaseModel):  # bounded: what has no end is cut by max_tokens on some machine or other
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)
    pet: Literal["cat", "dog"]


class Weather(BaseModel):
    """The weather of a city"""

    city: str = Field(max_length=20)
    unit: Literal["C", "F"]


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
HELLO: list[Any] = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalog = make_catalog(tmp_path_factory.mktemp("clients"))
    key = run("--catalog", str(catalog), "key", "create", "clients", "-q").strip()
    with serving(catalog, "--chat-template", "chatml", "-c", "8192") as running:
        running.key = key  # type: ignore[attr-defined]
        yield running


def key(server: Server) -> str:
    return str(server.key)  # type: ignore[attr-defined]


def test_openai(server: Server) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key(server), max_retries=0)
    for _ in range(2):  # the second answer and the stream both begin from a cached prompt
        text = client.completions.create(model="gemma", prompt="The capital of France is", max_tokens=6, temperature=0)
    pieces = client.completions.create(
        model="gemma", prompt="The capital of France is", max_tokens=6, temperature=0, stream=True
    )
    assert "".join(p.choices[0].text for p in pieces) == text.choices[0].text
    chat = client.chat.completions.create(model="gemma", messages=HELLO, max_tokens=8, logprobs=True, top_logprobs=2)
    assert chat.usage and chat.usage.completion_tokens <= 8 and chat.choices[0].logprobs
    short = {"guided_regex": "[A-Z][a-z]{2,8}[.]"}  # an answer that ends by itself
    with client.chat.completions.stream(
        model="gemma", messages=HELLO, stream_options={"include_usage": True}, extra_body=short
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().usage
    parsed = client.chat.completions.parse(
        model="gemma",
        messages=[{"role": "user", "content": "Ada, 36, cat"}],
        response_format=Person,
        max_tokens=200,
        seed=1,
    )
    assert isinstance(parsed.choices[0].message.parsed, Person)
    embedded = client.embeddings.create(model="minilm", input=["a", "b"])  # asks for base64
    assert len(embedded.data[1].embedding) == 384
    response = client.responses.create(model="gemma", input="Hello!", max_output_tokens=8)
    assert response.output_text is not None and response.usage
    kinds = [e.type for e in client.responses.create(model="gemma", input="Hello!", max_output_tokens=8, stream=True)]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    assert [m.id for m in client.models.list()] == ["gemma", "minilm"]
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model="gemma", messages=HELLO, temperature=-1)
    assert wrong.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody", messages=HELLO)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="hr-wrong").models.list()


class Address(BaseModel):
    street: str = Field(max_length=6)
    zip: str = Field(pattern="^[0-9]{5}$")


class Parcel(BaseModel):
    """A parcel and where it goes."""

    weight: float = Field(gt=0, le=30)
    kind: Literal["letter", "box"]
    to: Address
    back: Address | None
    inside: list[Parcel] = Field(max_length=1)


def test_openai_tools_of_nested_models(server: Server) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key(server), max_retries=0)
    turns: list[Any] = [{"role": "user", "content": "Send a box of books to Paris."}]
    tool = openai.pydantic_function_tool(Parcel, name="send")
    for seed in range(2):
        answer = client.chat.completions.create(
            model="gemma",
            messages=turns,
            tools=[tool],
            tool_choice="required",
            max_tokens=400,
            seed=seed,
            temperature=1,
        )
        for call in answer.choices[0].message.tool_calls or []:
            if answer.choices[0].finish_reason == "tool_calls":
                assert call.type == "function" and Parcel.model_validate_json(call.function.arguments)


def test_openai_tools(server: Server) -> None:
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key(server), max_retries=0)
    turns: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = client.chat.completions.create(
            model="gemma",
            messages=turns,
            tools=[TOOL],
            tool_choice=choice,
            max_tokens=120,
            parallel_tool_calls=False,
            seed=2,
        )  # type: ignore[call-overload]
        call = answer.choices[0].message.tool_calls[0]
        assert set(json.loads(call.function.arguments)) == {"city", "unit"}
    loop = [*turns, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "22 C"}]
    final = client.chat.completions.create(
        model="gemma", messages=loop, tools=[TOOL], tool_choice="auto", max_tokens=24
    )
    assert final.choices[0].finish_reason in ("stop", "length", "tool_calls")
    with client.chat.completions.stream(
        model="gemma",
        messages=turns,
        tools=[TOOL],
        tool_choice="required",
        max_tokens=120,
        parallel_tool_calls=False,
        seed=2,
    ) as stream:
        for _ in stream:
            pass
        whole = stream.get_final_completion().choices[0].message
    assert whole.tool_calls and set(json.loads(whole.tool_calls[0].function.arguments)) == {"city", "unit"}


def test_a_free_call_is_read(server: Server) -> None:
    """Nothing is enforced; the model does as it did before, and calls."""
    import openai

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key(server), max_retries=0)
    turns: list[Any] = []
    for i, city in enumerate(("Rome", "Oslo", "Cairo")):
        arguments = json.dumps({"city": city, "unit": "C"})
        call = {"id": f"call_{i}", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
        turns += [
            {"role": "user", "content": f"Weather in {city}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{i}", "content": "22 C"},
            {"role": "assistant", "content": "It is 22 C."},
        ]
    turns.append({"role": "user", "content": "Weather in Paris?"})
    fields: Any = {"model": "gemma", "messages": turns, "tools": [TOOL], "max_tokens": 120, "temperature": 0}
    whole = client.chat.completions.create(**fields).choices[0]
    with client.chat.completions.stream(**fields) as running:
        for _ in running:
            pass
        streamed = running.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert choice.finish_reason == "tool_calls" and choice.message.tool_calls, choice
        assert json.loads(choice.message.tool_calls[0].function.arguments)["city"] == "Paris"
        assert "tool_call" not in (choice.message.content or "")


def test_anthropic(server: Server) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=server.url, api_key=key(server), max_retries=0)
    message = client.messages.create(model="gemma", max_tokens=8, messages=HELLO, system="Be brief.")
    assert message.type == "message" and message.usage.output_tokens <= 8
    counted = client.messages.count_tokens(model="gemma", messages=HELLO, system="Be brief.")
    assert counted.input_tokens == message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)
    with client.messages.stream(model="gemma", max_tokens=8, messages=HELLO) as stream:
        said = "".join(stream.text_stream)
        assert said == "".join(b.text for b in stream.get_final_message().content if b.type == "text")
    tool: Any = {"name": "get_weather", "description": "weather", "input_schema": TOOL["function"]["parameters"]}
    forced = client.messages.create(
        model="gemma", max_tokens=120, messages=HELLO, tools=[tool], tool_choice={"type": "tool", "name": "get_weather"}
    )
    use = forced.content[0]
    assert use.type == "tool_use" and set(use.input) == {"city", "unit"}
    loop: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "22 C"}]},
    ]
    assert client.messages.create(model="gemma", max_tokens=8, messages=loop, tools=[tool]).stop_reason
    with client.messages.stream(
        model="gemma", max_tokens=120, messages=HELLO, tools=[tool], tool_choice={"type": "any"}
    ) as stream:
        assert any(b.type == "tool_use" for b in stream.get_final_message().content)
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(model="gemma", max_tokens=8, messages=HELLO, extra_body={"temperature": -1})
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=server.url, api_key="x", max_retries=0).messages.create(
            model="gemma", max_tokens=8, messages=HELLO
        )


def test_langchain(server: Server) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import SecretStr

    secret = SecretStr(key(server))
    model = ChatOpenAI(
        model="gemma", base_url=f"{server.url}/v1", api_key=secret, max_retries=0, seed=1, max_tokens=120
    )  # type: ignore[call-arg]
    assert model.invoke("Hello!").usage_metadata
    assert "".join(str(p.content) for p in model.stream("Hello!")) is not None
    made = model.with_structured_output(Person, method="json_schema").invoke("Ada, 36, has a cat")
    assert isinstance(made, Person)
    calls = model.bind_tools([Weather], tool_choice="Weather").invoke("Weather in Paris?").tool_calls  # type: ignore[attr-defined]
    assert calls[0]["name"] == "Weather" and set(calls[0]["args"]) == {"city", "unit"}
    vectors = OpenAIEmbeddings(
        model="minilm", base_url=f"{server.url}/v1", api_key=secret, check_embedding_ctx_length=False
    ).embed_documents(["a", "b"])
    assert [len(v) for v in vectors] == [384, 384]


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor(server: Server, mode: str) -> None:
    import instructor
    import openai

    raw = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key(server), max_retries=0)
    client = instructor.from_openai(raw, mode=instructor.Mode[mode])
    person = client.chat.completions.create(
        model="gemma",
        messages=[{"role": "user", "content": "Ada, 36, has a cat"}],
        response_model=Person,
        max_tokens=200,
        seed=1,
        max_retries=1,
    )
    assert isinstance(person, Person)


def test_litellm(server: Server) -> None:
    import litellm

    place: Any = {"api_base": f"{server.url}/v1", "api_key": key(server)}
    answer = litellm.completion(model="openai/gemma", messages=HELLO, max_tokens=8, **place)
    assert answer.usage.completion_tokens <= 8
    pieces = list(litellm.completion(model="openai/gemma", messages=HELLO, max_tokens=8, stream=True, **place))
    assert pieces[-1].choices[0].finish_reason in ("stop", "length")
    vectors = litellm.embedding(model="openai/minilm", input=["a"], encoding_format="float", **place)
    assert len(vectors.data[0]["embedding"]) == 384
    with pytest.raises(litellm.BadRequestError):
        litellm.completion(model="openai/gemma", messages=HELLO, temperature=-1, **place)


def test_javascript(server: Server, tmp_path: pathlib.Path) -> None:
    folder = os.environ.get("HEADRACE_CLIENTS_JS")
    if not folder:
        pytest.skip("./dev test --ci installs the JavaScript clients")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").split(".")[0]) < 20:
        pytest.skip(f"the openai package wants Node 20, and this is {version.strip()}")
    done = subprocess.run(
        ["node", "clients.mjs", f"{server.url}/v1", key(server)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["openai"]["text"] == found["openai"]["streamed"]
    assert set(found["openai"]["call"]) == {"city", "unit"} and found["ai"]["text"] == found["ai"]["streamed"]
    assert set(found["ai"]["object"]) == {"name", "age"} and found["ai"]["tool"] == "get_weather"
    assert found["ai"]["embedding"] == 384


def test_schemathesis(tmp_path: pathlib.Path) -> None:
    """Requests made from our own description, good and bad: no 5xx, answers as described."""
    catalog = make_catalog(tmp_path)
    with serving(catalog, "--chat-template", "chatml", "-c", "160") as server:
        check_description(server, tmp_path)


def check_description(server: Server, folder: pathlib.Path) -> None:
    """``folder``: where schemathesis keeps what it found, .schemathesis/."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
            *("--max-examples", os.environ.get("HEADRACE_SCHEMATHESIS", "4")),
            *(
                "--checks",
                "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
            ),
            *("--exclude-path", "/metrics", "--exclude-path", "/load", "--request-timeout", "30", "--seed", "1"),
            *("--phases", "examples,coverage,fuzzing", "--generation-deterministic"),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_lm_eval(server: Server, tmp_path: pathlib.Path) -> None:
    """An evaluation harness: log-probabilities of continuations, and the engine's own to compare with."""
    import lm_eval
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    data = tmp_path / "data.jsonl"
    items = [
        {"question": "The opposite of hot is", "choices": [" cold", " banana"], "answer": 0},
        {"question": "One, two, three,", "choices": [" window", " four"], "answer": 1},
        {"question": "Paris is the capital of", "choices": [" France", " socks"], "answer": 0},
    ]
    data.write_text("".join(json.dumps(item) + "\n" for item in items))
    (tmp_path / "local.yaml").write_text(
        f"task: headrace_local\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {data}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{question}}'\ndoc_to_choice: choices\n"
        "doc_to_target: answer\ntarget_delimiter: ''\nmetric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    os.environ["OPENAI_API_KEY"] = key(server)
    model = LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions",
        model="gemma",
        tokenizer_backend="remote",
        auth_token=key(server),
        num_concurrent=4,
        batch_size=1,
    )
    results = lm_eval.simple_evaluate(
        model=model, tasks=["headrace_local"], task_manager=TaskManager(include_path=str(tmp_path)), log_samples=True
    )
    assert results and results["results"]["headrace_local"]["acc,none"] == 1.0
    # What it was told of a continuation is what the engine says when it writes there itself.
    compared = 0
    for sample in results["samples"]["headrace_local"]:
        body = {
            "prompt": sample["doc"]["question"],
            "max_tokens": 1,
            "add_special_tokens": False,
            "logprobs": 100,
            "temperature": 0,
        }
        written = server.ask("/v1/completions", body, authorization=f"Bearer {key(server)}").json["choices"][0]
        top = written["logprobs"]["top_logprobs"][0]
        for (loglikelihood, _), choice in zip(sample["filtered_resps"], sample["doc"]["choices"], strict=True):
            if choice in top:
                compared += 1
                assert loglikelihood == pytest.approx(top[choice], abs=KERNEL_NOISE), choice
    assert compared >= 2
