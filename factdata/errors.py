"""The one error that a person can mend, and reading files a person wrote.

Recipes print an InputError as a single line and exit with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Bad input. The message is one line that carries the numbers and the way out."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the closest known word, else the known words themselves."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def read_text(path: Path) -> str:
    """A UTF-8 text file, with or without the mark that some editors put first."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_lines(path: Path) -> list[str]:
    """Its lines. Only a newline ends one: rarer separators may be part of a value."""
    return read_text(path).removesuffix("\n").split("\n")
