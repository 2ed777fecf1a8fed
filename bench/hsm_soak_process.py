"""The crypto service on a PKCS#11 module that drops sessions now and then, and at times is away altogether.

Runs as `python -m services.crypto` does, with the same arguments. MODULE, SEED and OUTAGE_SECONDS name environment
variables: the module's path, the seed of the faults, and how many seconds there are from one outage to the next.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path

from deploy.dev.pkcs11_faults import DEVICE_ERROR, FunctionTable
from services.crypto import __main__ as crypto

MODULE = "SOAK_MODULE"
SEED = "SOAK_SEED"
OUTAGE_SECONDS = "SOAK_OUTAGE_SECONDS"

_DROP_SECONDS = 0.2
_AWAY_SECONDS = 0.5


def _disturb(table: FunctionTable, chance: random.Random, seconds_between: float) -> None:
    away_at = time.monotonic() + seconds_between
    with table.dropping() as sessions:
        while True:
            time.sleep(chance.uniform(0, 2 * _DROP_SECONDS))
            sessions.drop(chance.choice)
            if time.monotonic() > away_at:
                with table.answering(DEVICE_ERROR):
                    time.sleep(_AWAY_SECONDS)
                away_at = time.monotonic() + seconds_between


def main() -> int:
    """Serves until SIGTERM."""
    table = FunctionTable(Path(os.environ[MODULE]))
    chance = random.Random(int(os.environ[SEED]))  # noqa: S311  # faults, not secrets
    seconds_between = float(os.environ[OUTAGE_SECONDS])
    threading.Thread(target=_disturb, args=(table, chance, seconds_between), name="faults", daemon=True).start()
    return crypto.main()


if __name__ == "__main__":
    sys.exit(main())
