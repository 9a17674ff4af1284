"""A signer program for tests: `python fake_signer.py KEY_FILE BEHAVIOUR`; the file holds keys in base58."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from pathlib import Path

from solders.keypair import Keypair


def main() -> None:
    """Answer until the input ends, well or badly."""
    keys = {str(one.pubkey()): one for one in map(Keypair.from_base58_string, Path(sys.argv[1]).read_text().split())}
    behaviour = sys.argv[2] if len(sys.argv) > 2 else "good"
    for count, line in enumerate(sys.stdin):
        request = json.loads(line)
        answer = {"id": request["id"]}
        keypair = keys.get(request["address"])
        if keypair is None:
            answer["error"] = "no such key\x1b[2J"
        else:
            answer["signature"] = base64.b64encode(
                bytes(keypair.sign_message(base64.b64decode(request["message"])))
            ).decode()
        match behaviour:
            case "wrong":
                answer["signature"] = base64.b64encode(bytes(Keypair().sign_message(b"another"))).decode()
            case "short":
                answer["signature"] = base64.b64encode(b"short").decode()
            case "no base64":
                answer["signature"] = "%%%"
            case "nothing":
                del answer["signature"]
            case "garbage":
                print("not JSON", flush=True)
                continue
            case "endless":
                print("x" * 100_000, flush=True)
                continue
            case "silent after one" if count > 0:
                continue
            case "dies after one" if count > 0:
                os._exit(3)
            case "late":
                time.sleep(0.4)
            case "environment":
                answer = {"id": request["id"], "error": " ".join(k for k in os.environ if k.startswith("PIPELINE"))}
        print(json.dumps(answer), flush=True)


main()
