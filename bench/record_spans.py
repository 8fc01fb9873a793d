"""Sends batches of 512 spans of 2 KB to an OTLP/HTTP receiver on one kept connection, and prints what the answers took.

record_spans.py URL BATCHES SPANS_PER_SECOND SENDER        (0 spans: each batch as soon as the one before is answered)

The bodies are made beforehand; between two requests only the ids in them are set. A receiver that is full (429, 503) gets the
same batch again after 50 ms. Prints JSON: "acks", the seconds of each accepted request in their order, "seconds" of all, "refused".
"""

from __future__ import annotations

import http.client
import json
import random
import struct
import sys
import time
import urllib.parse

BATCH, BYTES = 512, 2048
TEXT = "the model said that a gradient of this layer was larger than what we saw before it began to learn from them"
WORDS = TEXT.split()


def field(number: int, data: bytes) -> bytes:
    """A protobuf field of bytes."""
    head, size = bytearray([number << 3 | 2]), len(data)
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + data


def attribute(name: str, value: str | int) -> bytes:
    if isinstance(value, str):
        return field(1, name.encode()) + field(2, field(1, value.encode()))
    return field(1, name.encode()) + field(2, bytes([3 << 3, value]))


def text(source: random.Random, size: int) -> str:
    return " ".join(source.choices(WORDS, k=size // 4))[:size]


def span(source: random.Random, identity: bytes, when: int) -> bytes:
    """One call of a model, with the attributes that Phoenix's own convention (OpenInference) has."""
    head = field(1, bytes(15) + b"\x01") + field(2, identity) + field(5, b"ChatCompletion") + bytes([6 << 3, 3])
    times = struct.pack("<BQBQ", 7 << 3 | 1, when, 8 << 3 | 1, when + 700_000_000)
    said: list[tuple[str, str | int]] = [
        ("openinference.span.kind", "LLM"),
        ("llm.model_name", "gemma3-270m"),
        ("llm.token_count.prompt", source.randrange(128)),
        ("llm.token_count.completion", source.randrange(128)),
        ("session.id", f"session-{source.randrange(100)}"),
        ("input.value", text(source, 1100)),
    ]
    whole = head + times + b"".join(field(9, attribute(name, value)) for name, value in said)
    left = BYTES - len(whole) - 30
    return whole + field(9, attribute("output.value", text(source, left))) + field(15, bytes([3 << 3, 1]))


class Body:
    """A batch whose ids can be set."""

    def __init__(self, batch: int = BATCH, seed: int = 1) -> None:
        source = random.Random(seed)
        marks = [source.randbytes(8) for _ in range(batch)]
        when = 1_790_000_000_000_000_000
        spans = [field(2, span(source, mark, when + i * 1_000_000)) for i, mark in enumerate(marks)]
        resource = field(1, field(1, attribute("service.name", "bench")))
        self.bytes = bytearray(field(1, resource + field(2, b"".join(spans))))
        self.places = []
        at = 0
        for mark in marks:
            at = self.bytes.index(mark, at)
            self.places.append(at)

    def number(self, sender: int, number: int) -> list[str]:
        """Spans of one trace a batch; returns what their ids are in hex, as rows of both stores have them."""
        trace = struct.pack(">IIQ", 1, sender, number)
        ids = []
        for i, at in enumerate(self.places):
            identity = struct.pack(">HIH", sender + 1, number, i)
            self.bytes[at - 18 : at - 2] = trace  # field 1 stands before field 2
            self.bytes[at : at + 8] = identity
            ids.append(identity.hex())
        return ids


def send(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    connection.request("POST", path, body, {"content-type": "application/x-protobuf"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def main() -> None:
    url, batches, rate, sender = (
        urllib.parse.urlsplit(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]),
        int(sys.argv[4]),
    )
    assert url.hostname and url.port
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
    body, acks, refused = Body(), [], 0
    began = time.perf_counter()
    for number in range(batches):
        body.number(sender, number)
        data = bytes(body.bytes)
        if rate:
            time.sleep(max(began + number * BATCH / rate - time.perf_counter(), 0))
        while True:
            start = time.perf_counter()
            status = send(connection, url.path, data)
            if status == 200:
                break
            if status not in (429, 503):
                raise RuntimeError(f"the answer is {status}")
            refused += 1
            time.sleep(0.05)
        acks.append(time.perf_counter() - start)
    print(json.dumps({"acks": acks, "seconds": time.perf_counter() - began, "refused": refused}))


if __name__ == "__main__":
    main()
