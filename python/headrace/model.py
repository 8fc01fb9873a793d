"""Models: answers, embeddings and tokens from a GGUF file or from a model of the catalog."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import _native, answers, process, program, runs
from headrace.answers import Answer, Delta
from headrace.errors import HeadraceError, Invalid, NotFound, Unsupported
from headrace.hints import Hinted

if typing.TYPE_CHECKING:
    import numpy as np

    from headrace.catalog import Catalog

Message = Mapping[str, str]
Prompt = str | Sequence[Message] | Sequence[int]


def _module() -> Any:
    try:
        from headrace import _engine
    except ImportError as error:
        raise Unsupported(
            f"this build of headrace has no engine ({error}); `./dev build` makes one that has"
        ) from error
    return _engine


def schema_of(kind: Any) -> dict[str, Any]:
    """JSON Schema of a type: dataclasses, TypedDicts, pydantic models, list, dict, Literal, Optional, str, int, float, bool.

    Raises:
        Invalid: the type has no schema here.
    """
    if hasattr(kind, "model_json_schema"):
        return typing.cast(dict[str, Any], kind.model_json_schema())
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    simple = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    if kind in simple:
        return {"type": simple[kind]}
    if origin in (list, Sequence):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return {"anyOf": [schema_of(one) for one in arguments]}
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        optional = (
            {
                f.name
                for f in dataclasses.fields(kind)
                if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
            }
            if dataclasses.is_dataclass(kind)
            else set(getattr(kind, "__optional_keys__", ()))
        )
        return {
            "type": "object",
            "properties": {name: schema_of(hint) for name, hint in hints.items()},
            "required": [name for name in hints if name not in optional],
            "additionalProperties": False,
        }
    raise Invalid(
        f"{kind!r} has no JSON schema here; use a dataclass, a TypedDict, a pydantic model or a schema as a dict"
    )


def _typed(kind: Any, value: Any) -> Any:
    """``value`` (parsed JSON) as an instance of ``kind``."""
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return kind(**{name: _typed(hints[name], one) for name, one in value.items()})
    if origin in (list, Sequence):
        return [_typed(arguments[0], one) for one in value]
    if origin is dict:
        return {name: _typed(arguments[1], one) for name, one in value.items()}
    if kind is float and isinstance(value, int):
        return float(value)
    return value


def _nearest() -> str | None:
    """The catalog that the command line would take, if there is one."""
    from headrace.catalog import _find

    found = _find()
    return found if "://" in found or Path(found, "catalog.json").exists() else None


_models: weakref.WeakSet[Model] = weakref.WeakSet()


def _abandon() -> None:
    for model in _models:
        _native.abandon(model._own._held)  # its threads are the parent's; the child loads it when it asks


os.register_at_fork(after_in_child=_abandon)


@dataclass(frozen=True)
class Ranked:
    """A document of ``Model.rerank``: its place in the list that was given, how well it fits the query, and its text."""

    index: int
    score: float
    document: str


class Model(Hinted):
    """A model and the engine over it.

        model = hr.Model("gemma.gguf")                       # or a name: hr.Model("gemma", catalog=catalog)
        print(model.generate("The capital of France is", max_tokens=20))
        for delta in model.stream("Once upon a time"): print(delta.text, end="", flush=True)
        city = model.generate("Paris as JSON:", schema=City).value      # a dataclass, TypedDict, pydantic model or dict
        vectors = hr.Model("minilm.gguf").embed(["a cat", "a dog"])     # (2, 384), float32, of length 1
        best = hr.Model("bge-reranker.gguf").rerank("pets", texts, top_n=3)[0].document

    Many threads may ask one model at once: their requests run together, share cached beginnings, and none waits behind
    another's long prompt. A list of prompts is answered together.

    ``context``: tokens of cache for all requests together (default: the model's, at most 32,768). ``max_itl``: the longest gap
    in seconds between two tokens of somebody who is being answered, while others' prompts are read. ``deterministic``: the same
    bits whatever else runs. ``chat_template``: for models without one of their own: chatml, gemma, llama3, plain or a text.
    ``gpu_layers``: layers on accelerators (default: all that fit). ``devices``: which, like ``["CUDA0"]``; ``["none"]``: the CPU
    alone (default: all; `headrace model inspect` lists them).

    An adapter of the catalog is named like ``hr.Model("gemma:support")``: its model, which answers with the adapter where a request
    names none (``adapter=-1``: the model alone).

    ``facts``: what the file says. ``name``, ``architecture``, ``quantization`` and ``licence`` as texts; ``parameters``; ``weight_bytes``;
    ``context``, the tokens that it was trained on; tokens of its ``vocabulary``; ``memory``, what it remembers: "attention", "sliding window",
    "recurrent", "hybrid" or "encoder"; ``window`` in tokens, 0 without one; ``kv_bytes_per_token`` of its cache; the text of its
    ``chat_template``; and the file's ``path``.

    Raises:
        NotFound: there is no such file, or no such model in the catalog.
        Corrupt: the file is no GGUF, or a damaged one.
        Unsupported: it is of a kind that this version does not run, or this build has no engine.
        Invalid: an option is out of its range, or there is no such device.
        LimitExceeded: there is no memory for it.
    """

    _elsewhere: typing.ClassVar[dict[str, str]] = {
        "chat": "generate([{'role': 'user', 'content': '…'}])",
        "complete": "generate(prompt)",
        "predict": "generate(prompt)",
        "invoke": "generate(prompt)",
        "encode": "embed(texts) gives vectors, tokenize(text) tokens",
        "decode": "detokenize(tokens)",
        "tokenizer": "tokenize(text) and detokenize(tokens)",
        "apply_chat_template": "render(messages)",
        "name": "facts['name']",
        "config": "facts",
        "from_pretrained": "hr.Model('model.gguf'), or a name that `headrace model add` gave",
    }

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        catalog: Catalog | str | None = None,
        context: int | None = None,
        threads: int | None = None,
        slots: int | None = None,
        max_itl: float | None = None,
        deterministic: bool = False,
        lookup: bool = True,
        chat_template: str | None = None,
        gpu_layers: int | None = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        module = _module()
        program.announce()
        if catalog is None and not Path(model).exists():
            catalog = _nearest()
        where = catalog if catalog is None or isinstance(catalog, str) else catalog.location
        self._name, self._catalog = os.fspath(model), where
        for option, given, least in (
            ("context", context, 1),
            ("threads", threads, 1),
            ("slots", slots, 1),
            ("gpu_layers", gpu_layers, -1),
            ("max_itl", max_itl, 0),
        ):
            if given is not None and not given >= least:
                raise Invalid(f"{option} is {given}; it is {least} or more")
        options = {
            "context": context,
            "threads": threads,
            "slots": slots,
            "max_itl": max_itl,
            "deterministic": deterministic,
            "lookup": lookup,
            "chat_template": chat_template,
            "gpu_layers": gpu_layers,
            "devices": None if devices is None else list(devices),
        }
        load = functools.partial(module.load, os.fspath(model), where, options)
        self._own = process.Own(load(), load)
        _models.add(self)
        self.facts: dict[str, Any] = self._native.facts()
        runs.note_input(self)

    def _as_input(self) -> dict[str, Any]:
        """What a run notes of it."""
        entry = {"kind": "model", "name": self._name, "sha256": self.facts.get("sha256")}
        return {key: value for key, value in entry.items() if value}

    @property
    def _native(self) -> Any:
        return self._own.get()

    def __repr__(self) -> str:
        return f"<Model {self.facts['name']}: {self.facts['architecture']} {self.facts['quantization']}>"

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the engine; requests that run end with an error. The next one starts it again."""
        self._native.close()

    @typing.overload
    def generate(self, prompt: str, **options: Any) -> Answer: ...
    @typing.overload
    def generate(self, prompt: Sequence[str], **options: Any) -> list[Answer]: ...
    @typing.overload
    def generate(self, prompt: Sequence[Message] | Sequence[int], **options: Any) -> Answer: ...
    @typing.overload
    def generate(
        self, prompt: Sequence[Sequence[Message]] | Sequence[Sequence[int]], **options: Any
    ) -> list[Answer]: ...

    def generate(
        self,
        prompt: Any,
        *,
        progress: bool | Callable[[int, int], Any] | None = None,
        record: bool | None = None,
        **options: Any,
    ) -> Answer | list[Answer]:
        """The answer to a prompt: a text, a conversation (dicts with role and content) or tokens; or a list of them.

        Options: ``max_tokens`` (256 where a text is continued, else what the context holds), ``temperature`` (1), ``top_p``,
        ``top_k``, ``min_p``, ``seed``, ``stop``, ``repetition_penalty``, ``frequency_penalty``, ``presence_penalty``,
        ``logit_bias``, ``logprobs``, ``schema``, ``regex``, ``grammar``, ``timeout``, ``priority``, ``key``, ``adapter``.

        Of a list, 64 prompts are with the engine at a time. ``progress``: a function of (answers that are there, prompts), or
        True or False for a line on stderr (by default on a terminal). ``record``: whether the answers become rows of the
        catalog's ``traces`` (by default where the model is of a catalog). What ends a list early, Ctrl-C too, is raised with the
        answers that are whole as its ``answers``, and None for the others.

        Raises:
            Invalid: an option or a schema is wrong, or the prompt is longer than the context.
            LimitExceeded: the request can never fit the cache.
            Cancelled: its ``timeout`` passed, or the model was closed.
            TypeError: there is no such option.
        """
        many = not isinstance(prompt, str) and len(prompt) > 0 and not isinstance(prompt[0], (dict, int))
        kind = options.get("schema")

        def submit(one: Any) -> answers.Pending:
            return answers.Pending(one, self._submit(one, options))

        def wait(pending: answers.Pending) -> Answer:
            return pending.wait(options.get("logprobs") is not None, lambda text, end: _value(kind, text, end))

        rows = self._record(record, many)

        def keep(pending: answers.Pending, answer: Answer) -> Answer:
            if rows is None:
                return answer
            rows.add(answers.trace_row(pending, answer, str(self._name), options))
            return dataclasses.replace(answer, id=pending.id)

        try:
            given = answers.gather(prompt if many else [prompt], submit, wait, progress if many else False, keep)
        finally:
            if rows is not None:
                rows.flush()
        return given if many else given[0]

    def _record(self, wanted: bool | None, many: bool) -> answers.Record | None:
        if wanted is None:
            wanted = many and self._catalog is not None
        if not wanted:
            return None
        if self._catalog is None:
            raise Invalid(
                "record=True writes rows into a catalog, and this model is a file: give hr.Model(…, catalog=…)"
            )
        from headrace.catalog import open

        return answers.Record(open(self._catalog)._native.record_traces)

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[Delta]:
        """The pieces of an answer as they come. Leaving the loop ends the answer within one step.

        Raises:
            Invalid: as in ``generate``.
        """
        return answers.pieces(self._submit(prompt, options))

    def _submit(self, prompt: Prompt, options: Mapping[str, Any]) -> Any:
        known = {
            "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "repetition_penalty", "frequency_penalty", "presence_penalty",
            "logit_bias", "logprobs", "schema", "regex", "grammar", "timeout", "priority", "key", "adapter", "ignore_end",
        }  # fmt: skip
        for name in options:
            if name not in known:
                raise TypeError(f"generate has no option {name!r}; it has {', '.join(sorted(known))}")
        native = dict(options)
        if isinstance(native.get("stop"), str):
            native["stop"] = [native["stop"]]
        if native.get("schema") is not None:
            schema = native["schema"]
            native["schema"] = (
                schema
                if isinstance(schema, str)
                else json.dumps(schema if isinstance(schema, dict) else schema_of(schema))
            )
        if isinstance(native.get("logit_bias"), Mapping):
            native["logit_bias"] = [(int(token), float(bias)) for token, bias in native["logit_bias"].items()]
        return self._native.submit(prompt if isinstance(prompt, str) else list(prompt), native)

    def embed(
        self, texts: str | Sequence[str], *, normalise: bool = True, cut: bool = False
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Vectors of texts: (texts, width) float32, of length 1 unless ``normalise=False``; of one text: (width,).

        Texts longer than the model reads are refused, or with ``cut`` cut to what it reads.

        Raises:
            Unsupported: the model makes no embeddings.
            LimitExceeded: a text is longer than the model reads, and ``cut`` is not set.
            Invalid: a text is empty, and the model has no token for that.
        """
        vectors = self._native.embed([texts] if isinstance(texts, str) else list(texts), normalise, cut)
        return typing.cast("np.ndarray[Any, np.dtype[np.float32]]", vectors[0] if isinstance(texts, str) else vectors)

    def rerank(
        self, query: str, documents: Sequence[str], *, top_n: int | None = None, cut: bool = True
    ) -> list[Ranked]:
        """Documents by how well they fit a query, the best first; of equal ones the earlier first. ``top_n``: so many at most.

        A reranker (a GGUF whose pooling is RANK: cross-encoders, and Qwen3-Reranker as llama.cpp converts it) reads the query
        and a document together; its scores are as its head gives them: of cross-encoders any number, of Qwen3's the probability of
        "yes". An embedding model's are the cosines of the texts' vectors, from -1 to 1. They are the scores that a server's
        ``/v1/rerank`` gives.

        A document that is longer than the model reads loses its end, or with ``cut=False`` is refused.

        Raises:
            Unsupported: the model writes text: it is neither a reranker nor an embedding model.
            LimitExceeded: the query leaves a document no room, or a document is too long and ``cut`` is not set.
            Invalid: ``top_n`` is less than 1.
        """
        if top_n is not None and top_n < 1:
            raise Invalid(f"top_n is {top_n}; it is 1 or more, or None for all documents")
        documents = list(documents)
        scores = self._native.rerank(query, documents, cut)
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        return [Ranked(i, scores[i], documents[i]) for i in order[:top_n]]

    def tokenize(self, text: str, *, special: bool = True, parse: bool = False) -> list[int]:
        """Tokens of a text. ``special``: with the model's beginning token. ``parse``: names of control tokens stand for them.

        Raises:
            TypeError: it is no text.
        """
        return typing.cast(list[int], self._native.tokenize(text, special, parse))

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD. Numbers that the model has no token of give nothing.

        Raises:
            TypeError: they are no whole numbers.
        """
        return typing.cast(str, self._native.detokenize(list(tokens)))

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt that a conversation becomes, by the model's chat template.

        Raises:
            Unsupported: the model writes no text: it is an encoder.
            Invalid: it has no chat template, or the template refuses the conversation.
        """
        return typing.cast(str, self._native.render([(m["role"], m["content"]) for m in messages]))

    def load_adapter(self, path: str | os.PathLike[str], scale: float = 1.0) -> int:
        """A LoRA adapter (GGUF) for this model; the number to give as ``adapter=``.

        Best before the first request: the next one begins with an empty cache of prefixes.

        Raises:
            NotFound: there is no such file.
            Invalid: it is no adapter, a damaged one, or one of another model.
        """
        return typing.cast(int, self._native.load_adapter(os.fspath(path), scale))

    def stats(self) -> dict[str, int]:
        """What the engine has done: tokens computed and taken from the cache, steps, cells, drafts.

        Returns:
            Counts since it was loaded: ``steps``; ``prompt_tokens``, of which ``cached_tokens`` came from the cache and ``prefilled_tokens`` were
            computed; ``answer_tokens``; ``drafted`` tokens, ``accepted`` ones, and ``forced`` ones, which a grammar left no choice about;
            ``cells`` of the KV cache and ``cells_used``; ``evictions`` and ``preemptions``; ``requests``.

        Raises:
            Invalid: the model writes no text.
        """
        return typing.cast(dict[str, int], self._native.stats())


def _value(kind: Any, text: str, finish: str) -> Any:
    if kind is None or finish not in ("end", "stop"):
        return None
    value = json.loads(text)
    return value if isinstance(kind, (dict, str)) else _typed(kind, value)


@dataclass(frozen=True)
class Tokenize:
    """Tokens of a column of texts, made while a stream packs them: ``hr.Pack("text", 2048, tokenize=hr.Tokenize(model))``.

    ``model``: a GGUF file, a name in the catalog, or a ``Model``. ``begin``: each text begins with the token that the model
    wants there; ``end``: and ends with its end-of-text token. ``parse``: names of control tokens in the texts stand for them.
    """

    model: str | os.PathLike[str] | Model
    catalog: str | Catalog | None = None
    begin: bool = True
    end: bool = True
    parse: bool = False

    def __post_init__(self) -> None:
        # Plain words, so that it travels to other processes.
        if isinstance(self.model, Model):
            object.__setattr__(self, "model", self.model.facts["path"])
        else:
            object.__setattr__(self, "model", os.fspath(self.model))
        if self.catalog is not None and not isinstance(self.catalog, str):
            object.__setattr__(self, "catalog", self.catalog.location)

    def _open(self) -> object:
        module = _module()
        program.announce()
        return module.tokenizer(self.model, self.catalog, self.begin, self.end, self.parse)


__all__ = ["Answer", "Delta", "HeadraceError", "Model", "NotFound", "Ranked", "Tokenize", "schema_of"]
