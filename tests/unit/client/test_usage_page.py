"""The report as a page: whole by itself, well formed, and whatever names hold stays text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from strongroom.calls.audit.usage import UsageRow
from strongroom.cli.usage_page import Usage, page
from strongroom.names import Names

START = datetime(2026, 11, 1, tzinfo=UTC)
NASTY = "accounts/acme/keys/<script>alert(1)</script>"


def row(*values: str, count: int) -> UsageRow:
    return UsageRow(list(values), count, count * 2, START, START + timedelta(hours=1))


def made(by_time: list[UsageRow]) -> str:
    usage = Usage(
        START,
        START + timedelta(days=7),
        "day",
        by_time,
        [row(NASTY, "ALLOWED", count=30), row(NASTY, "DENIED", count=10), row("", "FAILED", count=1)],
        [row("accounts/acme/users/ann", "ALLOWED", count=41)],
    )
    return page(Names("acme"), usage, ["resource", "outcome"], [row(NASTY, "ALLOWED", count=30)])


BY_DAY = [row("2026-11-03T00:00:00Z", "ALLOWED", count=30), row("2026-11-03T00:00:00Z", "DENIED", count=10)]


def test_every_plot_is_well_formed_and_shows_what_was_counted() -> None:
    text = made(BY_DAY)
    plots = [ElementTree.fromstring(plot) for plot in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314  # our own
    assert len(plots) == 3
    columns = list(plots[0].iter("rect"))
    assert [rect.get("class") for rect in columns] == ["ALLOWED", "DENIED"]
    heights = [float(str(rect.get("height"))) for rect in columns]
    assert heights[0] == 3 * heights[1]
    assert "2026-11-03 00:00Z: 30 allowed" in [title.text for title in plots[0].iter("title")]
    assert [title.text for title in plots[1].iter("title")] == [NASTY.removeprefix("accounts/acme/"), "none"]
    assert "<b>40</b>events" in text


def test_it_fetches_and_runs_nothing() -> None:
    text = made(BY_DAY)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"(src|href)=|url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_a_period_without_a_use_is_a_page_too() -> None:
    text = made([])
    assert "<b>0</b>events" in text
    assert text.count("<svg") == 3
