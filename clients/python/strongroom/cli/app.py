"""The commands, put together: each is loaded when it is first asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_group

from strongroom.cli.main import guarded
from strongroom.cli.parser import Group
from strongroom.cli.startup import is_whole_process


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a command or group is: a module of this package, whose `add_to` adds it, and what it is for."""

    module: str
    about: str


# In the order of the help, under the headings there.
_ENTRIES: Mapping[str, Mapping[str, _Entry]] = {
    "Begin": {
        "status": _Entry("status", "Show how each service is, and what is wrong."),
        "whoami": _Entry("status", "Show who the services take you for."),
        "login": _Entry("sessions", "Begin a session and use it for every command of this profile until `logout`."),
        "logout": _Entry("sessions", "End this profile's login."),
        "profile": _Entry("profile", "Which mesh to call, and as whom."),
        "help": _Entry("help", "Explain a topic, a command, or the reason of an error."),
    },
    "Use keys": {
        "encrypt": _Entry("cryptography", "Encrypt up to 64 KiB."),
        "decrypt": _Entry("cryptography", "Decrypt a ciphertext."),
        "re-encrypt": _Entry("signatures", "Move a ciphertext under another key or context."),
        "file": _Entry("files", "Files of any size, encrypted here under data keys."),
        "data-key": _Entry("cryptography", "Make a data key."),
        "sign": _Entry("signatures", "Sign up to 64 KiB."),
        "verify": _Entry("signatures", "Verify a signature."),
        "mac": _Entry("signatures", "Message authentication codes."),
        "public-key": _Entry("signatures", "Public keys, and encryption to them."),
        "random": _Entry("cryptography", "Print random bytes from the service."),
    },
    "Keep keys and secrets": {
        "key": _Entry("keys", "Keys, their versions and their material."),
        "alias": _Entry("keys", "Second names of keys."),
        "secret": _Entry("secrets", "Secrets and their values."),
        "run": _Entry("run", "Run a command with secrets in its environment, or in files."),
        "migrate": _Entry("migrate", "Copy secrets from somewhere else."),
    },
    "Say who may": {
        "access": _Entry("access", "What would be decided, and why."),
        "account": _Entry("accounts", "Accounts: the tenants of the mesh."),
        "principal": _Entry("principals", "Users, workloads and roles."),
        "role": _Entry("principals", "Roles: what others hold, or assume for a while."),
        "assume-role": _Entry("sessions", "Begin a session as a role and print its token."),
        "policy": _Entry("policies", "Policies: who may do what."),
        "grant": _Entry("grants", "Operations on a key, delegated to a principal."),
        "client-key": _Entry("client_keys", "Client keys: what clients without a certificate log in with."),
        "oidc-provider": _Entry("oidc_providers", "Issuers of OIDC tokens, such as Kubernetes clusters."),
        "quota": _Entry("quotas", "How many requests are let through."),
    },
    "Look into it": {
        "audit": _Entry("audit", "The audit log."),
        "trace": _Entry("trace", "Draw what one request did, in every service."),
        "root": _Entry("root_key", "The root key of the mesh."),
    },
}
_HOMES: Mapping[str, str] = {name: entry.module for group in _ENTRIES.values() for name, entry in group.items()}


def sections() -> list[tuple[str, list[str]]]:
    """The headings of the help, with the commands and groups under each."""
    return [(heading, list(entries)) for heading, entries in _ENTRIES.items()]


class _Wanted(typer.Typer):
    """An application to which commands of these names alone are added, and every group."""

    def __init__(self, wanted: Sequence[str]) -> None:
        super().__init__(rich_markup_mode=None, add_completion=False)
        self.wanted = wanted


class _Commands(MutableMapping[str, Any]):
    """Every command and group by name, in the order of the help; one is loaded, with what stands beside it in its
    module, when it is asked for.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}
        self.typed: Sequence[str] = ()
        """The words of the one command that will run: of its groups, no other command is made then."""

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            loaded = _Wanted((name,))
            loaded.callback()(_nothing)
            import_module(f"strongroom.cli.{_HOMES[name]}").add_to(loaded)
            if self.typed[:1] == [name]:
                loaded.registered_groups = _narrowed(loaded.registered_groups, self.typed)
            self._loaded = {**get_group(loaded).commands, **self._loaded}
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in _HOMES or name in self._loaded

    def __iter__(self) -> Iterator[str]:
        return iter({**_HOMES, **self._loaded})

    def __len__(self) -> int:
        return len({**_HOMES, **self._loaded})


def _narrowed(groups: Sequence[Any], words: Sequence[str]) -> list[Any]:
    """The group that the first word names, with the one command in it that the next words name; all of it where they
    name none, as for its help.
    """
    for info in groups:
        group = info.typer_instance
        if group is None or group.info.name != words[0]:
            continue
        if not words[1:]:
            return [info]
        narrowed = copy(group)
        narrowed.registered_commands = [one for one in group.registered_commands if one.name == words[1]]
        narrowed.registered_groups = _narrowed(group.registered_groups, words[1:])
        if narrowed.registered_commands or narrowed.registered_groups:
            found = copy(info)
            found.typer_instance = narrowed
            return [found]
        return [info]
    return []


class Root(Group):
    """`strongroom` itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._every = _Commands()
        self.commands = self._every

    def list_commands(self, ctx: Any) -> list[str]:
        """Every command and group, in the order of the help."""
        del ctx
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command or group, where there is one of this name."""
        del ctx
        return self.commands.get(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """All commands under their headings, without loading one."""
        del ctx
        for heading, entries in _ENTRIES.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry.about) for name, entry in entries.items()])

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs what was typed; the process ends with its status, unless it is not to stand alone."""
        del windows_expand_args
        arguments = list(sys.argv[1:] if args is None else args)

        name = prog_name or "strongroom"

        self._every.typed = arguments if complete_var is None and is_whole_process() else ()

        def typed() -> object:
            self._main_shell_completion(extra, name, complete_var)
            with self.make_context(name, list(arguments), **extra) as context:
                return self.invoke(context)

        status = guarded(typed, arguments)
        if standalone_mode:
            sys.exit(status)
        return status


def _nothing() -> None:
    """A group has a callback."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("strongroom"))
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keys, secrets and encryption with Strongroom.

    KEY is a key's id, alias/ALIAS, or a full name such as accounts/main/keys/payments. `strongroom help` lists what
    else is explained: how durations, files and contexts are written, what a command exits with, and more.
    """
    del show_version


app = typer.Typer(
    name="strongroom",
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(_root)
