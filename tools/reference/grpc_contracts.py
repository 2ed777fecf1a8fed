"""The gRPC contracts, a page for each package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from tools.reference.contracts import Contract, contracts, field_path, method_path, type_of, value_path
from tools.reference.markdown import code, document, table

PACKAGES = ("access", "audit", "crypto", "keystore", "runtime", "secrets")


def pages() -> Mapping[str, Callable[[], str]]:
    """What writes each page, by its path."""
    return {f"reference/grpc/{name}.md": partial(page, name) for name in PACKAGES}


def page(name: str) -> str:
    """The page of a package."""
    package = f"strongroom.{name}.v1"
    return document(package, _lines([one for one in contracts() if one.package == package]))


def _lines(files: list[Contract]) -> Iterator[str]:
    for contract in files:
        for path, service in contract.services():
            yield f"## {service.name}"
            yield ""
            yield contract.comment(*path)
            yield ""
            for index, method in enumerate(service.method):
                streams = "stream " if method.server_streaming else ""
                yield f"### {service.name}.{method.name}"
                yield ""
                yield f"{_linked(method.input_type.lstrip('.'))} → {streams}{_linked(method.output_type.lstrip('.'))}"
                yield ""
                yield contract.comment(*method_path(path, index))
                yield ""
    yield "## Messages"
    yield ""
    for contract in files:
        yield from _messages(contract)
    yield "## Enumerations"
    yield ""
    for contract in files:
        yield from _enums(contract)


def _messages(contract: Contract) -> Iterator[str]:
    for path, name, message in contract.messages():
        yield from _heading(contract, name)
        yield contract.comment(*path)
        yield ""
        if message.field:
            yield from table(
                ("field", "type", "what"),
                (
                    (code(one.name), _linked(type_of(message, one)), contract.comment(*field_path(path, index)))
                    for index, one in enumerate(message.field)
                ),
            )


def _enums(contract: Contract) -> Iterator[str]:
    for path, name, enum in contract.enums():
        yield from _heading(contract, name)
        yield contract.comment(*path)
        yield ""
        yield from table(
            ("value", "number", "what"),
            (
                (code(value.name), str(value.number), contract.comment(*value_path(path, index)))
                for index, value in enumerate(enum.value)
            ),
        )


def _heading(contract: Contract, name: str) -> Iterator[str]:
    short = name.removeprefix(f"{contract.package}.")
    yield f"### {short} {{#{_anchor(name)}}}"
    yield ""


def _linked(kind: str) -> str:
    """A type, which leads to where it is described if that is on one of these pages."""
    before, _, name = kind.rpartition(" ")
    parts = name.split(".")
    if len(parts) < 4 or parts[0] != "strongroom":
        return code(kind)
    link = f"[`{'.'.join(parts[3:])}`]({parts[1]}.md#{_anchor(name)})"
    return f"{before} {link}" if before else link


def _anchor(name: str) -> str:
    return name.lower().replace(".", "-")
