"""A report of use as one HTML page: plots are SVG in the page, nothing is fetched, nothing is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape

from strongroom.calls.audit.usage import UsageRow
from strongroom.cli.tables import time_text
from strongroom.names import Names

_OUTCOMES = ("ALLOWED", "DENIED", "FAILED")
_WIDTH, _HEIGHT, _MARGIN = 960, 220, 44
_BAR_HEIGHT, _LABEL_WIDTH, _TOP = 22, 320, 12
_STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

_STYLE = """
:root { color-scheme: light dark; --ALLOWED: #2a9d57; --DENIED: #d1383d; --FAILED: #d99a17; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.totals { display: flex; gap: 2rem; } .totals b { display: block; font-size: 1.6rem; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
.ALLOWED { fill: var(--ALLOWED); } .DENIED { fill: var(--DENIED); } .FAILED { fill: var(--FAILED); }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); } td.number { text-align: right; }
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the plots show: uses by time, by resource and by principal, each with the outcome as second value.

    `step` is `hour` or `day`.
    """

    start: datetime
    end: datetime
    step: str
    by_time: Sequence[UsageRow]
    by_resource: Sequence[UsageRow]
    by_principal: Sequence[UsageRow]


Counts = Mapping[str, Mapping[str, int]]


def page(names: Names, usage: Usage, dimensions: Sequence[str], rows: Sequence[UsageRow]) -> str:
    """The whole page."""
    totals: Counter[str] = Counter()
    for row in usage.by_time:
        totals[row.values[1]] += row.event_count
    period = f"{time_text(usage.start)} to {time_text(usage.end)}"
    legend = "".join(
        f'<span class="key" style="background: var(--{outcome})"></span>{outcome.lower()}' for outcome in _OUTCOMES
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Use, {escape(period)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Use of {escape(names.account)}</h1><p>{escape(period)}</p>",
        f'<p class="totals"><span><b>{totals.total():,}</b>events</span>',
        *(f"<span><b>{totals[outcome]:,}</b>{outcome.lower()}</span>" for outcome in _OUTCOMES),
        f"</p><p>{legend}</p>",
        f"<h2>By {usage.step}</h2>{_columns(usage)}",
        f"<h2>Resources used most</h2>{_bars(_counts(usage.by_resource), names)}",
        f"<h2>Principals that called most</h2>{_bars(_counts(usage.by_principal), names)}",
        f"<h2>By {escape(', '.join(dimensions))}</h2>{_table(names, dimensions, rows)}",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _counts(rows: Iterable[UsageRow]) -> Counts:
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        counts.setdefault(row.values[0], {})[row.values[1]] = row.event_count
    return counts


def _columns(usage: Usage) -> str:
    """A column for each hour or day, empty ones too."""
    counts = _counts(usage.by_time)
    step = _STEPS[usage.step]
    at = usage.start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if usage.step == "day":
        at = at.replace(hour=0)
    moments = []
    while at < usage.end:
        moments.append(at)
        at += step
    highest = max((sum(of.values()) for of in counts.values()), default=0) or 1
    width = (_WIDTH - _MARGIN) / max(len(moments), 1)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Events by {usage.step}">']
    parts.append(f'<text x="0" y="12">{highest:,}</text><text x="0" y="{_HEIGHT - 24}">0</text>')
    for number, moment in enumerate(moments):
        of = counts.get(moment.strftime("%Y-%m-%dT%H:00:00Z"), {})
        bottom = float(_HEIGHT - 24)
        for outcome in _OUTCOMES:
            height = of.get(outcome, 0) * (_HEIGHT - 34) / highest
            bottom -= height
            if height:
                title = escape(f"{moment:%Y-%m-%d %H:%MZ}: {of[outcome]:,} {outcome.lower()}")
                parts.append(
                    f'<rect class="{outcome}" x="{_MARGIN + number * width:.1f}" y="{bottom:.1f}" '
                    f'width="{max(width - 1, 1):.1f}" height="{height:.1f}"><title>{title}</title></rect>'
                )
    for number in sorted({0, len(moments) // 2, len(moments) - 1}) if moments else ():
        label = moments[number].strftime("%m-%d %H:%MZ" if usage.step == "hour" else "%Y-%m-%d")
        anchor = "end" if number and number == len(moments) - 1 else "start"
        parts.append(
            f'<text x="{_MARGIN + number * width:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{label}</text>'
        )
    return "".join((*parts, "</svg>"))


def _bars(counts: Counts, names: Names) -> str:
    """A bar for each of those that come most often."""
    most = sorted(counts, key=lambda name: (-sum(counts[name].values()), name))[:_TOP]
    highest = sum(counts[most[0]].values()) if most else 1
    height = len(most) * _BAR_HEIGHT or _BAR_HEIGHT
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">']
    for number, name in enumerate(most):
        y, x = number * _BAR_HEIGHT, float(_LABEL_WIDTH)
        label = names.relative(name) or "none"
        shown = label if len(label) <= 46 else f"…{label[-45:]}"
        parts.append(f'<text x="0" y="{y + 15}"><title>{escape(label)}</title>{escape(shown)}</text>')
        for outcome in _OUTCOMES:
            width = counts[name].get(outcome, 0) * (_WIDTH - _LABEL_WIDTH - 80) / highest
            if width:
                parts.append(
                    f'<rect class="{outcome}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{_BAR_HEIGHT - 6}"/>'
                )
                x += width
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{sum(counts[name].values()):,}</text>')
    return "".join((*parts, "</svg>"))


def _table(names: Names, dimensions: Sequence[str], rows: Sequence[UsageRow]) -> str:
    headings = "".join(f"<th>{escape(name)}</th>" for name in (*dimensions, "events", "items", "first", "last"))
    lines = []
    for row in rows:
        cells = [f"<td>{escape(names.relative(value))}</td>" for value in row.values]
        cells += [f'<td class="number">{count:,}</td>' for count in (row.event_count, row.item_count)]
        cells += [f"<td>{time_text(time)}</td>" if time else "<td></td>" for time in (row.first_time, row.last_time)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{headings}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
