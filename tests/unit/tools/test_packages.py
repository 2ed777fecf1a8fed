"""What generated code is called in other languages follows from a contract's path, in every file and for good."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CONTRACTS = sorted(path.relative_to(ROOT / "protos") for path in (ROOT / "protos").rglob("*.proto"))


@pytest.mark.parametrize("contract", CONTRACTS, ids=str)
def test_a_contract_names_its_package_in_each_language(contract: Path) -> None:
    _, domain, version = contract.parent.parts
    module = import_module(".".join(contract.with_name(f"{contract.stem}_pb2").parts))
    options = module.DESCRIPTOR.GetOptions()
    assert options.go_package == (
        f"github.com/strongroom/strongroom/clients/go/strongroom/{domain}/{version};{domain}{version}"
    )
    assert options.java_package == f"io.strongroom.{domain}.{version}"
    assert options.java_multiple_files
    assert options.java_outer_classname == "".join(word.capitalize() for word in contract.stem.split("_")) + "Proto"
    assert options.csharp_namespace == f"Strongroom.{domain.capitalize()}.{version.upper()}"
