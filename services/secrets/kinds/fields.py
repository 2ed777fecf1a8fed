"""Checks of the fields that targets have, for the types of secrets to choose from."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.runtime.errors import StrongroomError, invalid, required, too_large
from services.runtime.outside import key_screening
from services.runtime.outside.key_screening import KeyRefusedError
from services.runtime.requests import names
from services.secrets.kinds.texts import is_plain
from strongroom.secrets.v1.target_pb2 import TARGET_TLS_DISABLED, TargetAddress, TargetTls

STEP_SECONDS = (1, 60)
"""From how much to how much time a target may say that an answer takes."""

_CA_BYTES = 65_536
_MAX_PORT = 65_535
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?|\[?[0-9a-fA-F:]{2,45}\]?")
_ADDRESS = re.compile(r"(?P<host>[^\s/]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class TargetFields:
    """The fields of one message in a target. Methods raise FIELD_REQUIRED, FIELD_INVALID, FIELD_TOO_LARGE and
    NAME_MALFORMED with the field's full name; `member` is its name in the message."""

    message: str
    """The message's own full name, such as `secret.target.redis`."""
    account: str
    """The secret's account."""
    plaintext: Collection[str]
    """Each `host` or `host:port` that may be talked to without TLS."""

    def within(self, member: str) -> TargetFields:
        """The fields of a message inside this one."""
        return replace(self, message=self.name(member))

    def name(self, member: str) -> str:
        """The full name of a field."""
        return f"{self.message}.{member}"

    def invalid(self, member: str, problem: str) -> StrongroomError:
        """The error that a field is wrong: completes the sentence "the field …"."""
        return invalid(self.name(member), problem)

    def required(self, member: str) -> StrongroomError:
        """The error that a field is not there."""
        return required(self.name(member))

    def text(self, member: str, text: str, limit: int) -> None:
        """A text that must be there, of at most so many bytes."""
        if not text:
            raise self.required(member)
        self.length(member, text, limit)

    def length(self, member: str, text: str, limit: int) -> None:
        """A text that may be empty, of at most so many bytes."""
        if len(text.encode()) > limit:
            raise too_large(self.name(member), limit)
        if not is_plain(text):
            raise self.invalid(member, "has a control character, such as a line break or NUL, in it")

    def choice(self, member: str, number: int, enum: Any) -> None:
        """A value of an enumeration."""
        if number not in enum.values():
            raise self.invalid(member, "is none of its values")

    def seconds(self, member: str, duration: Duration, limits: tuple[int, int]) -> None:
        """A duration within limits, or none."""
        least, most = limits
        seconds = duration.ToTimedelta().total_seconds()
        if seconds and not least <= seconds <= most:
            raise self.invalid(member, f"must be from {least} to {most} seconds")

    def master(self, member: str, name: str) -> None:
        """The name of a secret of the account, or none."""
        if name and names.parse(name, self.name(member), "secrets").account != self.account:
            raise self.invalid(member, "is not of the secret's account")

    def certificates(self, member: str, pem: str) -> None:
        """Certificates of authorities in PEM, or none."""
        if not pem:
            return
        if len(pem) > _CA_BYTES:
            raise too_large(self.name(member), _CA_BYTES)
        try:
            key_screening.certificates(pem)
        except KeyRefusedError as refused:
            raise self.invalid(member, f"cannot be used: a certificate {refused}") from refused

    def host_and_port(self, host: str, port: int) -> None:
        """The members `host` and `port`; 0 for the usual port."""
        if not host:
            raise self.required("host")
        if not _HOST.fullmatch(host):
            raise self.invalid("host", "is neither a host name nor an IP address")
        if port > _MAX_PORT:
            raise self.invalid("port", f"must be from 1 to {_MAX_PORT}")

    def host_with_port(self, member: str, address: str) -> None:
        """A text of the form `host:port`."""
        if not address:
            raise self.required(member)
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise self.invalid(member, "is not of the form host:port")
        self.host_and_port(found["host"], int(found["port"]))

    def address(self, member: str, address: TargetAddress) -> None:
        """An address with what protects connections to it."""
        inner = self.within(member)
        inner.host_and_port(address.host, address.port)
        inner.choice("tls", address.tls, TargetTls)
        inner.certificates("ca_pem", address.ca_pem)
        inner.seconds("timeout", address.timeout, STEP_SECONDS)
        listed = address.host in self.plaintext or f"{address.host}:{address.port}" in self.plaintext
        if address.tls == TARGET_TLS_DISABLED and not listed:
            raise inner.invalid("tls", "is DISABLED for an address that the service's configuration does not list")
