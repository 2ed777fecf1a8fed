"""Short names of resources, as people write them, to full names (AIP-122) and back."""

from __future__ import annotations

import re

from strongroom.errors import StrongroomError

ACCOUNTS = "accounts/"
ALIAS = "alias/"
DEFAULT_ROLE_SESSION = "strongroom"
"""What events call a session as a role that nobody has named."""
PRINCIPALS = ("users", "workloads", "roles")
_RESOURCES = (*PRINCIPALS, "keys", "aliases", "secrets", "policies", "grants", "clientKeys", "oidcProviders")
# Of an account as a whole, events say what was listed or kept.
_OF_AN_ACCOUNT = (*_RESOURCES, "principals", "events", "log", "retentionPolicy", "legalHold", "quota", "quotas")
# What stands beside the accounts, and names that are no resource: who calls without an account has its certificate's.
_OF_THE_MESH = ("accounts", "services", "logs", "spiffe:")
_PARTS_OF_SECRETS = ("/versions/", "/rotations/")


class Names:
    """Completes short names within one account: an id, the kind and the id, such as `keys/payments`, or a full name.

    A secret whose own id begins with `secrets/` is called `secrets/secrets/…`, or in full. `account` is an account's
    id, or empty where every name will be given in full.
    """

    def __init__(self, account: str) -> None:
        self._account = account

    @property
    def account(self) -> str:
        """The account's own name, `accounts/{account}`. Raises FIELD_REQUIRED where there is none."""
        if not self._account:
            raise StrongroomError("FIELD_REQUIRED", "no account is set: give the name in full", field="account")
        return ACCOUNTS + self._account

    def key(self, name: str, field: str = "key") -> str:
        """The full name of a key or alias: from an id (`payments`), `keys/{key}`, `alias/{alias}`, or a full name.

        Only the form is looked at: the service knows what exists. Raises FIELD_REQUIRED or NAME_MALFORMED.
        """
        if name.startswith((ALIAS, "aliases/")):
            return self.alias(name, field)
        return self._complete("keys", name, field, f"an id, {ALIAS}{{alias}}, or {ACCOUNTS}…")

    def key_or_version(self, name: str, field: str = "key") -> str:
        """The full name of a key or alias, or of one version of a key: `payments/versions/2`."""
        key, separator, version = name.partition("/versions/")
        return self.key(key, field) + separator + version

    def alias(self, name: str, field: str = "alias") -> str:
        """The full name of an alias: from an id, `alias/{alias}`, or a full name."""
        return self._complete("aliases", name.removeprefix(ALIAS), field, f"an id, {ALIAS}{{alias}}, or {ACCOUNTS}…")

    def secret(self, name: str, field: str = "secret") -> str:
        """The full name of a secret: from an id (`payments/db`) or a full name."""
        return self._complete("secrets", name, field, f"an id, or {ACCOUNTS}…", in_parts=True)

    def secret_version(self, name: str, field: str = "version") -> str:
        """The full name of a version: from `payments/db/versions/2` or a full name."""
        secret, separator, version = name.partition("/versions/")
        if not version:
            raise StrongroomError("NAME_MALFORMED", f"{field} is not SECRET/versions/NUMBER: {name}", field=field)
        return self.secret(secret, field) + separator + version

    def event(self, name: str, field: str = "event") -> str:
        """The full name of an audit event: from its id (a UUID, `result.event_id`) or a full name."""
        return self._complete("events", name, field, f"an id, or {ACCOUNTS}…")

    def other_account(self, name: str, field: str = "account") -> str:
        """The full name of an account: from an id or a full name; of this account where it is empty."""
        if not name:
            return self.account
        if "/" in name.removeprefix(ACCOUNTS):
            raise StrongroomError(
                "NAME_MALFORMED", f"{field} is not an id or {ACCOUNTS}{{account}}: {name}", field=field
            )
        return ACCOUNTS + name.removeprefix(ACCOUNTS)

    def principal(self, name: str, field: str = "principal") -> str:
        """The full name of a user, workload or role: from `users/{id}` and the like, or a full name."""
        return self._within_account(PRINCIPALS, name, field)

    def role(self, name: str, field: str = "role") -> str:
        """The full name of a role: from an id, `roles/{id}`, or a full name."""
        return self._complete("roles", name, field, f"an id, roles/{{id}}, or {ACCOUNTS}…")

    def policy(self, name: str, field: str = "policy") -> str:
        """The full name of a policy: from an id or a full name."""
        return self._complete("policies", name, field, f"an id, or {ACCOUNTS}…")

    def grant(self, name: str, field: str = "grant") -> str:
        """The full name of a grant: from an id or a full name."""
        return self._complete("grants", name, field, f"an id, or {ACCOUNTS}…")

    def resource(self, name: str, field: str = "resource") -> str:
        """The full name of what an action is on: from `keys/{id}`, `secrets/{id}` and the like, or in full."""
        return self._within_account(_RESOURCES, name, field)

    def target(self, name: str, field: str = "target") -> str:
        """The full name of what a policy is attached to: from `users/{id}`, `keys/{id}` and the like, or in full."""
        return self._within_account((*PRINCIPALS, "keys", "secrets"), name, field)

    def client_key(self, name: str, field: str = "client_key") -> str:
        """The full name of a client key: from an id or a full name."""
        return self._complete("clientKeys", name, field, f"an id, or {ACCOUNTS}…")

    def oidc_provider(self, name: str, field: str = "oidc_provider") -> str:
        """The full name of an OIDC provider: from an id or a full name."""
        return self._complete("oidcProviders", name, field, f"an id, or {ACCOUNTS}…")

    def recorded(self, name: str, field: str) -> str:
        """The full name of whatever events, policies or usage are looked for by: `keys/payments`, `users/ann`,
        `keys/payments/versions/2`, `alias/current`, or a full name, also of what is in no account. Raises
        NAME_MALFORMED for what nothing can be called: a search for it would find nothing and say so to nobody.
        """
        if name.startswith(ALIAS):
            return self.alias(name, field)
        collection = name.partition("/")[0]
        if collection in _OF_AN_ACCOUNT:
            return f"{self.account}/{name}"
        if not self.has_kind(name):
            forms = ", ".join(f"{one}/{{id}}" for one in _RESOURCES)
            raise StrongroomError("NAME_MALFORMED", f"{field} is none of {forms}, {ACCOUNTS}…: {name}", field=field)
        return name

    @staticmethod
    def has_kind(name: str) -> bool:
        """Whether a name says what kind of thing it is of: `keys/payments`, `alias/current`, or a full name."""
        return name.startswith(ALIAS) or name.partition("/")[0] in (*_OF_AN_ACCOUNT, *_OF_THE_MESH)

    def id(self, collection: str, name: str) -> str:
        """The id of something to be made in a collection, as `payments`, `keys/payments` or its full name give it."""
        return name.removeprefix(f"{ACCOUNTS}{self._account}/{collection}/").removeprefix(f"{collection}/")

    def completed(self, conditions: str, field: str) -> str:
        """A list's filter, with the short names that it asks `field` for in full."""

        def full(found: re.Match[str]) -> str:
            return f'{found[1]}"{self.account}/{found[2]}"'

        short = rf"""\b({field}\s*=\s*)"?((?:{"|".join(_RESOURCES)})/[^"\s]+)"?"""
        return re.sub(short, full, conditions)

    def parts(self, name: str, field: str) -> tuple[str, str, str]:
        """A full name's account, `accounts/{account}`, its collection and its id. Raises NAME_MALFORMED."""
        parts = name.split("/", 3)
        if len(parts) != 4:
            raise StrongroomError("NAME_MALFORMED", f"{field} names no resource of an account: {name}", field=field)
        return f"{parts[0]}/{parts[1]}", parts[2], parts[3]

    def shorten(self, name: str) -> str:
        """The shortest name that stands for the same resource: what `key`, `alias` and `secret` take."""
        relative = self.relative(name)
        collection, _, rest = relative.partition("/")
        if collection == "aliases":
            return ALIAS + rest
        if collection == "secrets" and not any(part in rest for part in _PARTS_OF_SECRETS):
            return relative if rest.startswith("secrets/") else rest
        return rest if collection == "keys" and "/" not in rest else relative

    def relative(self, name: str) -> str:
        """A full name without its account where that is this one: `keys/payments/versions/1`."""
        return name.removeprefix(f"{ACCOUNTS}{self._account}/") if self._account else name

    def _within_account(self, collections: tuple[str, ...], name: str, field: str) -> str:
        if not name:
            raise StrongroomError("FIELD_REQUIRED", f"{field} is required", field=field)
        if name.startswith(ACCOUNTS):
            return name
        if name.startswith(ALIAS) and "aliases" in collections:
            return self.alias(name, field)
        if name.partition("/")[0] not in collections:
            forms = ", ".join(f"{collection}/{{id}}" for collection in collections)
            raise StrongroomError("NAME_MALFORMED", f"{field} is none of {forms}, {ACCOUNTS}…: {name}", field=field)
        return f"{self.account}/{name}"

    def _complete(self, collection: str, name: str, field: str, forms: str, *, in_parts: bool = False) -> str:
        if not name:
            raise StrongroomError("FIELD_REQUIRED", f"{field} is required", field=field)
        if name.startswith(ACCOUNTS):
            return name
        given, name = name, name.removeprefix(f"{collection}/")
        if not name:
            raise StrongroomError("NAME_MALFORMED", f"{field} is not {forms}: {given}", field=field)
        if "/" in name and not in_parts:
            raise StrongroomError("NAME_MALFORMED", f"{field} is not {forms}: {given}", field=field)
        return f"{self.account}/{collection}/{name}"


def last_part(name: str) -> str:
    """The id at the end of a full name."""
    return name.rpartition("/")[2]
