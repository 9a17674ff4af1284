use super::layout::*;
use super::*;
use crate::pools::testing::{MINTS, POOL, VAULTS, account, vault};

const STATE_LENGTH: usize = 2_616;

/// A state with so much in its SOL leg.
fn accounts(sol_leg: u64) -> Vec<Account> {
    let bump = 254u8;
    let state = account(
        POOL,
        PROGRAM,
        STATE_LENGTH,
        &[
            (0, &DISCRIMINATOR),
            (MINT, &MINTS[0].0),
            (LEG_RENT, &2_039_280u64.to_le_bytes()),
            (ACTIVE_BALANCE, &4_688_559_614_137_761u64.to_le_bytes()),
            (SOL_LEG_BUMP, &[bump]),
            (MSOL_LEG, &VAULTS[0].0),
            (LIQUIDITY_TARGET, &21_000_000_000_000u64.to_le_bytes()),
            (MAX_FEE, &900u32.to_le_bytes()),
            (MIN_FEE, &1u32.to_le_bytes()),
            (TREASURY_CUT, &5_000u32.to_le_bytes()),
            (RESERVE_BALANCE, &280_688_326_062_010u64.to_le_bytes()),
            (SUPPLY, &3_823_619_544_832_744u64.to_le_bytes()),
            (TICKET_BALANCE, &42_300_960_910_537u64.to_le_bytes()),
            (MIN_DEPOSIT, &1u64.to_le_bytes()),
            (MIN_WITHDRAW, &1u64.to_le_bytes()),
            (STAKING_CAP, &u64::MAX.to_le_bytes()),
        ],
    );
    let program = Pubkey::parse(PROGRAM).expect("an address");
    let address = Pubkey::derived(program, &[&POOL.0, SOL_LEG_SEED, &[bump]]);
    let mut leg = account(address, SYSTEM_PROGRAM, 0, &[]);
    leg.lamports = sol_leg;
    vec![state, vault(0), leg]
}

pub fn samples() -> Vec<Vec<Account>> {
    vec![accounts(30_000_000_000_000), accounts(9_000_000_000_000)]
}

#[test]
fn fee_follows_what_is_left() {
    let of = |lamports: u64| Marinade::parse(POOL, &accounts(lamports)).expect("a state");
    let full = of(21_000_000_000_000 + 2_039_280);
    assert_eq!(full.unstake_fee(0), 1);
    assert_eq!(full.unstake_fee(1), 2);
    assert_eq!(full.unstake_fee(10_500_000_000_000), 900 - 449);
    assert_eq!(full.unstake_fee(21_000_000_000_000), 900);
    assert_eq!(full.unstake_fee(u64::MAX), 900);
    assert_eq!(of(90_000_000_000_000).unstake_fee(1), 1);
}
