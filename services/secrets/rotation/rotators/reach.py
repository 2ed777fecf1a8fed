"""Where on the network a step of a rotation may connect: names are resolved once, and the address that was checked is
the one that is connected to.

What an address may be is for the mesh's administrator (`rotation.targets` of the configuration) and for whom the values
belong to (`allowed_destinations` of a secret and of its master). Without a rule that names them, addresses that are not
of the public internet and the mesh's own are refused: this service stands inside the network, and its callers may not.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from services.runtime.errors import Reason, StrongroomError
from services.runtime.outside.public_addresses import is_public
from services.secrets.core.destinations import Destination, IpAddress, Place, address_of, destinations, not_allowed

EVERY_ACCOUNT = "*"


@dataclass(frozen=True, slots=True)
class TargetRule:
    """Places that some accounts may name as targets."""

    accounts: tuple[str, ...]
    places: tuple[str, ...]
    spiffe_ids: tuple[str, ...] = ()
    """Of RotatorServices: those of these accounts are only such."""

    def permitting(self, account: str, place: Place, address: IpAddress) -> Sequence[Destination]:
        """Its entries for this account and place."""
        if not self.is_for(account):
            return ()
        return [entry for entry in _read(self.places) if entry.permits(place, address)]

    def is_for(self, account: str) -> bool:
        """Whether it says anything of the account."""
        return account in self.accounts or EVERY_ACCOUNT in self.accounts


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What the mesh's administrator says of targets."""

    rules: tuple[TargetRule, ...] = ()
    public: bool = True
    """Whether any account may name any public address besides."""
    own: tuple[Place, ...] = ()
    """The mesh's own servers, which no rule opens but one that names host and port; port 0 for all of a host's. While
    a name among them is not resolved, nothing else is opened that may be there."""
    refused: tuple[str, ...] = ()
    """Networks that the mesh's own servers are in."""

    def require_permitted(self, account: str, place: Place, address: IpAddress) -> None:
        """Raises DESTINATION_NOT_ALLOWED."""
        naming = [entry for rule in self.rules for entry in rule.permitting(account, place, address)]
        if any(entry.is_exact for entry in naming):
            return
        self._require_not_own(place, address)
        if not naming and (not self.public or not is_public(address)):
            raise not_allowed(place, "the service's configuration (rotation.targets) does not list it for the account")

    def require_own_known(self) -> None:
        """Raises TARGET_UNREACHABLE while a name of the mesh's own servers is not resolved."""
        for own in self.own:
            _resolved(own)

    def own_is_known(self) -> bool:
        """Whether every name of the mesh's own servers is resolved."""
        try:
            self.require_own_known()
        except StrongroomError:
            return False
        return True

    def _require_not_own(self, place: Place, address: IpAddress) -> None:
        """Raises DESTINATION_NOT_ALLOWED for a server of the mesh, and TARGET_UNREACHABLE, for a later try that is not
        counted, as long as nobody says where one of them is: any address may be its then."""
        if any(entry.permits(place, address) for entry in _read(self.refused)):
            raise _of_the_mesh(place)
        for own in self.own:
            if own.port in (0, place.port) and (own.host == place.host or _is_at(own, place, address)):
                raise _of_the_mesh(place)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where one secret's steps may connect."""

    account: str
    network: NetworkRules
    listed: tuple[tuple[str, ...], ...] = ()
    """`allowed_destinations` of every secret whose value is sent, where there are such."""

    @property
    def spiffe_ids(self) -> frozenset[str]:
        """Those that a RotatorService of the account has one of; none where the administrator names none for it."""
        rules = (rule for rule in self.network.rules if rule.is_for(self.account))
        return frozenset(spiffe_id for rule in rules for spiffe_id in rule.spiffe_ids)

    def address(self, place: Place) -> str:
        """The address to connect to. Raises DESTINATION_NOT_ALLOWED, TARGET_UNREACHABLE for an unknown name."""
        refused: StrongroomError | None = None
        for address in _resolved(place):
            try:
                self._require_permitted(place, address)
            except StrongroomError as error:
                refused = error
            else:
                return str(address)
        raise refused or unknown_host(place)

    def _require_permitted(self, place: Place, address: IpAddress) -> None:
        for entries in self.listed:
            if not any(entry.permits(place, address) for entry in _read(entries)):
                raise not_allowed(place, "the allowed_destinations of a secret whose value is sent do not list it")
        self.network.require_permitted(self.account, place, address)


def unknown_host(place: Place) -> StrongroomError:
    """Nobody knows the name."""
    return StrongroomError(Reason.TARGET_UNREACHABLE, f"{place.host} port {place.port}: the host name is not known")


def _resolved(place: Place) -> Sequence[IpAddress]:
    if place.address is not None:
        return [place.address]
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise unknown_host(place) from None
    # What stands behind a % is this machine's interface.
    addresses = [address_of(str(entry[4][0]).partition("%")[0]) for entry in found]
    return [address for address in dict.fromkeys(addresses) if address is not None]


def _is_at(own: Place, place: Place, address: IpAddress) -> bool:
    try:
        found = _resolved(own)
    except StrongroomError:
        raise StrongroomError(
            Reason.TARGET_UNREACHABLE,
            f"{place.host} port {place.port} may be a server of the mesh itself: the address of one is not known now",
            of_the_mesh="true",
        ) from None
    if address in found:
        return True
    # What this machine has at one of its addresses it may have at all of them.
    return any(one.is_loopback or one.is_unspecified for one in found) and _is_of_this_machine(address)


def _is_of_this_machine(address: IpAddress) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _of_the_mesh(place: Place) -> StrongroomError:
    return not_allowed(place, "it is a server of the mesh itself")


@cache
def _read(entries: tuple[str, ...]) -> tuple[Destination, ...]:
    return destinations(entries)
