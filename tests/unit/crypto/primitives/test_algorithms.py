"""What keystore lets be created is what crypto has algorithms for."""

from __future__ import annotations

from services.crypto.primitives.algorithms import ALGORITHMS
from services.runtime.requests.key_specs import USAGES
from strongroom.keystore.v1.key_pb2 import KEY_SPEC_UNSPECIFIED, KeySpec


def test_every_spec_and_usage_has_algorithms_and_no_other() -> None:
    assert set(ALGORITHMS) == {(spec, usage) for spec, usages in USAGES.items() for usage in usages}


def test_every_spec_of_the_contract_has_usages() -> None:
    assert set(USAGES) == set(KeySpec.values()) - {KEY_SPEC_UNSPECIFIED}
