"""What is recorded of strangers' calls that have no event of their own."""

from __future__ import annotations

from services.runtime.access.strangers import Strangers
from services.runtime.audit_client import AuditClient
from services.runtime.background import Background
from services.runtime.errors import StrongroomError

_LOOK_SECONDS = 0.5
_PAYER = "strangers"


class Summaries:
    """Brings the summaries of refused strangers to the log, in the background: whoever was refused waits for none, and
    learns nothing by how long that takes."""

    def __init__(self, strangers: Strangers, audit: AuditClient) -> None:
        self._strangers = strangers
        self._audit = audit
        self._telling = Background(
            "strangers",
            self._tell,
            "what strangers were refused could not be recorded yet",
            every=_LOOK_SECONDS,
            quiet=True,
            finishes=True,
        )

    def start(self) -> None:
        """Begins."""
        self._telling.start()

    def stop(self) -> None:
        """Ends, once what is left has been told."""
        self._telling.stop()

    def _tell(self) -> None:
        told = self._strangers.summaries(all_of_them=self._telling.stopping)
        if not told:
            return
        try:
            self._audit.append(told, payer=_PAYER)
        except StrongroomError:
            self._strangers.take_back(told)
            raise
