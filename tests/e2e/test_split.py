"""Stable splits: the same part everywhere, whatever else the table holds, and as another program would compute it."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import pathlib
import pickle
import random
import subprocess
import uuid
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import headrace as hr
import numpy as np
import pyarrow as pa
import pytest
from split_reference import part, position

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PARTS = {"train": "0.5", "val": "0.3", "test": "0.1"}  # a tenth is in none
TEXT = ", ".join(f"{name}:{share}" for name, share in PARTS.items())


def _keys(seed: int) -> dict[str, pa.Array]:
    """Keys of every type, with nulls, and the least and greatest."""
    rng = random.Random(seed)
    rows = 400

    def column(kind: pa.DataType, make: Callable[[], object], *first: object) -> pa.Array:
        values = [*first, *(None if rng.random() < 0.1 else make() for _ in range(rows - len(first)))]
        return pa.array(values, kind)

    def text() -> str:
        return "".join(rng.choice("aéß漢🙂/.7 '") for _ in range(rng.choice([0, 1, 3, 5, 8, 13, 40, 70, 300])))

    def day() -> datetime.date:
        return datetime.date.fromordinal(rng.randrange(1, 3652059))

    def time() -> datetime.datetime:
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=rng.randrange(-(10**16), 10**17))

    def second() -> datetime.datetime:
        return time().replace(microsecond=0)

    exact = decimal.Decimal("123456789012345678901234567890.12345678")
    return {
        "s": column(pa.string(), text, "", "x" * 100_000),
        "i8": column(pa.int8(), lambda: rng.randrange(-128, 128), -128),
        "i32": column(pa.int32(), lambda: rng.randrange(-1000, 1000), -(2**31)),
        "i64": column(pa.int64(), lambda: rng.randrange(-(2**63), 2**63), -(2**63), 2**63 - 1),
        "u32": column(pa.uint32(), lambda: rng.randrange(2**32), 2**32 - 1),
        "u64": column(pa.uint64(), lambda: rng.randrange(2**64), 2**64 - 1),
        "b": column(pa.bool_(), lambda: rng.random() < 0.5),
        "d": column(
            pa.decimal128(38, 8),
            lambda: decimal.Decimal(rng.randrange(-(10**9), 10**9)).scaleb(-rng.randrange(5)),
            exact,
        ),
        "day": column(pa.date32(), day, datetime.date(1, 1, 1), datetime.date(9999, 12, 31)),
        "us": column(pa.timestamp("us"), time),
        "utc": column(pa.timestamp("us", "UTC"), time),
        "secs": column(pa.timestamp("s"), second),
        "ms": column(pa.timestamp("ms"), second),
        "ns": column(pa.timestamp("ns"), lambda: datetime.datetime(2020, 1, 1, 0, 0, rng.randrange(60))),
    }


@pytest.mark.parametrize("seed", range(3))
def test_filters_sql_and_the_reference_agree(catalog: hr.Catalog, seed: int) -> None:
    keys = _keys(seed)
    table = catalog.create_table("t", pa.table(keys))
    given = random.Random(seed).choice([0, 1, 2**63 - 1])
    for name, column in keys.items():
        values = column.cast(pa.timestamp("us")).to_pylist() if name == "ns" else column.to_pylist()
        expected = [part(value, PARTS, given) for value in values]
        call = f"hash_split({name}, '{TEXT}', {given})"
        assert [row["p"] for row in catalog.sql(f"select {call} as p from t order by _row_id")] == expected, name
        for wanted in PARTS:
            rows = table.scan(["_row_id"], f"{call} = '{wanted}'")
            assert [row["_row_id"] for row in rows] == [i for i, p in enumerate(expected) if p == wanted], name
        assert table.count(f"{call} is null") == expected.count(None)
        fractions = [None if value is None else float(position(value, given)) for value in values]
        found = catalog.sql(f"select hash_fraction({name}, {given}) as f from t order by _row_id")
        assert [row["f"] for row in found] == fractions, name
        assert table.count(f"hash_fraction({name}, {given}) < 5e-1") == sum(
            f is not None and f < 0.5 for f in fractions
        )


def test_a_uuid_is_its_text(catalog: hr.Catalog) -> None:
    ids = [uuid.UUID(int=random.Random(4).getrandbits(128)) for _ in range(50)]
    table = catalog.create_table("t", {"id": "uuid", "s": "string"})
    table.append({"id": ids, "s": [str(one) for one in ids]})
    assert table.count(f"hash_split(id, '{TEXT}') is not distinct from hash_split(s, '{TEXT}')") == 50
    in_sql = catalog.sql(f"select hash_split(id, '{TEXT}') as p from t order by _row_id")
    assert [row["p"] for row in in_sql] == [part(one, PARTS) for one in ids]


def test_one_number_is_one_key_whatever_its_type(catalog: hr.Catalog) -> None:
    numbers = list(range(200))
    kinds = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
    columns = {f"c{i}": pa.array([n % 100 for n in numbers], kind) for i, kind in enumerate(kinds)}
    columns["d"] = pa.array([decimal.Decimal(n % 100) for n in numbers], pa.decimal128(10, 3))
    columns["s"] = pa.array([str(n % 100) for n in numbers])
    table = catalog.create_table("t", columns)
    for name in columns:
        same = f"hash_split({name}, '{TEXT}', 3) is not distinct from hash_split(c3, '{TEXT}', 3)"
        assert table.count(same) == 200, name
        assert catalog.sql(f"select count(*) as n from t where {same}").to_pylist() == [{"n": 200}], name


def test_rows_never_change_sides_when_data_grows(catalog: hr.Catalog) -> None:
    rng = random.Random(9)
    table = catalog.create_table("t", {"path": "string", "n": "int64"})
    split = hr.Split("path", train=0.8, val=0.1, test=0.1, seed=5)
    sides: dict[int, str] = {}
    for day in range(8):
        table.append([{"path": f"{day}/{i}-{rng.random()}", "n": i} for i in range(rng.randrange(1, 400))])
        if day == 2:
            table.update({"n": 0}, "n > 200")
        if day == 3:
            table.delete("n = 7")
        if day == 5:
            table.compact()
        now = {row["_row_id"]: name for name in split for row in table.scan(["_row_id"], split[name])}
        assert len(now) == len(table)
        assert all(now[row] == side for row, side in sides.items() if row in now)
        sides.update(now)
    by_id = hr.Split("_row_id", train=0.5, test=0.5)
    before = {row["_row_id"] for row in table.scan(["_row_id"], by_id["train"])}
    table.append([{"path": "new", "n": 1}] * 300)
    table.compact()
    after = {row["_row_id"] for row in table.scan(["_row_id"], by_id["train"])}
    assert before == {row for row in after if row < min(after - before, default=math.inf)}


def test_shares_are_those_asked_for(catalog: hr.Catalog) -> None:
    """A part's count is binomial(n, share): six standard deviations are passed once in 5e8 draws, and the keys are fixed."""
    rows = 100_000
    labels = np.arange(rows) % 3
    table = catalog.create_table(
        "t", {"k": np.arange(rows), "s": [f"photos/{i:08}.jpg" for i in range(rows)], "label": labels}
    )
    shares = {"train": 0.9, "val": 0.07, "test": 0.03}
    for key in ("k", "s"):
        for seed in (0, 1):
            split = hr.Split(key, shares, seed=seed)
            for name, share in shares.items():
                deviation = math.sqrt(rows * share * (1 - share))
                assert abs(table.count(split[name]) - rows * share) < 6 * deviation
                for label in range(3):  # in each stratum by itself, too
                    deviation = math.sqrt(rows / 3 * share * (1 - share))
                    found = table.count(split.where(name, f"label = {label}"))
                    assert abs(found - rows / 3 * share) < 6 * deviation
    # Seeds are independent of each other: of the rows that one puts into train, the other puts half there.
    one, two = (hr.Split("k", train=0.5, test=0.5, seed=seed)["train"] for seed in (0, 1))
    both = table.count(f"{one} and {two}")
    assert abs(both - rows / 4) < 6 * math.sqrt(rows * 0.25 * 0.75)


def test_a_filter_goes_wherever_filters_go(catalog: hr.Catalog, headrace: Run, tmp_path: pathlib.Path) -> None:
    table = catalog.create_table("t", {"k": np.arange(1000), "x": np.zeros(1000)})
    split = hr.Split("k", train=0.7, test=0.3)
    train = [k for k in range(1000) if part(k, {"train": "0.7", "test": "0.3"}) == "train"]
    streamed = [
        int(k)
        for batch in hr.Stream(table, ["k"], where=split["train"], batch_size=64, epoch_end="short")
        for k in batch["k"]
    ]
    assert sorted(streamed) == train
    table.update({"x": 1.0}, split["train"])
    assert [row["k"] for row in table.scan(["k"], "x = 1")] == train
    location = ["--catalog", catalog.location]
    shown = headrace(*location, "--json", "head", "t", "-n", "-1", "-c", "k", "-w", split["train"])
    assert [json.loads(line)["k"] for line in shown.stdout.splitlines()] == train
    counted = headrace(
        *location, "--json", "sql", f"select {split.expression} as part, count(*) as n from t group by 1 order by 1"
    )
    assert [json.loads(line) for line in counted.stdout.splitlines()] == [
        {"part": "test", "n": 1000 - len(train)},
        {"part": "train", "n": len(train)},
    ]
    changed = headrace(*location, "update", "t", "--set", "x = x + 1", "--where", split["train"])
    assert changed.returncode == 0, changed.stderr
    assert table.count("x = 2") == len(train)
    gone = headrace(*location, "delete", "t", "--where", split["train"], "--yes")
    assert gone.returncode == 0, gone.stderr
    assert len(table) == 1000 - len(train)


def test_sql_prunes_with_it_before_it_reads_pictures(catalog: hr.Catalog) -> None:
    rng = np.random.default_rng(3)
    catalog.create_table("t", {"k": np.arange(20_000), "vec": rng.random((20_000, 64), np.float32)})
    plan = catalog.explain("select vec from t where hash_split(k, 'few:0.0005', 1) = 'few'")
    assert "Pruned by" in plan
    read = float(plan.rsplit("rows, ", 1)[1].split(" MB read")[0])
    assert read < 2, plan  # the vectors are 5 MB


def test_what_cannot_be_a_split_is_refused(catalog: hr.Catalog) -> None:
    catalog.create_table("t", pa.table({"f": [1.5], "i": [1], "l": [[1]]}))
    for where, message in {
        "hash_split(f, 'a:1') = 'a'": "floating point|takes a key that is",
        "hash_split(l, 'a:1') = 'a'": "is null|takes a key that is",
        "hash_split(i, 'a:0.6, b:0.6') = 'a'": "more than 1",
        "hash_split(i, 'a') = 'a'": "no name with a share",
        "hash_split(i, 'a:1', -1) = 'a'": "whole number from 0 on",
    }.items():
        with pytest.raises(hr.Invalid, match=message):
            catalog["t"].count(where)
        with pytest.raises(hr.Invalid, match=message):
            catalog.sql(f"select count(*) from t where {where}").to_pylist()
    catalog.create_table("p", {"image": "blob"})
    with pytest.raises(hr.Invalid, match="checksum, which stands for its bytes"):
        catalog["p"].count("hash_split(image, 'a:1') = 'a'")
    with pytest.raises(AttributeError, match="keeps one side, for good"):
        _ = catalog["p"].train_test_split
    with pytest.raises(hr.Invalid, match="must be the same for all rows"):
        catalog.sql("select hash_split(i, i::text) from t").to_pylist()
    for wrong in ({"a": 0.6, "b": 0.6}, {"a:b": 0.5}, {"it's": 0.5}, {"a": -0.1}, {"": 1}):
        with pytest.raises(hr.Invalid):
            hr.Split("i", wrong)
    for wrong in ({"a": math.nan}, {"a,b": 0.5}, {"a": 0.5, "seed": 0.5}):
        with pytest.raises(ValueError):
            hr.Split("i", wrong) if "seed" not in wrong else hr.Split("i", {"a": 0.5}, seed=-1)
    with pytest.raises(TypeError, match="needs parts"):
        hr.Split("i")
    with pytest.raises(KeyError, match="it has train, test"):
        hr.Split("i", train=0.9, test=0.1)["val"]


def test_parameters_may_name_the_parts(catalog: hr.Catalog) -> None:
    catalog.create_table("t", pa.table({"i": list(range(100))}))
    found = catalog.sql(
        "select count(*) as n from t where hash_split(i, $parts, $seed) = $part",
        {"parts": "a:0.5, b:0.5", "seed": 3, "part": "a"},
    ).to_pylist()
    assert found == [{"n": catalog["t"].count("hash_split(i, 'a:0.5, b:0.5', 3) = 'a'")}]


def test_a_split_is_a_value(catalog: hr.Catalog) -> None:
    third = Fraction(1, 3)
    split = hr.Split("k", a=third, b=third, c=third, seed=2)
    assert split == pickle.loads(pickle.dumps(split)) and hash(split) == hash(pickle.loads(pickle.dumps(split)))
    assert list(split) == ["a", "b", "c"] and dict(split)["a"] == split["a"]
    table = catalog.create_table("t", {"k": np.arange(3000)})
    counts = Counter({name: table.count(where) for name, where in split.items()})
    assert sum(counts.values()) == 3000  # thirds leave nobody out
    assert hr.Split("k", a=0.1, b="0.2", c=decimal.Decimal("0.7")).parts == {"a": "0.1", "b": "0.2", "c": "0.7"}
    assert hr.Split("k", a=1e-7, b=0.5).parts == {"a": "0.0000001", "b": "0.5"}
    assert repr(split).startswith("Split(on='k', a=0.333")


def test_exact_shares_by_stratum_are_kept_in_a_column(catalog: hr.Catalog, headrace: Run) -> None:
    """As docs/guide/expressions.md says: ranked by hash within each label, once; later rows are added to it."""
    rows = [{"path": f"{i}.jpg", "label": "rare" if i % 50 == 0 else "common"} for i in range(1000)]
    table = catalog.create_table("t", rows)
    rule = (
        "case when row_number() over (partition by label order by hash_fraction(path)) "
        "<= round(0.9 * count(*) over (partition by label)) then 'train' else 'test' end as side"
    )
    assert headrace("--catalog", catalog.location, "add-columns", "t", rule).returncode == 0
    assert table.count("side = 'train' and label = 'rare'") == 18
    assert table.count("side = 'train' and label = 'common'") == 882
    before = {row["path"]: row["side"] for row in table}
    table.append([{"path": f"new{i}.jpg", "label": "rare"} for i in range(200)])
    assert headrace("--catalog", catalog.location, "add-columns", "t", rule).returncode == 0
    after = {row["path"]: row["side"] for row in table}
    assert {path: after[path] for path in before} == before
    assert set(after.values()) == {"train", "test"}


def test_stratified_sides_are_exact_within_each_label(catalog: hr.Catalog) -> None:
    rng = random.Random(6)
    labels = [rng.choices("abc", [900, 90, 10])[0] for _ in range(2000)] + [None] * 40
    rows = [{"k": i if rng.random() < 0.95 else None, "label": label} for i, label in enumerate(labels)]
    table = catalog.create_table("t", rows)
    third = Fraction(1, 3)
    for split in (
        hr.Split("k", train=0.8, val=0.1, test=0.1, seed=3),
        hr.Split("k", a=third, b=third, c=third),
        hr.Split("k", {"it": 0.25, "rest of it": 0.5}),
    ):
        sql = f"select label, side, count(*) as n from (select *, {split.stratified('label')} as side from t) group by all"
        found = {(row["label"], row["side"]): row["n"] for row in catalog.sql(sql)}
        for label in ("a", "b", "c", None):
            keyed = sum(row["k"] is not None for row in rows if row["label"] == label)
            nulls = sum(row["k"] is None for row in rows if row["label"] == label)
            total = Fraction(0)
            for name, share in split.parts.items():
                total += Fraction(share)
                assert abs(
                    sum(found.get((label, n), 0) for n in list(split)[: list(split).index(name) + 1]) - total * keyed
                ) <= Fraction(1, 2)
            outside = found.get((label, None), 0)
            assert outside == nulls if total > Fraction("0.999") else outside >= nulls + keyed // 4
    made = hr.Split("k", train=0.8, test=0.2)
    query = f"select {made.stratified('label')} as side from t order by _row_id"
    table.add_columns(catalog.sql(query))
    before = {row["_row_id"]: row["side"] for row in table.scan(["_row_id", "side"], "k is not null")}
    assert None not in before.values()
    table.append([{"k": 10_000 + i, "label": "b"} for i in range(100)])
    table.add_columns(catalog.sql(query))
    after = {row["_row_id"]: row["side"] for row in table.scan(["_row_id", "side"], "k is not null")}
    assert len(after) == len(before) + 100 and before.items() <= after.items() and None not in after.values()
