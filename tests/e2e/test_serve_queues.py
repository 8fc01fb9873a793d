"""Scores of anything and annotation queues over HTTP."""

from __future__ import annotations

import json
import pathlib
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import headrace as hr
import pytest
from serving import Server, make_catalog, needs_models, run, serving

pytestmark = needs_models


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    where = make_catalog(tmp_path)
    catalog = hr.open(where)
    catalog.create_table("photos", {"path": [f"{i}.jpg" for i in range(6)]})
    rubric = hr.Rubric("quality", labels=("sharp", "blurred"))
    catalog.create_queue(hr.Queue("q", "select path from photos", rubric, overlap=2))
    with serving(where, "minilm") as server:
        yield server


def label(server: Server, who: str, item: int, **said: Any) -> Any:
    return server.ask("/v1/queues/q/labels", {"who": who, "item": item, **said})


def test_scores_of_anything(server: Server) -> None:
    def score(code: int = 200, **body: Any) -> Any:
        answer = server.ask("/v1/scores", body)
        assert answer.status == code, answer.body
        return answer.json

    first = score(target="run:a", value=1, who="ada")
    assert first["target"] == "run:a" and "request" not in first
    assert score(target="a", target_kind="run", value=0.5, who="ada")["id"] == first["id"]  # as if sent again
    score(request="chatcmpl-1", value=True, source="user")
    score(target="run:a", against="run:b", value=1, judge="gemma@3", source="model", who="ada", seconds=0.5)
    rows = server.sql("select target_kind, target, against, value, source, judge from scores_now order by time")
    assert rows == [
        {"target_kind": "run", "target": "a", "against": None, "value": 0.5, "source": "person", "judge": None},
        {"target_kind": "request", "target": "1", "against": None, "value": 1.0, "source": "user", "judge": None},
        {"target_kind": "run", "target": "a", "against": "b", "value": 1.0, "source": "model", "judge": "gemma@3"},
    ]
    score(target="run:a", withdraw=True, who="ada")
    assert len(server.sql("select * from scores_now")) == 2
    assert len(server.sql("select * from scores")) == 5
    for param, body in {
        "request": {"value": 1},
        "target": {"target": "row:photos:1", "value": 1},
        "against": {"target": "row:photos@v2:1", "against": "x", "value": 1},
        "value": {"target": "run:a"},
    }.items():
        assert score(400, **body)["error"]["param"] == param


def test_people_label_over_http(server: Server) -> None:
    (queue,) = server.ask("/v1/queues").json["data"]
    assert (queue["name"], queue["items"], queue["overlap"]) == ("q", 6, 2)
    first = server.ask("/v1/queues/q/next", {"who": "ada"}).json
    assert first["item"]["number"] == 0 and first["item"]["shown"] == {"path": "0.jpg"}
    assert first["rubric"]["name"] == "quality" and first["progress"]["left"] == 6
    assert server.ask("/v1/queues/q/next", {"who": "ada"}).json["item"]["number"] == 0  # until it is judged
    wrong = label(server, "ada", 0, label="fine")
    assert wrong.status == 400 and "one of: sharp, blurred" in wrong.json["error"]["message"]
    kept = label(server, "ada", 0, label="sharp", seconds=2.5, comment="so").json
    assert kept["item"]["number"] == 1 and kept["score"]
    assert label(server, "ada", 0, label="blurred").json["score"] == kept["score"]  # corrected
    assert label(server, "ada", 1, skip=True).json["item"]["number"] == 2
    assert server.ask("/v1/queues/q/undo", {"who": "ada"}).json["item"]["number"] == 1
    (row,) = server.sql("select label, who, queue, target_kind from scores_now")
    assert row == {"label": "blurred", "who": "ada", "queue": "q", "target_kind": "row"}
    assert server.ask("/v1/queues/none/next", {"who": "ada"}).status == 404
    assert server.ask("/v1/queues/q/next", {}).json["error"]["param"] == "who"
    assert label(server, "ada", 99, label="sharp").status == 404

    # Three at once.
    def person(who: str) -> list[int]:
        had = []
        while (item := server.ask("/v1/queues/q/next", {"who": who}).json["item"]) is not None:
            had.append(item["number"])
            assert label(server, who, item["number"], label="sharp").status in (200, 409)
        return had

    with ThreadPoolExecutor() as pool:
        bob, carl, ada = pool.map(person, ("bob", "carl", "ada"))
    for had in (bob, carl, ada):
        assert len(had) == len(set(had))
    counts = server.sql("select target, count(*) as n, count(distinct who) as people from scores_now group by target")
    assert [(row["n"], row["people"]) for row in counts] == [(2, 2)] * 6
    refused = label(server, "dora", 3, label="sharp")
    assert refused.status == 409 and "has gone to others" in refused.json["error"]["message"]


def test_a_killed_server_keeps_what_it_said(server: Server) -> None:
    assert server.ask("/v1/queues/q/next", {"who": "ada"}).status == 200
    assert label(server, "ada", 0, label="sharp").status == 200  # item 1 is ada's now
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    at = ("--catalog", str(server.catalog))
    out = run(*at, "label", "q", "--who", "ada", "--json", "--ttl", "1", input="sharp\n" * 5)
    assert [json.loads(line)["item"] for line in out.splitlines()] == [2, 3, 4, 5, 1]
    rows = server.sql("select count(*) as n, count(distinct target) as targets from scores_now where who = 'ada'")
    assert rows == [{"n": 6, "targets": 6}]


def test_labels_need_the_scope(tmp_path: pathlib.Path) -> None:
    where = make_catalog(tmp_path)
    hr.open(where).create_table("photos", {"path": ["a"]})
    at = ("--catalog", str(where))
    run(*at, "queue", "create", "q", "select path from photos", "--label", "a", "--label", "b")
    keys = {
        name: run(*at, "key", "create", "-q", name, "--scopes", scopes).strip()
        for name, scopes in {"asks": "inference", "labels": "record", "older": "scores"}.items()
    }
    assert "there is no scope" in run(*at, "key", "create", "x", "--scopes", "label", code=1)
    with serving(where, "minilm") as server:
        for name, status in {"asks": 403, "labels": 200, "older": 200}.items():
            server.key = keys[name]
            assert server.ask("/v1/queues/q/next", {}).status == status, name
            assert server.ask("/v1/scores", {"target": "run:a", "value": 1}).status == status, name
        people = {row["who"] for row in server.sql("select who from scores_now")}
        assert people == {"labels", "older"}  # the keys' names
