"""Reasons that are about the target of a rotation: the database, server or service that a secret logs in to."""

from __future__ import annotations

from collections.abc import Mapping

TARGETS: Mapping[str, tuple[str, str]] = {
    "DESTINATION_NOT_ALLOWED": (
        "The configuration, or the secret's own `allowed_destinations`, does not let values go there.",
        "Add a rule to `rotation.targets` of the secrets service, or the place to the secret's destinations.",
    ),
    "TARGET_UNREACHABLE": (
        "The target does not answer, or answers with something that says nothing about the login.",
        "Look at address, port, TLS and CA of the target, and whether the target runs.",
    ),
    "TARGET_LOGIN_REFUSED": (
        "The target refuses the login.",
        "Put the right value; `strongroom secret repair SECRET --dry-run` says which value can log in.",
    ),
    "TARGET_CHANGE_REFUSED": (
        "The target lets us in and refuses to change the password or key; the message has its code.",
        "Give the user or the master the right to make this change, then resume the rotation.",
    ),
    "TARGET_VALUE_REFUSED": (
        "The target's own password policy refuses the new value.",
        "Set a `--password-rule` that meets the policy.",
    ),
    "TARGET_RIGHTS_MISSING": (
        "One of the two users has not what the other has, or the master cannot give it.",
        "Give what the message names, or run `strongroom secret repair SECRET`.",
    ),
    "MASTER_LOGIN_REFUSED": (
        "The target refuses the login of the master secret.",
        "Mend the master secret first: put its right value, or repair it.",
    ),
    "ROTATOR_FAILED": (
        "The rotator ended with an error of its own.",
        "Look at its log: your own RotatorService's, or that of the secrets service. Then resume the rotation.",
    ),
    "TARGET_TIMEOUT": (
        "A step at the target took longer than its limit, or used too much processor.",
        "Look at the target, or raise its `timeout`. The rotation tries again by itself.",
    ),
    "TARGET_ANSWER_TOO_LARGE": (
        "The target answered with more than a step reads (4 MiB).",
        "Name the real target. For SSH, make `authorized_keys` smaller.",
    ),
    "TARGET_CHECK_PENDING": (
        "The target has not answered yet, and is still being asked.",
        "Make the same call again in a few seconds, or skip the check.",
    ),
    "SCHEDULE_OVERDUE": (
        "Something was due, Redis did not offer it, and the database had it done. Nothing was lost.",
        "Look at Redis: `strongroom status`.",
    ),
}
