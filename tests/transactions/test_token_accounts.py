"""Token accounts and lookup tables, done for real: on the token programs of LiteSVM."""

import struct
from collections.abc import Sequence

import pytest
from solders.account import Account
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.token.associated import get_associated_token_address
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

from markets.solana.transactions.cycle import MAX_BYTES, compiled, transaction_bytes
from markets.solana.transactions.lookup_tables import (
    EXTEND_MAX,
    TABLE_PROGRAM,
    chosen,
    create_table,
    extend_table,
    listed,
    parse_table,
    tables_of,
)
from markets.solana.transactions.tips import TIP_ACCOUNTS, tip_account, tip_instruction
from markets.solana.transactions.token_accounts import (
    ASSOCIATED_PROGRAM,
    TOKEN_ACCOUNT_BYTES,
    TOKEN_ACCOUNT_RENT,
    associated_address,
    open_account,
    rewrap_sol,
    unwrap_sol,
    wrap_sol,
)
from markets.solana.venues import BadAccount
from markets.solana.venues.shape import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from markets.tokens import SOL_MINT, USDC_MINT

SOL = 10**9
KEYS = Keypair.from_seed(bytes(range(32)))
OWNER = str(KEYS.pubkey())
MINT_2022 = str(Pubkey(bytes([7] * 32)))


def mint(decimals: int) -> bytes:
    return struct.pack("<I32sQB?I32s", 0, bytes(32), 10**15, decimals, True, 0, bytes(32))


@pytest.fixture
def vm() -> LiteSVM:
    machine = LiteSVM().with_sigverify(True)
    machine.airdrop(KEYS.pubkey(), 100 * SOL)
    for address, program, decimals in (
        (SOL_MINT, TOKEN_PROGRAM, 9),
        (USDC_MINT, TOKEN_PROGRAM, 6),
        (MINT_2022, TOKEN_2022_PROGRAM, 6),
    ):
        account = Account(SOL, mint(decimals), Pubkey.from_string(program))
        machine.set_account(Pubkey.from_string(address), account)
    return machine


def send(
    vm: LiteSVM, instructions: Sequence[Instruction], tables: Sequence[AddressLookupTableAccount] = ()
) -> MessageV0:
    vm.expire_blockhash()
    message = compiled(OWNER, instructions, tables, str(vm.latest_blockhash()))
    signed = VersionedTransaction.populate(message, [KEYS.sign_message(to_bytes_versioned(message))])
    outcome = vm.send_transaction(signed)
    assert not isinstance(outcome, FailedTransactionMetadata), outcome
    return message


def amount(vm: LiteSVM, address: str) -> int:
    account = vm.get_account(Pubkey.from_string(address))
    assert account is not None
    return int.from_bytes(account.data[64:72], "little")


def test_associated_addresses_are_those_of_the_library():
    for token in (SOL_MINT, USDC_MINT):
        theirs = get_associated_token_address(KEYS.pubkey(), Pubkey.from_string(token))
        assert associated_address(OWNER, token) == str(theirs)
    other = get_associated_token_address(
        KEYS.pubkey(), Pubkey.from_string(MINT_2022), Pubkey.from_string(TOKEN_2022_PROGRAM)
    )
    assert associated_address(OWNER, MINT_2022, TOKEN_2022_PROGRAM) == str(other)
    assert associated_address(OWNER, MINT_2022) != str(other)
    with pytest.raises(ValueError, match="no token program"):
        associated_address(OWNER, MINT_2022, SYSTEM_PROGRAM)
    with pytest.raises(BadAccount):
        associated_address("not an address", MINT_2022)


@pytest.mark.parametrize(("token", "program"), [(USDC_MINT, TOKEN_PROGRAM), (MINT_2022, TOKEN_2022_PROGRAM)])
def test_an_account_is_opened_and_opening_it_again_does_nothing(vm: LiteSVM, token: str, program: str):
    address = associated_address(OWNER, token, program)
    send(vm, [open_account(OWNER, OWNER, token, program)])
    opened = vm.get_account(Pubkey.from_string(address))
    assert opened is not None
    assert str(opened.owner) == program
    assert (opened.data[:32], opened.data[32:64]) == (bytes(Pubkey.from_string(token)), bytes(KEYS.pubkey()))
    if program == TOKEN_PROGRAM:
        assert (len(opened.data), opened.lamports) == (TOKEN_ACCOUNT_BYTES, TOKEN_ACCOUNT_RENT)
    before = vm.get_balance(KEYS.pubkey())
    send(vm, [open_account(OWNER, OWNER, token, program)])
    assert before is not None
    assert vm.get_balance(KEYS.pubkey()) == before - 5_000
    assert str(open_account(OWNER, OWNER, token).program_id) == ASSOCIATED_PROGRAM


def test_sol_is_wrapped_and_unwrapped(vm: LiteSVM):
    wrapped = associated_address(OWNER, SOL_MINT)
    before = vm.get_balance(KEYS.pubkey())
    assert before is not None
    send(vm, [open_account(OWNER, OWNER, SOL_MINT), *wrap_sol(OWNER, 3 * SOL)])
    assert amount(vm, wrapped) == 3 * SOL
    assert vm.get_balance(KEYS.pubkey()) == before - 3 * SOL - TOKEN_ACCOUNT_RENT - 5_000
    send(vm, wrap_sol(OWNER, 1))
    assert amount(vm, wrapped) == 3 * SOL + 1
    send(vm, [unwrap_sol(OWNER)])
    # All of it comes back, rent included: three fees are what it cost.
    assert vm.get_balance(KEYS.pubkey()) == before - 3 * 5_000
    for nothing in (0, -1):
        with pytest.raises(ValueError, match="positive"):
            wrap_sol(OWNER, nothing)


def test_wrapped_sol_is_brought_to_an_amount_in_one_transaction(vm: LiteSVM):
    wrapped = associated_address(OWNER, SOL_MINT)
    send(vm, [open_account(OWNER, OWNER, SOL_MINT), *wrap_sol(OWNER, 40 * SOL)])
    before = vm.get_balance(KEYS.pubkey())
    assert before is not None
    send(vm, rewrap_sol(OWNER, 10 * SOL))
    assert amount(vm, wrapped) == 10 * SOL
    # All that is owned stays owned, but for the fee.
    assert vm.get_balance(KEYS.pubkey()) == before + 30 * SOL - 5_000


def test_a_tip_reaches_its_account(vm: LiteSVM):
    send(vm, [tip_instruction(OWNER, TIP_ACCOUNTS[5], SOL)])
    assert vm.get_balance(Pubkey.from_string(TIP_ACCOUNTS[5])) == SOL
    for account, lamports in ((OWNER, 1), (TIP_ACCOUNTS[0], 0), (TIP_ACCOUNTS[0], -1)):
        with pytest.raises(ValueError, match="tip"):
            tip_instruction(OWNER, account, lamports)


def test_tip_accounts_are_eight_and_are_all_used():
    assert len(set(TIP_ACCOUNTS)) == 8
    assert {len(bytes(Pubkey.from_string(address))) for address in TIP_ACCOUNTS} == {32}
    chosen_ = [tip_account(f"{number:032x}") for number in range(400)]
    assert set(chosen_) == set(TIP_ACCOUNTS)
    assert tip_account("ab" * 16) == tip_account("ab" * 16)


def test_a_table_is_created_filled_read_and_used(vm: LiteSVM):
    # A table must be created in a slot whose hash the chain still holds.
    vm.warp_to_slot(vm.get_clock().slot + 5)
    slot = vm.get_slot_hashes()[0][0]
    made, address = create_table(OWNER, OWNER, slot)
    send(vm, [made])
    names = [str(Pubkey(bytes([at, 1] * 16))) for at in range(70)]
    extends = extend_table(address, OWNER, OWNER, names)
    assert len(extends) == -(-70 // EXTEND_MAX) == 3
    for one in extends[:2]:
        send(vm, [one])
    vm.warp_to_slot(vm.get_clock().slot + 1)
    send(vm, extends[2:])
    account = vm.get_account(Pubkey.from_string(address))
    assert account is not None
    now = vm.get_clock().slot
    table = parse_table(address, str(account.owner), account.data)
    assert [str(key) for key in table.addresses] == names
    # What was added in this slot can be used from the next on.
    assert parse_table(address, str(account.owner), account.data, now).addresses == table.addresses[: 2 * EXTEND_MAX]
    assert parse_table(address, str(account.owner), account.data, now + 1).addresses == table.addresses
    assert tables_of(OWNER).matches(account.data)
    assert not tables_of(SYSTEM_PROGRAM).matches(account.data)
    vm.warp_to_slot(now + 1)
    paid = [
        transfer(TransferParams(from_pubkey=KEYS.pubkey(), to_pubkey=Pubkey.from_string(name), lamports=SOL))
        for name in names[::7]
    ]
    message = send(vm, paid, [table])
    assert [list(one.writable_indexes) for one in message.address_table_lookups] == [list(range(0, 70, 7))]
    assert vm.get_balance(Pubkey.from_string(names[63])) == SOL


def test_as_many_addresses_as_one_transaction_adds_fit_beside_limit_and_price():
    names = [str(Pubkey(bytes([at, 1] * 16))) for at in range(EXTEND_MAX)]
    budget = [set_compute_unit_limit(1_400_000), set_compute_unit_price(10**6)]
    made = compiled(OWNER, [*budget, *extend_table(USDC_MINT, OWNER, OWNER, names)], [], str(Hash.default()))
    assert transaction_bytes(made) <= MAX_BYTES


def test_what_is_no_table(vm: LiteSVM):
    slot = vm.get_slot_hashes()[0][0]
    made, address = create_table(OWNER, OWNER, slot)
    send(vm, [made])
    account = vm.get_account(Pubkey.from_string(address))
    assert account is not None
    data = account.data
    deactivated = data[:4] + (5).to_bytes(8, "little") + data[12:]
    assert parse_table(address, TABLE_PROGRAM, data).addresses == []
    for owner, wrong, reason in (
        (SYSTEM_PROGRAM, data, "wrong_owner"),
        (TABLE_PROGRAM, b"", "wrong_discriminator"),
        (TABLE_PROGRAM, data[:40], "wrong_discriminator"),
        (TABLE_PROGRAM, data + bytes(31), "wrong_discriminator"),
        (TABLE_PROGRAM, bytes(len(data)), "wrong_discriminator"),
        (TABLE_PROGRAM, deactivated, "deactivated"),
    ):
        with pytest.raises(BadAccount) as caught:
            parse_table(address, owner, wrong)
        assert caught.value.reason == reason
    with pytest.raises(ValueError, match="holds 256"):
        extend_table(address, OWNER, OWNER, [OWNER] * 257)


def test_a_tip_account_stands_in_the_transaction_itself():
    keys = [Pubkey(bytes([at] * 32)) for at in range(1, 4)]
    tip = Pubkey.from_string(TIP_ACCOUNTS[2])
    table = AddressLookupTableAccount(Pubkey(bytes([100] * 32)), [keys[0], tip, *keys[1:]])
    paid = [transfer(TransferParams(from_pubkey=KEYS.pubkey(), to_pubkey=key, lamports=1)) for key in keys]
    message = compiled(OWNER, [*paid, tip_instruction(OWNER, TIP_ACCOUNTS[2], 5)], [table], str(Hash.default()))
    assert tip in message.account_keys
    (lookup,) = message.address_table_lookups
    # The other addresses keep their places in the table.
    assert list(lookup.writable_indexes) == [0, 2, 3]


def test_tables_are_named_only_where_that_makes_the_transaction_smaller():
    keys = [Pubkey(bytes([at] * 32)) for at in range(1, 13)]

    def table(number: int, addresses: list[Pubkey]) -> AddressLookupTableAccount:
        return AddressLookupTableAccount(Pubkey(bytes([number] * 32)), addresses)

    one, two, lone = table(100, keys[:4]), table(101, keys[2:9]), table(102, [keys[9]])
    assert chosen([one, two, lone], set(keys)) == [two, one]
    assert chosen([one, two, lone], {keys[9], keys[0]}) == []
    assert chosen([one, one], set(keys)) == [one]
    assert chosen([], set(keys)) == []
    paid = [
        transfer(TransferParams(from_pubkey=KEYS.pubkey(), to_pubkey=key, lamports=1)) for key in (*keys[:3], keys[9])
    ]
    sizes = {len(bytes(compiled(OWNER, paid, some, str(Hash.default())))) for some in ([one], [one, two, lone])}
    assert len(sizes) == 1


def test_a_tables_addresses_are_listed_in_their_places():
    keys = [Pubkey(bytes([at] * 32)) for at in range(1, 9)] + [Pubkey.from_string(TIP_ACCOUNTS[0])]
    table = AddressLookupTableAccount(Pubkey(bytes([100] * 32)), keys)
    assert list(listed(table)) == keys
    assert listed(table) is listed(table)
