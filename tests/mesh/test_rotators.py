"""Each rotator against its real target: what a rotation leaves behind, and what bad targets and logins are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.secrets.records import CURRENT, PREVIOUS
from strongroom.secrets.v1.rotation_pb2 import ROTATION_STATE_SUCCEEDED
from tests.rotation.fixtures import SUBJECTS
from tests.rotation.lab import Lab
from tests.rotation.subjects import Subject


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_rotation_leaves_a_current_value_that_logs_in(
    lab: Lab, subject_of: Callable[[str], Subject], name: str, secret_id: str
) -> None:
    subject = subject_of(name)
    subject.create(lab, secret_id)
    first = lab.value(secret_id)

    for number in (1, 2, 3):
        before = lab.value(secret_id)
        lab.rotate(secret_id)
        lab.work_until_idle()

        rotation = lab.rotation(secret_id, number)
        attempts = lab.attempts(secret_id, number)
        assert rotation.state == ROTATION_STATE_SUCCEEDED, [(a.error_reason, a.error_detail) for a in attempts]
        assert [attempt.error_reason for attempt in attempts] == ["", "", "", ""]
        assert lab.value(secret_id) != before
        assert lab.value(secret_id, PREVIOUS) == before
        assert subject.accepts(lab.value(secret_id, CURRENT))
        assert subject.accepts(before) == subject.previous_works
    if name != "generic":
        assert not subject.accepts(first)
    assert "Pending" not in lab.secret(secret_id).stages
