"""`AccessService`: reads requests, calls the domain, writes responses."""

from __future__ import annotations

from services.keystore.access.accounts import Accounts
from services.keystore.access.client_keys import ClientKeys
from services.keystore.access.grants import Grants
from services.keystore.access.identities import SpiffeIds
from services.keystore.access.oidc_providers import OidcProviders
from services.keystore.access.policies import Policies
from services.keystore.access.principals import Principals
from services.keystore.access.quotas import Quotas
from services.keystore.access.simulation import Simulation
from services.keystore.account_service import AccountHandlers
from services.keystore.client_key_service import ClientKeyHandlers
from services.keystore.grant_service import GrantHandlers
from services.keystore.oidc_provider_service import OidcProviderHandlers
from services.keystore.policy_service import PolicyHandlers
from services.keystore.principal_service import PrincipalHandlers
from services.keystore.quota_service import QuotaHandlers
from services.keystore.simulation_service import SimulationHandlers
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
