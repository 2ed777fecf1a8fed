"""Reasons that are about the service that is asked, and what it needs just now."""

from __future__ import annotations

from collections.abc import Mapping

_AGAIN = "Try again with growing pauses; the clients do. "

SERVICE: Mapping[str, tuple[str, str]] = {
    "AUDIT_UNREACHABLE": (
        "The audit service cannot be reached. What cannot be recorded is not done.",
        _AGAIN + "See that audit runs and that the network lets the services reach it.",
    ),
    "AUDIT_TIMEOUT": (
        "The audit service did not keep the event in time.",
        _AGAIN + "Look at audit's storage and load; the limit is `audit.deadline_seconds`.",
    ),
    "AUDIT_STORAGE_FULL": (
        "The disk of the audit log is full, up to what is kept free.",
        "Make space, or move the log to a larger volume. Every call of the mesh is refused until then.",
    ),
    "AUDIT_STORAGE_FAILED": (
        "The audit database is damaged, was replaced, or cannot be written.",
        "Look at audit's log and its database. Restart audit when a person knows what happened.",
    ),
    "AUDIT_SEALING_KEY_UNAVAILABLE": (
        "Audit has not had its sealing keys from crypto yet.",
        "See that crypto serves and that audit can reach it.",
    ),
    "RECORD_KEY_UNAVAILABLE": (
        "The service has not had the key of its own rows from audit yet.",
        "See that audit serves and that this service can reach it.",
    ),
    "AUDIT_PENDING": (
        "The change was made, and its event has not reached the log yet.",
        "Send the same request with the same `request_id`, as the clients do. Without one, the change stands.",
    ),
    "AUDIT_BACKLOG": (
        "Too many events of this caller wait for the audit log.",
        "Make fewer calls at once, and wait for as long as the error says.",
    ),
    "EVENT_REFUSED": (
        "The audit log does not take the event of this call.",
        "This is a fault of ours: report it with the service's log. Look at rows with `refused_us` in the outbox.",
    ),
    "KEYSTORE_UNREACHABLE": (
        "Keystore cannot be reached.",
        _AGAIN + "See that keystore runs and that the network lets the services reach it.",
    ),
    "KEYSTORE_STALE": (
        "The service has not heard from keystore for 5 seconds, and does not answer from old records.",
        _AGAIN + "See that keystore runs, and look at the network between the two.",
    ),
    "CRYPTO_UNREACHABLE": (
        "Crypto cannot be reached.",
        _AGAIN + "See that crypto runs and that the network lets the services reach it.",
    ),
    "CRYPTO_NOT_SERVING": (
        "Crypto runs and says that it does not serve.",
        "`strongroom status` shows which component of crypto does not work.",
    ),
    "SECRETS_UNREACHABLE": (
        "The secrets service cannot be reached.",
        _AGAIN + "See that it runs and that the network lets whoever calls it, such as a door, reach it.",
    ),
    "REDIS_UNREACHABLE": (
        "Redis cannot be reached. Rotations are late; none is lost.",
        "Mend Redis. The schedule fills itself again.",
    ),
    "PROVIDER_UNAVAILABLE": (
        "The HSM, or the file with the root key, cannot be used just now.",
        _AGAIN + "`strongroom status` says what the HSM said; Operations lists the cases.",
    ),
    "HSM_BUSY": (
        "Too many keys are being made in the HSM at once.",
        "Wait for as long as the error says.",
    ),
    "DATABASE_UNAVAILABLE": (
        "The service's database cannot be used.",
        _AGAIN + "See that the database runs and takes writes. After a failover the services recover by themselves.",
    ),
    "CHANGE_UNDECIDED": (
        "The service's database was lost at the last step of the change: it may have been made or not.",
        "Send the same request with the same `request_id`, as the clients do. Without an id, look at the resource.",
    ),
    "OIDC_PROVIDER_UNREACHABLE": (
        "The issuer's signing keys cannot be fetched.",
        "See that keystore may reach the issuer (`oidc.private_networks`), or give the keys as a file: `--jwks`.",
    ),
    "OVERLOADED": (
        "The service has as many calls in work, or waiting, as it takes.",
        _AGAIN + "If it lasts, add workers or replicas.",
    ),
    "SHUTTING_DOWN": (
        "The process that was asked is about to end.",
        "Call again: another process answers. The clients do that.",
    ),
    "DEADLINE_EXCEEDED": (
        "The call was not answered within its time. Whether it was done is not known.",
        "Repeat it with the same `request_id`, give it more time, and look at `strongroom status`.",
    ),
    "INTERNAL": (
        "Something happened that the service does not expect. No detail is told.",
        "Report it with the event id: the service's log has the detail under that id.",
    ),
}
