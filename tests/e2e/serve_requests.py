"""What the tests of the APIs ask with."""

from __future__ import annotations

from typing import Any

from serving import Answer, Server

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
HELLO = [{"role": "user", "content": "Hello, who are you?"}]


def chat(server: Server, **fields: Any) -> Any:
    answer = server.ask("/v1/chat/completions", {"model": "gemma", "messages": HELLO, "max_tokens": 16, **fields})
    assert answer.status == 200, answer.body
    return answer.json


def complete(server: Server, prompt: Any, **fields: Any) -> Any:
    answer = server.ask("/v1/completions", {"model": "gemma", "prompt": prompt, "temperature": 0, **fields})
    assert answer.status == 200, answer.body
    return answer.json


def settled(server: Server, path: str, body: Any, **headers: str) -> Answer:
    """The answer to a request whose prompt is in the prefix cache: what another answer can be compared with.

    A prompt that is computed whole takes other kernels than the last token of a cached one. Their last bits differ,
    and where two tokens are almost tied, so may the text.
    """
    server.ask(path, body, **headers)
    return server.ask(path, body, **headers)
