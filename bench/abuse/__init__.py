"""`abuse`: what hostile tenants and strangers cost everybody else.

One module an attack. Each measures a victim's calls while nothing else happens and beside the attack, in turns, on one
mesh, and answers figures; what a figure must be stands in the module's `TARGETS`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from bench.abuse import batches, changes, fuzz, hsm, policies, strangers, targets
from bench.abuse.town import Town
from bench.cores import Cores, confined
from bench.report import Report, Target

NAME = "abuse"

ATTACKS: Sequence[ModuleType] = (batches, policies, changes, fuzz, targets, hsm, strangers)
"""Each has `TARGETS` and `measure(town, quick=…)`, which answers figures; with a token in its mesh also `PROVIDER`."""


def run(*, quick: bool) -> Report:
    """Measures every attack, each in a mesh of its own."""
    figures: dict[str, float] = {}
    wanted: dict[str, Target] = {}
    cores = Cores.of_this_machine()
    with confined(cores.others):
        for attack in ATTACKS:
            measure: Callable[..., Mapping[str, float]] = attack.measure
            with (
                tempfile.TemporaryDirectory(prefix="strongroom-bench-") as directory,
                Town(Path(directory), cores, provider=getattr(attack, "PROVIDER", "local")) as town,
            ):
                figures |= measure(town, quick=quick)
            wanted |= attack.TARGETS
    return Report(NAME, figures, wanted)
