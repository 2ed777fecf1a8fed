"""What falls due when, in Redis, shared by every replica of a service.

Redis holds nothing that the service's database does not know: a sorted set of items by due time, and the fencing token
of each item that is leased. Replicas put in what the database says will soon be due (`fill`), and claim what is due
now; a claimed item comes up again when its lease ends without `done`. So an emptied, restarted or unreachable Redis
delays work and loses none, and whoever works on an item asks the database once more, under its lock, whether it is
still due.

Each operation is one script, and time is Redis's own: replicas whose clocks differ agree on leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis import Redis

_MICROSECONDS = 1_000_000

# KEYS: due times, tokens, last token. Times are in seconds since the Unix epoch; a token is the time in microseconds,
# or one more than the last, so that an emptied Redis gives no token twice.
_CLAIM = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local claimed = {}
for _, item in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
    local last = tonumber(redis.call('GET', KEYS[3]) or 0)
    local token = string.format('%.0f', math.max(last + 1, now * 1000000))
    redis.call('SET', KEYS[3], token)
    redis.call('ZADD', KEYS[1], now + ARGV[2], item)
    redis.call('HSET', KEYS[2], item, token)
    claimed[#claimed + 1] = {item, token}
end
return claimed
"""
_DONE = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
"""
_LATER = """
if redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], time[1] + time[2] / 1000000 + ARGV[3], ARGV[1])
return 1
"""
_RENEW = """
local time = redis.call('TIME')
local ends = time[1] + time[2] / 1000000 + ARGV[1]
for n = 2, #ARGV, 2 do
    if redis.call('HGET', KEYS[2], ARGV[n]) == ARGV[n + 1] then
        redis.call('ZADD', KEYS[1], 'XX', ends, ARGV[n])
    end
end
"""
_FILL = """
for n = 1, #ARGV, 2 do
    if redis.call('HEXISTS', KEYS[2], ARGV[n]) == 0 then
        local present = redis.call('ZSCORE', KEYS[1], ARGV[n])
        if not present or tonumber(present) > tonumber(ARGV[n + 1]) then
            redis.call('ZADD', KEYS[1], ARGV[n + 1], ARGV[n])
        end
    end
end
"""
# Items of one script: Redis does nothing else meanwhile.
_FILLED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """An item that is due, leased to this replica."""

    item: str
    token: int
    """Grows with every claim of this schedule: of two claims of one item, the higher is the later."""


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
            args: list[str | float] = []
            for item, at in due[first : first + _FILLED_AT_ONCE]:
                args += [item, at / _MICROSECONDS]
            self._fill(keys=self._keys, args=args)

    def add(self, due_us: Mapping[str, int]) -> None:
        """Puts in items that are not in yet. The others stay as they are, those too that were put off."""
        if due_us:
            scores = {item: at / _MICROSECONDS for item, at in due_us.items()}
            self._client.zadd(self._keys[0], scores, nx=True)

    def renew(self, claims: Iterable[Claim], lease_seconds: float) -> None:
        """Leases items again, for so long from now on; those that others have claimed since stay theirs."""
        args: list[str | int | float] = [lease_seconds]
        for claim in claims:
            args += [claim.item, claim.token]
        if len(args) > 1:
            self._renew(keys=self._keys, args=args)

    def claim(self, limit: int, lease_seconds: float) -> list[Claim]:
        """Up to `limit` items that are due, leased for so long."""
        claimed = self._claim(keys=self._keys, args=[limit, lease_seconds])
        return [Claim(item.decode() if isinstance(item, bytes) else item, int(token)) for item, token in claimed]

    def done(self, claim: Claim) -> bool:
        """Takes an item out. False when its lease had ended and another replica has claimed it since."""
        return bool(self._done(keys=self._keys, args=[claim.item, claim.token]))

    def later(self, claim: Claim, seconds: float) -> bool:
        """Puts an item off, from now on. False as for `done`."""
        return bool(self._later(keys=self._keys, args=[claim.item, claim.token, seconds]))
