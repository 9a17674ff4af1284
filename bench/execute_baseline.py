"""What the execution's benchmark is held against: the same transaction and the same steps, as one first writes them.

Every address is read from its text, every derived one derived again, every table compiled with; and to get a bundle
out: claim, ask for a blockhash, build, simulate, sign, send, one after the other, with nats-py, solana-py and aiohttp.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from markets.solana.transactions.cycle import CycleOrder
from markets.solana.venues import Accounts, whirlpool
from markets.solana.venues.shape import MEMO_PROGRAM, TOKEN_PROGRAM
from pipeline.messages import Leg

ASSOCIATED = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"


def derived(program: str, *seeds: bytes) -> Pubkey:
    """Derive an address."""
    return Pubkey.find_program_address(list(seeds), Pubkey.from_string(program))[0]


def associated(owner: str, mint: str) -> Pubkey:
    """Derive a token account's address."""
    seeds = (bytes(Pubkey.from_string(one)) for one in (owner, TOKEN_PROGRAM, mint))
    return derived(ASSOCIATED, *seeds)


def whirlpool_swap(order: CycleOrder, leg: Leg, minimum: int, data: bytes) -> Instruction:
    """Lay out `swap_v2` of a Whirlpool from its account's bytes."""
    pool = Pubkey.from_string(leg.pool)
    mint_a, vault_a = Pubkey.from_bytes(data[101:133]), Pubkey.from_bytes(data[133:165])
    mint_b, vault_b = Pubkey.from_bytes(data[181:213]), Pubkey.from_bytes(data[213:245])
    a_to_b = str(mint_a) == leg.token_in
    spacing = int.from_bytes(data[41:43], "little")
    tick = int.from_bytes(data[81:85], "little", signed=True)
    span = spacing * 88
    home = tick // span * span
    if a_to_b:
        starts = [home, home - span, home - 2 * span]
    else:
        home += span if tick % span + spacing >= span else 0
        starts = [home, home + span, home + 2 * span]
    arrays = [derived(whirlpool.PROGRAM, b"tick_array", bytes(pool), str(start).encode()) for start in starts]
    token = Pubkey.from_string(TOKEN_PROGRAM)
    metas = [
        AccountMeta(token, False, False),
        AccountMeta(token, False, False),
        AccountMeta(Pubkey.from_string(MEMO_PROGRAM), False, False),
        AccountMeta(Pubkey.from_string(order.wallet), True, False),
        AccountMeta(pool, False, True),
        AccountMeta(mint_a, False, False),
        AccountMeta(mint_b, False, False),
        AccountMeta(associated(order.wallet, str(mint_a)), False, True),
        AccountMeta(vault_a, False, True),
        AccountMeta(associated(order.wallet, str(mint_b)), False, True),
        AccountMeta(vault_b, False, True),
        *(AccountMeta(array, False, True) for array in arrays),
        AccountMeta(derived(whirlpool.PROGRAM, b"oracle", bytes(pool)), False, True),
    ]
    limit = 4_295_048_016 if a_to_b else 79_226_673_515_401_279_992_447_579_055
    # sha256("global:swap_v2"), its first eight bytes.
    written = bytes.fromhex("2b04ed0b1ac91e62") + leg.amount_in.to_bytes(8, "little") + minimum.to_bytes(8, "little")
    written += limit.to_bytes(16, "little") + bytes([1, a_to_b, 0])
    return Instruction(Pubkey.from_string(whirlpool.PROGRAM), written, metas)


def naive_message(
    order: CycleOrder, accounts: Accounts, tables: Sequence[AddressLookupTableAccount], blockhash: str
) -> MessageV0:
    """Build a cycle over two Whirlpools."""
    first, second = order.legs
    wallet, tipped = Pubkey.from_string(order.wallet), Pubkey.from_string(order.tip_account)
    instructions = [
        set_compute_unit_limit(order.compute_limit),
        set_compute_unit_price(order.micro_lamports),
        whirlpool_swap(order, first, second.amount_in, accounts[first.pool][1]),
        whirlpool_swap(order, second, order.min_amount_out, accounts[second.pool][1]),
        transfer(TransferParams(from_pubkey=wallet, to_pubkey=tipped, lamports=order.tip)),
    ]
    return MessageV0.try_compile(wallet, instructions, list(tables), Hash.from_string(blockhash))


def encoded(raw: bytes) -> str:
    """Return bytes as the RPC takes them."""
    return base64.b64encode(raw).decode()


def resolved(message: MessageV0, tables: Sequence[AddressLookupTableAccount]) -> list[tuple[str, list[str], bytes]]:
    """Return a message's instructions with the addresses that their indices mean: what a validator executes."""
    listed = {table.key: table.addresses for table in tables}
    keys = list(message.account_keys)
    keys += [listed[one.account_key][at] for one in message.address_table_lookups for at in one.writable_indexes]
    keys += [listed[one.account_key][at] for one in message.address_table_lookups for at in one.readonly_indexes]
    return [
        (str(keys[one.program_id_index]), [str(keys[at]) for at in one.accounts], bytes(one.data))
        for one in message.instructions
    ]
