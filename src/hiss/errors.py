"""What goes wrong, said in one sentence: what came, what was expected, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class HissError(Exception):
    """The work failed for a reason the user can act on (exit status 1 on the command line)."""


class UsageError(HissError):
    """hiss was asked for something that it cannot mean (exit status 2 on the command line)."""


class MissingPackageError(HissError):
    """A package that only some of hiss needs is not installed; the sentence says how to install it."""


def unknown(what: str, came: object, valid: Iterable[str]) -> UsageError:
    """Returns the error for a name that is not among the valid ones; suggests the nearest."""
    names = sorted(valid)
    near = get_close_matches(str(came), names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return UsageError(f"unknown {what} {came!r}{hint}; valid are: {', '.join(names) or 'none'}")
