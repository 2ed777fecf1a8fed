"""Other processes make and destroy keys of the token while this one looks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pkcs11 import Attribute, SecretKey
from pkcs11.exceptions import ObjectHandleInvalid

from services.crypto.providers.pkcs11 import objects, root
from tests.support import tokens


class Vanishing(SecretKey):
    """A key that is destroyed between being found and being read."""

    def __init__(self) -> None:
        """It is of no session."""

    @property
    def label(self) -> str:
        raise ObjectHandleInvalid


class Elsewhere:
    """A session with a token in which the objects are destroyed while they are looked for, so many times."""

    def __init__(self, session: Any, times: int) -> None:
        self._session = session
        self._times = times

    def get_objects(self, wanted: Mapping[Attribute, Any]) -> Iterator[Any]:
        self._times -= 1
        if self._times >= 0:
            yield Vanishing()
        yield from self._session.get_objects(wanted)


@pytest.mark.parametrize("module", tokens.MODULES)
def test_a_key_that_is_destroyed_meanwhile_is_not_there(module: str, tmp_path: Path) -> None:
    with tokens.pool_of(tokens.open_token(module, tmp_path)) as pool, pool.writing() as session:
        root.make(session, 1)
        root.make(session, 2)
        assert root.versions_in(cast(Any, Elsewhere(session, 3))) == [1, 2]
        with pytest.raises(ObjectHandleInvalid):
            root.versions_in(cast(Any, Elsewhere(session, 100)))


@pytest.mark.parametrize("module", tokens.MODULES)
def test_what_two_destroy_is_gone(module: str, tmp_path: Path) -> None:
    with tokens.pool_of(tokens.open_token(module, tmp_path)) as pool, pool.writing() as session:
        root.make(session, 1)
        found = objects.kept(session, root.root_label(1))
        root.destroy(session, 1)
        with pytest.raises(objects.GONE):
            found[0].key.destroy()
        root.destroy(session, 1)
        assert root.versions_in(session) == []
