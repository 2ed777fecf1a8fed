"""KV version 1: secrets without their versions."""

from __future__ import annotations

from services.doors.listening.exchange import Response
from services.doors.vault import answers, errors
from services.doors.vault.kv import values
from services.doors.vault.kv.store import GONE, MISSING, KvSecrets
from services.doors.vault.requests import Operation, Request
from services.runtime.errors import StrongroomError


class KvVersion1:
    """One mount of KV version 1: it reads and writes what is current."""

    def __init__(self, secrets: KvSecrets) -> None:
        self._secrets = secrets

    def answer(self, request: Request) -> Response:
        """The answer to a request. Raises HttpError, StrongroomError."""
        caller = request.caller
        if request.operation is Operation.LIST:
            return answers.keys(self._secrets.children(caller, request.path))
        name = self._secrets.name(caller, request.path)
        if request.operation is Operation.READ:
            return self._read(request, name)
        if request.operation is Operation.WRITE:
            request.parameters  # noqa: B018  # says what is wrong with it
            self._secrets.put(caller, name, values.stored(request.body.decode().strip(" \t\r\n") or None), None)
            return answers.NO_CONTENT
        if request.operation is Operation.DELETE:
            raise errors.unsupported(
                "deleting through KV version 1, which has no versions to come back to: use version 2"
            )
        raise errors.no_operation()

    def _read(self, request: Request, name: str) -> Response:
        try:
            return answers.bare_data(values.shown(self._secrets.value(request.caller, name)))
        except StrongroomError as error:
            if error.reason in MISSING + GONE:
                raise errors.not_found() from None
            raise
