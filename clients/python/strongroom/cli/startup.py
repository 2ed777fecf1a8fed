"""What makes the command line quick to start: modules that gRPC and protobuf import, and that hardly a command needs,
are loaded when they are first used. In an application of somebody else's that would be no business of ours.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# gRPC's calls without threads, and the messages that protobuf has where it is not built in C.
_LATER = ("asyncio", "grpc.aio", "google.protobuf.internal.python_message", "google.protobuf.text_format")
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
