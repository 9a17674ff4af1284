"""Deterministic ids: the same cause gives the same id, so a repeat is recognised anywhere."""

from hashlib import blake2b

ID_BYTES = 16
ID_LENGTH = 2 * ID_BYTES


def deterministic_id(*parts: str | int | bytes) -> str:
    """Return 32 hex characters: the BLAKE2b-128 of the parts, each with type and length: no two tuples run together."""
    if not parts:
        raise ValueError("an id needs at least one part")
    digest = blake2b(digest_size=ID_BYTES)
    for part in parts:
        match part:
            case bool():
                raise TypeError("a bool is not a part of an id: say what it means")
            case str():
                tag, body = b"s", part.encode()
            case int():
                tag, body = b"i", str(part).encode()
            case bytes():
                tag, body = b"b", part
            case _:
                raise TypeError(f"an id is made of str, int and bytes, not {type(part).__name__}")
        digest.update(b"%s%d:" % (tag, len(body)))
        digest.update(body)
    return digest.hexdigest()


def payload_digest(payload: bytes) -> str:
    """Return the BLAKE2b-128 of a payload, hex."""
    return blake2b(payload, digest_size=ID_BYTES).hexdigest()
