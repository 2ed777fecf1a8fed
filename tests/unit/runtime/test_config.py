"""What a configuration may say of the servers that a service relies on."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from services.runtime.config import Database, Redis, Telemetry

PASSWORD = "swordfish"


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (Database, "url", "postgresql+psycopg://u@db.example/x"),
        (Database, "url", "postgresql+psycopg://u@db.example/x?sslmode=require"),
        (Database, "url", "postgresql+psycopg://u@db.example/x?sslmode=verify-ca"),
        (Database, "url", "postgresql+psycopg://u@10.1.2.3/x?sslmode=prefer"),
        (Database, "url", "postgresql+psycopg:///x?host=db.example"),
        (Database, "url", "postgresql+psycopg:///x?host=127.0.0.1:5432,db.example:5432"),
        (Database, "url", "postgresql+psycopg:///x?host=127.0.0.1&host=10.0.0.1:5432"),
        (Database, "url", "postgresql+psycopg://u@localhost.example/x"),
        (Redis, "url", f"redis://u:{PASSWORD}@redis.example"),
        (Redis, "url", f"redis://:{PASSWORD}@[2001:db8::1]:6379/0"),
        (Telemetry, "otlp_endpoint", "http://collector.example:4317"),
    ],
)
def test_another_machine_is_reached_over_tls_unless_it_is_said_otherwise(
    section: type[BaseModel], field: str, value: str
) -> None:
    with pytest.raises(ValidationError, match="another machine"):
        section(**{field: value})
    permitted = "otlp_plaintext" if section is Telemetry else "plaintext"
    assert getattr(section(**{field: value, permitted: True}), field) == value


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        (Database, "url", "sqlite:////var/lib/x.db"),
        (Database, "url", "postgresql+psycopg://u@127.0.0.1:5432/x"),
        (Database, "url", "postgresql+psycopg://u@[::1]/x"),
        (Database, "url", "postgresql+psycopg:///x?host=/run/postgresql"),
        (Database, "url", "postgresql+psycopg:///x?host=127.0.0.1:5432,[::1]:5433"),
        (Database, "url", "postgresql+psycopg://u@db.example/x?sslmode=verify-full"),
        (Redis, "url", f"redis://:{PASSWORD}@localhost:6379/0"),
        (Redis, "url", f"unix://:{PASSWORD}@/run/redis.sock"),
        (Redis, "url", f"rediss://redis.example?password={PASSWORD}"),
        (Telemetry, "otlp_endpoint", "http://localhost:4317"),
        (Telemetry, "otlp_endpoint", "https://collector.example:4317"),
    ],
)
def test_this_machine_and_tls_are_taken(section: type[BaseModel], field: str, value: str) -> None:
    assert getattr(section(**{field: value}), field) == value


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://localhost",
        "redis://user@127.0.0.1",
        "redis://user:@127.0.0.1",
        "redis://:@127.0.0.1",
        "rediss://redis.example",
        "rediss://user@redis.example/0?password=",
        "rediss://redis.example/0?passwords=x",
        "rediss://redis.example/a:b@c",
        "redis://[::1",
        "unix:///run/redis.sock",
        "unix://user@/run/redis.sock",
    ],
)
def test_a_redis_that_asks_for_no_password_is_used_only_where_it_is_said(url: str, tmp_path: Path) -> None:
    """Whoever reaches such a one delays rotations and deletions."""
    path = tmp_path / "url"
    path.write_text(url)
    for given in ({"url": url}, {"url_file": path}, {"url": url, "plaintext": True}):
        with pytest.raises(ValidationError, match="passwordless"):
            Redis.model_validate(given)
    assert Redis(url=url, passwordless=True, plaintext=True).url == url


def test_a_url_can_stand_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text(f"redis://:{PASSWORD}@127.0.0.1/0\n")
    assert Redis.model_validate({"url_file": path}).url == f"redis://:{PASSWORD}@127.0.0.1/0"


@pytest.mark.parametrize("content", [f"http://{PASSWORD}", f"redis://:{PASSWORD}@elsewhere.example", ""])
def test_what_is_wrong_with_the_file_is_told_without_what_is_in_it(content: str, tmp_path: Path) -> None:
    path = tmp_path / "url"
    path.write_text(content)
    with pytest.raises(ValidationError) as refused:
        Redis.model_validate({"url_file": path})
    problems = refused.value.errors(include_input=False, include_url=False, include_context=False)
    assert PASSWORD not in str(problems)


def test_a_file_that_is_not_there_and_a_url_beside_it_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="cannot be read: No such file"):
        Database.model_validate({"url_file": tmp_path / "absent"})
    with pytest.raises(ValidationError, match="either url or url_file"):
        Database.model_validate({"url": "sqlite:///x", "url_file": tmp_path / "absent"})
