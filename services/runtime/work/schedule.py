"""What falls due when, in Redis, shared by every replica of a service.

Redis holds nothing that the service's database does not know: a sorted set of items by due time, and the fencing token
of each item that is leased. Replicas put in what the database says will soon be due (`fill`), and claim what is due
now; a claimed item comes up again when its lease ends without `done`. So an emptied, restarted or unreachable Redis
delays work and loses none, and whoever works on an item asks the database once more, under its lock, whether it is
still due.

Each operation is one script, and time is Redis's own: replicas whose clocks differ agree on leases.

Nothing that stands in Redis is believed, for whoever reaches it may write there: a token far from now is given up, a
lease longer than any is none, what is longer than any item of ours is taken out unread, and what is of another type
than it should be is forgotten (`reset`). What Redis keeps back nevertheless, the database alone brings forward
(`DueWork`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

_MICROSECONDS = 1_000_000

# KEYS: due times, tokens, last token. Times are in seconds since the Unix epoch; a token is the time in microseconds,
# or one more than the last, so that an emptied Redis gives no token twice. Of what may be of any length no more is read
# than of what is ours.
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local claimed, strange = {}, 0
for _, item in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
    if #item > tonumber(ARGV[4]) then
        redis.call('ZREM', KEYS[1], item)
        redis.call('HDEL', KEYS[2], item)
        strange = strange + 1
    else
        local last = tonumber(redis.call('GETRANGE', KEYS[3], 0, 31)) or 0
        if not (last < now * 1000000 + ARGV[3]) then last = 0 end
        local token = string.format('%.0f', math.max(last + 1, now * 1000000))
        redis.call('SET', KEYS[3], token)
        redis.call('ZADD', KEYS[1], now + ARGV[2], item)
        redis.call('HSET', KEYS[2], item, token)
        claimed[#claimed + 1] = {item, token}
    end
end
return {strange, claimed}
"""
_IS_MINE = """
local function is_mine(item, token)
    return redis.call('HSTRLEN', KEYS[2], item) == #token and redis.call('HGET', KEYS[2], item) == token
end
"""
_DONE = f"""{_IS_MINE}
if not is_mine(ARGV[1], ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
"""
_LATER = f"""{_IS_MINE}
if not is_mine(ARGV[1], ARGV[2]) then return 0 end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + ARGV[3], ARGV[1])
return 1
"""
_RENEW = f"""{_IS_MINE}
local time = redis.call('TIME')
local ends = time[1] + time[2] / 1000000 + ARGV[1]
for n = 2, #ARGV, 2 do
    if is_mine(ARGV[n], ARGV[n + 1]) then
        redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[n])
    end
end
"""
_FILL = """
local time = redis.call('TIME')
local longest = time[1] + time[2] / 1000000 + ARGV[1]
for n = 2, #ARGV, 2 do
    local present = redis.call('ZSCORE', KEYS[1], ARGV[n])
    local leased = redis.call('HEXISTS', KEYS[2], ARGV[n]) == 1
    if not leased or not present or tonumber(present) > longest then
        if not present or tonumber(present) > tonumber(ARGV[n + 1]) then
            redis.call('ZADD', KEYS[1], ARGV[n + 1], ARGV[n])
        end
    end
end
"""
LONGEST_LEASE_SECONDS = 300
"""What is leased for longer was not leased by a service."""
TOKEN_AHEAD_US = 60_000_000
"""By how much a token may be off the clock, which is as much as clocks may differ."""
LONGEST_ITEM_BYTES = 256
"""What is longer is no item of a service: a kind, an account and a name."""

# Items of one script: Redis does nothing else meanwhile.
_FILLED_AT_ONCE = 1_000
# Of claims that come upon nothing but strange items: the next one goes on.
_CLAIMS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """An item that is due, leased to this replica."""

    item: str
    token: int
    """Grows with every claim of this schedule: of two claims of one item, the higher is the later. Redis says so: the
    database judges."""
    seen: int | None = None
    """For an item that the database brought forward: what `Overdue` saw, so that who comes second leaves it alone."""


class Schedule:
    """The items of one service. Every method raises redis.exceptions.RedisError while Redis cannot be used."""

    def __init__(self, client: Redis, service: str) -> None:
        self._client: Any = client
        # One hash slot, for a cluster's sake.
        prefix = f"strongroom:{{{service}}}:"
        self._keys = [prefix + "due", prefix + "tokens", prefix + "token"]
        self._claim = client.register_script(_CLAIM)
        self._done = client.register_script(_DONE)
        self._later = client.register_script(_LATER)
        self._renew = client.register_script(_RENEW)
        self._fill = client.register_script(_FILL)

    def fill(self, due_us: Mapping[str, int]) -> None:
        """Puts items in by their due time, in microseconds since the Unix epoch, or brings them forward to it. Those
        that are leased stay as they are."""
        due = list(due_us.items())
        for first in range(0, len(due), _FILLED_AT_ONCE):
            args: list[bytes | float] = [LONGEST_LEASE_SECONDS]
            for item, at in due[first : first + _FILLED_AT_ONCE]:
                args += [_bytes(item), at / _MICROSECONDS]
            self._fill(keys=self._keys, args=args)

    def add(self, due_us: Mapping[str, int]) -> None:
        """Puts in items that are not in yet. The others stay as they are, those too that were put off."""
        if due_us:
            scores = {_bytes(item): at / _MICROSECONDS for item, at in due_us.items()}
            self._client.zadd(self._keys[0], scores, nx=True)

    def renew(self, claims: Iterable[Claim], lease_seconds: float) -> None:
        """Leases items again, for so long from now on; those that others have claimed since stay theirs."""
        args: list[bytes | int | float] = [lease_seconds]
        for claim in claims:
            args += [_bytes(claim.item), claim.token]
        if len(args) > 1:
            self._renew(keys=self._keys, args=args)

    def claim(self, limit: int, lease_seconds: float) -> list[Claim]:
        """Up to `limit` items that are due, leased for so long."""
        args = [limit, lease_seconds, TOKEN_AHEAD_US, LONGEST_ITEM_BYTES]
        for _ in range(_CLAIMS_AT_ONCE):
            strange, claimed = self._claim(keys=self._keys, args=args)
            if claimed or not strange:
                break
        return [Claim(item.decode(errors="surrogateescape"), int(token)) for item, token in claimed]

    def done(self, claim: Claim) -> bool:
        """Takes an item out. False when its lease had ended and another replica has claimed it since."""
        return bool(self._done(keys=self._keys, args=[_bytes(claim.item), claim.token]))

    def later(self, claim: Claim, seconds: float) -> bool:
        """Puts an item off, from now on. False as for `done`."""
        return bool(self._later(keys=self._keys, args=[_bytes(claim.item), claim.token, seconds]))

    def reset(self) -> None:
        """Forgets everything: the database knows it all."""
        # Not DELETE, which Redis answers nobody else during: these may be as large as somebody likes.
        self._client.unlink(*self._keys)


def judged(token: int, known: int, now_us: int) -> int | None:
    """The token that an item is worked on under, where the database knows `known`; None for one that is a little behind
    that, and whose time will come. One that is far from now orders nothing: the next after `known` is taken."""
    if abs(token - now_us) > TOKEN_AHEAD_US or token <= known - TOKEN_AHEAD_US:
        return known + 1
    return token if token > known else None


def _bytes(item: str) -> bytes:
    # Anything may stand in Redis, and has to be taken out again by its name.
    return item.encode(errors="surrogateescape")
