"""Audit events as OCSF has them: class API Activity (6003) of the Open Cybersecurity Schema Framework, version 1.5.

docs/audit.md has the mapping as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strongroom.calls.audit.events import Event

VERSION = "1.5.0"

_CATEGORY_APPLICATION = 6
_CLASS_API_ACTIVITY = 6003
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITIES = (
    (_CREATE, ("Create", "Import", "Put", "Generate")),
    (_READ, ("Get", "List", "Lookup", "Stream", "Watch", "Report", "Simulate", "Validate")),
    (_UPDATE, ("Update", "Set", "Enable", "Disable", "Rotate", "Attach", "Detach", "Restore", "Cancel", "Resume")),
    (_DELETE, ("Delete", "Destroy", "Shred", "Schedule", "Revoke", "Retire")),
)
_NAMES = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete", _OTHER: "Other"}
_SUCCESS, _FAILURE = 1, 2
_INFORMATIONAL, _MEDIUM, _LOW = 1, 3, 2
_SEVERITIES = {"ALLOWED": _INFORMATIONAL, "DENIED": _MEDIUM, "FAILED": _LOW}
_USER_TYPES = {"users": 1, "roles": 99, "workloads": 3}
_SYSTEM_USER = 3


def api_activity(event: Event) -> Mapping[str, Any]:
    """The event as an object for JSON; what is empty is left out."""
    activity = _activity(event.method)
    document = {
        "category_uid": _CATEGORY_APPLICATION,
        "category_name": "Application Activity",
        "class_uid": _CLASS_API_ACTIVITY,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": _NAMES[activity],
        "type_uid": _CLASS_API_ACTIVITY * 100 + activity,
        "time": round(event.time.timestamp() * 1000) if event.time else 0,
        "severity_id": _SEVERITIES.get(event.outcome, _INFORMATIONAL),
        "status_id": _SUCCESS if event.outcome == "ALLOWED" else _FAILURE,
        "status_code": event.reason,
        "action_id": 2 if event.outcome == "DENIED" else 1,
        "count": event.item_count,
        "metadata": {
            "version": VERSION,
            "uid": event.id,
            "correlation_uid": event.trace_id,
            "log_name": "audit",
            "logged_time": round(event.time.timestamp() * 1000) if event.time else 0,
            "product": {"name": "Strongroom", "vendor_name": "Strongroom"},
        },
        "actor": _actor(event),
        "src_endpoint": {"ip": event.source_address, "name": "" if event.source_address else "unknown"},
        "api": {
            "operation": event.action,
            "service": {"name": event.service},
            "response": {"error": event.reason},
        },
        "resources": [_resource(event)] if event.resource else [],
        "policy": {"name": event.decided_by},
        "unmapped": _unmapped(event),
    }
    return _without_empty(document)


def _actor(event: Event) -> Mapping[str, Any]:
    return {
        "user": {
            "uid": event.principal,
            "name": event.principal.rpartition("/")[2],
            "type_id": _user_type(event.principal),
            "account": {"uid": event.account},
            "credential_uid": event.credential,
        },
        "session": {"uid": event.session_name, "issuer": event.assumed_by},
        "invoked_by": event.via_service,
    }


def _unmapped(event: Event) -> Mapping[str, Any]:
    return {
        "method": event.method,
        "key_version": event.key_version,
        "secret_version": event.secret_version,
        "encryption_context": dict(event.encryption_context),
        "failed_item_count": event.failed_item_count or "",
        "instance": event.instance,
        "attributes": dict(event.attributes),
    }


def _resource(event: Event) -> Mapping[str, Any]:
    # `accounts/{account}`, or `accounts/{account}/{collection}/{id}`, where a secret's id may have slashes.
    parts = event.resource.split("/", 3)
    return {
        "uid": event.resource,
        "name": parts[-1],
        "type": parts[-2] if len(parts) in (2, 4) else parts[-1],
        "version": (event.key_version or event.secret_version).rpartition("/")[2],
    }


def _activity(method: str) -> int:
    name = method.removeprefix("Batch")
    return next((activity for activity, verbs in _ACTIVITIES if name.startswith(verbs)), _OTHER)


def _user_type(principal: str) -> int:
    parts = principal.split("/")
    return _USER_TYPES.get(parts[2], _SYSTEM_USER) if len(parts) == 4 else _SYSTEM_USER if principal else 0


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in document.items():
        inner = _without_empty(value) if isinstance(value, Mapping) else value
        if inner not in ("", {}, []):
            kept[name] = inner
    return kept
