"""Real targets and labs for rotations."""

from tests.rotation.fixtures import (  # noqa: F401
    acl_server,
    certificate,
    client_keys,
    lab,
    make_lab,
    mesh_directory,
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
