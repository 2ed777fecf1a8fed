"""`AccessService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from services.keystore.access.accounts.accounts import Accounts
from services.keystore.access.accounts.identities import SpiffeIds
from services.keystore.access.accounts.oidc_providers import OidcProviders
from services.keystore.access.accounts.principals import Principals
from services.keystore.access.accounts.quotas import Quotas
from services.keystore.access.credentials.client_keys import ClientKeys
from services.keystore.access.policies.grants import Grants
from services.keystore.access.policies.policies import Policies
from services.keystore.access.policies.simulation import Simulation
from services.keystore.handlers.account_service import AccountHandlers
from services.keystore.handlers.client_key_service import ClientKeyHandlers
from services.keystore.handlers.grant_service import GrantHandlers
from services.keystore.handlers.oidc_provider_service import OidcProviderHandlers
from services.keystore.handlers.policy_service import PolicyHandlers
from services.keystore.handlers.principal_service import PrincipalHandlers
from services.keystore.handlers.quota_service import QuotaHandlers
from services.keystore.handlers.simulation_service import SimulationHandlers
from services.runtime.clock import Clock


class AccessService(
    AccountHandlers,
    PrincipalHandlers,
    PolicyHandlers,
    GrantHandlers,
    ClientKeyHandlers,
    OidcProviderHandlers,
    QuotaHandlers,
    SimulationHandlers,
):
    """Handlers of the public service, by subject in the classes that it is made of."""

    def __init__(
        self,
        accounts: Accounts,
        principals: Principals,
        policies: Policies,
        grants: Grants,
        client_keys: ClientKeys,
        oidc_providers: OidcProviders,
        quotas: Quotas,
        simulation: Simulation,
        spiffe_ids: SpiffeIds,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._principals = principals
        self._policies = policies
        self._grants = grants
        self._client_keys = client_keys
        self._oidc_providers = oidc_providers
        self._quotas = quotas
        self._simulation = simulation
        self._spiffe_ids = spiffe_ids
        self._clock = clock
