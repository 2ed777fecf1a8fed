"""Clients in other languages, by one table: what each needs here, and how it is built, tested, linted and run.

A language joins the tests of this folder with an entry in LANGUAGES and a program `crypt`, which takes

    crypt encrypt|decrypt --key KEY… [--context NAME=VALUE…] [--store-context]

as the current profile's caller, reads standard input and writes standard output. A refusal is exit status 1, and the
first word on standard error is its reason, followed by a colon. Without `--context` the caller gives no context.
Where its gRPC is another implementation, it has a program in `interop` too, which makes calls of any kind.

`python -m tests.polyglot.languages` builds them all, so that no test waits for what is fetched from elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INTEROP = Path(__file__).parent / "interop"
CACHE = ROOT / ".cache" / "polyglot"
"""What is built stays here from one session to the next."""

Command = tuple[str, ...]
_SECONDS = 540


@dataclass(frozen=True)
class Language:
    """A client in another language. Commands run in its folder; `{cache}` in them is a folder for what is built,
    `{interop}` that of the programs which make calls of any kind."""

    name: str
    needs: tuple[str, ...]
    build: Sequence[Command]
    test: Sequence[Command]
    lint: Sequence[Command]
    crypt: Command
    example: Command
    calls: Command = ()

    @property
    def folder(self) -> Path:
        """Where its client is."""
        return ROOT / "clients" / self.name

    @property
    def cache(self) -> Path:
        """Where what is built of it goes."""
        return CACHE / self.name

    def built(self) -> None:
        """Builds it, once in each process; skips the test where this machine lacks what it needs."""
        missing = [program for program in self.needs if shutil.which(program) is None]
        if missing:
            pytest.skip(f"{', '.join(missing)} is not installed, which the client in {self.name} needs")
        if self.name not in _BUILT:
            with _alone(self.cache):
                self.run(self.build)
            _BUILT.add(self.name)

    def run(self, commands: Sequence[Command]) -> None:
        """Runs commands one after the other. Fails the test with what they wrote where one fails."""
        for command in commands:
            done = subprocess.run(
                self._filled(command), cwd=self.folder, capture_output=True, text=True, check=False, timeout=_SECONDS
            )
            assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-6000:]}{done.stderr[-6000:]}"

    def run_crypt(self, arguments: Sequence[str], given: bytes, profile: Path) -> subprocess.CompletedProcess[bytes]:
        """What `crypt` makes of its arguments and standard input, as the caller of a profile file."""
        return self._as_caller([*self._filled(self.crypt), *arguments], given, profile)

    def run_example(self, profile: Path) -> str:
        """What its example prints, as the caller of a profile file."""
        # Go compiles it first.
        done = self._as_caller(self._filled(self.example), b"", profile, seconds=_SECONDS)
        assert done.returncode == 0, done.stderr.decode()[-4000:]
        return done.stdout.decode()

    def make_calls(self, asked: str) -> str:
        """What the program that makes calls writes, of what it is asked."""
        done = subprocess.run(
            self._filled(self.calls),
            cwd=self.folder,
            input=asked,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    def _as_caller(
        self, command: Sequence[str], given: bytes, profile: Path, *, seconds: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            cwd=self.folder,
            input=given,
            env=_environment(profile),
            capture_output=True,
            check=False,
            timeout=seconds,
        )

    def _filled(self, command: Command) -> list[str]:
        return [part.replace("{cache}", str(self.cache)).replace("{interop}", str(INTEROP)) for part in command]


_GO_FILES = "cmd encryption examples strongroom/*.go {interop}"

GO = Language(
    name="go",
    needs=("go",),
    # Another process may be running the one before.
    build=[
        ("sh", "-c", "go build -o {cache}/crypt.new ./cmd/crypt && mv -f {cache}/crypt.new {cache}/crypt"),
        ("sh", "-c", "cd {interop} && go build -o {cache}/calls.new . && mv -f {cache}/calls.new {cache}/calls"),
    ],
    test=[("go", "test", "./encryption", "./strongroom")],
    lint=[
        # gofmt names what it would change, and is content all the same.
        (
            "sh",
            "-c",
            'found=$(gofmt -l cmd encryption examples strongroom/*.go {interop}); echo "$found"; test -z "$found"',
        ),
        ("go", "vet", "./cmd/...", "./encryption", "./examples/...", "./strongroom"),
        ("sh", "-c", "cd {interop} && go vet ."),
    ],
    crypt=("{cache}/crypt",),
    example=("go", "run", "./examples/encrypt"),
    calls=("{cache}/calls",),
)

_NPM_CI = "npm ci --ignore-scripts --prefer-offline --no-audit --no-fund"

_COMPILED = (
    "tsc --noEmit --ignoreConfig --strict --skipLibCheck --types node --target es2022 --lib es2024 --module nodenext"
)

NODE = Language(
    name="node",
    needs=("node", "npm"),
    build=[
        ("sh", "-c", f"test node_modules/.package-lock.json -nt package-lock.json || {_NPM_CI}"),
        ("npm", "run", "--silent", "build"),
    ],
    test=[("node", "--test", "dist/test/")],
    lint=[
        ("npm", "run", "--silent", "check"),
        # Its own package is found by its name in what was built.
        ("sh", "-c", f"npx --no-install {_COMPILED} examples/pages.ts"),
    ],
    crypt=("node", "--no-deprecation", "dist/crypt.js"),
    example=("node", "--no-deprecation", "examples/encrypt.mjs"),
    calls=("node", "{interop}/calls.mjs"),
)

# Maven takes ten seconds to find that nothing has changed.
_JAVA_BUILD = (
    "changed=$(find pom.xml src/main examples {interop} ../../protos -newer {cache}/built 2>/dev/null || echo all); "
    'test -z "$changed" || { mvn -q -B -Dmaven.test.skip=true package '
    "&& javac -d {cache} -cp 'target/classes:target/lib/*' examples/*.java {interop}/*.java && touch {cache}/built; }"
)
_JAVA_LINT = (
    "javac -Werror -Xlint:all,-processing -Xdoclint:all,-missing "
    "-implicit:none -d {cache}/lint -cp 'target/strongroom-client-0.1.0-SNAPSHOT.jar:target/lib/*' "
    "$(find src/main/java -name '*.java')"
)

JAVA = Language(
    name="java",
    needs=("java", "javac", "mvn"),
    build=[("sh", "-c", _JAVA_BUILD)],
    test=[("mvn", "-q", "-B", "test")],
    lint=[("mkdir", "-p", "{cache}/lint"), ("sh", "-c", _JAVA_LINT)],
    # The JVM reads arguments in the locale's encoding.
    crypt=(
        *("env", "LC_ALL=C.UTF-8", "java", "-XX:TieredStopAtLevel=1"),
        *("-cp", "{cache}:target/classes:target/lib/*", "Crypt"),
    ),
    example=("java", "-XX:TieredStopAtLevel=1", "-cp", "{cache}:target/classes:target/lib/*", "Example"),
    calls=("java", "-XX:TieredStopAtLevel=1", "-cp", "{cache}:target/lib/*", "Calls"),
)

# With what is optional: the tests of that run too.
_CARGO = ("--locked", "--quiet", "--all-features", "--target-dir", "{cache}/target")

RUST = Language(
    name="rust",
    needs=("cargo", "cargo-clippy", "rustfmt"),
    build=[("cargo", "build", *_CARGO, "--examples")],
    test=[("cargo", "test", *_CARGO, "--lib")],
    lint=[
        ("cargo", "fmt", "--check"),
        ("cargo", "clippy", *_CARGO, "--all-targets", "--", "--deny", "warnings"),
    ],
    crypt=("{cache}/target/debug/examples/crypt",),
    example=("{cache}/target/debug/examples/message",),
)

LANGUAGES: Sequence[Language] = (GO, NODE, JAVA, RUST)

_BUILT: set[str] = set()


def _environment(profile: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    return {**kept, "STRONGROOM_CONFIG": str(profile)}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Several processes run tests; one of them builds."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for one in LANGUAGES:
        one.built()
