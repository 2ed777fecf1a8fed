"""The contracts with their comments, as protoc reads them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_PROTOS = Path(__file__).resolve().parents[2] / "protos"
# The numbers of fields in descriptor.proto that lead to a comment.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED, _NESTED_ENUM, _VALUE, _METHOD = 2, 3, 4, 2, 2

_SCALARS = {
    FieldDescriptorProto.Type.Value(name): name.removeprefix("TYPE_").lower()
    for name in FieldDescriptorProto.Type.keys()  # noqa: SIM118  # a wrapper, which is no mapping
}


@dataclass(frozen=True)
class Contract:
    """One file."""

    file: FileDescriptorProto
    comments: dict[tuple[int, ...], str] = field(repr=False)

    @property
    def package(self) -> str:
        """`strongroom.crypto.v1`."""
        return self.file.package

    def comment(self, *path: int) -> str:
        """What stands above something, by its path of numbers; paragraphs are kept."""
        return self.comments.get(path, "")

    def services(self) -> Iterator[tuple[tuple[int, ...], ServiceDescriptorProto]]:
        """The services, with their paths."""
        for index, service in enumerate(self.file.service):
            yield (_SERVICE, index), service

    def messages(self) -> Iterator[tuple[tuple[int, ...], str, DescriptorProto]]:
        """Every message, nested ones too but for those of maps, with its path and its full name."""
        for index, message in enumerate(self.file.message_type):
            yield from _messages((_MESSAGE, index), f"{self.package}.{message.name}", message)

    def enums(self) -> Iterator[tuple[tuple[int, ...], str, EnumDescriptorProto]]:
        """Every enumeration, nested ones too, with its path and its full name."""
        for index, enum in enumerate(self.file.enum_type):
            yield (_ENUM, index), f"{self.package}.{enum.name}", enum
        for path, name, message in self.messages():
            for index, enum in enumerate(message.enum_type):
                yield (*path, _NESTED_ENUM, index), f"{name}.{enum.name}", enum


def field_path(message: Sequence[int], index: int) -> tuple[int, ...]:
    """The path of a message's field."""
    return (*message, _FIELD, index)


def value_path(enum: Sequence[int], index: int) -> tuple[int, ...]:
    """The path of an enumeration's value."""
    return (*enum, _VALUE, index)


def method_path(service: Sequence[int], index: int) -> tuple[int, ...]:
    """The path of a service's method."""
    return (*service, _METHOD, index)


def type_of(message: DescriptorProto, one: FieldDescriptorProto) -> str:
    """A field's type in the words of the language: `repeated string`, `map<string, string>`, a full name."""
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    entry = maps.get(one.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map<{type_of(entry, key)}, {type_of(entry, value)}>"
    name = one.type_name.lstrip(".") or _SCALARS[one.type]
    return f"repeated {name}" if one.label == FieldDescriptorProto.LABEL_REPEATED else name


@cache
def contracts(protos: Path = _PROTOS) -> tuple[Contract, ...]:
    """Every contract, by its path."""
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    with tempfile.TemporaryDirectory(prefix="strongroom-contracts-") as directory:
        output = Path(directory) / "set"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={protos}", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={output}", *sources], check=True)
        files = FileDescriptorSet.FromString(output.read_bytes()).file
    return tuple(
        Contract(
            file,
            {
                tuple(place.path): _dedented(place.leading_comments)
                for place in file.source_code_info.location
                if place.leading_comments
            },
        )
        for file in files
    )


def _messages(
    path: tuple[int, ...], name: str, message: DescriptorProto
) -> Iterator[tuple[tuple[int, ...], str, DescriptorProto]]:
    yield path, name, message
    for index, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _messages((*path, _NESTED, index), f"{name}.{nested.name}", nested)


def _dedented(comment: str) -> str:
    return "\n".join(line.removeprefix(" ") for line in comment.rstrip().split("\n"))
