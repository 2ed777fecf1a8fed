"""Where each command and group is, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command or group is: a module of this package, whose `add_to` adds it, and what it is for."""

    module: str
    about: str


ENTRIES: Mapping[str, Mapping[str, Entry]] = {
    "Begin": {
        "status": Entry("status", "Show how each service is, and what is wrong."),
        "whoami": Entry("status", "Show who the services take you for."),
        "login": Entry("sessions", "Begin a session and use it for every command of this profile until `logout`."),
        "logout": Entry("sessions", "End this profile's login."),
        "profile": Entry("profile", "Which mesh to call, and as whom."),
        "help": Entry("help", "Explain a topic, a command, or the reason of an error."),
    },
    "Use keys": {
        "encrypt": Entry("cryptography", "Encrypt up to 64 KiB."),
        "decrypt": Entry("cryptography", "Decrypt a ciphertext."),
        "re-encrypt": Entry("signatures", "Move a ciphertext under another key or context."),
        "file": Entry("files", "Files of any size, encrypted here under data keys."),
        "data-key": Entry("cryptography", "Make a data key."),
        "sign": Entry("signatures", "Sign up to 64 KiB."),
        "verify": Entry("signatures", "Verify a signature."),
        "mac": Entry("signatures", "Message authentication codes."),
        "public-key": Entry("signatures", "Public keys, and encryption to them."),
        "random": Entry("cryptography", "Print random bytes from the service."),
    },
    "Keep keys and secrets": {
        "key": Entry("keys", "Keys, their versions and their material."),
        "alias": Entry("keys", "Second names of keys."),
        "secret": Entry("secrets", "Secrets and their values."),
        "run": Entry("run", "Run a command with secrets in its environment, or in files."),
        "migrate": Entry("migrate", "Copy secrets from somewhere else."),
    },
    "Say who may": {
        "access": Entry("access", "What would be decided, and why."),
        "account": Entry("accounts", "Accounts: the tenants of the mesh."),
        "principal": Entry("principals", "Users, workloads and roles."),
        "role": Entry("principals", "Roles: what others hold, or assume for a while."),
        "assume-role": Entry("sessions", "Begin a session as a role and print its token."),
        "policy": Entry("policies", "Policies: who may do what."),
        "grant": Entry("grants", "Operations on a key, delegated to a principal."),
        "client-key": Entry("client_keys", "Client keys: what clients without a certificate log in with."),
        "oidc-provider": Entry("oidc_providers", "Issuers of OIDC tokens, such as Kubernetes clusters."),
        "quota": Entry("quotas", "How many requests are let through."),
    },
    "Look into it": {
        "audit": Entry("audit", "The audit log."),
        "trace": Entry("trace", "Draw what one request did, in every service."),
        "root": Entry("root_key", "The root key of the mesh."),
    },
}
"""By the headings of the help, in its order."""
HOMES: Mapping[str, str] = {name: entry.module for group in ENTRIES.values() for name, entry in group.items()}
"""The module of each."""
