"""Results as people read them: tables and lists of facts, which never wrap and never show how Python writes values."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from strongroom.cli.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLOURS = {
    "OK": "32",
    "ENABLED": "32",
    "ALLOWED": "32",
    "SUCCEEDED": "32",
    "DEGRADED": "33",
    "DISABLED": "33",
    "PENDING_DELETION": "33",
    "PENDING_DESTRUCTION": "33",
    "FAILED": "33",
    "DENIED": "31",
    "DOWN": "31",
    "DESTROYED": "31",
}
_DIM = "2"
_GAP = "  "
_LEAST_PROSE = 12
_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


@dataclass(frozen=True, slots=True)
class Look:
    """How results are written: `width` is the terminal's, None where lines may be as long as they get."""

    width: int | None = None
    colour: bool = False
    local_times: bool = False

    @classmethod
    def of_output(cls, *, wide: bool = False) -> Look:
        """What suits standard output: a pipe and `wide` get whole lines, and a pipe gets times in UTC and no colour."""
        if not sys.stdout.isatty():
            return cls()
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(None if wide else shutil.get_terminal_size().columns, not plain, local_times=True)

    def painted(self, text: str, colour: str) -> str:
        """The text in a colour, where there are colours."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour and colour and text else text


class Shown:
    """Something that people read as lines."""

    def lines(self, look: Look) -> list[str]:
        """The lines, without their ends."""
        raise NotImplementedError

    def __rich_console__(self, console: object, options: object) -> Iterator[Any]:
        from rich.text import Text

        yield from (Text(line) for line in self.lines(Look()))


@dataclass(frozen=True, slots=True)
class Table(Shown):
    """Rows under headings. A terminal that is too narrow shows the columns of `prose` in part, and nothing else: ids,
    names and values are copied and searched for."""

    headings: Sequence[str]
    rows: Sequence[Sequence[object]]
    prose: Sequence[str] = ()

    def lines(self, look: Look) -> list[str]:
        """A line for the headings, and one or more for each row."""
        cells = [[_cell_lines(value, look) for value in row] for row in self.rows]
        headings = [visible(heading) for heading in self.headings]
        widths = [
            max(width(heading), *(width(line) for row in cells for line in row[column]), 0)
            for column, heading in enumerate(headings)
        ]
        self._narrow(widths, look.width)
        printed = [look.painted(_aligned(headings, widths), _DIM)]
        for row in cells:
            for number in range(max(map(len, row), default=0)):
                texts = [lines[number] if number < len(lines) else "" for lines in row]
                printed.append(_aligned(texts, widths, look))
        return printed

    def _narrow(self, widths: list[int], most: int | None) -> None:
        if most is None:
            return
        for column in reversed(range(len(widths))):
            excess = sum(widths) + len(_GAP) * (len(widths) - 1) - most
            if excess > 0 and self.headings[column] in self.prose:
                least = max(_LEAST_PROSE, width(self.headings[column]))
                widths[column] = max(min(widths[column], least), widths[column] - excess)


@dataclass(frozen=True, slots=True)
class Facts(Shown):
    """One thing's fields, a line each; what is empty is left out."""

    pairs: Mapping[str, object]

    def lines(self, look: Look) -> list[str]:
        """A line for each field, more where its text has more."""
        there = {visible(name): value for name, value in self.pairs.items() if not is_empty(value)}
        indent = max(map(width, there), default=0)
        printed = []
        for name, value in there.items():
            first, *others = _cell_lines(value, look)
            printed.append(f"{look.painted(_padded(name, indent), _DIM)}{_GAP}{look.painted(first, _colour(first))}")
            printed += [f"{' ' * indent}{_GAP}{line}" for line in others]
        return printed


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, prose: Sequence[str] = ()) -> Table:
    """Rows under headings, without lines; names of states get their colour."""
    return Table(headings, list(rows), prose)


def facts(pairs: Mapping[str, object]) -> Facts:
    """One thing's fields, a line each; what is empty is left out."""
    return Facts(pairs)


def is_empty(value: object) -> bool:
    """Whether a value says nothing."""
    return value is None or (isinstance(value, str | bytes | Mapping | list | tuple) and not value)


def text_of(value: object, look: Look | None = None) -> str:
    """A value as people write it: yes and no, `a, b`, `name=value`, `30d`, times with their zone, bytes in base64."""
    look = look or Look()
    text = _text_of_one(value, look)
    if text is not None:
        return text
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        pairs = [(str(name), item) for name, item in value.items() if not is_empty(item)]
        return ", ".join(f"{name}={_within(item, look)}" for name, item in sorted(pairs))
    if isinstance(value, Iterable):
        return ", ".join(_within(item, look) for item in value)
    return str(value)


def time_text(time: datetime, *, local: bool = False) -> str:
    """`2026-11-24 02:25:00Z`, or with the offset of this machine's zone."""
    if not local:
        return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return time.astimezone().isoformat(" ", "seconds")


def span_text(span: timedelta) -> str:
    """`30d`, `1h 30m`, `0s`: what options take."""
    parts, rest = [], int(abs(span.total_seconds()))
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return ("-" if span < timedelta() else "") + (" ".join(parts) or "0s")


def duration(seconds: float) -> str:
    """`3d 4h`, `12m 5s`, `350ms`: the two largest units, or parts of a second."""
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    return " ".join(span_text(timedelta(seconds=int(seconds))).split()[:2])


def size_text(count: int) -> str:
    """`17 bytes`, `3.5 MiB`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


def _text_of_one(value: object, look: Look) -> str | None:
    """The text of what is no collection; None of what is one."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return time_text(value, local=look.local_times)
    if isinstance(value, timedelta):
        return span_text(value)
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return None


def _within(value: object, look: Look) -> str:
    """An item of a collection; one that is a collection itself stands in braces."""
    text = text_of(value, look)
    inner = isinstance(value, Mapping | list | tuple) or dataclasses.is_dataclass(value)
    return f"{{{text}}}" if inner else text


def _cell_lines(value: object, look: Look) -> list[str]:
    return visible(text_of(value, look), lines=True).split("\n")


def _aligned(texts: Sequence[str], widths: Sequence[int], look: Look | None = None) -> str:
    parts = []
    for text, most in zip(texts, widths, strict=True):
        shown = text if width(text) <= most else f"{_cut(text, most - 1)}…"
        padding = " " * (most - width(shown))
        parts.append((look.painted(shown, _colour(text)) if look else shown) + padding)
    return _GAP.join(parts).rstrip()


def _cut(text: str, most: int) -> str:
    while width(text) > most:
        text = text[:-1]
    return text


def _padded(text: str, most: int) -> str:
    return text + " " * (most - width(text))


def _colour(text: str) -> str:
    return _COLOURS.get(text, "")
