"""Random operations on a table, and the same in stock DuckDB: every state is the same, and so is every state that is gone back to.

150 steps; as many as 40 seconds hold in CI (10,000 at most), 10,000 in ``--long``. ``HEADRACE_ORACLE_SEED=N`` repeats a failure: the
steps depend on nothing else.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from typing import Any

import duckdb
import headrace as hr
import pyarrow as pa
import pytest
from conftest import in_ci

LONG = bool(os.environ.get("HEADRACE_TEST_LONG"))
STEPS, SECONDS = (10_000, 1e9) if LONG else (10_000, 40.0) if in_ci() else (150, 1e9)
TYPES = {"k": "int64", "a": "int64", "s": "string", "d": "float64", "l": "list<int64>", "p": "struct<x: int64>"}
IN_DUCKDB = "k bigint, a bigint, s varchar, d double, l bigint[], p struct(x bigint)"
MOST_ROWS = 500


class Pair:
    """A table and DuckDB's, changed alike."""

    def __init__(self, catalog: hr.Catalog, seed: int) -> None:
        self.rng = random.Random(seed)
        self.catalog = catalog
        self.table = catalog.create_table("t", TYPES)
        self.theirs = duckdb.connect(config={"threads": 1})
        self.theirs.sql(f"create table t ({IN_DUCKDB})")
        self.columns = list(TYPES)
        self.next_key = 0
        self.added = 0
        self.version = self.table.version
        self.kept: dict[int, str] = {}  # versions of which DuckDB has a copy

    def value(self, column: str) -> Any:
        rng = self.rng
        if rng.random() < 0.15:
            return None
        return {
            "a": rng.randrange(40),
            "s": rng.choice(["", "a", "ab", "b", "ü", "a_b", "%"]),
            "d": rng.choice([0.0, -1.5, 2.25, 1e300]),
            "l": [rng.choice([1, 2, None]) for _ in range(rng.randrange(3))],
            "p": {"x": rng.choice([None, 1, 2])},
        }.get(column, rng.randrange(1000))

    def rows(self, keys: list[int], columns: list[str]) -> pa.Table:
        types = self.table.at().scan(columns, limit=0).to_arrow().schema
        rows = [{"k": key, **{name: self.value(name) for name in columns if name != "k"}} for key in keys]
        return pa.Table.from_pylist(rows, types)

    def filter(self) -> str:
        rng = self.rng
        low, key = rng.randrange(40), rng.randrange(max(1, self.next_key))
        one = [
            f"a between {low} and {low + rng.randrange(6)}",
            f"k >= {key} and k < {key + rng.choice([1, 5, 60])}",
            f"k % {rng.choice([3, 7, 11])} = 1",
            "a is null",
            "s is not null and a > 20",
            f"s in ('a', '{rng.choice(['ab', 'ü', ''])}')",
            f"not (d > 0 or a = {low})",
            "s like 'a%'",
            f"p.x = {rng.choice([1, 2])} and k % 2 = 0",
        ]
        return " and ".join(f"({part})" for part in rng.sample(one, rng.choice([1, 1, 2])))

    def count(self, where: str) -> int:
        found = self.theirs.sql(f"select count(*) from t where {where}").fetchone()
        assert found
        return int(found[0])

    def append(self) -> None:
        if self.count("true") > MOST_ROWS:
            return self.delete()
        keys = list(range(self.next_key, self.next_key + self.rng.choice([1, 3, 40])))
        self.next_key = keys[-1] + 1
        columns = ["k", *self.rng.sample(self.columns[1:], self.rng.randrange(1, len(self.columns)))]
        source = self.rows(keys, columns)
        self.table.append(source)
        self.theirs.register("source", source)
        self.theirs.sql(f"insert into t ({', '.join(columns)}) select {', '.join(columns)} from source")

    def delete(self) -> None:
        where = self.filter()
        assert self.table.delete(where, purge=self.rng.random() < 0.2).rows == self.count(where)
        self.theirs.sql(f"delete from t where {where}")

    def update(self) -> None:
        where = self.filter() if self.rng.random() < 0.8 else "true"
        name = self.rng.choice(self.columns[1:])
        value = self.value(name)
        expected = self.count(where)
        if name == "a" and self.rng.random() < 0.5:
            done = self.table.update(
                lambda batch: {"a": [None if k % 5 == 0 else k * 3 % 40 for k in batch["k"].tolist()]},
                where,
                inputs=["k"],
                columns=["a"],
            )
            self.theirs.sql(f"update t set a = case when k % 5 = 0 then null else k * 3 % 40 end where {where}")
        else:
            done = self.table.update({name: value}, where)
            self.theirs.execute(f"update t set {name} = ? where {where}", [value])
        assert done.rows == expected

    def merge(self) -> None:
        rng = self.rng
        keys = rng.sample(range(self.next_key + 20), min(self.next_key + 20, rng.choice([1, 8, 30])))
        self.next_key = max(self.next_key, *(key + 1 for key in keys))
        columns = ["k", *rng.sample(self.columns[1:], rng.randrange(1, len(self.columns)))]
        matched, not_matched = rng.choice(["update", "update", "keep", "delete"]), rng.choice(["add", "add", "ignore"])
        source = self.rows(keys, columns)
        done = self.table.merge(source, on="k", matched=matched, not_matched=not_matched)
        self.theirs.register("source", source)
        there = self.count("k in (select k from source)")
        sets = ", ".join(f"{name} = source.{name}" for name in columns[1:])
        names = ", ".join(columns)
        rules = {"update": f"when matched then update set {sets}", "delete": "when matched then delete", "keep": ""}
        adds = f"when not matched then insert ({names}) values ({', '.join('source.' + n for n in columns)})"
        rule = rules[matched] + " " + (adds if not_matched == "add" else "")
        if rule.strip():
            self.theirs.sql(f"merge into t using source on t.k = source.k {rule}")
        added = len(keys) - there if not_matched == "add" else 0
        wanted = (there if matched == "update" else 0, there if matched == "delete" else 0, added)
        assert (done.updated, done.deleted, done.added) == wanted

    def add_column(self) -> None:
        if len(self.columns) > 9:
            return self.drop_column()
        self.added += 1
        name = f"x{self.added}"
        if self.count("true") == 0:
            return None
        self.table.add_columns(lambda batch: {name: batch["k"] % 17}, inputs=["k"])
        self.theirs.sql(f"alter table t add column {name} bigint")
        self.theirs.sql(f"update t set {name} = k % 17")
        self.columns.append(name)
        return None

    def drop_column(self) -> None:
        name = next((name for name in self.columns if name.startswith("x")), None)
        if name is None:
            return
        self.table.drop_column(name)
        self.theirs.sql(f"alter table t drop column {name}")
        self.columns.remove(name)

    def rename_column(self) -> None:
        name = next((name for name in self.columns if name.startswith("x")), None)
        if name is None:
            return
        self.added += 1
        self.table.rename_column(name, f"x{self.added}")
        self.theirs.sql(f"alter table t rename column {name} to x{self.added}")
        self.columns[self.columns.index(name)] = f"x{self.added}"

    def compact(self) -> None:
        if self.rng.random() < 0.4:
            self.table.sort_by(*self.rng.sample(["a", "s", "d", "k"], self.rng.randrange(3)))
        self.table.compact()

    def keep(self) -> None:
        """A version that is read again later, and maybe restored."""
        version = self.table.version
        self.theirs.sql(f"create or replace table v{version} as from t")
        self.kept[version] = f"v{version}"
        if len(self.kept) > 12:
            old = self.rng.choice(list(self.kept))
            self.theirs.sql(f"drop table {self.kept.pop(old)}")

    def restore(self) -> None:
        if not self.kept:
            return
        version = self.rng.choice(list(self.kept))
        self.table.restore(version)
        self.theirs.sql(f"create or replace table t as from v{version}")
        self.columns = list(self.table.columns)

    def compare(self, shown: hr.Table | hr.Snapshot, name: str) -> None:
        ours = shown.scan(row_ids=True).to_arrow()
        ids = ours["_row_id"].to_pylist()
        assert len(set(ids)) == len(ids) == len(shown)
        columns = [column for column in ours.column_names if column != "_row_id"]
        theirs = self.theirs.sql(f"select {', '.join(columns)} from {name} order by k").to_arrow_table()
        mine = ours.select(columns).sort_by("k").combine_chunks()
        if not mine.equals(theirs.cast(mine.schema).combine_chunks()):
            a, b = mine.to_pylist(), theirs.to_pylist()
            wrong = [pair for pair in zip(a, b, strict=False) if pair[0] != pair[1]]
            assert not wrong and len(a) == len(b), f"{name}: {len(a)} rows, in DuckDB {len(b)}; {wrong[:3]}"
        if ids:
            some = self.rng.sample(range(len(ids)), min(len(ids), 5))
            taken = shown.take([ids[i] for i in some], ["k"])
            assert [row["k"] for row in taken] == [ours["k"][i].as_py() for i in some]

    def check(self) -> None:
        self.compare(self.table, "t")
        if self.kept and self.rng.random() < 0.2:
            version = self.rng.choice(list(self.kept))
            self.compare(self.table.at(version), f"v{version}")
        where = self.filter()
        assert self.table.count(where) == self.count(where), where
        if self.rng.random() < 0.75:
            return
        query = f"select s, count(*), sum(a), max(d), min(k) from t where {where} group by s order by s nulls first"
        assert self.catalog.sql(query).to_arrow().to_pylist() == self.theirs.sql(query).to_arrow_table().to_pylist()


KINDS = [
    *[Pair.append] * 5, *[Pair.delete] * 4, *[Pair.update] * 6, *[Pair.merge] * 6, Pair.add_column, Pair.drop_column,
    Pair.rename_column, *[Pair.compact] * 2, *[Pair.keep] * 2, Pair.restore,
]  # fmt: skip


def test_duckdb_agrees_after_every_step(catalog: hr.Catalog) -> None:
    seed = int(os.environ.get("HEADRACE_ORACLE_SEED", secrets.randbelow(1_000_000)))
    pair = Pair(catalog, seed)
    began, step, kind = time.monotonic(), 0, Pair.append
    try:
        while step < STEPS and time.monotonic() < began + SECONDS:
            kind = pair.rng.choice(KINDS)
            kind(pair)
            pair.check()
            step += 1
        assert pair.table.verify(newest=True)
    except BaseException as error:
        pytest.fail(f"HEADRACE_ORACLE_SEED={seed}, step {step} ({kind.__name__}): {error}")
    print(f"{step} steps, {pair.table.version} versions, {time.monotonic() - began:.0f} s")
