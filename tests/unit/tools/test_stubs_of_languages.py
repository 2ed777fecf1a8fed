"""The stubs of Go and Node that are in the repository are those of its protos, as Python's are."""

from __future__ import annotations

import ast
import base64
import importlib
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

ROOT = Path(__file__).resolve().parents[3]
PROTOS = ROOT / "protos"
NAMES = sorted(str(path.relative_to(PROTOS).with_suffix("")) for path in PROTOS.rglob("*.proto"))


def described(serialized: bytes) -> FileDescriptorProto:
    """What a proto says, without what each generator adds or leaves out."""
    found = FileDescriptorProto.FromString(serialized)
    found.ClearField("dependency")
    found.ClearField("options")
    found.ClearField("source_code_info")
    messages = list(found.message_type)
    while messages:
        message = messages.pop()
        messages += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return found


def of_node(name: str) -> bytes:
    text = (ROOT / f"clients/node/src/stubs/{name}_pb.ts").read_text()
    found = re.search(r'fileDesc\("([^"]+)"', text)
    assert found is not None
    return base64.b64decode(found[1] + "=" * (-len(found[1]) % 4))


def of_go(name: str) -> bytes:
    text = (ROOT / "clients/go" / f"{name}.pb.go").read_text()
    found = re.search(r'_rawDesc = ""((?: \+\n\s*"(?:[^"\\]|\\.)*")+)', text)
    assert found is not None
    literals = re.findall(r'"(?:[^"\\]|\\.)*"', found[1])
    # Go's escapes are those of Python's bytes.
    return b"".join(ast.literal_eval("b" + literal) for literal in literals)


@pytest.mark.parametrize("name", NAMES)
def test_stubs_are_of_the_protos(name: str) -> None:
    # `python -m tools.stubs --check` holds these to protos/.
    python = importlib.import_module(f"{name}_pb2".replace("/", "."))
    expected = described(python.DESCRIPTOR.serialized_pb)
    assert described(of_go(name)) == expected, "make them anew: buf generate, in clients/go"
    assert described(of_node(name)) == expected, "make them anew: npm run stubs, in clients/node"
