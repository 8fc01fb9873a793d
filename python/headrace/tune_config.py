"""What a fine-tuning is given: ``hr.TuneConfig``, the same names as on the command line, and JSON of it."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from typing import Any

from headrace.errors import Invalid

SCHEDULES = ("cosine", "linear", "constant", "wsd")
TARGETS = ("all", "attention", "mlp")
CUTS = ("end", "start", "drop")
BROKEN = ("fail", "drop")
PRECISIONS = ("auto", "f32", "bf16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """A fine-tuning: a model, rows, and what is done with them.

    ``model``: a name in the catalog, or a GGUF file. ``data``: a table, as ``"support"``, ``"support@v12"`` or ``"support@golden"``;
    ``where``: a filter of its rows. What a row is made of is one of: ``messages`` (a column of chats: lists of {role, content}, or JSON of
    them), ``prompt`` and ``answer`` (two columns of text, through the chat template where the model has one and ``chat`` holds), ``text``
    (a column of text of which every token is learned). ``roles``: whose turns are learned from; ``system``: a system message for rows that
    have none. ``max_tokens``: of a row, 2,048 by default, or the model's context if that is less; longer ones are cut at their ``cut`` ("end", "start"), or left out ("drop").
    ``broken``: whether a row that cannot be read (JSON, roles, types) is an error ("fail") or left out and counted ("drop").

    ``out``: the adapter's name. ``rank``, ``alpha`` (twice the rank by default), ``rslora``, ``targets`` ("all", "attention", "mlp"): LoRA.
    ``batch_tokens``: tokens of a step at most, in pieces of ``micro_tokens`` that are computed at once; ``epochs`` or ``steps``: how long.
    ``learning_rate``, ``schedule`` (cosine, linear, constant, or wsd: warm-up, stable, decay), ``warmup`` (a share of the whole),
    ``weight_decay``, ``beta1``, ``beta2``, ``epsilon``, ``clip`` (of the gradient's norm; 0: none): AdamW.

    ``validation``: the share of the rows that is kept back, by a hash of ``split_on`` (a column, or an expression as ``hr.Split`` takes it),
    and looked at before, ``evaluations`` times on the way and at the end, up to ``validation_tokens`` of them. ``save_every``, ``keep_last``: checkpoints, as ``hr.Checkpointer``
    has them. ``precision``: of weights and activations ("auto": bf16 where the processor multiplies it, else f32). ``threads`` 0: one
    for each core.

    Raises:
        Invalid: a value is out of its range, or names that do not go together.
    """

    model: str
    data: str
    out: str
    where: str | None = None
    messages: str | None = None
    prompt: str | None = None
    answer: str | None = None
    text: str | None = None
    system: str | None = None
    roles: tuple[str, ...] = ("assistant",)
    chat: bool = True
    chat_template: str | None = None
    max_tokens: int | None = None
    cut: str = "end"
    broken: str = "fail"
    rank: int = 16
    alpha: float | None = None
    rslora: bool = False
    targets: str = "all"
    batch_tokens: int = 4096
    micro_tokens: int = 2048
    epochs: int = 1
    steps: int | None = None
    learning_rate: float = 2e-4
    schedule: str = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip: float = 1.0
    validation: float = 0.05
    split_on: str = "_row_id"
    validation_tokens: int = 65_536
    evaluations: int = 5
    save_every: int | str = "10m"
    keep_last: int = 2
    precision: str = "auto"
    seed: int = 0
    threads: int = 0
    name: str | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        kinds = [self.messages is not None, self.prompt is not None or self.answer is not None, self.text is not None]
        if sum(kinds) != 1:
            raise Invalid("say what a row is made of: messages, prompt and answer, or text")
        if kinds[1] and (self.prompt is None or self.answer is None):
            raise Invalid("prompt and answer go together: two columns of text")
        self._check_choices()
        self._check_numbers()
        if self.alpha is None:
            object.__setattr__(self, "alpha", 2.0 * self.rank)
        for name in ("roles", "tags"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if not self.roles:
            raise Invalid("roles is empty: nothing would be learned")
        if not self.out or any(character in self.out for character in "/:@ \t\n"):
            raise Invalid(f"out is {self.out!r}; it is a name without '/', ':', '@' and spaces")

    def _check_choices(self) -> None:
        for name, choices in (
            ("schedule", SCHEDULES),
            ("targets", TARGETS),
            ("cut", CUTS),
            ("broken", BROKEN),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                raise Invalid(f"{name} is {getattr(self, name)!r}; it may be {', '.join(choices)}")

    def _check_numbers(self) -> None:
        least = {"rank": 1, "max_tokens": 2, "batch_tokens": 1, "micro_tokens": 1, "epochs": 1, "validation_tokens": 0}
        least |= {"evaluations": 0, "keep_last": 1, "threads": 0, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) is not None and getattr(self, name) < value:
                raise Invalid(f"{name} is {getattr(self, name)}; it is at least {value}")
        if self.steps is not None and self.steps < 1:
            raise Invalid(f"steps is {self.steps}; it is at least 1")
        for name, below in (("warmup", 1.0), ("validation", 1.0), ("beta1", 1.0), ("beta2", 1.0)):
            if not 0 <= getattr(self, name) < below:
                raise Invalid(f"{name} is {getattr(self, name)}; it is from 0 to less than 1")
        for name in ("learning_rate", "weight_decay", "epsilon", "clip"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise Invalid(f"{name} is {getattr(self, name)}; it is a number of 0 or more")
        if self.alpha is not None and not math.isfinite(self.alpha):
            raise Invalid(f"alpha is {self.alpha}")

    def to_dict(self) -> dict[str, Any]:
        """Every value by its name, as JSON has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    def to_json(self) -> str:
        """What ``from_json`` takes."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TuneConfig:
        """Of ``to_dict``; what is left out has its default.

        Raises:
            Invalid: a name that there is not, or a value of another type.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in fields:
                near = difflib.get_close_matches(name, fields, 1)
                raise Invalid(f"TuneConfig has no {name!r}" + (f"; did you mean {near[0]}?" if near else ""))
            _check_type(name, str(fields[name].type), value)
        if missing := [name for name in ("model", "data", "out") if name not in values]:
            raise Invalid(f"TuneConfig needs {', '.join(missing)}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> TuneConfig:
        """Of ``to_json``.

        Raises:
            Invalid: it is no JSON, or as ``from_dict``.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise Invalid(f"the configuration is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise Invalid("the configuration is a JSON object")
        return cls.from_dict(values)


def _check_type(name: str, declared: str, value: Any) -> None:
    """Of values that came as JSON: a text where a number belongs is told by its name."""
    if value is None:
        if "None" not in declared:
            raise Invalid(f"{name} is null")
        return
    fits = {
        "tuple": isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        "str": isinstance(value, str),
    }
    kinds = [kind for kind in fits if kind in declared.replace("tuple[str, ...]", "tuple")]
    if not any(fits[kind] for kind in kinds):
        raise Invalid(f"{name} is {value!r}; it is {' or '.join(kinds)}")
