"""Scores: one row type for whatever is judged, and ``scores_now``, the last of each."""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import Any

import headrace as hr
import pytest
from test_cli import Run
from test_system_tables import SCORES


def score_id(**facts: Any) -> str:
    """As docs/guide/scores.md has it."""
    fields = [str(facts.get(name, "")) for name in ("target_kind", "target", "against", "name", "who", "judge")]
    fields.append(str(facts.get("repeat", 0)))
    return hashlib.sha256("".join(f"{len(f.encode())}:{f}" for f in fields).encode()).hexdigest()[:32]


def now(catalog: hr.Catalog, columns: str = "*") -> list[dict[str, Any]]:
    return catalog.sql(f"select {columns} from scores_now order by time").to_pylist()


def test_the_last_of_each_counts(headrace: Run, catalog: hr.Catalog) -> None:
    def score(*words: str) -> dict[str, Any]:
        done = headrace("--catalog", catalog.location, "--json", "score", *words, "--who", "ada")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert now(catalog) == []  # there is no table yet
    photos = catalog.create_table("photos", {"path": ["a", "b"]})
    row = f"row:photos@v{photos.at().version}:1"
    first = score(row, "--label", "sharp", "--name", "quality", "--seconds", "1.5")
    assert first["target"] == row
    assert first["id"] == score_id(target_kind="row", target=row[4:], name="quality", who="ada")
    again = score(row, "--label", "blurred", "--name", "quality")
    assert again["id"] == first["id"]
    other = score(row, "--label", "fine", "--name", "quality", "--repeat", "1")
    assert other["id"] != first["id"]
    (kept, second) = now(catalog, "id, target_kind, target, label, seconds, request")
    assert kept == {"id": first["id"], "target_kind": "row", "target": row[4:], "label": "blurred", "seconds": None, "request": None}  # fmt: skip
    assert second["id"] == other["id"]
    assert len(catalog["scores"]) == 3

    # Taken back, and given again; one that replaces another.
    score(row, "--withdraw", "--name", "quality")
    assert [one["id"] for one in now(catalog)] == [other["id"]]
    score(row, "--label", "sharp", "--name", "quality")
    assert {one["label"] for one in now(catalog)} == {"sharp", "fine"}
    lead = headrace("--catalog", catalog.location, "score", row, "--label", "dark", "--name", "quality", "--who", "lead", "--supersedes", first["id"])  # fmt: skip
    assert lead.returncode == 0, lead.stderr
    assert {(one["who"], one["label"]) for one in now(catalog)} == {("ada", "fine"), ("lead", "dark")}


def test_what_is_not_there_is_told(headrace: Run, catalog: hr.Catalog) -> None:
    def score(*words: str, code: int = 1) -> str:
        done = headrace("--catalog", catalog.location, "score", *words, "--value", "1")
        assert done.returncode == code, done.stderr
        return done.stderr

    catalog.create_table("photos", {"path": ["a"]})
    assert "no row has the id 9" in score("row:photos@v2:9")
    assert "no row; write TABLE@vVERSION:ROW" in score("row:photos:1")
    assert "there is no run 'abcdef'" in score("run:abcdef")
    assert "there is no session 's-1'" in score("session:s-1")
    score("run:abcdef", "--against", "012345", "--force", code=0)
    score("session:s-1", "--force", code=0)
    assert [(one["target_kind"], one["target"], one["against"]) for one in now(catalog)] == [
        ("run", "abcdef", "012345"),
        ("session", "s-1", None),
    ]


def test_scores_of_an_earlier_program_are_scores_now(headrace: Run, catalog: hr.Catalog) -> None:
    older = catalog.create_table("scores", SCORES)
    older.append({"request": ["old", "old"], "name": ["helpful", "helpful"], "value": [0.25, 0.5], "who": ["ada", "ada"], "time": [datetime.datetime(2026, 1, day, tzinfo=datetime.UTC) for day in (1, 2)], "source": ["person"] * 2})  # fmt: skip
    old_id = score_id(target_kind="request", target="old", name="helpful", who="ada")
    wanted = [{"id": old_id, "target_kind": "request", "target": "old", "value": 0.5}]
    assert now(catalog, "id, target_kind, target, value") == wanted
    # The same score by today's program: one identity, whoever wrote it.
    done = headrace("--catalog", catalog.location, "score", "old", "--value", "1", "--name", "helpful", "--who", "ada", "--force")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert catalog.tables() == ["hr.scores"]
    assert now(catalog, "id, target, value") == [{"id": old_id, "target": "old", "value": 1.0}]
    assert len(catalog["scores"]) == 3


def test_a_persons_view_of_that_name_is_not_in_the_way(headrace: Run, catalog: hr.Catalog) -> None:
    done = headrace("--catalog", catalog.location, "score", "r", "--value", "1", "--force")
    assert done.returncode == 0, done.stderr
    both = "select a.target as a, scores_now.target as b from hr.scores_now as a join scores_now using (id)"
    assert catalog.sql(both).to_pylist() == [{"a": "r", "b": "r"}]
    catalog.create_table("scores_now", {"game": ["chess"]})
    catalog.create_table("scores", {"game": ["go"]})
    assert catalog.sql("select * from scores_now").to_pylist() == [{"game": "chess"}]
    assert catalog.sql("select target from hr.scores_now").to_pylist() == [{"target": "r"}]
    made = catalog.sql("select target, value from hr.scores_now", into="kept")
    assert made.rows == 1
    with pytest.raises(hr.NotFound):
        catalog.sql("select * from scores_later").to_pylist()
