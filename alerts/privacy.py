"""What leaves the house about a patient names nobody: subject, devices and tags become pseudonyms, the same ones each time.

Pseudonyms are keyed hashes: who has no key can neither compute nor test them. The event stays traceable by its id, which is derived from
rule, subject and start without a key: it is a reference for those who may look it up, and, to somebody who holds a list of all subjects, a
way to test one. So this is pseudonymous, not anonymous; channels are for people who care for the patient.
"""

from base64 import b32encode
from hashlib import blake2b

from telemetry.alert import AlertEvent
from telemetry.errors import VitalaneError

PROTECTED_KINDS = frozenset({"patient"})
MIN_KEY_BYTES = 16


class Pseudonyms:
    def __init__(self, key: bytes) -> None:
        """`key` is a secret of at least 16 bytes; with another key everybody gets another pseudonym."""
        if len(key) < MIN_KEY_BYTES:
            msg = f"the key for pseudonyms has {len(key)} bytes: give at least {MIN_KEY_BYTES} random ones"
            raise VitalaneError(msg)
        self._key = blake2b(key, digest_size=32).digest()  # keys longer than blake2b takes are welcome

    def of(self, domain: str, text: str) -> str:
        """Return the pseudonym of a text, `patient-K7QX3M2A`. The same text means another pseudonym in another domain."""
        digest = blake2b(f"{domain}\x1f{text}".encode(), key=self._key, digest_size=5).digest()
        return f"{domain}-{b32encode(digest).decode()}"

    def event(self, event: AlertEvent) -> AlertEvent:
        """Return the event with everything replaced that could name the patient; events of other kinds as they are."""
        if event.kind not in PROTECTED_KINDS:
            return event
        return event._replace(
            subject=self.of(event.kind, event.subject),
            tags={name: self.of(name, value) for name, value in event.tags.items()},
            evidence=tuple(item._replace(device=self.of("device", item.device)) for item in event.evidence),
        )
