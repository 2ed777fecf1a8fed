"""Prints what the services' image needs, as pyproject.toml says: its dependencies and the extra `services`.

Names only: the versions and hashes are those of requirements.lock, which pip takes as constraints.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def service_requirements(pyproject: Path) -> list[str]:
    """The requirements that the image installs, one of them an entry."""
    project = tomllib.loads(pyproject.read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["services"]]


if __name__ == "__main__":
    print("\n".join(service_requirements(Path(sys.argv[1]))))
