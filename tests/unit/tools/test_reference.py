"""Reference pages name everything that they are about, and describe it."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from services.runtime.config import ServiceSettings
from services.runtime.errors import Reason
from tools.reference import PAGES, configuration, errors, events, grpc_contracts, metrics, python_client
from tools.reference.contracts import contracts

ROOT = Path(__file__).parents[3]


def test_every_reason_has_a_code_a_cause_and_a_cure() -> None:
    page = errors.page()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", page, re.MULTILINE))
    assert {reason.value for reason in Reason} - rows.keys() == set()
    assert [reason for reason, row in rows.items() if len(row.split(" | ")) != 3] == []


def test_every_method_and_message_of_the_contracts_has_a_place() -> None:
    pages = {f"strongroom.{name}.v1": grpc_contracts.page(name) for name in grpc_contracts.PACKAGES}
    assert {contract.package for contract in contracts()} == pages.keys()
    for contract in contracts():
        page = pages[contract.package]
        for _, service in contract.services():
            assert all(f"### {service.name}.{method.name}\n" in page for method in service.method)
        for _, name, _ in contract.messages():
            assert f"{{#{name.lower().replace('.', '-')}}}" in page


def test_links_between_contracts_lead_to_messages() -> None:
    pages = {f"{name}.md": grpc_contracts.page(name) for name in grpc_contracts.PACKAGES}
    links = [link for page in pages.values() for link in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", page)]
    assert len(links) > 300
    assert [link for link in links if f"{{#{link[1]}}}" not in pages[link[0]]] == []


def test_every_key_of_the_configuration_is_named_and_described() -> None:
    page = configuration.page()
    for section in ServiceSettings.model_fields:
        assert f"### `[{section}]`" in page
    for section in ("database", "redis", "provider", "log", "log.[witnesses]", "rotation.[targets]", "oidc"):
        assert f"### `[{section}]`" in page
    assert re.findall(r"^\| (`\w+`) \|.*\|  \|$", page, re.MULTILINE) == []


def test_every_process_that_reads_a_configuration_is_listed() -> None:
    modules = sorted((ROOT / "services").rglob("settings.py"))
    found = {
        match[1]
        for path in modules
        for match in re.finditer(r"^class (\w+)\((?:BaseSettings|ServiceSettings)\)", path.read_text(), re.MULTILINE)
    }
    assert found == {settings.__name__ for settings in configuration.SERVICES.values()}


def test_metrics_are_found_where_they_are_made() -> None:
    found = {metric.name: metric for metric in metrics.found()}
    assert {"rpc.server.duration", "audit.log.unpublished", "hsm.calls", "secrets.rotation.ended"} <= found.keys()
    assert [name for name, metric in found.items() if not metric.description] == []
    # Pages that name a metric name one that there is.
    named = re.findall(r"metrics? `([a-z_.]+)`", (ROOT / "docs/operations.md").read_text())
    assert set(named) <= found.keys()


def test_a_metric_whose_name_is_made_up_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text('meter.create_counter(f"{service}.calls")\n')
    with pytest.raises(metrics.UnreadableMetricError):
        metrics.found(tmp_path)


def test_every_action_of_the_schema_is_listed() -> None:
    schema = (ROOT / "services/keystore/access/policies/strongroom.cedarschema").read_text()
    actions = set(re.findall(r'"((?:crypto|keystore|secrets|access|audit):\w+)"', schema))
    assert len(actions) > 100
    page = events.page()
    assert [action for action in actions if f"| `{action}` |" not in page] == []


def test_every_part_of_the_client_is_found_and_can_be_imported() -> None:
    parts = dict(python_client.parts())
    assert {
        "client.keys",
        "client.keys.aliases",
        "client.secrets",
        "client.access.grants",
        "client.audit.events",
    } <= set(parts)
    for name in parts.values():
        module, _, part = name.rpartition(".")
        assert getattr(import_module(module), part).__doc__


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_a_title_and_no_hole(path: str) -> None:
    text = PAGES[path]()
    assert text.startswith("# ")
    assert "| None |" not in text
