"""The program as a person and a script meet it."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable

import headrace as hr
import pytest
from test_python import jpeg

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def photos(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i in range(5):
        (folder / "sub" / f"{i}.jpg").write_bytes(jpeg(100 + i, 50))
    return folder


def test_first_steps(headrace: Run, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert headrace("init").returncode == 0
    out = headrace("ingest", "photos", "--table", "photos")
    assert out.returncode == 0 and "5 rows from 5 files" in out.stdout
    again = headrace("ingest", "photos", "--table", "photos", "--json")
    assert json.loads(again.stdout)["skipped"] == 5
    assert "photos" in headrace("ls", cwd=photos).stdout  # the nearest .headrace upwards
    described = json.loads(headrace("describe", "photos", "--json").stdout)
    assert described["rows"] == 5 and described["columns"][0]["name"] == "path"
    rows = headrace(
        "sql", "select path, image.width as w from photos where image.width > 101 order by w", "--format", "csv"
    ).stdout
    assert rows == "path,w\nsub/2.jpg,102\nsub/3.jpg,103\nsub/4.jpg,104\n"
    lines = [json.loads(line) for line in headrace("head", "photos", "-n", "2", "--json").stdout.splitlines()]
    assert lines[0]["image"]["media_type"] == "image/jpeg" and len(lines) == 2
    assert headrace("get", "photos", "3", "image", "-o", "x.jpg").returncode == 0
    assert (tmp_path / "x.jpg").read_bytes() == jpeg(103, 50)
    log = [json.loads(line) for line in headrace("log", "photos", "--json").stdout.splitlines()]
    assert [entry["kind"] for entry in log] == ["append", "create"]
    explained = headrace("sql", "--explain", "select count(*) from photos where image.width > 1000").stdout
    assert "0 of 1 fragments" in explained
    assert headrace("sql", "select * from photos", "-o", "out.parquet").returncode == 0
    assert headrace("sql", "select image.width as w from photos", "--into", "widths").returncode == 0
    assert headrace("tag", "photos", "golden").returncode == 0
    assert headrace("sql", 'select count(*) as n from "photos@golden"', "--json").stdout == '{"n":5}\n'
    assert headrace(
        "sql",
        "-",
        input="select 1 as one",
    ).stdout.split() == ["one", "───", "1"]


def test_errors_name_the_thing_and_the_fix(headrace: Run) -> None:
    assert "`headrace init /nowhere` makes a catalog there" in headrace("--catalog", "/nowhere", "ls").stderr
    nothing = headrace("ls")
    assert nothing.returncode == 1 and "headrace init" in nothing.stderr and "\033" not in nothing.stderr
    headrace("init")
    assert headrace("init").returncode == 1
    assert "it has no tables yet" in headrace("head", "x").stderr
    assert headrace("nonsense").returncode == 2
    assert headrace("head").returncode == 2
    error = json.loads(headrace("--json", "describe", "x").stderr)
    assert error["error"]["code"] == "not_found"
    assert "No such file" in headrace("ingest", "absent", "--table", "t").stderr
    for command in ("", "init", "ingest", "ls", "describe", "log", "sql", "head", "get", "tag"):
        shown = headrace(*command.split(), "-h")
        assert shown.returncode == 0 and "headrace " in shown.stdout, command


def test_sql_reads_and_says_so(headrace: Run, photos: pathlib.Path) -> None:
    headrace("init")
    headrace("ingest", "photos", "--table", "photos")
    assert headrace("sql", "show tables", "--json").stdout == '{"name":"photos"}\n'
    for statement in ("create table x as select 1", "drop table photos", "insert into photos values (1)"):
        refused = headrace("sql", statement)
        assert refused.returncode == 1 and "--into" in refused.stderr, statement
    assert "one at a time" in headrace("sql", "select 1; select 2").stderr
    assert "syntax error" in headrace("sql", "selec 1").stderr


def test_data_files_and_standard_input(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    (tmp_path / "a.jsonl").write_text('{"a": 1, "s": "x"}\n{"a": 2, "s": null, "l": [1, 2]}\n')
    (tmp_path / "b.csv").write_text("a,s,extra\n3,z,2.5\n")
    assert headrace("ingest", "a.jsonl", "b.csv", "-t", "t").returncode == 0
    assert headrace("ingest", "-", "-t", "t", input='{"a": 4}\n').returncode == 0
    assert json.loads(headrace("ingest", "a.jsonl", "-t", "t", "--json").stdout)["skipped"] == 1
    rows = [json.loads(line) for line in headrace("head", "t", "--json").stdout.splitlines()]
    assert [row["a"] for row in rows] == [1, 2, 3, 4]
    assert rows[2]["extra"] == 2.5 and rows[1]["l"] == [1, 2] and rows[3]["s"] is None


def test_bad_files_become_rows_and_never_stop_the_rest(
    headrace: Run, photos: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    headrace("init")
    whole = jpeg(300, 300)
    (photos / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").touch()
    (photos / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\x02\x00\x00\x00" + b"\x17\x8b\x1e\x0b"
    )
    (photos / "notes.txt").write_text("hello")
    (photos / "gone").symlink_to(photos / "nowhere")
    (photos / "loop").symlink_to(photos)
    (photos / "rows.jsonl").write_text('{"a": 1}\n')
    os.mkfifo(photos / "pipe")
    (photos / os.fsdecode(b"bad\xff.jpg")).write_bytes(whole)
    out = json.loads(headrace("ingest", "photos", "-t", "p", "--json").stdout)
    assert out["rows"] == 6
    why = {error["path"]: error["error"] for error in out["errors"]}
    assert "truncated" in why["truncated.jpg"] and "empty" in why["empty.png"]
    assert "not JPEG, PNG or WebP" in why["notes.txt"] and "No such file" in why["gone"]
    assert (
        "link to a folder above it" in why["loop"]
        and "neither a file" in why["pipe"]
        and "table of its own" in why["rows.jsonl"]
    )
    assert "huge.png" in why
    stored = [json.loads(line) for line in headrace("sql", "select path from p_errors", "--json").stdout.splitlines()]
    assert len(stored) == len(out["errors"])


def test_bad_lines_cost_only_themselves(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    with (tmp_path / "long.jsonl").open("w") as file:
        file.write('{"a": 1}\nnot json\n{"a": 2}\n[1]\n{"a": "')
        for _ in range(80):
            file.write("x" * (1 << 20))
        file.write('"}\n{"a": 3}\n')
    out = json.loads(headrace("ingest", "long.jsonl", "-t", "t", "--json").stdout)
    assert out["rows"] == 3
    assert [error["path"] for error in out["errors"]] == ["long.jsonl:2", "long.jsonl:4", "long.jsonl:5"]
    assert "more than" in out["errors"][2]["error"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_loses_nothing(headrace: Run, photos: pathlib.Path, tmp_path: pathlib.Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True).returncode
        != 0
    ):
        pytest.skip("no mount here")
    try:
        headrace("init", str(disk / "c"))
        assert headrace("--catalog", str(disk / "c"), "ingest", "photos", "-t", "p").returncode == 0
        for i in range(40):
            (photos / f"more{i}.jpg").write_bytes(jpeg(900, 900))
        full = headrace("--catalog", str(disk / "c"), "ingest", "photos", "-t", "p")
        assert full.returncode == 1 and "No space left" in full.stderr and "free some space" in full.stderr
        assert (
            headrace("--catalog", str(disk / "c"), "sql", "select count(*) as n from p", "--json").stdout == '{"n":5}\n'
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_without_permission(headrace: Run, photos: pathlib.Path) -> None:
    headrace("init")
    (photos / "sub").chmod(0)
    # Root may read everything, unless it gives that up.
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    program = shutil.which("headrace")
    try:
        out = subprocess.run(
            [*drop, str(program), "ingest", "photos", "-t", "p"], cwd=photos.parent, capture_output=True, text=True
        )
        assert "Permission denied" in out.stdout and out.returncode == 1
    finally:
        (photos / "sub").chmod(0o755)


def test_unknown_commands_name_the_nearest(headrace: Run) -> None:
    for words, nearest in (
        (["ingets"], "did you mean 'ingest'?"),
        (["--catalog", "x", "describ", "t"], "'describe'"),
        (["model", "lss"], "did you mean 'model ls'?"),
    ):
        result = headrace(*words)
        assert result.returncode == 2 and "there is no command" in result.stderr and nearest in result.stderr
    assert "did you mean" not in headrace("frobnicate-all").stderr


def test_columns_are_renamed_and_dropped_and_tables_dropped(headrace: Run) -> None:
    headrace("init")
    headrace("sql", "select 1 as a, 2 as b", "--into", "t")
    assert headrace("rename", "t", "a", "first").returncode == 0
    assert headrace("drop", "t", "b").returncode == 0
    assert json.loads(headrace("--json", "sql", "select * from t").stdout) == {"first": 1}
    assert json.loads(headrace("--json", "sql", 'select * from "t@v2"').stdout) == {"a": 1, "b": 2}
    assert headrace("drop", "t").returncode == 0
    assert "no table" in headrace("describe", "t").stderr
    assert headrace("drop", "t").returncode == 1


def test_columns_are_added_by_expressions(headrace: Run) -> None:
    headrace("init")
    headrace("sql", "select range as a, 'x' || range as name from range(1000)", "--into", "t")
    done = headrace("add-columns", "t", "a * 2 as double, upper(name) as loud", "-m", "twice")
    assert done.returncode == 0 and "1,000 rows of 't'" in done.stdout, done.stderr
    assert json.loads(headrace("--json", "sql", "select * from t where a = 7").stdout) == {
        "a": 7,
        "name": "x7",
        "double": 14,
        "loud": "X7",
    }
    log = json.loads(headrace("log", "t", "-n", "1", "--json").stdout)
    assert log["why"] == "twice" and log["columns"] == ["double", "loud"] and log["inputs"] == ["t@2"]
    assert "every row has a value" in headrace("add-columns", "t", "'x' as loud").stderr
    assert "count(*) over ()" in headrace("add-columns", "t", "count(*) as n").stderr
    assert '"nothing" not found' in headrace("add-columns", "t", "nothing as n").stderr
    assert headrace("add-columns", "t", "count(*) over () as n").returncode == 0
    assert "give SQL expressions" in headrace("add-columns", "t").stderr
    headrace("sql", "select 1 as a", "--into", 'odd "name"')
    assert headrace("add-columns", 'odd "name"', "a + 1 as b").returncode == 0
    assert headrace("add-columns", "t", "t.a + 1 as named").returncode == 0


def test_columns_without_data_are_added(headrace: Run) -> None:
    headrace("init")
    headrace("sql", "select range as a from range(3)", "--into", "t")
    done = headrace("add-columns", "--type", "stars=int8", "--type", "note=string", "--default", "stars=3", "t")
    assert done.returncode == 0 and "2 more columns" in done.stdout, done.stderr
    rows = headrace("sql", "select * from t", "--format", "json").stdout.splitlines()
    assert json.loads(rows[0]) == {"a": 0, "stars": 3, "note": None}
    for words, said in (
        (["--type", "stars=int8"], "already"),
        (["--type", "stars"], "is not NAME=TYPE"),
        (["--type", "b=intt"], "intt"),
        (["--type", "b=int8", "--default", "b=300"], "'300' is no default value of the type int8"),
        (["--type", "b=int8", "--default", "c=3"], "needs --type c=TYPE"),
        (["--default", "b=3"], "needs --type b=TYPE"),
        (["a + 1 as b", "--type", "b=int8"], "without data"),
    ):
        refused = headrace("add-columns", "t", *words)
        assert refused.returncode != 0 and said in refused.stderr, refused.stderr
    assert json.loads(headrace("describe", "t", "--json").stdout)["version"] == 4


def test_writers(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    table = hr.open(tmp_path / ".headrace").create_table("t", {"a": [1]})
    assert "nobody has committed" in headrace("writers", "t").stdout
    table.append({"a": [2]}, writer="m-1", sequence=5)
    table.append({"a": [3]}, writer="m-2", sequence=7)
    assert headrace("writers", "t", "--keep", "m-1", "-m", "it sleeps").returncode == 0
    assert headrace("writers", "t").stdout.splitlines()[1].split() == ["m-1", "5", "3", "kept"]
    assert "is forgotten" in headrace("writers", "t", "--forget", "m-2").stdout
    listed = [json.loads(line) for line in headrace("writers", "t", "--json").stdout.splitlines()]
    assert listed == [{"writer": "m-1", "sequence": 5, "version": 3, "kept": True}]
    assert headrace("writers", "t", "--release", "m-1").returncode == 0 and not table.writers()[0].kept
    assert "m-3" in headrace("writers", "t", "--forget", "m-3").stderr
    assert "at a time" in headrace("writers", "t", "--keep", "a", "--forget", "b").stderr


def test_columns_are_added_while_others_change_the_rows(headrace: Run, tmp_path: pathlib.Path) -> None:
    """A row goes and another comes, again and again: there are as many, and they are others."""
    headrace("init")
    table = hr.open(tmp_path / ".headrace").create_table("t", {"a": list(range(100))})
    over = threading.Event()

    def others() -> None:
        for number in itertools.count(100):
            if over.is_set():
                return
            table.delete(f"a = {number - 100}")
            table.append({"a": [number]})

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for number in range(10):
            done = headrace("add-columns", "t", f"a + {number} as plus{number}")
            assert done.returncode == 0, done.stderr
    finally:
        over.set()
        thread.join()
    for row in table.scan():
        for number in range(10):
            assert row[f"plus{number}"] in {row["a"] + number, None}, "each value is its own row's"


def test_columns_are_added_by_a_python_function(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    headrace("sql", "select range as a from range(10)", "--into", "t")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "beside.py").write_text("STEP = 3\n")
    (tmp_path / "code" / "features.py").write_text(
        "from beside import STEP\n\ndef triple(batch):\n    return {'triple': batch['a'] * STEP}\n"
    )
    environment = {**os.environ, "HEADRACE_PYTHON": sys.executable}
    environment.pop("HEADRACE_CATALOG", None)

    def add(*words: str) -> subprocess.CompletedProcess[str]:
        return headrace("add-columns", "t", *words, env=environment)

    assert "--inputs" in add("--from", "code/features.py:triple").stderr
    done = add("--from", "code/features.py:triple", "--inputs", "a", "-m", "three")
    assert done.returncode == 0 and "10 rows of 't'" in done.stdout, done.stderr
    assert json.loads(headrace("--json", "sql", "select max(triple) m from t").stdout) == {"m": 27}
    for words, told in (
        (["--from", "code/features.py:tripel", "--inputs", "a"], "has no function 'tripel'; it has triple"),
        (["--from", "nothing.py:f", "--inputs", "a"], "there is no file nothing.py"),
        (["--from", "code/features.py", "--inputs", "a"], "is not file.py:function"),
        (["--from", "code/features.py:triple", "--inputs", "b"], "headrace: "),
    ):
        result = add(*words)
        assert result.returncode == 1 and told in result.stderr, result.stderr


def test_the_log_says_what_the_versions_between_were(headrace: Run) -> None:
    headrace("init")
    headrace("sql", "select 1 as a", "--into", "t")
    headrace("add-columns", "t", "a + 1 as b")
    headrace("add-columns", "t", "a + 2 as c")
    versions = [json.loads(line)["version"] for line in headrace("log", "t", "--json").stdout.splitlines()]
    missing = [version for version in range(1, max(versions)) if version not in versions]
    assert missing  # column ids are reserved before columns are written
    told = headrace("log", "t").stdout.splitlines()[-1]
    assert told == f"Versions {missing[0]}, {missing[1]}: only ids for new columns were reserved (--all shows them)"
    assert "reserved" not in headrace("log", "t", "--all").stdout.splitlines()[-1]
    assert "reserved" not in headrace("log", "t", "-n", "1").stdout


def test_keys_are_explained_by_examples(headrace: Run) -> None:
    shown = headrace("key", "create", "-h").stdout
    assert "headrace key create ada --rpm 60" in shown and "Authorization: Bearer" in shown


def test_a_score_needs_a_request(headrace: Run, tmp_path: pathlib.Path) -> None:
    headrace("init")
    for word in ("0123456789abcdef", "@last"):
        refused = headrace("score", word, "--value", "1")
        assert refused.returncode == 1 and "there is no request" in refused.stderr and "--force" in refused.stderr
    forced = headrace("score", "chatcmpl-0123456789abcdef", "--value", "1", "--force")
    assert forced.returncode == 0, forced.stderr
    assert json.loads(headrace("--json", "sql", "select request from scores").stdout) == {"request": "0123456789abcdef"}


def test_a_table_that_an_earlier_program_made_gets_the_columns_that_came_later(headrace: Run) -> None:
    headrace("init")
    headrace(
        "sql", "select 'old' as request, 'helpful' as name, 'good' as label, 'person' as source", "--into", "scores"
    )
    for value in ("1", "2"):
        scored = headrace("score", "new", "--value", value, "--who", "ada", "--force")
        assert scored.returncode == 0, scored.stderr
    rows = [json.loads(line) for line in headrace("--json", "sql", "select * from scores").stdout.splitlines()]
    assert [(row["request"], row["value"], row["who"]) for row in rows] == [
        ("old", None, None),
        ("new", 1.0, "ada"),
        ("new", 2.0, "ada"),
    ]
