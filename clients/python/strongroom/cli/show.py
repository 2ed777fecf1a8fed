"""Results as people read them: tables and lists, in colour where the terminal has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from strongroom.cli.terminal import visible

_STYLES = {
    "OK": "green",
    "ENABLED": "green",
    "ALLOWED": "green",
    "DEGRADED": "yellow",
    "DISABLED": "yellow",
    "PENDING_DELETION": "yellow",
    "FAILED": "yellow",
    "DENIED": "red",
    "DOWN": "red",
    "DESTROYED": "red",
}


class _Console(Console):
    """A console whose own control sequences are the only ones, whatever it is given to print."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Prints as rich does, with the control characters of texts escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, lines=True), segment.style)


def console(*, stderr: bool = False) -> Console:
    """A console that prints what it is given: no markup is read from names and values, and no control sequence."""
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Rows under headings, without lines; names of states get their colour."""
    result = Table(box=None, pad_edge=False, header_style="dim")
    for heading in headings:
        result.add_column(heading, overflow="fold")
    for row in rows:
        result.add_row(*(cell(value) for value in row))
    return result


def facts(pairs: Mapping[str, object]) -> Table:
    """One thing's fields, a line each; what is empty is left out."""
    result = Table.grid(padding=(0, 2))
    result.add_column(style="dim")
    result.add_column(overflow="fold")
    for name, value in pairs.items():
        if value not in ("", None, {}, (), []):
            result.add_row(name, cell(value))
    return result


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, moved by telling how much is done and of how much; none where it is to be `quiet`."""
    if quiet:
        yield lambda *_: None
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bars:
        task = bars.add_task(what)
        yield lambda done, of: bars.update(task, completed=done, total=of)


def cell(value: object) -> Text:
    """A value as it stands in a table."""
    if isinstance(value, datetime):
        return Text(value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ"))
    if isinstance(value, Mapping):
        return Text(visible(", ".join(f"{key}={item}" for key, item in sorted(value.items()))))
    if value is None:
        return Text("")
    # Here too, so that columns are as wide as what is shown.
    text = visible(str(value), lines=True)
    return Text(text, style=_STYLES.get(text, ""))


def duration(seconds: float) -> str:
    """`3d 4h`, `12m 5s`, `350ms`: the two largest units, or parts of a second."""
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    parts = []
    rest = int(seconds)
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def size_text(count: int) -> str:
    """`17 bytes`, `3.5 MiB`."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
