"""Real targets and labs for rotations."""

from tests.rotation.fixtures import (  # noqa: F401
    acl_server,
    certificate,
    lab,
    make_lab,
    mysql_server,
    place,
    postgresql_server,
    schedule_port,
    secret_id,
    sshd,
    subject_of,
    team_rotator,
    tls,
)
