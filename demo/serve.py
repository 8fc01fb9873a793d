"""The last chapters of ./dev demo: the models behind HTTP, OpenAI's own client in front, and every request a row."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from openai import OpenAI
from show import chapter, python, run, style


def ask(client: OpenAI) -> str:
    """A completion, a stream, a JSON schema, a call of a tool, embeddings. The id of the first answer."""
    prompt = "The capital of France is Paris. The capital of Italy is"
    python(f'client.completions.create(model="gemma", prompt="{prompt}", max_tokens=4, temperature=0)')
    first = client.completions.create(model="gemma", prompt=prompt, max_tokens=4, temperature=0)
    print(repr(first.choices[0].text))

    question = "What is the capital of France?"
    python(f'for piece in client.chat.completions.create(model="smol", …"{question}", stream=True): print(…, end="|")')
    talk: Any = [{"role": "user", "content": question}]
    for piece in client.chat.completions.create(model="smol", messages=talk, max_tokens=40, temperature=0, stream=True):
        if text := piece.choices[0].delta.content:
            print(text, end="|", flush=True)
    print()

    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome", "Oslo"]}, "warm": {"type": "boolean"}},
        "required": ["city", "warm"],
        "additionalProperties": False,
    }
    sentence = "Extract as JSON: It was a warm day in Rome."
    python(f'client.chat.completions.create(model="smol", …"{sentence}", response_format={{…json_schema…}})')
    said = client.chat.completions.create(
        model="smol",
        messages=[{"role": "user", "content": sentence}],
        response_format={"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}},
        max_tokens=60,
        temperature=0,
    )
    print(json.loads(said.choices[0].message.content or "null"))

    tool: Any = {
        "type": "function",
        "function": {"name": "get_weather", "description": "The weather of a city", "parameters": schema},
    }
    python('client.chat.completions.create(…"Is it warm in Rome?", tools=[get_weather], tool_choice="required")')
    called: Any = client.chat.completions.create(
        model="smol",
        messages=[{"role": "user", "content": "Is it warm in Rome?"}],
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=60,
        temperature=0,
    )
    call = called.choices[0].message.tool_calls[0].function
    print(f"{call.name}({call.arguments})")

    python('client.embeddings.create(model="minilm", input=["a cat", "a kitten", "the stock exchange"])')
    vectors = [
        d.embedding
        for d in client.embeddings.create(model="minilm", input=["a cat", "a kitten", "the stock exchange"]).data
    ]
    cosines = [sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:]]
    print(f"cat ~ kitten {cosines[0]:.2f}, cat ~ stock exchange {cosines[1]:.2f}")
    return first.id


def main() -> None:
    os.environ["HEADRACE_CATALOG"] = sys.argv[1]
    catalog = pathlib.Path(sys.argv[1])
    chapter(int(sys.argv[2]), "The same models behind OpenAI's API, asked by OpenAI's own client")
    words = ["headrace", "--json", "serve", "gemma", "smol", "minilm", "--port", "0", "-c", "4096"]
    print(style("$ headrace serve gemma smol minilm &", "36"), flush=True)
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        url = json.loads(server.stdout.readline())["url"]
        python(f'client = OpenAI(base_url="{url}/v1", api_key="none")')
        answer = ask(OpenAI(base_url=f"{url}/v1", api_key="none"))
        chapter(int(sys.argv[2]) + 1, "Every request was a row, while the server runs")
        run("score", answer, "--value", "1", "--name", "correct", catalog=catalog)
        run(
            "sql",
            "select right(id, 6) as id, endpoint, prompt_tokens as prompt, answer_tokens as answer, finish, why from traces "
            "where answer_tokens > 0 order by started desc limit 4",
            catalog=catalog,
        )
        run(
            "sql",
            "select t.answer, s.name, s.value from traces t join scores s on s.request = t.id order by s.time desc limit 1",
            catalog=catalog,
        )
        run("top", url, "-n", "1", catalog=catalog)
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main()
