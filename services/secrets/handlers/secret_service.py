"""`SecretService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from services.runtime.access.authorization import Authorizer, account_resource
from services.runtime.call import Call
from services.runtime.errors import StrongroomError, invalid, required, too_large
from services.runtime.requests import names
from services.runtime.requests.names import ResourceName
from services.runtime.requests.paging import Page
from services.runtime.rpc.streams import Stream
from services.runtime.storage.request_ids import repeatable
from services.secrets.core import filters
from services.secrets.core.stages import check_stages
from services.secrets.handlers import messages
from services.secrets.handlers.rotation_messages import repair_message, rotation_message
from services.secrets.life.catalog import Catalog
from services.secrets.life.creating import Creation
from services.secrets.life.lifecycle import Lifecycle
from services.secrets.life.watching import Watches
from services.secrets.rotation.policy import check_policy
from services.secrets.rotation.repairs import Repairs
from services.secrets.rotation.requests import Rotations
from services.secrets.rotation.targets.targets import TargetRules
from services.secrets.values import passwords
from services.secrets.values.vault import Reading, Vault
from strongroom.audit.v1.event_pb2 import OUTCOME_FAILED
from strongroom.secrets.v1 import secret_service_pb2 as pb
from strongroom.secrets.v1.rotation_pb2 import Rotation
from strongroom.secrets.v1.secret_pb2 import Secret, SecretValue, SecretVersion

# More than any number of a version or rotation.
_NEWEST = 1 << 30
_MAX_ITEMS = 100
_MAX_WATCHED = 1000
_ROTATIONS_PAGE = 20
_ROTATIONS_LARGEST_PAGE = 100


class SecretService:
    """Handlers of the public service."""

    def __init__(
        self,
        vault: Vault,
        catalog: Catalog,
        creation: Creation,
        lifecycle: Lifecycle,
        rotations: Rotations,
        repairs: Repairs,
        watches: Watches,
        authorizer: Authorizer,
        rules: TargetRules,
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._creation = creation
        self._lifecycle = lifecycle
        self._rotations = rotations
        self._repairs = repairs
        self._watches = watches
        self._authorizer = authorizer
        self._rules = rules

    def CreateSecret(self, request: pb.CreateSecretRequest, call: Call) -> Secret:
        """A new secret, with its first value where the request brings one."""
        new = messages.new_secret(request, self._rules)
        value = messages.new_value(request) if request.value else None
        created = self._creation.create(
            call,
            new,
            value,
            repeatable(request, call, redacted="value"),
            dry_run=request.validate_only,
            check_target=not request.skip_target_check,
        )
        return messages.secret_message(created)

    def GetSecret(self, request: pb.GetSecretRequest, call: Call) -> Secret:
        """A secret without its value."""
        return messages.secret_message(self._catalog.get(call, _secret_name(request.name)))

    def ListSecrets(self, request: pb.ListSecretsRequest, call: Call) -> pb.ListSecretsResponse:
        """A page of an account's secrets, by name."""
        account = names.parse_account(request.parent, "parent")
        conditions = filters.of_secrets(request.filter)
        page = Page.of(request, f"{request.parent}/secrets?{request.filter}")
        found = self._catalog.secrets_page(call, account, page.after, page.limit, conditions)
        secrets, token = page.fill(found, messages.secret_message, lambda secret: secret.name.id)
        return pb.ListSecretsResponse(secrets=secrets, next_page_token=token)

    def UpdateSecret(self, request: pb.UpdateSecretRequest, call: Call) -> Secret:
        """Changes fields of a secret."""
        update = messages.secret_update(request)
        changed = self._lifecycle.update(
            call, update, dry_run=request.validate_only, check_target=not request.skip_target_check
        )
        return messages.secret_message(changed)

    def DeleteSecret(self, request: pb.DeleteSecretRequest, call: Call) -> Secret:
        """Plans the destruction of a secret's values, or does it."""
        name = _secret_name(request.name)
        window_s = messages.deletion_window(request)
        again = repeatable(request, call)
        if request.force:
            return messages.secret_message(self._lifecycle.force_delete(call, name, request.etag, again))
        return messages.secret_message(self._lifecycle.delete(call, name, window_s, request.etag, again))

    def RestoreSecret(self, request: pb.RestoreSecretRequest, call: Call) -> Secret:
        """Takes a planned deletion back."""
        return messages.secret_message(self._lifecycle.restore(call, _secret_name(request.name)))

    def GetSecretValue(self, request: pb.GetSecretValueRequest, call: Call) -> SecretValue:
        """The value at a stage, or of a version."""
        return messages.value_message(self._vault.open(call, messages.reading(request)))

    def BatchGetSecretValue(self, request: pb.BatchGetSecretValueRequest, call: Call) -> pb.BatchGetSecretValueResponse:
        """Many values, each with an outcome of its own."""
        account = names.parse_account(request.parent, "parent")
        if not request.items:
            raise required("items")
        if len(request.items) > _MAX_ITEMS:
            raise too_large("items", _MAX_ITEMS, "items")
        wanted = [messages.item_reading(item) for item in request.items]
        sound = [item for item in wanted if isinstance(item, Reading)]
        if any(reading.name.account != account for reading in sound):
            raise invalid("items", "name a secret of another account")
        # Whoever may do nothing at all is told once, and not for each item.
        self._authorizer.admit(call)
        opened = iter(self._vault.open_many(call, sound))
        outcomes = [next(opened) if isinstance(item, Reading) else item for item in wanted]
        _record_unsound(call, [item for item in wanted if isinstance(item, StrongroomError)])
        return pb.BatchGetSecretValueResponse(outcomes=map(messages.outcome_message, outcomes))

    def PutSecretValue(self, request: pb.PutSecretValueRequest, call: Call) -> SecretVersion:
        """A new version of a secret."""
        name = _secret_name(request.name)
        value = messages.new_value(request)
        current = request.current_version if request.HasField("current_version") else None
        added = self._vault.put(
            call,
            name,
            value,
            check_stages(request.stages),
            repeatable(request, call, redacted="value"),
            current,
            self._lifecycle.permit_choice,
        )
        return messages.version_message(added.version, added.stages)

    def ListSecretVersions(self, request: pb.ListSecretVersionsRequest, call: Call) -> pb.ListSecretVersionsResponse:
        """A page of a secret's versions, newest first."""
        name = _secret_name(request.parent, "parent")
        conditions = filters.of_versions(request.filter)
        page = Page.of(request, f"{request.parent}?{request.filter}")
        secret, found = self._catalog.versions_page(call, name, page.below(_NEWEST), page.limit, conditions)
        versions, token = page.fill(
            found,
            lambda version: messages.version_message(version, secret.stages_of(version.name.version)),
            lambda version: str(version.name.version),
        )
        return pb.ListSecretVersionsResponse(secret_versions=versions, next_page_token=token)

    def UpdateSecretVersionStage(self, request: pb.UpdateSecretVersionStageRequest, call: Call) -> Secret:
        """Moves, adds or removes a stage."""
        name = _secret_name(request.name)
        return messages.secret_message(self._lifecycle.move_stage(call, name, messages.stage_move(request)))

    def DisableSecretVersion(self, request: pb.DisableSecretVersionRequest, call: Call) -> SecretVersion:
        """Stops serving a version's value."""
        name = _version_name(request.name)
        staged = self._lifecycle.disable_version(call, name, messages.comment(request.comment))
        return messages.version_message(staged.version, staged.stages)

    def EnableSecretVersion(self, request: pb.EnableSecretVersionRequest, call: Call) -> SecretVersion:
        """Serves a version's value again."""
        staged = self._lifecycle.enable_version(call, _version_name(request.name))
        return messages.version_message(staged.version, staged.stages)

    def DestroySecretVersion(self, request: pb.DestroySecretVersionRequest, call: Call) -> SecretVersion:
        """Destroys a version's value."""
        name = _version_name(request.name)
        staged = self._lifecycle.destroy_version(call, name, messages.comment(request.comment))
        return messages.version_message(staged.version, staged.stages)

    def WatchSecret(self, request: pb.WatchSecretRequest, call: Call) -> Callable[[Stream], None]:
        """Tells the changes of secrets as they come."""
        if not request.names:
            raise required("names")
        if len(request.names) > _MAX_WATCHED:
            raise too_large("names", _MAX_WATCHED, "secrets")
        wanted = list(dict.fromkeys(_secret_name(name, "names") for name in request.names))
        if len({name.account for name in wanted}) > 1:
            raise invalid("names", "are of several accounts")
        return self._watches.watch(call, wanted, request.resume_token)

    def RotateSecret(self, request: pb.RotateSecretRequest, call: Call) -> Rotation:
        """Begins a rotation now."""
        return rotation_message(self._rotations.rotate(call, _secret_name(request.name), repeatable(request, call)))

    def ResumeRotation(self, request: pb.ResumeRotationRequest, call: Call) -> Rotation:
        """Lets a rotation go on."""
        resumed = self._rotations.resume(call, _secret_name(request.name))
        return rotation_message(*self._rotations.with_attempts(resumed))

    def CancelRotation(self, request: pb.CancelRotationRequest, call: Call) -> Rotation:
        """Gives a rotation up."""
        cancelled = self._rotations.cancel(call, _secret_name(request.name))
        return rotation_message(*self._rotations.with_attempts(cancelled))

    def RepairSecret(self, request: pb.RepairSecretRequest, call: Call) -> pb.RepairSecretResponse:
        """Puts secret and target back in step."""
        name = _secret_name(request.name)
        return repair_message(self._repairs.repair(call, name, dry_run=request.validate_only))

    def UpdateRotationPolicy(self, request: pb.UpdateRotationPolicyRequest, call: Call) -> Secret:
        """Sets or removes the rotation policy."""
        name = _secret_name(request.name)
        policy = check_policy(request.rotation_policy) if request.HasField("rotation_policy") else None
        return messages.secret_message(self._rotations.plan(call, name, policy))

    def ListRotations(self, request: pb.ListRotationsRequest, call: Call) -> pb.ListRotationsResponse:
        """A page of a secret's rotations, newest first."""
        name = _secret_name(request.parent, "parent")
        conditions = filters.of_rotations(request.filter)
        listed = f"{request.parent}/rotations?{request.filter}"
        page = Page.of(request, listed, _ROTATIONS_PAGE, _ROTATIONS_LARGEST_PAGE)
        found = self._rotations.page(call, name, page.below(_NEWEST), page.limit, conditions)
        rotations, token = page.fill(
            found, lambda one: rotation_message(one[0], one[1]), lambda one: str(one[0].number)
        )
        return pb.ListRotationsResponse(rotations=rotations, next_page_token=token)

    def GenerateRandomPassword(
        self, request: pb.GenerateRandomPasswordRequest, call: Call
    ) -> pb.GenerateRandomPasswordResponse:
        """A random password, stored nowhere."""
        passwords.check_rule(request.password_rule)
        self._authorizer.authorize(call, "secrets:GenerateRandomPassword", account_resource(call.principal.account))
        return pb.GenerateRandomPasswordResponse(password=passwords.generate(request.password_rule))


def _record_unsound(call: Call, errors: Sequence[StrongroomError]) -> None:
    """An event for each reason why items of a batch name nothing that could be asked about."""
    for reason, count in Counter(error.reason for error in errors).items():
        event = call.record(call.action, "", call.principal.account, item_count=count)
        event.outcome, event.reason, event.failed_item_count = OUTCOME_FAILED, reason, count


def _secret_name(name: str, field: str = "name") -> ResourceName:
    return names.parse(name, field, "secrets")


def _version_name(name: str) -> ResourceName:
    return names.parse(name, "name", "secrets", versioned=True)
