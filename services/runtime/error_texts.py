"""How long the texts of an error are at most: what is longer is cut, so that an error always travels."""

from __future__ import annotations

# An error travels in the metadata at a call's end, of which 8 KiB are sure to pass: twice there, and escaped, is what
# these come to at most.
MAX_MESSAGE_BYTES = 900
MAX_METADATA_VALUE_BYTES = 300
MAX_METADATA_BYTES = 1_200
MAX_VIOLATION_BYTES = 300


def cut(text: str, limit: int) -> str:
    """The text in no more than so many bytes of UTF-8."""
    if len(text) <= limit // 4:
        return text
    data = text.encode(errors="replace")
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "…"


def cut_all(metadata: dict[str, str]) -> dict[str, str]:
    """What fits of an error's metadata, in the order that it was given."""
    total = 0
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        kept[key] = cut(value, MAX_METADATA_VALUE_BYTES)
        total += len(key) + len(kept[key].encode(errors="replace"))
        if total > MAX_METADATA_BYTES:
            del kept[key]
            break
    return kept
