"""What `strongroom help TOPIC` explains: what holds for every command, each said in one place."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.cli.complaints import MEANINGS
from strongroom.cli.main import ABOUT_VARIABLES

VALUES: Mapping[str, str] = {
    "ACCOUNT": "an account's id, or accounts/ACCOUNT",
    "ACTION": "what is done, such as crypto:Decrypt; `strongroom access schema` lists all",
    "ADDRESS": "an IP address",
    "ALGORITHM": "one of those that the help of the command lists",
    "ALIAS": "an alias's id, with or without alias/ before it",
    "AUDIENCE": "whom a token is for",
    "BASE64": "bytes in base64",
    "CLIENT_KEY": "a client key's id, or its full name",
    "COUNT": "a whole number",
    "DATABASE": "the name of a database on its server",
    "DAY": "a day of the week",
    "DIMENSION": "one of those that the help of the command lists",
    "EVENT": "an audit event's id, which every answer and every error carries",
    "FILE": "a path, or - for standard input and output: `strongroom help files`",
    "FILE|MODE": "a path, or one of the words that the help of the command lists",
    "FIELD": "a field of a profile, such as client_key",
    "FILTER": 'conditions joined by AND, such as: state = ENABLED AND tags.team = "a"',
    "FOLDER": "a folder's path",
    "FORM": "table, json, yaml or name: `strongroom help output`",
    "FORMAT": "one of those that the help of the command lists",
    "GRANT": "a grant's id, or its full name",
    "HH:MM": "a time of day, in UTC unless a zone is given",
    "HOST": "a server's name or address",
    "HOST:PORT": "where a server listens",
    "ID": "an id of your choice: letters, digits and -; or the id that is asked for",
    "KEY": "a key's id, alias/ALIAS, or a full name: `strongroom help names`",
    "KIND": "one of those that the help of the command lists",
    "LEVEL": "SOFTWARE or HSM",
    "LOG": "a log's name, logs/LOG",
    "METHOD": "one of those that the help of the command lists",
    "NAME": "a name",
    "NAME=VALUE": "one pair; for several, the option is repeated: `strongroom help contexts`",
    "NAME=secret:SECRET[#FIELD]": "a variable's name, a secret, and a member of its JSON value",
    "NUMBER": "a number",
    "ORIGIN": "STRONGROOM or EXTERNAL",
    "OUTCOME": "ALLOWED, DENIED or FAILED",
    "PATH": "a file's or a folder's path",
    "PLACE": "HOST[:PORT] or CIDR[:PORT]",
    "POLICY": "a policy's id, or its full name",
    "PORT": "a port: 1 to 65535",
    "PRINCIPAL": "users/ID, workloads/ID, roles/ID, or a full name",
    "PROFILE": "a profile's name: `strongroom profile list`",
    "PROVIDER": "an OIDC provider's id, or its full name",
    "PROVIDER=SUBJECT": "an OIDC provider and the subject of its tokens",
    "RATE": "a number, a second",
    "REGION": "a region of AWS",
    "RESOURCE": "keys/ID, secrets/ID, users/ID and the like, or a full name",
    "ROLE": "a role's id, or its full name",
    "RULE": "words with commas between them, such as length=24,no-punctuation",
    "SECRET": "a secret's id, such as payments/db, or its full name",
    "SERVICE": "a service of the mesh, such as services/secrets",
    "SERVICE=HOST:PORT": "a service, and where it listens",
    "SPAN": "a span of time, such as 30d: `strongroom help durations`",
    "SPEC": "one of those that the help of the command lists",
    "SPIFFE_ID": "a SPIFFE id, spiffe://DOMAIN/PATH",
    "STAGE": "Current, Previous, Pending, or a stage of your own",
    "TARGET": "what a policy or quota is for: users/ID, keys/ID and the like, or a full name",
    "TEXT": "any text",
    "TIME": "a time or a span: `strongroom help durations`",
    "TOPIC": "a topic, or the words of a command",
    "TYPE": "one of those that the help of the command lists",
    "URL": "an https URL",
    "USAGE": "one of those that the help of the command lists",
    "USER": "a login's name on its server",
    "VERIFIER": "a verifier key of a log or witness, or a file of them",
    "VERSION": "NAME/versions/NUMBER, or a full name: `strongroom help versions`",
    "ZONE": "a time zone, such as Europe/Berlin",
    "-- COMMAND": "the command to run, with its arguments",
}
"""What may stand where the help says a word in capitals."""


def _exit_codes() -> str:
    lines = [f"  {int(status):>3}  {meaning}" for status, meaning in MEANINGS.items()]
    return "\n".join(["Every command exits with one of these:", "", *lines])


def _environment() -> str:
    lines = [f"  {name}\n      {about}" for name, about in ABOUT_VARIABLES.items()]
    return "\n".join(["The command line reads these variables; one that is misspelt is refused:", "", *lines])


def _values() -> str:
    most = max(map(len, VALUES))
    return "\n".join(f"  {name:<{most}}  {about}" for name, about in VALUES.items())


TOPICS: Mapping[str, tuple[str, str]] = {
    "output": (
        "The forms of an answer",
        """-o table   for people: columns under headings, or a line for each field. Nothing is ever wrapped, and in a
           pipe nothing is cut. On a terminal that is too narrow, descriptions alone are shown in part: --wide shows
           them whole. Times are local on a terminal and in UTC elsewhere, and say their zone.
-o json    one JSON object, the same as --json. Errors are JSON objects, too, on standard error.
-o yaml    the same as YAML.
-o name    names alone, a line each: for `xargs`, and for other commands.

Where a command's answer is bytes, such as a ciphertext, they stand alone on standard output, in base64 where a line of
text suits better; --out FILE writes them as they are. What is said beside the answer is on standard error. Any command
that takes such bytes reads every form in which they were written: as they are, base64, JSON, YAML or a table. So do
those that take proofs, checkpoints, policies or key material.""",
    ),
    "exit-codes": ("What a command exits with", _exit_codes()),
    "durations": (
        "Spans and times",
        """A SPAN is a number and a unit, s, m, h, d or w, and several of them: 90s, 15m, 1h30m, 30d, 2w. Answers
write it as "1h 30m", which is taken as well. 0 alone stands for never or none.
Some options were once for numbers, and still take a bare one: of days --rotate-every, --every, --after,
--archive-after, --shred-after, and --expires of client keys and key material; of minutes --max-session; of seconds
--timeout and --duration. All others need the unit.

A TIME is a time such as 2026-11-24T02:25Z or 2026-11-24 (UTC, unless a zone is given), or a SPAN: ago where the past is
asked for (--since 7d), and from now on where it is to come (--expires 30d).""",
    ),
    "files": (
        "Files, pipes and values",
        """A FILE is a path, or - for standard input, and for standard output with --out. Commands that take bytes read
standard input where nothing else is given: `strongroom encrypt payments < order.txt`.

--out FILE writes a new file that only you may read; a file that exists is replaced with --force alone. Nothing appears
in its place until all of it is there. A file that cannot be written is told before anything is done: no secret is made
that nobody gets to see.

The value of a secret is what was read, without the newline that a shell or an editor puts at the end of one line;
--keep-newline keeps it. Several lines, such as a private key in PEM, stay as they are. An empty value is refused.""",
    ),
    "contexts": (
        "Encryption contexts, tags and other pairs",
        """A pair is NAME=VALUE, and the option is repeated for each: --context tenant=a --context order=17. What stands
behind the first = is the value, commas included.

An encryption context is not secret. Who decrypts has to give all the pairs that it was encrypted with, and the audit
log has them.

Tags are pairs, too. `create --tag` gives some; `update --tag` says all of them anew, and `update --no-tags` takes them
away (secrets, accounts), as `principal set-tags` does. `key tag` and `key untag` change those that they name.""",
    ),
    "names": (
        "Names of keys, secrets and principals",
        """Within your own account a short name will do. Every command takes each form that some command prints:

  keys             payments, keys/payments, alias/current, aliases/current
  key versions     payments/versions/2, keys/payments/versions/2
  secrets          payments/db, secrets/payments/db
  secret versions  payments/db/versions/2, secrets/payments/db/versions/2
  principals       users/ann, workloads/api, roles/reader
  in full          accounts/main/keys/payments

A role, policy, grant, client key or OIDC provider is called by its id, with or without roles/, policies/, grants/,
clientKeys/ or oidcProviders/ before it. A TARGET and a RESOURCE may be of any kind, so the kind stands in front:
keys/payments. `audit` takes a key or a secret without it too, where there are events of one of the two.""",
    ),
    "versions": (
        "Versions of keys and secrets",
        """A version is NAME/versions/NUMBER, such as payments/versions/2. What changes one version of a key begins with
`strongroom key version`.

`sign`, `verify`, `mac verify`, `public-key` and `key material` take a version in place of a key; without one, they use
the primary version. Signatures, MACs and what `public-key encrypt` makes do not say their version: `verify`, `mac
verify` and `public-key decrypt` try each that is enabled, and say which it was.

`encrypt`, `decrypt`, `re-encrypt`, `data-key`, `mac generate` and `file` take the key alone: they make everything with
the primary version, and a ciphertext says its own.

A version of a secret is named in the same way everywhere, too: `strongroom secret get db/versions/2`, `secret stage db
Current --to db/versions/1 --from db/versions/2`, `audit events --version db/versions/2`. Lists print versions so.""",
    ),
    "environment": ("Variables", _environment()),
    "completion": (
        "Completion by the shell",
        """`strongroom --install-completion` sets it up for bash, zsh or fish. Commands, options and values are
completed: specs, files and profiles at once; keys, secrets, principals, policies and roles as the mesh of the current
profile has them. `strongroom --show-completion` prints what is installed.""",
    ),
    "destruction": (
        "What cannot be taken back",
        """What ends something for good asks first on a terminal, and needs --yes where nobody can be asked. So
does what takes every role, tag or identity away at once. `audit shred` wants the account's id typed once more. Some
commands ask for some of their options alone: `secret delete --force`, `secret update --retained-versions`, `secret
update --no-tags`, `account update --no-tags`, `account update --no-spiffe-ids`, `audit retention --shred-after`, `audit
hold --lift`. `file rewrap` refuses to leave files that you cannot open, unless `--for-others` is given.

Keys, key versions and secrets are destroyed after a waiting time, in which the destruction can be cancelled. So `key
schedule-deletion` and `secret delete` ask nothing: `key cancel-deletion` and `secret restore` take them back.""",
    ),
    "values": ("What the words in capitals stand for", _values()),
}
