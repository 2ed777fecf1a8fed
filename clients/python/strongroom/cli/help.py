"""`strongroom help`: topics, and the help of commands."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any

import typer

from strongroom.cli.command import Report, Session, command
from strongroom.cli.tables import table
from strongroom.cli.topics import TOPICS
from strongroom.reasons import EXPLANATIONS, Explanation


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    command(app, "help", "strongroom help exit-codes", "strongroom help key create", "strongroom help KEY_DISABLED")(
        show_help
    )


def _topics() -> list[str]:
    return list(TOPICS)


def show_help(
    session: Session,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TOPIC",
            help="A topic, the words of a command, or a reason such as KEY_DISABLED.",
            autocompletion=_topics,
        ),
    ] = None,
) -> Report:
    """Explain a topic, a command, or the reason of an error; list the topics where none is given."""
    del session
    if not words:
        rows = [(name, title) for name, (title, _) in TOPICS.items()]
        found = {"topics": [{"name": name, "title": title} for name, title in rows]}
        return Report(found, lambda: table(("topic", "about"), rows))
    name = "-".join(words)
    if name in TOPICS:
        title, text = TOPICS[name]
        return Report({"name": name, "title": title, "text": text}, lambda: f"{title}\n\n{text}")
    if name in EXPLANATIONS:
        return _explained(EXPLANATIONS[name])
    text = _help_of(words)
    return Report({"name": " ".join(words), "text": text}, lambda: text)


def _explained(told: Explanation) -> Report:
    document = {"name": told.reason, "about": told.subject, "cause": told.cause, "cure": told.cure}
    return Report(document, lambda: f"{told.reason}\n\n{told.cause}\n{told.cure}")


def _help_of(words: list[str]) -> str:
    from typer.main import get_command

    from strongroom.cli.app import app

    found: Any = get_command(app)
    context = found.make_context("strongroom", [], resilient_parsing=True)
    for word in words:
        following = found.get_command(context, word) if hasattr(found, "get_command") else None
        if following is None:
            near = get_close_matches(
                word, [*TOPICS, *(found.list_commands(context) if hasattr(found, "list_commands") else [])], 3
            )
            hint = f"did you mean {' or '.join(near)}?" if near else "`strongroom help` lists the topics"
            raise typer.BadParameter(f"there is neither a topic nor a command '{word}': {hint}", param_hint="TOPIC")
        context = following.make_context(word, [], parent=context, resilient_parsing=True)
        found = following
    text: str = found.get_help(context)
    return text
