"""The offline chain's accounts before its first slot."""

import struct

import pytest
from solders.pubkey import Pubkey

from localnet.chain_genesis import FIRST_SLOT, Funds, chain_genesis, static_accounts, trader_keypair
from localnet.chain_view import ChainAccount
from localnet.genesis import PROTOCOLS, GenesisPool, genesis
from localnet.layouts import key, token_amount
from markets.solana.transactions.lookup_tables import TABLE_PROGRAM, parse_table, tables_of
from markets.solana.transactions.token_accounts import associated_address
from markets.solana.venues import VENUES, raydium_amm_v4, raydium_cpmm, spl_stake_pool, whirlpool
from markets.solana.venues.shape import SLOTS_PER_EPOCH, SYSTEM_PROGRAM, TOKEN_PROGRAM
from markets.solana.wallets.keys import offline_keypair
from markets.tokens import LAMPORTS_PER_SOL, SOL_MINT, USDC_MINT, load_registry
from pipeline._core import Pool

REGISTRY = load_registry()
FUNDS = Funds(7 * LAMPORTS_PER_SOL, 3 * LAMPORTS_PER_SOL, 11)
POOLS = genesis(REGISTRY, 1)


@pytest.fixture(scope="module")
def accounts() -> dict[str, ChainAccount]:
    made = chain_genesis(REGISTRY, 1, wallets=2, funds=FUNDS)
    assert len(dict(made)) == len(made), "no address twice"
    return dict(made)


def test_the_same_seed_gives_the_same_accounts_and_another_seed_others(accounts: dict[str, ChainAccount]):
    assert dict(chain_genesis(REGISTRY, 1, wallets=2, funds=FUNDS)) == accounts
    other = dict(chain_genesis(REGISTRY, 2, wallets=2, funds=FUNDS))
    pools = {pool.address for pool in POOLS}
    assert pools <= accounts.keys()
    assert not pools & other.keys()


def test_every_account_is_rent_exempt_and_every_token_account_has_its_mint(accounts: dict[str, ChainAccount]):
    for address, account in accounts.items():
        assert account.lamports >= (len(account.data) + 128) * 6_960, address
        if account.owner == TOKEN_PROGRAM and len(account.data) == 165:
            mint = str(Pubkey(account.data[:32]))
            assert accounts[mint].owner == TOKEN_PROGRAM


def test_wrapped_sol_lies_in_native_accounts_that_hold_as_many_lamports(accounts: dict[str, ChainAccount]):
    native = [account for account in accounts.values() if len(account.data) == 165 and account.data[109]]
    wrapped = [account for account in accounts.values() if account.data[:32] == key(SOL_MINT)]
    assert native == [account for account in wrapped if len(account.data) == 165]
    assert len(native) > 40
    for account in native:
        rent = struct.unpack_from("<Q", account.data, 113)[0]
        assert account.lamports == rent + token_amount(account.data)


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: f"{pool.venue}-{pool.pair.quote.symbol}-{pool.address[-4:]}")
def test_the_chain_holds_what_each_pool_is_quoted_from(pool: GenesisPool, accounts: dict[str, ChainAccount]):
    raw = [(one[0], accounts[one[0]].owner, accounts[one[0]].data, accounts[one[0]].lamports) for one in pool.accounts]
    parsed = Pool.parse(PROTOCOLS[pool.venue], pool.address, raw, FIRST_SLOT, 1, 0)
    assert parsed.quote_in(True, 10**8).amount_out > 0


def test_addresses_are_those_that_the_programs_derive(accounts: dict[str, ChainAccount]):
    for pool in POOLS:
        data = accounts[pool.address].data
        if pool.venue == "whirlpool":
            seeds = [b"whirlpool", data[8:40], data[101:133], data[181:213], data[41:43], data[40:41]]
            derived = Pubkey.create_program_address(seeds, Pubkey.from_string(whirlpool.PROGRAM))
            assert str(derived) == pool.address
            authority = pool.address
        elif pool.venue == "raydium_amm_v4":
            seeds = [b"amm authority", data[8:9]]
            authority = str(Pubkey.create_program_address(seeds, Pubkey.from_string(raydium_amm_v4.PROGRAM)))
        elif pool.venue == "raydium_cpmm":
            seeds = [b"vault_and_lp_mint_auth_seed", data[328:329]]
            authority = str(Pubkey.create_program_address(seeds, Pubkey.from_string(raydium_cpmm.PROGRAM)))
        else:
            continue
        for vault in VENUES[PROTOCOLS[pool.venue]].vaults(data):
            assert vault is not None
            assert accounts[vault].data[32:64] == key(authority)


def test_a_stake_pool_mints_its_token_and_is_up_to_date(accounts: dict[str, ChainAccount]):
    for pool in POOLS:
        if pool.venue == "spl_stake_pool":
            account = accounts[pool.address]
            mint = accounts[spl_stake_pool.mints(account.data)[0]]
            assert mint.data[4:36] == key(spl_stake_pool.withdraw_authority(account.owner, pool.address))
            assert struct.unpack_from("<Q", account.data, 274)[0] == FIRST_SLOT // SLOTS_PER_EPOCH


def test_no_mint_has_issued_less_than_there_is(accounts: dict[str, ChainAccount]):
    for token in REGISTRY.tokens:
        held = sum(
            token_amount(a.data) for a in accounts.values() if len(a.data) == 165 and a.data[:32] == key(token.mint)
        )
        supply = struct.unpack_from("<Q", accounts[token.mint].data, 36)[0]
        assert supply == 0 if token.mint == SOL_MINT else supply >= held


def test_wallets_have_their_funds_and_an_account_for_every_token(accounts: dict[str, ChainAccount]):
    for index in range(2):
        wallet = str(offline_keypair(1, index).pubkey())
        assert accounts[wallet] == ChainAccount(SYSTEM_PROGRAM, b"", FUNDS.lamports)
        held = {token.mint: accounts[associated_address(wallet, token.mint)] for token in REGISTRY.tokens}
        amounts = {mint: token_amount(account.data) for mint, account in held.items() if token_amount(account.data)}
        assert amounts == {SOL_MINT: FUNDS.wrapped, USDC_MINT: FUNDS.usdc}
        assert all(account.data[32:64] == key(wallet) for account in held.values())
    assert str(offline_keypair(1, 2).pubkey()) not in accounts
    assert str(trader_keypair(1, "rival").pubkey()) in accounts


def test_one_lookup_table_of_the_first_wallet_names_all_that_a_pair_needs(accounts: dict[str, ChainAccount]):
    asked = tables_of(str(offline_keypair(1, 0).pubkey()))
    tables = [
        {str(named) for named in parse_table(address, account.owner, account.data, FIRST_SLOT).addresses}
        for address, account in accounts.items()
        if account.owner == TABLE_PROGRAM and asked.matches(account.data)
    ]
    assert len(tables) == 2
    for pair in REGISTRY.pairs:
        named = {address for pool in POOLS if pool.pair == pair for address in static_accounts(pool)}
        assert {pool.address for pool in POOLS if pool.pair == pair} <= named
        assert any(named <= table for table in tables)


def test_pools_whose_program_cannot_run_are_left_out():
    kept = dict(chain_genesis(REGISTRY, 1, programs=[raydium_cpmm.PROGRAM]))
    for pool in POOLS:
        assert (pool.address in kept) == (pool.venue == "raydium_cpmm")
