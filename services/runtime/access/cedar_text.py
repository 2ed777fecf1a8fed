"""Policy texts, taken apart by Cedar's own parser, whatever they hold.

Cedar's parser descends as deep as a text nests, beyond the end of its thread's stack, and writes a chain such as
`has a.b.c` as JSON of the square of its length. Both would end the process, so that what could make it happen is
counted in the text first, never less than there is of it, and the parser gets a stack that is large enough for it.
What a policy says is read from Cedar's JSON alone.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import cedarpy

Json = dict[str, Any]
T = TypeVar("T")

MAX_BYTES = 32_768
MAX_BRACKETS = 2_048
"""Opening brackets in a text, wherever they stand: it cannot nest deeper."""
MAX_CHAIN = 64
"""Attributes joined by dots, as in `context has a.b.c`."""

# Measured: a level of brackets takes 14 KB, one of `if` 2.2 KB, one of `.` or `||` 0.6 KB; 32,768 bytes have 2,200 of
# the second or 16,000 of the third.
_STACK_BYTES = 64 * 1024 * 1024
# What needs less than 2 MB is parsed where it is asked for.
_SHORT_BYTES = 2_048
_FEW_BRACKETS = 64

_OPENING = re.compile(r"[(\[{]")
_COMMENT = re.compile(r"//[^\n]*")
# What a chain of attributes has none of, outside of comments. A `//` within a string is taken for a comment, which
# joins what is no chain: more is counted then.
_NO_CHAIN = re.compile(r"[^\w.\s]")
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_DEEPEST_READ = 400
_CUT = '{"Cut":0}'
# Of the year 9999.
_LAST_SECOND = 253_402_300_799

_starting = threading.Lock()


class PolicyUnreadableError(Exception):
    """Why Cedar cannot take a text apart, or is not asked to."""


class TextTooLargeError(PolicyUnreadableError):
    """The text has more than Cedar's parser is given."""


class TemplatesError(PolicyUnreadableError):
    """The text has templates, which authorize nothing by themselves."""

    def __init__(self) -> None:
        super().__init__("templates are not supported")


def statements(cedar: str) -> list[Json]:
    """The statements of a text in Cedar's JSON format, in the order of the text. Raises PolicyUnreadableError.

    Parts that nest deeper than 400 levels of JSON are left out of it, as `{"Cut": 0}`.
    """
    _require_parsable(cedar)
    if _is_short(cedar):
        return _statements(cedar)
    return with_deep_stack(lambda: _statements(cedar))


def with_deep_stack(work: Callable[[], T]) -> T:
    """Does what descends as deep as a text nests, on a thread whose stack is large enough for that."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001  # raised again where it was asked for
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="cedar", daemon=True)
    with _starting:
        before = threading.stack_size(_STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    return outcome.result()


def _require_parsable(cedar: str) -> None:
    size = len(cedar.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise TextTooLargeError(f"is longer than {MAX_BYTES} bytes")
    if len(_OPENING.findall(cedar)) > MAX_BRACKETS:
        raise TextTooLargeError(f"has more than {MAX_BRACKETS} opening brackets")
    if "has" in cedar and _longest_chain(cedar) > MAX_CHAIN:
        raise TextTooLargeError(f"joins more than {MAX_CHAIN} attributes by dots")


def _is_short(cedar: str) -> bool:
    return len(cedar) <= _SHORT_BYTES and len(_OPENING.findall(cedar)) <= _FEW_BRACKETS


def _longest_chain(cedar: str) -> int:
    """At least as many dots as the longest chain of attributes has."""
    bare = _COMMENT.sub(lambda comment: "." * comment[0].count("."), cedar)
    return max(run.count(".") for run in _NO_CHAIN.split(bare))


def _statements(cedar: str) -> list[Json]:
    try:
        text = cedarpy.policies_to_json_str(cedar)
    except ValueError as error:
        raise PolicyUnreadableError(str(error)) from None
    try:
        parsed = json.loads(text)
    except RecursionError:
        parsed = json.loads(_cut(text))
    if parsed["templates"] or parsed["templateLinks"]:
        raise TemplatesError
    return list(parsed["staticPolicies"].values())


def _cut(text: str) -> str:
    """Cedar's JSON without what nests too deep for Python to read."""
    return "".join(_shallow(text))


def _shallow(text: str) -> Iterator[str]:
    depth, kept_to = 0, 0
    for found in _STRING_OR_BRACKET.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth == _DEEPEST_READ:
                yield text[kept_to : found.start()]
        elif bracket in "]}":
            if depth == _DEEPEST_READ:
                yield _CUT
                kept_to = found.end()
            depth -= 1
    yield text[kept_to:]


def datetime_text(seconds: float) -> str:
    """A time in the one form that Cedar takes."""
    year, *parts = time.gmtime(min(seconds, _LAST_SECOND))[:6]
    return f"{year:04}-{parts[0]:02}-{parts[1]:02}T{parts[2]:02}:{parts[3]:02}:{parts[4]:02}Z"
