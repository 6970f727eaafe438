"""Who may say and hear what at the broker, from the registry: an account for each device or gateway, and one for our services. Pure.

Law 8 at the door: whose message it is stands in its topic, so an account may write the topics of its own devices and no others, and reads
nothing. Passwords are Mosquitto's own form of PBKDF2, which hashlib makes as well.
"""

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cli.registry import DeviceEntry
from decoders.mapping_model import MappingModel
from decoders.topics import FORMS, PREFIX, Topic, format_topic

ALERTS = f"{PREFIX}/alerts/#"

PASSWORD_BYTES, SALT_BYTES = 24, 12
ITERATIONS = 101
"""As mosquitto_passwd 2.0 writes. What keeps these passwords is that each is 192 random bits."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PART = re.compile(r"\{([^{}]*)\}")
_SHARED = re.compile(r"\$share/[^/]+/")


class Account(NamedTuple):
    reads: tuple[str, ...]  # topic filters
    writes: tuple[str, ...]


def is_account(name: str) -> bool:
    """Return whether a name can stand in a password file: one with a colon would end there."""
    return _NAME.fullmatch(name) is not None


class Make:
    """A mapping whose topic names its device: on which topics a device of that make publishes."""

    def __init__(self, model: MappingModel) -> None:
        text = "{device}" if model.device is None else model.device if isinstance(model.device, str) else ""
        before, part, after = _PART.split(text) if len(_PART.findall(text)) == 1 else ("", "", "")
        self._topic, self._part, self._affixes = model.topic, part, (before, after)
        self._named = set(model.names)
        self._own: dict[str, list[str]] = {}
        for own, name in model.names.items():
            self._own.setdefault(name, []).append(own)

    def topics(self, device: str) -> Iterator[str]:
        """Yield the topics as an access rule has them; none where it is the message that says whose it is."""
        before, after = self._affixes
        for own in [*self._own.get(device, ()), *([] if device in self._named else [device])]:
            value = own[len(before) : len(own) - len(after)]
            if (
                self._part
                and value
                and own == before + value + after
                and value == value.strip()
                and not re.search(r"[/+#\x00-\x1f]", value)
            ):
                yield _PART.sub(lambda match, value=value: value if match[1] == self._part else "+", self._topic)  # type: ignore[misc]


def accounts(
    entries: Iterable[DeviceEntry],
    service: str,
    topics: Sequence[str],
    mappings: Sequence[MappingModel] = (),
    said: Sequence[str] = (),
) -> dict[str, Account]:
    """Return the accounts by name, the services' first. Raises ValueError with a sentence.

    `topics` is what ingest subscribes to, `said` what our services publish besides alerts.
    """
    writes: dict[str, dict[str, None]] = {}
    makes, entries = [Make(model) for model in mappings], list(entries)
    gateways = {entry.device: entry.via for entry in entries if entry.via}
    for entry in entries:
        name = entry.via or gateways.get(entry.device) or entry.device  # an assignment by command says nothing of accounts
        if not is_account(name):
            msg = f"the device `{name}` cannot have an account, its name has a colon: say by which one it publishes, `via: gateway-1`"
            raise ValueError(msg)
        if name == service:
            msg = f"`{name}` is the account of our services: a device that publishes by it could publish for all others"
            raise ValueError(msg)
        own = writes.setdefault(name, {})
        own |= dict.fromkeys(format_topic(Topic(entry.kind, entry.device, form)) for form in FORMS)
        own |= dict.fromkeys(topic for make in makes for topic in make.topics(entry.device))
    reads = dict.fromkeys(_SHARED.sub("", topic, count=1) for topic in topics)
    return {service: Account(tuple(reads), (ALERTS, *said))} | {name: Account((), tuple(own)) for name, own in sorted(writes.items())}


def access_rules(known: dict[str, Account]) -> str:
    """Return Mosquitto's acl_file. Where no rule stands, there is no access."""
    lines = ["# Who may say and hear what; written by `vitalane deploy mosquitto`, which writes it anew."]
    for name, account in known.items():
        lines += ["", f"user {name}"]
        lines += [f"topic read {topic}" for topic in account.reads]
        lines += [f"topic write {topic}" for topic in account.writes]
    return "\n".join([*lines, ""])


def new_password() -> str:
    return secrets.token_urlsafe(PASSWORD_BYTES)


def hashed(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return a password as Mosquitto's password_file has it: `$7$`, PBKDF2 with SHA-512."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return f"$7${iterations}${b64encode(salt).decode()}${b64encode(digest).decode()}"


def matches(password: str, written: str) -> bool:
    """Return whether a password is the one of a line that we have written."""
    try:
        _, form, iterations, salt, _ = written.split("$")
        return form == "7" and iterations == str(ITERATIONS) and hmac.compare_digest(hashed(password, b64decode(salt)), written)
    except (ValueError, NoBase64):
        return False
