"""Real targets and labs for rotations."""

from tests.support.rotation.fixtures import (  # noqa: F401
    acl_tls_server,
    certificate,
    client_keys,
    lab,
    make_lab,
    mesh_directory,
    mysql_tls_server,
    place,
    postgresql_server,
    postgresql_tls_server,
    schedule_port,
    secret_id,
    sshd,
    subject_of,
    target_certificate,
    target_workers,
    team_rotator,
    tls,
)
