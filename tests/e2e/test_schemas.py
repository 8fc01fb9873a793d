"""JSON schemas as grammars, held against an independent validator over JSON Schema's own test suite (draft 4).

Two promises: a text that the grammar accepts is valid, and so is everything that the grammar can write (random walks through
it). A schema that cannot be enforced must be refused when it is compiled; it must not be enforced in part.
"""

from __future__ import annotations

import json
import os
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
    assert compiled >= 30 and accepted >= 80 and walked >= 500, (compiled, accepted, turned_away, walked, refused)
