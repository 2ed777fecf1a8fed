"""The first start: an account, its administrator, the default policies, and the key that secrets use by default."""

from __future__ import annotations

import logging
from functools import partial

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from services.keystore.access.accounts import new_accounts
from services.keystore.access.records import principal_store
from services.keystore.access.records import store as access_store
from services.keystore.access.records.resources import Account
from services.keystore.keys.aliases import AliasContent, Aliases
from services.keystore.keys.keys import Keys, NewKey
from services.keystore.own_calls import SELF, own_call
from services.keystore.settings import Bootstrap
from services.keystore.store import store
from services.runtime.background import NEVER, Background
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import Reason, StrongroomError
from services.runtime.requests.names import ResourceName
from services.runtime.storage.database import reading, transaction
from services.runtime.storage.outbox import Outbox
from strongroom.keystore.v1.key_pb2 import (
    KEY_ORIGIN_STRONGROOM,
    KEY_SPEC_AES_256,
    KEY_USAGE_ENCRYPT_DECRYPT,
    PROTECTION_LEVEL_SOFTWARE,
)

log = logging.getLogger(__name__)

SECRETS_KEY = "strongroom-secrets"
"""Id of the key, and of the alias, that an account's secrets are under when they name no key."""

_RETRY_SECONDS = 0.5


def make_account(engine: Engine, settings: Bootstrap, outbox: Outbox, clock: Clock) -> None:
    """Makes the first account with its administrator and default policies, unless it is there."""
    try:
        with transaction(engine) as connection:
            if access_store.account_exists(connection, settings.account):
                return
            spiffe_id = settings.administrator_spiffe_id
            # Who sets the mesh up decides whom this certificate stands for.
            principal_store.release_identity(connection, spiffe_id)
            new = Account(f"accounts/{settings.account}", "", {}, spiffe_id_prefixes=(spiffe_id,))
            account, administrator = new_accounts.add(
                connection, new, settings.administrator, [spiffe_id], clock.now_us()
            )
            call = Call("strongroom.access.v1.AccessService", "CreateAccount", "access:CreateAccount", principal=SELF)
            call.record(call.action, account.name, settings.account)
            outbox.put(connection, call)
    except IntegrityError:
        # Another replica that starts at the same time has made it.
        return
    log.info(
        "the first account was made",
        extra={"fields": {"account": settings.account, "administrator": administrator.name}},
    )


class FirstAccount:
    """Makes the account as soon as there is the key that its rows are sealed with."""

    def __init__(self, engine: Engine, settings: Bootstrap, outbox: Outbox, clock: Clock) -> None:
        self._make = partial(make_account, engine, settings, outbox, clock)
        self._is_there = False
        self._making = Background(
            "first-account", self._made, "the first account could not be made yet", every=_RETRY_SECONDS, quiet=True
        )

    def start(self) -> None:
        """Begins to try."""
        self._making.start()

    def stop(self) -> None:
        """Ends trying."""
        self._making.stop()

    def check(self) -> None:
        """Raises ACCOUNT_NOT_FOUND until the account is there."""
        if not self._is_there:
            raise StrongroomError(Reason.ACCOUNT_NOT_FOUND, "the first account is not there yet")

    def _made(self) -> float:
        self._make()
        self._is_there = True
        return NEVER


class SecretsKey:
    """Makes the account's key for secrets as soon as crypto answers, beside everything else."""

    def __init__(self, engine: Engine, account: str, keys: Keys, aliases: Aliases) -> None:
        self._engine = engine
        self._key = ResourceName(account, "keys", SECRETS_KEY)
        self._alias = ResourceName(account, "aliases", SECRETS_KEY)
        self._keys = keys
        self._aliases = aliases
        self._making = Background(
            "secrets-key",
            self._made,
            "the key of the secrets service could not be made yet",
            every=_RETRY_SECONDS,
            quiet=True,
        )

    def start(self) -> None:
        """Begins to try."""
        self._making.start()

    def stop(self) -> None:
        """Ends trying."""
        self._making.stop()

    def _made(self) -> float:
        self._make()
        return NEVER

    def _make(self) -> None:
        with reading(self._engine) as connection:
            if store.key(connection, self._alias) is not None:
                return
        new = NewKey(
            self._key,
            KEY_SPEC_AES_256,
            KEY_USAGE_ENCRYPT_DECRYPT,
            PROTECTION_LEVEL_SOFTWARE,
            KEY_ORIGIN_STRONGROOM,
            "Secrets that name no key",
            {},
            deletion_protection=False,
        )
        try:
            self._keys.make(own_call("CreateKey", self._key), new)
        except StrongroomError as error:
            if error.reason is not Reason.ALREADY_EXISTS:
                raise
        try:
            self._aliases.make(own_call("CreateAlias", self._alias), AliasContent(self._alias, self._key, ""))
        except StrongroomError as error:
            if error.reason is not Reason.ALREADY_EXISTS:
                raise
