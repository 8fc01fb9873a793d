"""A run's config and summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any


class Fields(MutableMapping[str, Any]):
    """A run's config or summary: a dict whose keys are attributes too. What ``earlier`` lives of the run said is there until it is said again."""

    def __init__(self, changed: Any, earlier: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_values", dict(earlier or {}))
        object.__setattr__(self, "_earlier", dict(earlier or {}))
        object.__setattr__(self, "_touched", False)  # by this process
        object.__setattr__(self, "_changed", changed)

    def _said(self) -> dict[str, Any]:
        """What this process has said itself."""
        return {key: value for key, value in self._values.items() if key not in self._earlier}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._values[str(key)] = value
        self._earlier.pop(str(key), None)
        object.__setattr__(self, "_touched", True)
        self._changed()

    def __delitem__(self, key: str) -> None:
        del self._values[key]
        self._earlier.pop(key, None)
        object.__setattr__(self, "_touched", True)
        self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(
                f"there is no {name!r} here; there are {', '.join(self._values) or 'none yet'}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __repr__(self) -> str:
        return repr(self._values)
