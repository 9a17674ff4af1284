"""A faucet: lamports for whoever asks, by a real transfer."""

from __future__ import annotations

import hashlib
import itertools

from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from localnet.chain.chain import Chain
from localnet.chain_view import ChainAccount
from localnet.services.instructions import SYSTEM_PROGRAM

LAMPORTS = 10**17
"""What the faucet begins with."""
_KEY = Keypair.from_seed(hashlib.sha256(b"faucet of the simulated chain").digest())
_asked = itertools.count()


def airdrop(chain: Chain, address: str, lamports: int) -> str:
    """Send lamports to an address; return the transfer's signature. It lands with the next block.

    Raises:
        ChainRefusal: if the chain does not take it.
    """
    faucet = _KEY.pubkey()
    if str(faucet) not in chain.views.newest.accounts:
        chain.put(str(faucet), ChainAccount(SYSTEM_PROGRAM, b"", LAMPORTS))
    blockhash, _ = chain.latest_blockhash("processed")
    # Another limit each time: the same request twice is two transfers.
    instructions = [
        set_compute_unit_limit(1_000 + next(_asked) % 100_000),
        transfer(TransferParams(from_pubkey=faucet, to_pubkey=Pubkey.from_string(address), lamports=lamports)),
    ]
    message = MessageV0.try_compile(faucet, instructions, [], Hash.from_string(blockhash))
    return chain.send(bytes(VersionedTransaction(message, [_KEY])), preflight=True)
