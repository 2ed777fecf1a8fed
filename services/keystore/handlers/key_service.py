"""`KeyService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from functools import partial

from google.protobuf.empty_pb2 import Empty

from services.keystore.handlers import messages
from services.keystore.keys.aliases import Aliases
from services.keystore.keys.imports import Imports
from services.keystore.keys.key_versions import KeyVersions
from services.keystore.keys.keys import Keys
from services.keystore.keys.lifecycle import Lifecycle
from services.keystore.root_key.rotation import RootKey
from services.keystore.store import filters
from services.runtime.call import Call
from services.runtime.clock import Clock
from services.runtime.errors import required
from services.runtime.requests import names
from services.runtime.requests.paging import Page
from services.runtime.requests.tags import check_tags
from services.runtime.storage.request_ids import repeatable
from strongroom.keystore.v1 import key_service_pb2 as pb
from strongroom.keystore.v1.key_pb2 import Alias, Key, KeyVersion
from strongroom.keystore.v1.root_key_pb2 import RootKeyStatus

# More than any version number.
_NEWEST = 1 << 30
_KEY_OR_ALIAS = ("keys", "aliases")


class KeyService:
    """Handlers of the public service."""

    def __init__(
        self,
        keys: Keys,
        lifecycle: Lifecycle,
        versions: KeyVersions,
        imports: Imports,
        root_key: RootKey,
        aliases: Aliases,
        clock: Clock,
    ) -> None:
        self._keys = keys
        self._lifecycle = lifecycle
        self._versions = versions
        self._imports = imports
        self._root_key = root_key
        self._aliases = aliases
        self._clock = clock

    def CreateKey(self, request: pb.CreateKeyRequest, call: Call) -> Key:
        """A new key with its first version."""
        return messages.key_message(self._keys.create(call, messages.new_key(request), repeatable(request, call)))

    def GetKey(self, request: pb.GetKeyRequest, call: Call) -> Key:
        """A key, by its name or an alias."""
        return messages.key_message(self._keys.get(call, names.parse(request.name, "name", *_KEY_OR_ALIAS)))

    def ListKeys(self, request: pb.ListKeysRequest, call: Call) -> pb.ListKeysResponse:
        """A page of an account's keys, by id."""
        account = names.parse_account(request.parent, "parent")
        wanted = filters.of_keys(request.filter)
        page = Page.of(request, f"{request.parent}/keys?{request.filter}")
        found = self._keys.page(call, account, page.after, page.limit, wanted)
        keys, token = page.fill(found, messages.key_message, lambda key: key.name.id)
        return pb.ListKeysResponse(keys=keys, next_page_token=token)

    def UpdateKey(self, request: pb.UpdateKeyRequest, call: Call) -> Key:
        """Gives a key another description."""
        name = names.parse(request.key.name, "key.name", *_KEY_OR_ALIAS)
        description = messages.description_change(request)
        return messages.key_message(self._lifecycle.describe(call, name, description, request.key.etag))

    def EnableKey(self, request: pb.EnableKeyRequest, call: Call) -> Key:
        """Lets a key be used again."""
        return messages.key_message(self._lifecycle.enable(call, names.parse(request.name, "name", *_KEY_OR_ALIAS)))

    def DisableKey(self, request: pb.DisableKeyRequest, call: Call) -> Key:
        """Stops every use of a key."""
        return messages.key_message(self._lifecycle.disable(call, names.parse(request.name, "name", *_KEY_OR_ALIAS)))

    def SetDeletionProtection(self, request: pb.SetDeletionProtectionRequest, call: Call) -> Key:
        """Turns deletion protection on or off."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS)
        comment = messages.comment(request)
        return messages.key_message(
            self._lifecycle.protect(call, name, protected=request.deletion_protection, comment=comment)
        )

    def ScheduleKeyDeletion(self, request: pb.ScheduleKeyDeletionRequest, call: Call) -> Key:
        """Stops every use of a key, and plans the destruction of its material."""
        name = names.parse(request.name, "name", "keys")
        window_s = messages.deletion_window(request)
        return messages.key_message(self._lifecycle.schedule_deletion(call, name, window_s))

    def CancelKeyDeletion(self, request: pb.CancelKeyDeletionRequest, call: Call) -> Key:
        """Takes a planned deletion back."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS)
        return messages.key_message(self._lifecycle.cancel_deletion(call, name))

    def TagKey(self, request: pb.TagKeyRequest, call: Call) -> Key:
        """Adds tags, and replaces those of the same keys."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS)
        if not request.tags:
            raise required("tags")
        return messages.key_message(self._lifecycle.tag(call, name, check_tags(request.tags, "tags")))

    def UntagKey(self, request: pb.UntagKeyRequest, call: Call) -> Key:
        """Removes tags."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS)
        if not request.tag_keys:
            raise required("tag_keys")
        return messages.key_message(self._lifecycle.untag(call, name, request.tag_keys))

    def UpdateRotationPolicy(self, request: pb.UpdateRotationPolicyRequest, call: Call) -> Key:
        """Sets or removes the rotation policy."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS)
        period_s = messages.rotation_period(request, "rotation_policy")
        return messages.key_message(self._lifecycle.plan_rotation(call, name, period_s))

    def GetKeyVersion(self, request: pb.GetKeyVersionRequest, call: Call) -> KeyVersion:
        """One version of a key."""
        return messages.version_message(*self._versions.get(call, _version_name(request.name)))

    def ListKeyVersions(self, request: pb.ListKeyVersionsRequest, call: Call) -> pb.ListKeyVersionsResponse:
        """A page of a key's versions, newest first."""
        name = names.parse(request.parent, "parent", *_KEY_OR_ALIAS)
        conditions = filters.of_versions(request.filter)
        page = Page.of(request, f"{request.parent}?{request.filter}")
        key, found = self._versions.page(call, name, page.below(_NEWEST), page.limit, conditions)
        versions, token = page.fill(found, partial(messages.version_message, key), lambda version: str(version.version))
        return pb.ListKeyVersionsResponse(key_versions=versions, next_page_token=token)

    def CreateKeyVersion(self, request: pb.CreateKeyVersionRequest, call: Call) -> KeyVersion:
        """Rotates a key now."""
        name = names.parse(request.parent, "parent", *_KEY_OR_ALIAS)
        return messages.version_message(*self._versions.create(call, name, repeatable(request, call)))

    def EnableKeyVersion(self, request: pb.EnableKeyVersionRequest, call: Call) -> KeyVersion:
        """Lets a version be used again."""
        return messages.version_message(*self._versions.enable(call, _version_name(request.name)))

    def DisableKeyVersion(self, request: pb.DisableKeyVersionRequest, call: Call) -> KeyVersion:
        """Stops every use of a version."""
        return messages.version_message(*self._versions.disable(call, _version_name(request.name)))

    def DestroyKeyVersion(self, request: pb.DestroyKeyVersionRequest, call: Call) -> KeyVersion:
        """Destroys a version's material for good, at once or later."""
        name, waiting_s = _version_name(request.name), messages.waiting_period(request)
        despite = request.despite_deletion_protection
        return messages.version_message(*self._versions.destroy(call, name, waiting_s, despite_protection=despite))

    def CancelKeyVersionDestruction(self, request: pb.CancelKeyVersionDestructionRequest, call: Call) -> KeyVersion:
        """Takes a planned destruction back."""
        return messages.version_message(*self._versions.cancel_destruction(call, _version_name(request.name)))

    def SetPrimaryKeyVersion(self, request: pb.SetPrimaryKeyVersionRequest, call: Call) -> Key:
        """Chooses the version that encrypts, signs and makes MACs."""
        return messages.key_message(self._versions.set_primary(call, _version_name(request.name)))

    def GetParametersForImport(
        self, request: pb.GetParametersForImportRequest, call: Call
    ) -> pb.GetParametersForImportResponse:
        """What material for a version is to be wrapped with."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS, versioned=None)
        if not request.import_method:
            raise required("import_method")
        return messages.import_message(self._imports.begin(call, name, request.import_method), request.import_method)

    def ImportKeyMaterial(self, request: pb.ImportKeyMaterialRequest, call: Call) -> KeyVersion:
        """Imports a version's material."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS, versioned=None)
        expires_us = messages.material_to_import(request, self._clock.now_us())
        return messages.version_message(
            *self._imports.finish(call, name, request.import_token, request.encrypted_material, expires_us)
        )

    def DeleteImportedKeyMaterial(self, request: pb.DeleteImportedKeyMaterialRequest, call: Call) -> KeyVersion:
        """Deletes imported material until it is imported again."""
        name = names.parse(request.name, "name", *_KEY_OR_ALIAS, versioned=None)
        return messages.version_message(*self._imports.delete(call, name))

    def RotateRootKey(self, request: pb.RotateRootKeyRequest, call: Call) -> RootKeyStatus:
        """A new version of the root key, and every blob under it."""
        return messages.root_key_message(self._root_key.rotate(call, repeatable(request, call)))

    def GetRootKeyStatus(self, request: pb.GetRootKeyStatusRequest, call: Call) -> RootKeyStatus:
        """The root key's versions, and the progress of its rotation."""
        return messages.root_key_message(self._root_key.status(call))

    def CreateAlias(self, request: pb.CreateAliasRequest, call: Call) -> Alias:
        """A new alias."""
        return messages.alias_message(
            self._aliases.create(call, messages.new_alias(request), repeatable(request, call))
        )

    def GetAlias(self, request: pb.GetAliasRequest, call: Call) -> Alias:
        """An alias."""
        return messages.alias_message(self._aliases.get(call, names.parse(request.name, "name", "aliases")))

    def ListAliases(self, request: pb.ListAliasesRequest, call: Call) -> pb.ListAliasesResponse:
        """A page of an account's aliases, by id."""
        account = names.parse_account(request.parent, "parent")
        conditions = filters.of_aliases(request.filter)
        page = Page.of(request, f"{request.parent}/aliases?{request.filter}")
        found = self._aliases.page(call, account, page.after, page.limit, conditions)
        aliases, token = page.fill(found, messages.alias_message, lambda alias: alias.name.id)
        return pb.ListAliasesResponse(aliases=aliases, next_page_token=token)

    def UpdateAlias(self, request: pb.UpdateAliasRequest, call: Call) -> Alias:
        """Moves an alias to another key, or describes it anew."""
        wanted, paths = messages.alias_change(request)
        return messages.alias_message(self._aliases.update(call, wanted, paths, request.alias.etag))

    def DeleteAlias(self, request: pb.DeleteAliasRequest, call: Call) -> Empty:
        """Deletes an alias, and nothing of its key."""
        self._aliases.delete(call, names.parse(request.name, "name", "aliases"), request.etag)
        return Empty()


def _version_name(name: str) -> names.ResourceName:
    return names.parse(name, "name", "keys", versioned=True)
