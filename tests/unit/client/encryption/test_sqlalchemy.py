"""Encrypted columns, and a blind index to search them by."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import LargeBinary, column, create_engine, literal, select, table, text, type_coerce
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from strongroom.calls.crypto.signatures import Mac
from strongroom.encryption import DataKeyCache, EncryptionClient
from strongroom.encryption.adapters.sqlalchemy_types import (
    BlindIndex,
    EncryptedBytes,
    EncryptedJson,
    EncryptedText,
    Index,
)
from strongroom.errors import StrongroomError
from tests.support.mesh_keys import MeshKeys


class Macs:
    calls = 0

    def generate_mac(self, key: str, message: bytes) -> Mac:
        self.calls += 1
        return Mac(hmac.digest(key.encode(), message, "sha256"), f"{key}/versions/1", "HMAC_SHA_256", "event")


def tables(encryption: EncryptionClient, index: Index) -> Any:
    class Base(DeclarativeBase):
        pass

    class Customer(Base):
        __tablename__ = "customers"
        id: Mapped[int] = mapped_column(primary_key=True)
        email: Mapped[str | None] = mapped_column(EncryptedText(encryption, {"column": "email"}))
        email_index: Mapped[str | None] = mapped_column(BlindIndex(index), index=True)
        photo: Mapped[bytes | None] = mapped_column(EncryptedBytes(encryption, {"column": "photo"}))
        notes: Mapped[Any] = mapped_column(EncryptedJson(encryption, {"column": "notes"}), nullable=True)

    return Customer


def test_values_are_encrypted_searched_for_and_read() -> None:
    mesh, macs = MeshKeys(), Macs()
    encryption = EncryptionClient(mesh, keys="payments", cache=DataKeyCache())
    customer = tables(encryption, Index(macs, "search", "customers.email", normalized=str.casefold))
    engine = create_engine("sqlite://")
    customer.metadata.create_all(engine)
    with Session(engine) as session:
        for name in ("a@x", "b@x", "c@x"):
            session.add(customer(email=name, email_index=name, photo=b"\xff", notes={"likes": [1]}))
        session.add(customer())
        session.commit()
        found = session.scalars(select(customer).where(customer.email_index == "B@X")).one()
        assert (found.email, found.photo, found.notes) == ("b@x", b"\xff", {"likes": [1]})
        assert session.scalars(select(customer).where(customer.email_index == "d@x")).all() == []
        empty = session.scalars(select(customer).where(customer.email.is_(None))).one()
        assert (empty.photo, empty.notes) == (None, None)
        stored = session.execute(text("select email, email_index from customers where id = 1")).one()
        assert b"a@x" not in stored.email
        assert len(stored.email_index) == 16
        session.execute(text("update customers set photo = email where id = 1"))
        session.commit()
        with pytest.raises(StrongroomError) as refused:
            session.scalars(select(customer).where(customer.id == 1)).one()
        assert refused.value.reason == "CONTEXT_MISMATCH"
    assert macs.calls == 1
    assert mesh.calls < 10
    engine.dispose()


def test_a_statement_that_is_kept_serves_no_other_context_key_or_index() -> None:
    mesh, engine = MeshKeys(), create_engine("sqlite://")
    tenants: dict[str, Any] = {
        name: EncryptedText(EncryptionClient(mesh, keys=key), {"tenant": name})
        for name, key in (("a", "payments"), ("b", "payments"), ("c", "orders"))
    }
    indices = [BlindIndex(Index(Macs(), "search", name)) for name in tenants]
    with engine.begin() as connection:
        connection.execute(text("create table t (tenant text, v blob, i blob)"))
        for (name, of_tenant), index in zip(tenants.items(), indices, strict=True):
            into = table("t", column("tenant"), column("v", of_tenant), column("i", index))
            connection.execute(into.insert().values(tenant=name, v=name, i="same"))
        stored = table("t", column("tenant"), column("v", LargeBinary), column("i", LargeBinary))
        assert len({row.i for row in connection.execute(select(stored))}) == 3
        for name, of_tenant in tenants.items():
            assert connection.scalar(select(literal(name, of_tenant))) == name
            own = select(type_coerce(stored.c.v, of_tenant)).where(stored.c.tenant == name)
            assert connection.scalar(own) == name
            others = select(type_coerce(stored.c.v, of_tenant)).where(stored.c.tenant != name)
            with pytest.raises(StrongroomError):
                connection.scalar(others)
    engine.dispose()


def test_indices_of_other_names_have_nothing_in_common() -> None:
    assert Index(Macs(), "search", "a").entry("v") == Index(Macs(), "search", "a").entry("v")
    entries = {Index(Macs(), key, name).entry("v") for key in ("search", "other") for name in ("a", "b")}
    assert len(entries) == 4
    with pytest.raises(StrongroomError):
        Index(Macs(), "search", "a", size=4)


def test_a_comparison_that_would_find_nothing_is_refused() -> None:
    customer = tables(EncryptionClient(MeshKeys(), keys="payments"), Index(Macs(), "search", "customers.email"))
    comparisons: list[Callable[[], object]] = [
        lambda: customer.email == "a@x",
        lambda: customer.email != "a@x",
        lambda: customer.email.in_(["a@x"]),
        lambda: customer.email.like("a%"),
        lambda: "a" + customer.email,
        lambda: customer.notes == {},
    ]
    for compared in comparisons:
        with pytest.raises(ArgumentError, match="BlindIndex"):
            compared()
    for allowed in (customer.email.is_(None), customer.email.is_not(None), customer.email == None):  # noqa: E711
        assert "NULL" in str(select(customer).where(allowed))
