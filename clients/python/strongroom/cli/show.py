"""What moves on a terminal, and trees: all that needs rich, which takes its time to load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from strongroom.cli.tables import duration, facts, size_text, table
from strongroom.cli.terminal import visible

__all__ = ["console", "duration", "facts", "progress", "size_text", "table"]


class _Console(Console):
    """A console whose own control sequences are the only ones, whatever it is given to print."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Prints as rich does, with the control characters of texts escaped."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text, lines=True), segment.style)


def console(*, stderr: bool = False) -> Console:
    """A console that prints what it is given: no markup is read from names and values, and no control sequence."""
    return _Console(stderr=stderr, markup=False, highlight=False, emoji=False)


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
