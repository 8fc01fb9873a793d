"""The exceptions that Headrace raises. Each carries a message that names the thing and the fix."""


class HeadraceError(Exception):
    """Base of all errors of this package."""


class NotFound(HeadraceError):
    """A table, column, version, tag or row that is not there."""


class Invalid(HeadraceError, ValueError):
    """The input is wrong: a name, a type, an expression, a value."""


class Conflict(HeadraceError):
    """A concurrent commit makes this one meaningless. Nothing was committed: read again and decide."""


class Corrupt(HeadraceError):
    """Bytes do not match their checksum or their format."""


class Unsupported(HeadraceError):
    """Understood, but not something that this version does."""


class LimitExceeded(HeadraceError):
    """A named limit was passed."""


class Unavailable(HeadraceError, OSError):
    """The store or the disk cannot be reached or refuses."""


class Cancelled(HeadraceError):
    """Stopped on request. Nothing was committed."""


class UnknownOutcome(HeadraceError):
    """The store never said whether a commit was taken. Look at the table's history before trying again."""


_CLASSES: dict[str, type[HeadraceError]] = {
    "invalid": Invalid,
    "not_found": NotFound,
    "already_exists": Invalid,
    "conflict": Conflict,
    "io": Unavailable,
    "unavailable": Unavailable,
    "timeout": Unavailable,
    "corrupt": Corrupt,
    "unsupported": Unsupported,
    "limit": LimitExceeded,
    "permission": Unavailable,
    "cancelled": Cancelled,
    "unknown": UnknownOutcome,
}


def class_of(code: str) -> type[HeadraceError]:
    """The exception class for an error code of the native half."""
    return _CLASSES.get(code, HeadraceError)
