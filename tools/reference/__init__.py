"""The reference pages of the documentation, each made from what it describes, so that none can be out of date."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tools.reference import configuration, errors, events, grpc_contracts, metrics, python_client

PAGES: Mapping[str, Callable[[], str]] = {
    "reference/python.md": python_client.page,
    "reference/errors.md": errors.page,
    "reference/configuration.md": configuration.page,
    "reference/metrics.md": metrics.page,
    "reference/events.md": events.page,
    **grpc_contracts.pages(),
}
"""What writes each page, by its path below docs/."""
