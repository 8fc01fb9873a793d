"""Runs: what a program tries, with what it was given, what came out, and how it went on the way.

    with hr.run("probe", config={"lr": 0.01}) as run:
        run.use(photos)
        for step, batch in enumerate(stream):
            run.log({"loss": loss}, step=step)

Everything becomes rows: of ``hr.runs``, ``hr.metrics`` and ``hr.media``."""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from headrace import _native, run_artifacts, run_facts, run_identity, run_media, run_values
from headrace import catalog as catalogs
from headrace.catalog import Catalog
from headrace.errors import HeadraceError, Invalid, NotFound
from headrace.run_ending import Ending
from headrace.run_fields import Fields

FIRST_SUMMARY_SECONDS = 30.0  # then twice as long each time: about three rows a short run, and a dozen a month
SYSTEM = "sys/"  # the prefix of what is measured of the machine

_IDS = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_current: contextvars.ContextVar[Run | None] = contextvars.ContextVar("headrace_run", default=None)
_open: weakref.WeakSet[Run] = weakref.WeakSet()
_ending = Ending(lambda: list(_open))


class Run:
    """One execution of a program, made by ``hr.run()``.

    ``id``, ``name``, ``project``, ``tags``; ``config`` and ``summary`` (dicts whose keys are attributes); ``rank``; ``life``,
    which grows with each start of the run, and ``resumed``, whether there was one before. Safe to use from many threads."""

    def __init__(
        self, catalog: Catalog, identity: str, known: Mapping[str, Any] | None, facts: dict[str, Any], rank: int
    ) -> None:
        self.id = identity
        self.name: str = facts["name"]
        self.project: str | None = facts["project"]
        self.rank = rank
        attached = known is not None and known["alive"] and rank == 0
        # Of the ranks of a start, the first to come finds its run dead, and the others find it alive in a later life.
        self.resumed = known is not None and not attached and (not known["alive"] or known["lives"] > 1)
        self.life: int = (
            known["life"] if known and attached else run_identity.next_life(known["life"] if known else None)
        )
        self._catalog = catalog
        self._owner = rank == 0 and not attached
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._facts = facts
        self._last_time = known["time"] if known else 0
        self._inputs: list[dict[str, Any]] = list(known["inputs"]) if known else []
        self._outputs: list[dict[str, Any]] = list(known["outputs"]) if known else []
        self._tells_outputs = False  # what others have told since is newer, as long as this process has nothing to add
        self._finished = False
        self._dirty = False
        self.config = Fields(self._change, known["config"] if known else None)
        self.summary = Fields(self._change, known["summary"] if known else None)
        self.tags: tuple[str, ...] = tuple(facts["tags"])
        self._next_summary = time.monotonic() + FIRST_SUMMARY_SECONDS
        self._summary_every = FIRST_SUMMARY_SECONDS
        self._token: contextvars.Token[Run | None] | None = None
        self._looking: threading.Thread | None = None
        local_rank = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0" if rank == 0 else "1"))
        system = bool(facts["system"]) and not attached and local_rank == "0"  # once a machine
        self._writer = _native.RunWriter(catalog.location, self.id, rank, self.life, self._owner, system)
        self._log = self._writer.log
        self._first_step = known["step"] + 1 if known and self.resumed and known["step"] is not None else 0
        self._started = known is None

    # ---- what is logged

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Keeps values of a step: numbers (also numpy's, and tensors of one element); pictures (uint8 arrays, Pillow's, ``hr.Image``),
        ``hr.Audio``, ``hr.Histogram``, tables (Arrow, pandas, polars, lists of dicts), texts, arrays of integers (a batch's ``row_id``), lists of
        these; and nested mappings
        (``train/loss``).

        ``step``: any integer; without one, the step after the last. Several calls may log values of one step. NaN and
        infinities are values. What was logged when this returns survives the end of the process, however it ends.

        Raises:
            Invalid: a value is no number and nothing else that a run keeps, or the run is finished.
            Unavailable: the disk is full.
        """
        if self._pid != os.getpid():
            self._after_fork()
        if self._first_step:
            step, self._first_step = self._first_step if step is None else step, 0
        if step is not None and type(step) is not int:
            step = run_values.step(step)
        try:
            others = self._log(values if type(values) is dict else dict(values), step)
        except (TypeError, OverflowError, UnicodeEncodeError) as error:
            raise Invalid(run_values.why_not(values, step, error)) from error
        if others is not None:
            self._log_others(values, others, self._writer.step)
        if self._dirty or (self._owner and time.monotonic() > self._next_summary):
            self._tell()

    def _log_others(self, values: Mapping[str, Any], keys: Iterable[Any], step: int) -> None:
        numbers: list[tuple[str, float]] = []
        media: list[tuple[str, Iterable[run_media.Item]]] = []
        for name, value in run_values.flat({key: values[key] for key in keys}):
            found = run_values.number(value)
            if found is not None:
                numbers.append((name, found))
                continue
            items = run_media.items(value)
            if items is None:
                raise Invalid(
                    f"{name!r} is a {type(value).__name__}: a run logs numbers, texts, pictures, tables, hr.Histogram, hr.Image "
                    "and hr.Audio; its config holds other values"
                )
            media.append((name, items))
        if numbers:
            self._writer.log_numbers(numbers, step)
        for name, rows in media:
            for index, item in enumerate(rows):
                row = {"key": name, "step": step, "index": index, "time": _micros(), **item.row()}
                self._writer.log_media(run_values.json_text(row), item.data)

    @property
    def step(self) -> int:
        """The last step that was logged here; -1 before the first."""
        return self._writer.step

    # ---- what it is made of

    def use(self, thing: Any) -> Any:
        """Notes an input: a table (at its version of now), a snapshot, a stream, a model, or anything with a name. Given back
        as it came.

        Raises:
            Invalid: it is nothing that a run can name, or the run is finished.
        """
        entry = _input(thing)
        with self._lock:
            if entry not in self._inputs:
                self._inputs.append(entry)
                self._change()
        return thing

    def save(self, name: str, thing: Any = None) -> str:
        """Keeps a file that the run made: ``run.save("model.safetensors")``, or what is to be written under that name:
        ``run.save("weights.pt", model)``. Its bytes are stored once for each content; the run's ``outputs`` name them.

        ``thing``: a path, bytes, text; a torch module or state (``.pt``, ``.safetensors``), an array (``.npy``), anything that JSON can
        write (``.json``). A folder's files are kept under its name.

        Returns:
            The sha256 of the bytes, by which ``catalog.artifact(…)`` gives them back; of a folder, of the list of its files.

        Raises:
            Invalid: it is nothing that can be written under this name, or the run is finished.
            NotFound: there is no such file.
            Unavailable: the store cannot be reached, or the disk is full.
        """
        if self._pid != os.getpid():
            self._after_fork()
        saved = run_artifacts.save(self._writer.save, name, name if thing is None else thing)
        self._keep(saved)
        return str(saved[-1]["sha256"])

    def _keep(self, outputs: list[dict[str, Any]], gone: Iterable[str] = ()) -> None:
        """A row that names these outputs, in place of those of the same names, and no more those that are gone. It is on the disk when
        this returns; where it is not, nothing has changed."""
        if self._pid != os.getpid():
            self._after_fork()
        with self._lock:
            before, told = self._outputs, self._tells_outputs
            names = {one["name"] for one in outputs}.union(gone)
            self._outputs, self._tells_outputs = [one for one in before if one["name"] not in names] + outputs, True
            try:
                self._record({"state": "running"} if self._owner else {})
                self._writer.sync()
            except BaseException:
                self._outputs, self._tells_outputs = before, told
                raise

    # ---- its end

    def finish(self, state: str = "finished", reason: str | None = None) -> None:
        """Ends the run: ``finished``, ``failed`` or ``interrupted``. Everything it logged is committed when this returns, or is
        left to the process that commits for this machine.

        Raises:
            Invalid: there is no such state.
            Unavailable: the store cannot be reached; what was logged stays on this machine, and is committed later.
        """
        if state not in ("finished", "failed", "interrupted", "killed"):
            raise Invalid(f"{state!r} is no state of a run that ended: finished, failed, interrupted or killed")
        if self._pid != os.getpid() and not self._dirty:  # a fork that has said nothing: the run is its parent's
            self._finished = True
            _open.discard(self)
            return
        if self._pid == os.getpid() and self._looking is not None and not self._finished:
            self._looking.join(run_facts.GIT_SECONDS)
        with self._lock:
            if self._finished:
                return
            failure = None
            if self._owner and self._pid == os.getpid():
                failure = self._tell_end({"state": state, "reason": reason, "ended": _micros()})
            elif self._dirty:
                self._tell()
            self._finished = True
            _open.discard(self)
            if self._token is not None:
                with contextlib.suppress(ValueError):  # another thread's context
                    _current.reset(self._token)
            elif _current.get() is self:
                _current.set(None)
            self._writer.close()
        if failure is not None:
            raise failure

    def _tell_end(self, end: dict[str, Any]) -> Invalid | None:
        """The last row. Where the config or the summary cannot be written, how it ended is; and why they cannot."""
        try:
            self._record(end)
        except Invalid as error:
            self._writer.record(run_values.json_text({"id": self.id, "life": self.life, "time": _micros(), **end}))
            return error
        return None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self._end(kind, error)
        except HeadraceError as failure:
            if kind is None:
                raise
            warnings.warn(
                f"the end of {self!r} is not kept: {failure}", stacklevel=2
            )  # the program's own error matters more

    def _end(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.finish("interrupted", "Ctrl-C")
        elif issubclass(kind, SystemExit) and error is not None and getattr(error, "code", None) in (None, 0):
            self.finish()
        elif issubclass(kind, SystemExit):
            self.finish("failed", f"exit code {getattr(error, 'code', 1)}")
        else:
            self.finish("failed", f"{kind.__name__}: {error}")

    def __repr__(self) -> str:
        return f"<hr.Run {self.name} {self.id}{'' if not self._finished else ', finished'}>"

    # ---- rows

    def _change(self) -> None:
        if self._finished:
            raise Invalid("this run is finished; nothing more can be said of it")
        self._dirty = True

    def _tell(self) -> None:
        """A row of what is known now."""
        with self._lock:
            self._summary_every *= 2
            self._next_summary = time.monotonic() + self._summary_every
            self._record({"state": "running"} if self._owner else {})

    def _record(self, more: dict[str, Any]) -> None:
        if self._pid != os.getpid():
            self._after_fork()
        with self._lock:
            self._dirty = False
            now = max(_micros(), self._last_time + 1)
            self._last_time = now
            row = {"id": self.id, "life": self.life, "time": now, **more}
            if self.config._touched:
                row["config"] = run_values.as_json(dict(self.config), "config")
            last = self._writer.last() if self._owner else {}
            last = {key: value for key, value in last.items() if not key.startswith(SYSTEM)}
            if last or self.summary._touched:  # a metric's last value is newer than what an earlier life said of it
                row["summary"] = run_values.as_json({**self.summary, **last, **self.summary._said()}, "summary")
            if self._inputs:
                row["inputs"] = self._inputs
            if self._outputs and self._tells_outputs:
                row["outputs"] = self._outputs
            if self._owner:
                row["tags"] = list(self.tags)
            self._writer.record(run_values.json_text(row))

    def _begin(self) -> None:
        facts = self._facts
        row = {
            "kind": facts["kind"],
            "name": self.name,
            "project": self.project,
            "parent": facts["parent"],
            "state": "running",
            "who": run_facts.who(),
            "host": run_facts.host(),
            "pid": os.getpid(),
            "slurm_job": os.environ.get("SLURM_JOB_ID")
            or (None if self._started else ""),  # no more the earlier life's
            "command": run_facts.command(),
            "notes": facts["notes"] or None,
            "again_of": facts["again_of"],
        }
        if self._started:
            row["started"] = _micros()
        self._record({key: value for key, value in row.items() if value is not None})
        self._looking = threading.Thread(target=self._look_around, name="hr-run-facts", daemon=True)
        self._looking.start()

    def _look_around(self) -> None:
        """What takes time to find out: the code and the packages."""
        try:
            code, diff = run_facts.code()
            row: dict[str, Any] = {"state": "running", "code": code, "env": run_facts.environment()}
            if diff:
                row["diff"] = diff
            with self._lock:
                if not self._finished and self._pid == os.getpid():
                    self._record(row)
        except HeadraceError as error:
            warnings.warn(f"the run's code and packages are not noted: {error}", stacklevel=1)

    def _after_fork(self) -> None:
        """A forked child writes for itself, to the same run."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._owner = False
        self._looking = None
        self._writer = _native.RunWriter(self._catalog.location, self.id, self.rank, self.life, False, False)
        self._log = self._writer.log


def _micros() -> int:
    return time.time_ns() // 1000


def _input(thing: Any) -> dict[str, Any]:
    if isinstance(thing, str):
        return {"kind": "ref", "name": thing}
    describe = getattr(thing, "_as_input", None)
    if describe is None:
        raise Invalid(
            f"a run cannot say which {type(thing).__name__} it used: give a table, a snapshot, a stream, a model, or a name"
        )
    entry: dict[str, Any] = describe()
    return entry


def _known(catalog: Catalog, identity: str, rank: int) -> dict[str, Any] | None:
    """What the catalog has of a run; None if it has none of that id."""
    if not {"hr.runs", "hr.metrics"} <= set(catalog.tables()):
        return None
    rows = catalog.sql(
        "select life, time, state, writer, inputs, outputs, name, tags, config, summary from hr.runs where id = ? order by time",
        [identity],
    ).to_pylist()
    if not rows:
        return None
    points = catalog.sql(
        "select max(life) as life, max(to_step) filter (not starts_with(key, ?)) as step from hr.metrics "
        "where run = ? and rank = ?",
        [SYSTEM, identity, rank],
    ).to_pylist()[0]
    known: dict[str, Any] = {"state": None, "writer": None, "inputs": [], "outputs": [], "name": None}
    known.update({"tags": [], "config": {}, "summary": {}})
    for row in rows:
        for key in known:
            # Only a run's owner tells its state; other writers come and go.
            if row[key] is not None and (key != "writer" or row["state"] is not None):
                known[key] = row[key]
    known["life"] = max([row["life"] or 0 for row in rows] + [points["life"] or 0])
    known["time"] = max(int(row["time"].timestamp() * 1e6) + 1 for row in rows)
    known["step"] = points["step"]
    known["lives"] = len({row["life"] for row in rows if row["state"] is not None})
    known["alive"] = known["state"] == "running" and _native.spool_is_alive(catalog.location, known["writer"])
    return known


def run(
    name: str | None = None,
    *,
    config: Any = None,
    project: str | None = None,
    tags: Iterable[str] = (),
    notes: str = "",
    id: str | None = None,
    catalog: Catalog | str | os.PathLike[str] | None = None,
    parent: str | None = None,
    again_of: str | None = None,
    kind: str = "run",
    system: bool = True,
) -> Run:
    """Begins a run, or goes on with one.

    ``name``: what people call it (default: the script's). ``config``: what it is given: a mapping, a dataclass, a pydantic model,
    ``argparse``'s namespace. ``id``: of a run that is there goes on with it: another process of it where it is running, else as
    its next life, whose points stand in place of earlier ones from its first step on. What it knew stays: tags, and each value of config and
    summary that is not said again. Without one, all ranks of a job (torchrun,
    Slurm, MPI) find the same run, also when Slurm requeues it. ``catalog``: where it is kept; default as ``hr.open``, and where there is
    none, a new one in this folder. ``system``: what the machine does meanwhile is kept below ``sys/``: sampled each second, and every ten
    seconds its mean, its least and its greatest.

    The end of the ``with`` block, of the program, or ``finish()`` ends it; an exception makes it ``failed``. Whatever kills it, what was
    logged is there.

    Raises:
        Invalid: the config holds itself.
        Unavailable: the catalog cannot be reached, or this machine's disk is full.
    """
    if id is not None and not _IDS.fullmatch(id):
        raise Invalid(f"{id!r} is no id of a run: 1 to 128 letters, digits, '.', '-', '_' and ':'")
    where = catalog if isinstance(catalog, Catalog) else _open_or_make(catalog)
    rank = run_identity.rank()
    identity = run_identity.find(id)
    known = None
    found = ""
    for found in identity.candidates():
        known = _known(where, found, rank) if identity.given or identity.words else None
        if known is None or identity.takes(known["state"] or ""):
            break
    script = run_facts.script()
    facts = {
        "name": name or (known or {}).get("name") or (script.stem if script else "notebook"),
        "project": project or os.environ.get("HEADRACE_PROJECT"),
        "tags": tuple(tags) or tuple((known or {}).get("tags", ())),
        "notes": notes,
        "parent": parent or _parent_of(found),
        "again_of": again_of,
        "kind": kind,
        "system": system,
    }
    made = Run(where, found, known, facts, rank)
    given = run_values.as_json(config, "config") if config is not None else {}
    if not isinstance(given, dict):
        raise Invalid(f"a run's config is a mapping, not a {type(config).__name__}")
    for key, value in given.items():
        made.config[key] = value
    if made._owner:
        made._begin()
    made._token = _current.set(made)
    _open.add(made)
    _ending.watch()
    return made


def _open_or_make(location: str | os.PathLike[str] | None) -> Catalog:
    if location is not None:
        return catalogs.open(location, create=True)
    try:
        return catalogs.open()
    except NotFound:
        if os.environ.get("HEADRACE_CATALOG"):
            raise
        return catalogs.open(".headrace", create=True)


def _parent_of(identity: str) -> str | None:
    current = _current.get()
    if current is not None and not current._finished:
        return current.id
    inherited = os.environ.get("HEADRACE_RUN")
    return inherited if inherited != identity else None


def current_run() -> Run | None:
    """The run that this context is in, None outside of one."""
    found = _current.get()
    return found if found is not None and not found._finished else None


def note_input(thing: Any) -> None:
    """The current run, if there is one, has used this."""
    found = current_run()
    if found is not None:
        with contextlib.suppress(HeadraceError):
            found.use(thing)
