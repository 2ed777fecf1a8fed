"""JSON merge patches (RFC 7396) that keep the bytes of whatever they do not name."""

from __future__ import annotations

from strongroom.json_texts import Part, parts


def merge_patch(text: str, patch: str) -> str:
    """An object with a JSON merge patch (RFC 7396) applied, both known to be objects. Each member that the patch does
    not name stays as it is written, name and value; an object that nothing changes in stays as a whole. Raises
    RecursionError for what is nested too deeply."""
    text, patch = text.strip(" \t\n\r"), patch.strip(" \t\n\r")
    changes = {part.name: patch[part.start : part.end] for part in parts(patch, 0)}
    present = list(parts(text, 0))
    # Of a name that stands there twice, readers take the last.
    last = {part.name: part for part in present}
    members, changed = [], False
    for part in present:
        kept = text[part.start : part.end]
        wanted = changes.get(part.name)
        is_gone = wanted == "null" or (wanted is not None and part is not last[part.name])
        value = kept if wanted is None else _merged_value(kept, wanted)
        changed = changed or is_gone or value != kept
        if not is_gone:
            members.append((_name(text, part), value))
    for name, part in {part.name: part for part in parts(patch, 0)}.items():
        if name not in last and changes[name] != "null":
            members.append((_name(patch, part), _merged_value("{}", changes[name])))
            changed = True
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}" if changed else text


def _name(text: str, member: Part) -> str:
    return text[member.begin : member.start].rstrip(" \t\n\r:")


def _merged_value(text: str, patch: str) -> str:
    if not patch.startswith("{"):
        return patch
    return merge_patch(text if text.startswith("{") else "{}", patch)
