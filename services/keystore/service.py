"""`KeyService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from services.keystore import messages
from services.keystore.aliases import Aliases
from services.keystore.keys import Keys
from services.runtime import names, paging
from services.runtime.call import Call
from services.runtime.repeats import repeatable
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_pb2 import Alias, Key, KeyVersion

# More than any version number.
_NEWEST = 1 << 31


class KeyService:
    """Handlers of the public service."""

    def __init__(self, keys: Keys, aliases: Aliases) -> None:
        self._keys = keys
        self._aliases = aliases

    def CreateKey(self, request: pb.CreateKeyRequest, call: Call) -> Key:
        """A new key with its first version."""
        return messages.key_message(self._keys.create(call, messages.new_key(request), repeatable(request)))

    def GetKey(self, request: pb.GetKeyRequest, call: Call) -> Key:
        """A key, by its name or an alias."""
        return messages.key_message(self._keys.get(call, names.parse(request.name, "name", "keys", "aliases")))

    def ListKeys(self, request: pb.ListKeysRequest, call: Call) -> pb.ListKeysResponse:
        """A page of an account's keys, by id."""
        account = names.parse_account(request.parent, "parent")
        messages.refuse_yet("filter", given=bool(request.filter))
        size = paging.page_size(request.page_size)
        after = paging.decode(f"{request.parent}/keys", request.page_token)
        found = self._keys.page(call, account, after, size + 1)
        more = len(found) > size
        return pb.ListKeysResponse(
            keys=map(messages.key_message, found[:size]),
            next_page_token=paging.encode(f"{request.parent}/keys", found[size - 1].name.id) if more else "",
        )

    def EnableKey(self, request: pb.EnableKeyRequest, call: Call) -> Key:
        """Lets a key be used again."""
        return messages.key_message(self._keys.enable(call, names.parse(request.name, "name", "keys")))

    def DisableKey(self, request: pb.DisableKeyRequest, call: Call) -> Key:
        """Stops every use of a key."""
        return messages.key_message(self._keys.disable(call, names.parse(request.name, "name", "keys")))

    def GetKeyVersion(self, request: pb.GetKeyVersionRequest, call: Call) -> KeyVersion:
        """One version of a key."""
        return messages.version_message(
            *self._keys.version(call, names.parse(request.name, "name", "keys", versioned=True))
        )

    def ListKeyVersions(self, request: pb.ListKeyVersionsRequest, call: Call) -> pb.ListKeyVersionsResponse:
        """A page of a key's versions, newest first."""
        name = names.parse(request.parent, "parent", "keys")
        messages.refuse_yet("filter", given=bool(request.filter))
        size = paging.page_size(request.page_size)
        before = paging.decode_number(request.parent, request.page_token, _NEWEST)
        key, found = self._keys.versions_page(call, name, before, size + 1)
        more = len(found) > size
        return pb.ListKeyVersionsResponse(
            key_versions=[messages.version_message(key, version) for version in found[:size]],
            next_page_token=paging.encode(request.parent, str(found[size - 1].version)) if more else "",
        )

    def CreateAlias(self, request: pb.CreateAliasRequest, call: Call) -> Alias:
        """A new alias."""
        return messages.alias_message(self._aliases.create(call, messages.new_alias(request), repeatable(request)))

    def GetAlias(self, request: pb.GetAliasRequest, call: Call) -> Alias:
        """An alias."""
        return messages.alias_message(self._aliases.get(call, names.parse(request.name, "name", "aliases")))

    def ListAliases(self, request: pb.ListAliasesRequest, call: Call) -> pb.ListAliasesResponse:
        """A page of an account's aliases, by id."""
        account = names.parse_account(request.parent, "parent")
        messages.refuse_yet("filter", given=bool(request.filter))
        size = paging.page_size(request.page_size)
        after = paging.decode(f"{request.parent}/aliases", request.page_token)
        found = self._aliases.page(call, account, after, size + 1)
        more = len(found) > size
        return pb.ListAliasesResponse(
            aliases=map(messages.alias_message, found[:size]),
            next_page_token=paging.encode(f"{request.parent}/aliases", found[size - 1].name.id) if more else "",
        )

    def UpdateAlias(self, request: pb.UpdateAliasRequest, call: Call) -> Alias:
        """Moves an alias to another key, or describes it anew."""
        wanted, paths = messages.alias_change(request)
        return messages.alias_message(self._aliases.update(call, wanted, paths, request.alias.etag))

    def DeleteAlias(self, request: pb.DeleteAliasRequest, call: Call) -> Empty:
        """Deletes an alias, and nothing of its key."""
        self._aliases.delete(call, names.parse(request.name, "name", "aliases"), request.etag)
        return Empty()
