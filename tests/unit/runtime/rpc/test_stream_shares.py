"""Places for streams, by account and principal."""

from __future__ import annotations

import pytest

from services.runtime.call import Principal
from services.runtime.errors import Reason, StrongroomError
from services.runtime.rpc.stream_shares import StreamShares


def principal(account: str, name: str) -> Principal:
    return Principal(f"accounts/{account}/users/{name}", account)


def refused(shares: StreamShares, account: str, name: str) -> str:
    with pytest.raises(StrongroomError) as caught:
        shares.take(principal(account, name))
    assert caught.value.reason is Reason.OVERLOADED
    return caught.value.metadata["target"]


def test_neither_a_principal_nor_an_account_takes_all() -> None:
    shares = StreamShares("streams", total=8, account=4, principal=2, retry_after_seconds=1)
    for name in ("one", "one", "two", "two"):
        shares.take(principal("greedy", name))
    assert refused(shares, "greedy", "one") == "accounts/greedy/users/one"
    assert refused(shares, "greedy", "three") == "accounts/greedy"
    shares.take(principal("victim", "a"))


def test_where_all_are_taken_an_account_without_one_gets_its_first() -> None:
    shares = StreamShares("streams", total=4, account=4, principal=4, retry_after_seconds=1)
    for _ in range(4):
        shares.take(principal("greedy", "one"))
    give_back = shares.take(principal("victim", "a"))
    assert refused(shares, "victim", "a") == "this process"
    give_back()
    give_back()
    shares.take(principal("victim", "a"))
