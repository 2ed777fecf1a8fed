"""What makes the command line quick to start: modules that gRPC and protobuf import, and that hardly a command needs,
are loaded when they are first used. In an application of somebody else's that would be no business of ours.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_LATER = (
    # gRPC's calls without threads.
    "asyncio",
    "grpc.aio",
    # The messages that protobuf has where it is not built in C.
    "google.protobuf.internal.python_message",
    "google.protobuf.text_format",
    # What protobuf counts days with, and inspect reads sources with.
    "calendar",
    "tokenize",
    # What inspect reads source texts with.
    "ast",
    # The crypto verbs that most commands do not call.
    "strongroom.calls.crypto.batches",
    "strongroom.calls.crypto.signatures",
    # What typer opens browsers and finds shells with.
    "platform",
    "shellingham",
    "subprocess",
)
_OBJECTS = 100_000


class _Later(ModuleType):
    """A module that somebody imports, loaded when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        # What the import system asks of a module says nothing of what is in it, but for these two.
        if name.startswith("__") and name not in ("__path__", "__all__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def begin() -> None:
    """To be called before anything else is imported."""
    # What is imported lives as long as the process does: to look for garbage in it is in vain.
    gc.set_threshold(_OBJECTS, 20, 20)
    for name in _LATER:
        sys.modules.setdefault(name, _Later(name))


def is_whole_process() -> bool:
    """Whether this process was started for one command, by the script of that name."""
    started = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    return os.path.basename(started) == "strongroom"  # noqa: PTH119  # pathlib is loaded later


def end(status: object) -> None:
    """Ends the process at once: it has nothing left to do, and to take everything apart takes longer than a call."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status if isinstance(status, int) else 0)
