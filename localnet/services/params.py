"""Parameters of JSON-RPC calls: read, checked, or refused as a node refuses them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import base58
from solders.pubkey import Pubkey
from solders.signature import Signature

from localnet.chain.records import Commitment
from localnet.chain_view import View
from localnet.services.errors import MethodError, invalid, too_early
from localnet.services.state import COMMITMENTS, NodeState

MAX_FILTERS = 4
MAX_MEMCMP_BYTES = 128
_BASE58 = frozenset(base58.BITCOIN_ALPHABET.decode())

Params = Sequence[object]


def at(params: Params, position: int) -> object:
    """Return a parameter, None where it is missing."""
    return params[position] if len(params) > position else None


def needed(params: Params, position: int) -> object:
    """Return a parameter that must be there."""
    if len(params) <= position:
        raise invalid(f"`params` should have at least {position + 1} argument(s)")
    return params[position]


def address_of(value: object) -> str:
    """Return a public key given as a parameter."""
    return _read(value, Pubkey.from_string, 32)


def signature_of(value: object) -> str:
    """Return a signature given as a parameter."""
    return _read(value, Signature.from_string, 64)


def _read(value: object, read: Callable[[str], object], size: int) -> str:
    if not isinstance(value, str):
        raise invalid("Invalid params: invalid type, expected a string.")
    try:
        read(value)
    except ValueError:
        # Longer text is not even looked at: base58 takes quadratic time.
        known = len(value) <= 2 * size and set(value) <= _BASE58
        raise invalid(f"Invalid param: {'WrongSize' if known else 'Invalid'}") from None
    return value


def options_of(params: Params, position: int) -> Mapping[str, Any]:
    """Return the options of a call, empty where there are none."""
    options = at(params, position)
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise invalid("Invalid params: invalid type, expected an object.")
    return options


def commitment_of(options: Mapping[str, Any], name: str = "commitment") -> Commitment:
    """Return the commitment that a call asks for; finalized where it names none."""
    given = options.get(name)
    if given is None:
        return "finalized"
    if given not in COMMITMENTS:
        raise invalid(f"Invalid params: unknown variant `{given}`, expected one of {', '.join(COMMITMENTS)}.")
    return cast(Commitment, given)


def confirmed_of(options: Mapping[str, Any]) -> Commitment:
    """Return the commitment of a call about history, which knows nothing of blocks that are not confirmed."""
    commitment = commitment_of(options)
    if commitment == "processed":
        raise invalid("Method does not support commitment below `confirmed`")
    return commitment


def view_of(node: NodeState, options: Mapping[str, Any]) -> View:
    """Return the view that a call asks for, its minimum slot checked."""
    return not_before(node.view(commitment_of(options)), options)


def not_before(view: View, options: Mapping[str, Any]) -> View:
    """Refuse a view that is older than a call wants it."""
    least = count_of(options.get("minContextSlot"), "minContextSlot", 0)
    if least > view.slot:
        raise too_early(view.slot)
    return view


def count_of(value: object, name: str, otherwise: int, most: int = 2**64 - 1) -> int:
    """Return a whole number of at least 0; `otherwise` where there is none."""
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise invalid(f"Invalid params: {name}: expected a whole number within 0 and {most}.")
    return value


def version_option(options: Mapping[str, Any]) -> int | None:
    """Return the newest version of transactions that a caller knows; None: legacy ones only."""
    name = "maxSupportedTransactionVersion"
    return None if options.get(name) is None else count_of(options[name], name, 0, 255)


def flag_of(options: Mapping[str, Any], name: str) -> bool:
    """Return a switch, off where it is not given."""
    value = options.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(f"Invalid params: {name}: invalid type, expected a boolean.")
    return value


def list_of(value: object, name: str, most: int) -> list[object]:
    """Return an array of at most so many elements."""
    if not isinstance(value, list):
        raise invalid(f"Invalid params: invalid type, expected an array of {name}.")
    if len(value) > most:
        raise invalid(f"Too many inputs provided; max {most}")
    return value


def bytes_of(text: object, encoding: object) -> bytes:
    """Return what base58 or base64 text holds; at most about a kilobyte is accepted where it is base58."""
    if not isinstance(text, str):
        raise invalid("Invalid params: invalid type, expected a string.")
    match encoding:
        case "base64":
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise invalid(f"invalid base64 encoding: {error}") from None
            except ValueError:
                raise invalid("invalid base64 encoding: not ASCII") from None
        case None | "base58" | "binary":
            if len(text) > 1683:  # a transaction of 1,232 bytes; longer text takes quadratic time
                raise invalid("base58 encoded transaction too large")
            try:
                return bytes(base58.b58decode(text))
            except ValueError:
                raise invalid("invalid base58 encoding: InvalidCharacter") from None
    raise invalid(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")


def slice_of(options: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return which part of the data is wanted, as (offset, length); None for all."""
    given = options.get("dataSlice")
    if given is None:
        return None
    if not isinstance(given, dict) or "offset" not in given or "length" not in given:
        raise invalid("Invalid params: dataSlice needs offset and length.")
    return count_of(given["offset"], "offset", 0), count_of(given["length"], "length", 0)


def filters_of(given: object) -> list[Callable[[bytes], bool]]:
    """Return the filters of program accounts as functions of an account's data."""
    if given is None:
        return []
    if not isinstance(given, list):
        raise invalid("Invalid params: filters: expected an array.")
    if len(given) > MAX_FILTERS:
        raise invalid(f"Too many filters provided; max {MAX_FILTERS}")
    return [_filter(one) for one in given]


def _filter(given: object) -> Callable[[bytes], bool]:
    if given == "tokenAccountState":
        # Of SPL Token and Token-2022: the length of an account, or its type's byte behind it; initialised.
        return lambda data: (len(data) == 165 or (len(data) > 165 and data[165] == 2)) and data[108] != 0
    if not isinstance(given, dict) or len(given) != 1:
        raise invalid("Invalid params: filter: expected dataSize, memcmp or tokenAccountState.")
    if "dataSize" in given:
        size = count_of(given["dataSize"], "dataSize", 0)
        return lambda data: len(data) == size
    compare = given.get("memcmp")
    if not isinstance(compare, dict):
        raise invalid("Invalid params: filter: expected dataSize, memcmp or tokenAccountState.")
    offset = count_of(compare.get("offset"), "offset", 0)
    wanted = _compared(compare.get("bytes"), compare.get("encoding"))
    return lambda data: data[offset : offset + len(wanted)] == wanted


def _compared(given: object, encoding: object) -> bytes:
    if isinstance(given, list) and all(isinstance(one, int) and 0 <= one <= 255 for one in given):
        wanted = bytes(given)
    elif isinstance(given, str) and encoding in (None, "base58", "base64", "binary"):
        if len(given) > (172 if encoding == "base64" else 175):
            raise MethodError(-32602, f"encoded memcmp data is too large; max {MAX_MEMCMP_BYTES} bytes")
        wanted = bytes_of(given, encoding)
    else:
        raise invalid("Invalid params: memcmp: expected bytes as text or an array, in base58 or base64.")
    if len(wanted) > MAX_MEMCMP_BYTES:
        raise invalid(f"encoded memcmp data is too large; max {MAX_MEMCMP_BYTES} bytes")
    return wanted
