"""What was wrong with a file or a text, in words of ours: those of Python and of its libraries say little to others."""

from __future__ import annotations

import json


def cause_of(error: Exception) -> str:
    """Why something could not be opened or read."""
    if isinstance(error, OSError):
        return error.strerror or "it cannot be read"
    if isinstance(error, UnicodeError):
        return "it is not text in UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON at line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "it has too many parts within parts"
    return str(error)
