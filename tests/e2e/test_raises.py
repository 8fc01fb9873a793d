"""What the docstrings say that calls raise, that every public function says something, and what each value of its dicts is."""

from __future__ import annotations

import functools
import inspect
import os
import pathlib
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import headrace as hr
import numpy as np
import pytest

MODELS = pathlib.Path(os.environ.get("HEADRACE_MODELS", "~/.cache/headrace/models")).expanduser()
GEMMA = MODELS / "gemma-3-270m-q4_k_m.gguf"
MINILM = MODELS / "all-minilm-l6-v2-f16.gguf"


@pytest.fixture
def catalog(tmp_path: pathlib.Path) -> Iterator[hr.Catalog]:
    made = hr.init(tmp_path / "c")
    made.create_table("t", [{"x": 1, "s": "a"}, {"x": 2, "s": "b"}])
    yield made
    while (left := hr.current_run()) is not None:
        left.finish()


CALLS: dict[str, tuple[type[Exception], Callable[[hr.Catalog], Any]]] = {
    "init": (hr.Invalid, lambda c: hr.init(c.location)),
    "open": (hr.NotFound, lambda c: hr.open(c.location + "-not")),
    "Catalog.table": (hr.NotFound, lambda c: c["no"]),
    "Catalog.create_table": (hr.Invalid, lambda c: c.create_table("t", {"x": "int64"})),
    "Catalog.create_table of no type": (hr.Invalid, lambda c: c.create_table("u", {"x": "int65"})),
    "Catalog.drop_table": (hr.NotFound, lambda c: c.drop_table("no")),
    "Catalog.gc": (hr.Invalid, lambda c: c.gc(grace="soon")),
    "Table.keep": (hr.Invalid, lambda c: c["t"].keep("a while")),
    "Table.gc": (hr.Invalid, lambda c: c["t"].gc(keep="-1d")),
    "Catalog.ingest": (hr.NotFound, lambda c: c.ingest(c.location + "/no.csv", table="u")),
    "Catalog.sql": (hr.Invalid, lambda c: c.sql("selec 1")),
    "Catalog.sql of a file": (hr.Unavailable, lambda c: c.sql("from read_text('/etc/hostname')")),
    "Catalog.sql of no table": (hr.NotFound, lambda c: c.sql("from nothing")),
    "Catalog.explain": (hr.Invalid, lambda c: c.explain("selec 1")),
    "Snapshot.scan": (hr.NotFound, lambda c: c["t"].scan(["no"])),
    "Snapshot.scan by a wrong filter": (hr.Invalid, lambda c: c["t"].scan(where="x >")),
    "Snapshot.take": (hr.NotFound, lambda c: c["t"].take([99])),
    "Snapshot.count": (hr.Invalid, lambda c: c["t"].count("x >")),
    "Table.at": (hr.NotFound, lambda c: c["t"].at(99)),
    "Table.at both": (TypeError, lambda c: c["t"].at(1, tag="v")),
    "Table.append": (hr.Invalid, lambda c: c["t"].append([{"x": "no number"}])),
    "Table.add_columns": (hr.Invalid, lambda c: c["t"].add_columns({"y": [1]})),
    "Table.add_columns that is full": (hr.Invalid, lambda c: c["t"].add_columns({"x": [1, 2]})),
    "Table.delete": (hr.Invalid, lambda c: c["t"].delete()),
    "Table.delete of no row": (hr.NotFound, lambda c: c["t"].delete(row_ids=[99])),
    "Table.update": (hr.Invalid, lambda c: c["t"].update({"x": "no number"}, "true")),
    "Table.update of no column": (hr.NotFound, lambda c: c["t"].update({"no": 1}, "true")),
    "Table.merge": (hr.Invalid, lambda c: c["t"].merge([{"x": 1}, {"x": 1}], on="x")),
    "Table.merge by no column": (hr.NotFound, lambda c: c["t"].merge([{"x": 1}], on="no")),
    "Table.restore": (hr.NotFound, lambda c: c["t"].restore(99)),
    "Table.rename_column": (hr.NotFound, lambda c: c["t"].rename_column("no", "y")),
    "Table.rename_column to a name that is taken": (hr.Invalid, lambda c: c["t"].rename_column("x", "s")),
    "Table.drop_column": (hr.NotFound, lambda c: c["t"].drop_column("no")),
    "Table.tag": (hr.NotFound, lambda c: c["t"].tag("a", 99)),
    "Table.tag that looks like a version": (hr.Invalid, lambda c: c["t"].tag("v3")),
    "Table.remove_tag": (hr.NotFound, lambda c: c["t"].remove_tag("no")),
    "decode_image": (hr.Unsupported, lambda c: hr.decode_image(b"no picture")),
    "decode_image of a part": (hr.Corrupt, lambda c: hr.decode_image(b"\xff\xd8\xff\xe0abcdef")),
    "Stream": (hr.NotFound, lambda c: hr.Stream(c["t"], ["no"])),
    "Stream of a rank that is none": (hr.Invalid, lambda c: hr.Stream(c["t"], ["x"], rank=2, world_size=2)),
    "Stream of too much memory": (hr.Invalid, lambda c: hr.Stream(c["t"], ["x"], memory="lots")),
    "Stream with a strange argument": (TypeError, lambda c: hr.Stream(c["t"], ["x"], colums=["x"])),
    "Stream.restart": (hr.Invalid, lambda c: _stream(c).restart(-1)),
    "Stream.load_state_dict": (hr.Invalid, lambda c: _stream(c).load_state_dict({})),
    "Stream.state_dict": (hr.Invalid, lambda c: _stream(c).state_dict({})),
    "Stream.read_into": (hr.Invalid, lambda c: _stream(c).read_into({"no": np.zeros(1)})),
    "Checkpointer": (hr.Invalid, lambda c: _checkpointer(c, keep_last=0)),
    "Checkpointer.save": (hr.Invalid, lambda c: _checkpointer(c, model={"x": print}).save(0)),
    "Checkpointer.restore": (hr.Invalid, lambda c: [_checkpointer(c).save(0), _checkpointer(c, ema={}).restore()]),
    "Checkpointer.steps": (hr.Invalid, lambda c: list(_checkpointer(c).steps())),
    "Checkpoint.fetch": (hr.NotFound, lambda c: _checkpointer(c).save(0).fetch("no", "x")),
    "Checkpoint.load": (hr.Invalid, lambda c: _checkpointer(c).save(0).load(no={})),
    "Checkpoint.states": (hr.NotFound, lambda c: _checkpointer(c).save(0).states("no")),
    "Split": (hr.Invalid, lambda c: hr.Split("s", a=0.9, b=0.9)),
    "Split.where": (KeyError, lambda c: hr.Split("s", a=1).where("b")),
    "ColorJitter": (hr.Invalid, lambda c: hr.ColorJitter(brightness=-1)),
    "Batch.to_numpy": (KeyError, lambda c: c["t"].head().to_numpy("no")),
    "Batch.blobs": (hr.Invalid, lambda c: c["t"].head().blobs("x")),
    "Batch.blobs of no column": (KeyError, lambda c: c["t"].head().blobs("no")),
    "Model": (hr.NotFound, lambda c: hr.Model(c.location + "/no.gguf")),
    "Model of no model": (hr.Corrupt, lambda c: hr.Model(__file__)),
    "Model without room": (hr.Invalid, lambda c: hr.Model(GEMMA, context=0)),
    "Model on no device": (hr.Invalid, lambda c: hr.Model(GEMMA, devices=["no"])),
    "Model.generate": (hr.Invalid, lambda c: [_model(GEMMA).generate("x", temperature=-1)]),
    "Model.generate by no option": (TypeError, lambda c: [_model(GEMMA).generate("x", heat=1)]),
    "Model.stream": (hr.Invalid, lambda c: _model(GEMMA).stream("x", temperature=-1)),
    "Model.render": (hr.Invalid, lambda c: _model(GEMMA).render([{"role": "user", "content": "x"}])),
    "Model.render of an encoder": (hr.Unsupported, lambda c: _model(MINILM).render([])),
    "Model.embed": (hr.LimitExceeded, lambda c: _model(MINILM).embed("cat " * 600)),
    "Model.rerank": (hr.Unsupported, lambda c: _model(GEMMA).rerank("x", ["y"])),
    "Model.rerank of a long query": (hr.LimitExceeded, lambda c: _model(MINILM).rerank("x " * 600, ["y"], cut=False)),
    "Model.rerank of none": (hr.Invalid, lambda c: _model(MINILM).rerank("x", ["y"], top_n=0)),
    "Model.load_adapter": (hr.NotFound, lambda c: _model(GEMMA).load_adapter("no.gguf")),
    "Model.load_adapter of none": (hr.Invalid, lambda c: _model(GEMMA).load_adapter(__file__)),
    "Model.tokenize": (TypeError, lambda c: _model(MINILM).tokenize(typing.cast(str, 5))),
    "Model.stats": (hr.Invalid, lambda c: _model(MINILM).stats()),
}


@functools.cache
def _model(path: pathlib.Path) -> hr.Model:
    return hr.Model(path)


def _stream(catalog: hr.Catalog) -> hr.Stream:
    return hr.Stream(catalog["t"], ["x"], batch_size=1)


def _checkpointer(catalog: hr.Catalog, **options: Any) -> hr.Checkpointer:
    return hr.Checkpointer(hr.run(id="a", catalog=catalog, system=False), **options)


@pytest.mark.parametrize("call", CALLS)
def test_calls_raise_what_their_docstrings_say(catalog: hr.Catalog, call: str) -> None:
    error, function = CALLS[call]
    with pytest.raises(error) as raised:
        list(function(catalog) or [])
    assert type(raised.value) is error, raised.value
    owner: Any = hr
    for part in call.split()[0].split("."):
        owner = getattr(owner, part)
    assert re.search(rf"^ +{error.__name__}: ", inspect.getdoc(owner) or "", re.M), (
        f"{call} does not say {error.__name__}"
    )


def test_the_folder_of_a_catalog_opens_it(tmp_path: pathlib.Path) -> None:
    hr.init(tmp_path / ".headrace").create_table("t", [{"x": 1}])
    assert hr.open(tmp_path).tables() == ["t"]


def test_stats_and_reports_are_documented_key_by_key(catalog: hr.Catalog, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    report = catalog.ingest(tmp_path / "a.csv", table="a")
    stream = hr.Stream(catalog["t"], ["x"], batch_size=1)
    list(stream)
    model = _model(GEMMA)
    documented: list[tuple[Any, Any]] = [
        (hr.Catalog.ingest, report),
        (hr.Stream.stats, stream.stats()),
        (hr.Stream.plan, stream.plan(1)[0]),
        (hr.Model.stats, model.stats()),
        (hr.Model, model.facts),
        (hr.Answer, model.generate("x", max_tokens=1).usage),
    ]
    for function, keys in documented:
        text = inspect.getdoc(function) or ""
        missing = [key for key in keys if f"``{key}``" not in text]
        assert not missing, f"{function.__qualname__} does not say what {missing} are"


def _public() -> Iterator[tuple[str, Any, bool]]:
    """Functions, methods and properties of the package: the name, the function, and whether it is a property's."""
    for name in hr.__all__:
        one = getattr(hr, name)
        if inspect.isfunction(one):
            yield name, one, False
        for method, member in vars(one).items() if inspect.isclass(one) else ():
            function = member.fget if isinstance(member, property) else member
            if not method.startswith("_") and inspect.isfunction(function):
                yield f"{name}.{method}", function, isinstance(member, property)


def test_public_functions_say_what_they_do_and_have_types() -> None:
    names = [name for name, _, _ in _public()]
    assert {"Model.rerank", "Catalog.ingest", "Stream.stats", "decode_image"} <= set(names) and len(names) > 100
    for name, function, _ in _public():
        assert inspect.getdoc(function), f"{name} has no docstring"
        parameters = {*inspect.signature(function).parameters} - {"self", "cls"}
        untyped = {*parameters, "return"} - set(function.__annotations__)
        assert not untyped, f"{name}: {untyped} have no types"


# What only calculates, or reads what it holds already.
CANNOT_FAIL = """
    Batch.to_pylist CenterCrop HorizontalFlip Layout Model.close Normalize Queue.to_json RandomCrop RandomResizedCrop Resize
    Rubric.to_dict Split.stratified Stream.close Stream.plan Stream.stats To TuneConfig.to_dict TuneConfig.to_json current_run
"""


def test_calls_that_can_fail_say_how() -> None:
    calls = {name: inspect.getdoc(function) or "" for name, function, is_property in _public() if not is_property}
    silent = {name for name, text in calls.items() if "Raises:" not in text}
    assert silent == set(CANNOT_FAIL.split())
