"""What calls came to, from the spans that the services of a mesh write."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from pathlib import Path

from deploy.dev.mesh import Mesh

Span = tuple[str, str, int]
"""Which service did what, and how much it asked of its database."""
_TRACE_ID = re.compile(rb'"trace_id": "0x([0-9a-f]{32})"')


class RecordedWork:
    """The spans of some traces. No line is read twice, and of other tests' traces, of which there are many, none."""

    def __init__(self, mesh: Mesh, traces: Set[str]) -> None:
        self._directory = mesh.directory.traces
        self._traces = traces
        self._read: Counter[Path] = Counter()
        self._found: defaultdict[str, list[Span]] = defaultdict(list)

    def __call__(self) -> Mapping[str, list[Span]]:
        """By trace, in one order, the spans that were written until now."""
        for path in self._directory.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read[path])
                for line in file:
                    if line.endswith(b"\n"):  # the last one may be half written
                        self._read[path] += len(line)
                        self._note(line)
        return {trace: sorted(spans) for trace, spans in self._found.items()}

    def _note(self, line: bytes) -> None:
        found = _TRACE_ID.search(line)
        if found is None or (trace := found[1].decode()) not in self._traces:
            return
        span = json.loads(line)
        service = span["resource"]["attributes"]["service.name"]
        self._found[trace].append((service, span["name"], len(span["events"])))
