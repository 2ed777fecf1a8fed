"""The commands and programs in a page of the documentation, as a script that a reader would type.

Comments in front of a block say what the test needs to know, and no reader sees them:

    <!-- not run: REASON -->        nothing of the block is run
    <!-- fails -->                  its one command must fail
    <!-- where TEXT is COMMAND -->  TEXT stands for what the command prints, such as a generated id
    <!-- after: COMMAND -->         runs first
    <!-- as PROFILE -->             the block uses another profile
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"((?:^<!-- [^\n]+ -->\n)*)^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (?P<kind>not run:|fails|where|after:|as)(?P<rest>.*) -->")
_SHOWN = re.compile(r"cat (\S+)")
SAID = "said"
"""The file with everything that the page's commands have printed so far."""


@dataclass(frozen=True)
class Block:
    """One block that has commands or a program in it."""

    page: str
    line: int
    language: str
    text: str
    not_run: str = ""
    fails: bool = False
    profile: str = ""
    before: tuple[str, ...] = ()
    stands_for: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.page}:{self.line}"

    def script(self, texts: Mapping[str, str]) -> str:
        """What a shell runs. `texts` are replaced, such as addresses that are others in the test."""
        lines = [f"here {shlex.quote(self.place)}", *self.before]
        if self.profile:
            lines.append(f"export STRONGROOM_PROFILE={self.profile}")
        body = self._program() if self.language == "python" else "\n".join(self._commands())
        for name, value in texts.items():
            body = body.replace(name, value)
        for number, (text, command) in enumerate(self.stands_for.items()):
            lines += [f"STANDS_{number}=$({command})", f'test -n "$STANDS_{number}"']
            body = body.replace(text, f"$STANDS_{number}")
        return "\n".join([*lines, body, "unset STRONGROOM_PROFILE", ""])

    def _program(self) -> str:
        return f"python - <<'PROGRAM'\n{self.text}PROGRAM"

    def _commands(self) -> Iterator[str]:
        """The commands, each with the lines that it goes on in; a file that is shown is written."""
        for command, output in commands(self.text):
            yield f"ran {shlex.quote(command)}"
            shown = _SHOWN.fullmatch(command)
            if shown and output:
                yield f"cat > {shown[1]} <<'CONTENT'\n{output}CONTENT"
            elif self.fails:
                yield f"if {{ {command}\n}}; then echo 'this did not fail'; exit 1; fi"
            else:
                yield command


def blocks(path: Path, page: str) -> list[Block]:
    """The blocks of a page, in their order."""
    text = path.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        marks = [(mark["kind"].rstrip(":"), mark["rest"].strip()) for mark in _MARK.finditer(match[1])]
        found.append(
            Block(
                page=page,
                line=text[: match.start(2)].count("\n") + 1,
                language=match[2],
                text=match[3],
                not_run=next((rest for kind, rest in marks if kind == "not run"), ""),
                fails=any(kind == "fails" for kind, _ in marks),
                profile=next((rest for kind, rest in marks if kind == "as"), ""),
                before=tuple(rest for kind, rest in marks if kind == "after"),
                stands_for=dict(_split(rest) for kind, rest in marks if kind == "where"),
            )
        )
    return found


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console, and what is shown of their output."""
    command: list[str] = []
    output: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ ") or (command and command[-1].endswith("\\") and not output):
            if line.startswith("$ "):
                if command:
                    yield "\n".join(command), "".join(output)
                command, output = [], []
            command.append(line.removeprefix("$ "))
        else:
            output.append(f"{line}\n")
    if command:
        yield "\n".join(command), "".join(output)


def whole(found: list[Block], texts: Mapping[str, str]) -> str:
    """The script of a page. It ends at the first command that fails, and its last line on standard error is `at` and
    where."""
    head = (
        "set -euo pipefail\n"
        "exec 3>&2\n"
        f"exec > >(tee -a {SAID}) 2>&1\n"
        'here() { PLACE="$1"; }\n'
        'ran() { LAST="$1"; echo "\\$ $1"; }\n'
        "LAST=; trap 'status=$?; if [ $status -ne 0 ]; then echo \"at $PLACE: $LAST\" >&3; fi' EXIT\n"
    )
    return head + "\n".join(block.script(texts) for block in found if not block.not_run)


def _split(rest: str) -> tuple[str, str]:
    text, _, command = rest.partition(" is ")
    return text, command
