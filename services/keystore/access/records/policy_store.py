"""Policies in the database, with what they are attached to: SQL and nothing else.

One that keystore did not write is read like another, so that it can be detached and deleted; that it permits nothing is
for `access_store` to say, and no change makes it good.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from services.keystore.access.records import contents
from services.keystore.access.records.resources import Policy, account_of, id_of
from services.keystore.access.records.tables import policies, policy_attachments
from services.keystore.store.tables import keys
from services.runtime.storage import sealed_rows
from services.runtime.storage.sql_filters import Condition
from strongroom.access.v1.policy_pb2 import POLICY_KIND_IDENTITY, PolicyKind

_KINDS = frozenset(PolicyKind.values())
_REFUSED = "What is stored of this policy is not what keystore stored: it permits nothing. Delete it, and make it anew."


def policy(connection: Connection, name: str) -> Policy | None:
    """The policy of this name."""
    rows = connection.execute(select(policies).where(policies.c.name == name)).all()
    return next(iter(_policies(connection, rows)), None)


def policies_page(
    connection: Connection, account: str, after: str, limit: int, conditions: Sequence[Condition]
) -> list[Policy]:
    """An account's policies that meet the conditions, in the order of their names, from the first behind `after`."""
    met = [condition(connection.dialect.name) for condition in conditions]
    ordered = select(policies).where(policies.c.account == account, policies.c.name > after, *met)
    return _policies(connection, connection.execute(ordered.order_by(policies.c.name).limit(limit)).all())


def attached_to(connection: Connection, target: str) -> list[Policy]:
    """The policies that are attached to something."""
    attached = select(policies).join(policy_attachments, policy_attachments.c.policy == policies.c.name)
    rows = connection.execute(attached.where(policy_attachments.c.target == target).order_by(policies.c.name)).all()
    return _policies(connection, rows)


def crowded(connection: Connection, name: str, targets: Collection[str], limit: int) -> str | None:
    """One of these targets that `limit` policies beside this one are attached to, if there is one."""
    others = (policy_attachments.c.target.in_(targets), policy_attachments.c.policy != name)
    counted = select(policy_attachments.c.target).where(*others).group_by(policy_attachments.c.target)
    return connection.execute(counted.having(func.count() >= limit).limit(1)).scalar_one_or_none()


def insert_policy(connection: Connection, added: Policy) -> None:
    """Adds a policy with its attachments. Raises IntegrityError when the name is taken."""
    values = {
        **_values(added),
        "name": added.name,
        "account": account_of(added.name),
        "kind": added.kind,
        "created_us": added.created_us,
    }
    contents.insert(connection, account_of(added.name), policies, [values])
    _attach(connection, added.name, added.attached_to)


def update_policy(connection: Connection, changed: Policy) -> None:
    """Puts a policy and its attachments in the place of what they were."""
    account = account_of(changed.name)
    contents.update(connection, account, policies, [policies.c.name == changed.name], _values(changed))
    of_policy = policy_attachments.c.policy == changed.name
    before = set(connection.execute(select(policy_attachments.c.target).where(of_policy)).scalars())
    gone = before.difference(changed.attached_to)
    if gone:
        contents.delete(connection, account, policy_attachments, [of_policy, policy_attachments.c.target.in_(gone)])
    _attach(connection, changed.name, set(changed.attached_to) - before)


def delete_policy(connection: Connection, name: str) -> None:
    """Removes a policy and its attachments."""
    account = account_of(name)
    contents.delete(connection, account, policy_attachments, [policy_attachments.c.policy == name])
    contents.delete(connection, account, policies, [policies.c.name == name])


def lock_keys(connection: Connection, names: Collection[str]) -> list[tuple[str, bytes]]:
    """Names and uids of keys of one account; nobody else changes them until the transaction ends."""
    ids = {id_of(name): name for name in names}
    of_account = keys.c.account == account_of(next(iter(names)))
    wanted = select(keys.c.key_id, keys.c.uid).where(of_account, keys.c.key_id.in_(ids)).order_by(keys.c.uid)
    return [(ids[row.key_id], row.uid) for row in connection.execute(wanted.with_for_update())]


def touch_key(connection: Connection, uid: bytes, revision: int) -> None:
    """Gives a key the revision of a change of its policies, for what is remembered of it."""
    sealed_rows.update(connection, keys, [keys.c.uid == uid], {"revision": revision})


def _attach(connection: Connection, name: str, targets: Collection[str]) -> None:
    rows = [{"policy": name, "target": target} for target in targets]
    contents.insert(connection, account_of(name), policy_attachments, rows)


def _values(of: Policy) -> dict[str, Any]:
    return {
        "cedar": of.cedar,
        "description": of.description,
        "revision": of.revision,
        "updated_us": of.updated_us,
    }


def _policies(connection: Connection, rows: Sequence[Row[Any]]) -> list[Policy]:
    of_them = policy_attachments.c.policy.in_([row.name for row in rows])
    attached = select(policy_attachments).where(of_them).order_by(policy_attachments.c.target)
    targets: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(attached):
        targets[row.policy].append(row.target)
    return [_policy(connection, row, tuple(targets[row.name])) for row in rows]


def _policy(connection: Connection, row: Row[Any], attached_to: tuple[str, ...]) -> Policy:
    if not sealed_rows.is_good(connection, policies, row):
        # Its text may be looked at; the rest could be what no message can tell.
        kind = row.kind if row.kind in _KINDS else POLICY_KIND_IDENTITY
        return Policy(row.name, kind, row.cedar, attached_to, _REFUSED)
    return Policy(
        row.name,
        row.kind,
        row.cedar,
        attached_to,
        row.description,
        row.revision,
        row.created_us,
        row.updated_us,
    )
