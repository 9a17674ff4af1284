"""`pipeline decode`: one message to JSON, made for `nats stream view STREAM --translate "pipeline decode"`."""

from __future__ import annotations

import sys

from pipeline.cli.output import JsonOption, print_json
from pipeline.errors import BadData, UsageFailure
from pipeline.messages import MAX_MESSAGE_BYTES, InvalidMessage
from pipeline.messages import decode as read_message


def decode(json: JsonOption = False) -> None:
    """Decode one message from standard input to JSON.

    The type is found by the file identifier. The output is JSON with or without `--json`.
    """
    if sys.stdin.isatty():
        raise UsageFailure(
            "a message is read from standard input", "such as: nats kv get permit latch --raw | pipeline decode"
        )
    # one byte past the limit is enough to know; the verifier says so
    data = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
    try:
        message = read_message(data)
    except InvalidMessage as error:
        raise BadData(f"not a message: {error}") from error
    print_json({"type": type(message).__name__, **message.to_dict()})
