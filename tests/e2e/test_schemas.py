"""JSON schemas as grammars, held against an independent validator: JSON Schema's own test suite (draft 4), and random schemas.

Two promises: a text that the grammar accepts is valid, and so is everything that the grammar can write (random walks through
it). A schema that cannot be enforced must be refused when it is compiled; it must not be enforced in part.
"""

from __future__ import annotations

import json
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import headrace as hr
import jsonschema
import pytest

SUITE = (
    Path(os.environ.get("HEADRACE_CACHE", Path.home() / ".cache/headrace"))
    / "downloads/json-schema-test-suite-0.0.10.tgz"
)
_engine = pytest.importorskip("headrace._engine")
pytestmark = pytest.mark.skipif(not SUITE.exists(), reason="./dev setup test")


def cases() -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    with tarfile.open(SUITE) as suite:
        for member in suite.getmembers():
            path = Path(member.name)
            if "draft4" not in path.parts or path.suffix != ".json" or "optional" in path.parts:
                continue
            file = suite.extractfile(member)
            assert file is not None
            for case in json.load(file):
                yield f"{path.stem}: {case['description']}", case["schema"], case["tests"]


def test_what_a_grammar_accepts_or_writes_is_valid() -> None:
    compiled, refused, accepted, turned_away, walked = 0, [], 0, 0, 0
    wrong = []
    for name, schema, tests in cases():
        if "http://" in json.dumps(schema):  # refers to documents on the network
            continue
        try:
            grammar = _engine.byte_grammar(json.dumps(schema))
        except hr.HeadraceError as error:
            refused.append(f"{name}: {error}")
            continue
        compiled += 1
        validator = jsonschema.Draft4Validator(schema)
        for test in tests:
            for text in (json.dumps(test["data"]), json.dumps(test["data"], ensure_ascii=False)):
                if grammar.accepts(text.encode()):
                    accepted += 1
                    if not test["valid"]:
                        wrong.append(f"{name}: accepts {text}")
                elif test["valid"]:
                    turned_away += 1  # allowed: a grammar may write less than everything that is valid
        for seed in range(20):
            text = grammar.walk(seed, 60)
            if text is None:
                continue
            walked += 1
            try:
                good = validator.is_valid(json.loads(text.decode("utf-8", "replace")))
            except ValueError:
                good = False
            if not good:
                wrong.append(f"{name}: wrote {text!r}")
                break
    assert not wrong, f"{len(wrong)} broken promises:\n" + "\n".join(wrong[:40])
    assert compiled >= 50 and accepted >= 130 and walked >= 900, (compiled, accepted, turned_away, walked, refused)


PATTERNS = [
    "^[a-z]{2,5}$",
    "b",
    '^a"b$',
    r"^a\\b$",
    r"^\n?$",
    "^(ab|c)*$",
    r"\d{3}",
    "^[^a]",
    "é+$",
    "^x?y?z?$",
    r"^\w+@\w+\.com$",
    "^.{0,4}$",
]
FORMATS = ["date", "date-time", "time", "email", "ipv4", "ipv6", "uuid", "hostname", "uri", "duration", "int32"]
WORDS = ["id", "name", "a b", 'q"t', "größe", "x1", "kind"]


class Schemas:
    """Random schemas of draft 2020-12: what people and their tools write, and combinations of it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def string(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        if self.rng.random() < 0.5:
            schema["pattern"] = self.rng.choice(PATTERNS)
        if self.rng.random() < 0.4:
            schema["minLength"] = self.rng.randrange(4)
        if self.rng.random() < 0.4:
            schema["maxLength"] = self.rng.randrange(2, 9)
        if self.rng.random() < 0.2:
            schema = {"type": "string", "format": self.rng.choice(FORMATS)}
        return schema

    def number(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": self.rng.choice(["integer", "number"])}
        if schema["type"] == "integer" and self.rng.random() < 0.2:
            schema["multipleOf"] = self.rng.choice([1, 2, 7, 25])
        low = self.rng.choice([-1000, -3, -0.5, 0, 1, 2.25, 17, 1e6, 1e-7, 123456789.125])
        if self.rng.random() < 0.5:
            schema[self.rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self.rng.random() < 0.5:
            schema[self.rng.choice(["maximum", "exclusiveMaximum"])] = low + self.rng.choice([1, 2.5, 100, 1e7])
        return schema

    def array(self, depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array"}
        if self.rng.random() < 0.8:
            schema["items"] = self.any(depth + 1) if self.rng.random() < 0.9 else False
        if self.rng.random() < 0.3:
            schema["prefixItems"] = [self.any(depth + 1) for _ in range(self.rng.randrange(1, 3))]
        if self.rng.random() < 0.4:
            schema["minItems"] = self.rng.randrange(4)
        if self.rng.random() < 0.4:
            schema["maxItems"] = self.rng.randrange(1, 5)
        return schema

    def object(self, depth: int) -> dict[str, Any]:
        names = self.rng.sample(WORDS, self.rng.randrange(4))
        schema: dict[str, Any] = {"type": "object", "properties": {name: self.any(depth + 1) for name in names}}
        if self.rng.random() < 0.6:
            schema["required"] = [name for name in WORDS if self.rng.random() < (0.6 if name in names else 0.05)]
        if self.rng.random() < 0.4:
            schema["additionalProperties"] = self.any(depth + 1) if self.rng.random() < 0.6 else self.rng.random() < 0.5
        if self.rng.random() < 0.2:
            schema["patternProperties"] = {self.rng.choice(["^[a-z]+$", "^x", '"', "i"]): self.any(depth + 1)}
        if self.rng.random() < 0.15:
            schema["minProperties"] = self.rng.randrange(3)
        if self.rng.random() < 0.15:
            schema["maxProperties"] = self.rng.randrange(1, 4)
        return schema

    def combined(self, depth: int) -> dict[str, Any]:
        kind = self.rng.randrange(6)
        if kind == 0:
            return {"anyOf": [self.any(depth + 1) for _ in range(2)]}
        if kind == 1:
            return {"allOf": [self.object(depth + 1), self.object(depth + 1)]}
        if kind == 2:
            return {"oneOf": [{"const": 1}, {"type": "string", "maxLength": 3}, {"enum": [True, None]}]}
        if kind == 3:  # told apart by a constant, with a base beside it
            branches = [
                {"properties": {"kind": {"const": word}, "value": self.any(depth + 1)}, "required": ["value"]}
                for word in "ab"
            ]
            return {
                "type": "object",
                "properties": {"kind": {"type": "string"}},
                "required": ["kind"],
                "oneOf": branches,
            }
        if kind == 4:
            return {"allOf": [self.string(), self.string()]}
        return {"$ref": self.rng.choice(["#/$defs/tree", "#/$defs/word", "#word"]), "description": "beside a reference"}

    def any(self, depth: int = 0) -> dict[str, Any]:
        if depth > 2:
            return self.rng.choice([self.string(), self.number(), {"type": "boolean"}])
        kind = self.rng.randrange(9)
        if kind < 2:
            return self.object(depth)
        if kind == 2:
            return self.array(depth)
        if kind == 3:
            return self.string()
        if kind == 4:
            return self.number()
        if kind == 5:
            return {
                "enum": ["a", 'b"', "ü\n", 3, 2.5, None, [1, {"k": "v"}]],
                **self.rng.choice([{}, {"type": "string"}, {"minimum": 3}]),
            }
        if kind == 6:
            return {"type": ["string", "null", "integer"], "maxLength": 4, "minimum": 5}
        return self.combined(depth)

    def whole(self) -> dict[str, Any]:
        schema = self.any()
        tree = {
            "type": "object",
            "properties": {"v": self.number(), "next": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
        }
        tree["required"] = ["v", "next"]
        return {**schema, "$defs": {"tree": tree, "word": {"$anchor": "word", "type": "string", "maxLength": 6}}}


def test_what_random_schemas_grammars_write_is_valid() -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    compiled, walked, wrong = 0, 0, []
    refused: list[str] = []
    rounds = int(os.environ.get("HEADRACE_SCHEMA_ROUNDS", "250"))
    for seed in range(rounds):
        schema = Schemas(seed).whole()
        try:
            grammar = _engine.byte_grammar(json.dumps(schema))
        except hr.HeadraceError as error:
            refused.append(str(error))
            continue
        compiled += 1
        validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
        for walk in range(6):
            text = grammar.walk(seed * 100 + walk, 150)
            if text is None:
                continue
            walked += 1
            try:
                document = json.loads(text.decode())
                problem = next(iter(validator.iter_errors(document)), None)
            except ValueError as error:
                problem = error
            if problem is not None:
                wrong.append(
                    f"seed {seed}: {json.dumps(schema, ensure_ascii=False)} wrote {text!r}: {str(problem)[:200]}"
                )
                break
    assert not wrong, f"{len(wrong)} broken promises:\n" + "\n".join(wrong[:10])
    # What is left has no value at all, or needs what no grammar holds.
    assert compiled > 0.8 * rounds and walked > 4 * compiled, (compiled, walked, refused)
