"""The claim of a plan: a key-value entry that is created once and settled once, each by compare-and-set.

    (none) --create--> Claimed --update--> Settled

`Claimed` stands before anything begins and names the reference under which the venue will know the submission.
`Settled` holds the bytes of the one result. Whoever finds a claim after a crash goes on from it; see `execution.py`.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

VERSION = 1
_JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class InvalidClaim(ValueError):
    """A claim that this version cannot read. Nothing is done with its plan."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """Somebody is about to execute the plan, or died doing so."""

    owner: str
    reference: str
    attempt: int
    received_ns: int
    claimed_ns: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The plan has its result."""

    owner: str
    settled_ns: int
    result: bytes


Claim = Claimed | Settled


def encode_claim(claim: Claim) -> bytes:
    """Return a claim as JSON, so that `nats kv get` shows a person what happened."""
    fields: dict[str, Any]
    if isinstance(claim, Claimed):
        fields = {
            "state": "claimed",
            "owner": claim.owner,
            "reference": claim.reference,
            "attempt": claim.attempt,
            "received_ns": claim.received_ns,
            "claimed_ns": claim.claimed_ns,
        }
    else:
        result = base64.b64encode(claim.result).decode()
        fields = {"state": "settled", "owner": claim.owner, "settled_ns": claim.settled_ns, "result": result}
    return _JSON.encode({"version": VERSION, **fields}).encode()


def decode_claim(value: bytes) -> Claim:
    """Read a claim.

    Raises:
        InvalidClaim: if it is not one of this version.
    """
    try:
        fields = json.loads(value)
        if fields["version"] != VERSION:
            raise InvalidClaim(f"the claim has version {fields['version']!r}, this program reads {VERSION}")
        if fields["state"] == "settled":
            result = base64.b64decode(fields["result"], validate=True)
            return Settled(str(fields["owner"]), int(fields["settled_ns"]), result)
        if fields["state"] == "claimed":
            return Claimed(
                owner=str(fields["owner"]),
                reference=str(fields["reference"]),
                attempt=int(fields["attempt"]),
                received_ns=int(fields["received_ns"]),
                claimed_ns=int(fields["claimed_ns"]),
            )
    except (KeyError, TypeError, ValueError, AttributeError, binascii.Error, UnicodeDecodeError) as error:
        if isinstance(error, InvalidClaim):
            raise
        raise InvalidClaim(f"not a claim: {error!r}") from None
    raise InvalidClaim(f"unknown state {fields['state']!r}")
