"""`python -m tools.reference DIRECTORY`: writes the reference pages there, to be read without a site."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.reference import PAGES


def main() -> None:
    """Writes them."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("directory", type=Path)
    directory = parser.parse_args().directory
    for name, write in PAGES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write())


if __name__ == "__main__":
    main()
