//! Accounts of small pools for the mutation test.

use super::layout::{self as at, DISCRIMINATOR, LENGTH, PROGRAM};
use crate::pools::account::Account;
use crate::pools::testing::{CLOCK, MINTS, POOL, VAULTS, account, vault};

fn pool(collect: u8, base_mode: u8, second_factor: u64) -> Vec<Account> {
    let one = (1u128 << 64).to_le_bytes();
    let made = account(
        POOL,
        PROGRAM,
        LENGTH,
        &[
            (0, &DISCRIMINATOR),
            (at::CLIFF_FEE, &50_000_000u64.to_le_bytes()),
            (at::BASE_FEE_MODE, &[base_mode]),
            (at::FIRST_FACTOR, &20u16.to_le_bytes()),
            (at::SECOND_FACTOR, &second_factor.to_le_bytes()),
            (at::THIRD_FACTOR, &300u64.to_le_bytes()),
            (at::PROTOCOL_FEE_PERCENT, &[20]),
            (
                at::COMPOUNDING_FEE,
                &u16::to_le_bytes(if collect == 2 { 5_000 } else { 0 }),
            ),
            (at::DYNAMIC, &[1]),
            (at::MAX_ACCUMULATOR, &14_460_000u32.to_le_bytes()),
            (at::VARIABLE_FEE_CONTROL, &956u32.to_le_bytes()),
            (at::BIN_STEP, &1u16.to_le_bytes()),
            (at::FILTER_PERIOD, &10u16.to_le_bytes()),
            (at::DECAY_PERIOD, &120u16.to_le_bytes()),
            (at::REDUCTION_FACTOR, &5_000u16.to_le_bytes()),
            (at::UPDATED, &(CLOCK.unix_time as u64 - 60).to_le_bytes()),
            (at::BIN_STEP_X64, &1_844_674_407_370_955u128.to_le_bytes()),
            (at::PRICE_REFERENCE, &one),
            (at::ACCUMULATOR, &500_000u128.to_le_bytes()),
            (at::INITIAL_PRICE, &(1u128 << 63).to_le_bytes()),
            (at::MINTS[0], &MINTS[0].0),
            (at::MINTS[1], &MINTS[1].0),
            (at::VAULTS[0], &VAULTS[0].0),
            (at::VAULTS[1], &VAULTS[1].0),
            (at::LIQUIDITY, &(200_000_000u128 << 64).to_le_bytes()),
            (at::LOWEST_PRICE, &(1u128 << 62).to_le_bytes()),
            (at::HIGHEST_PRICE, &(1u128 << 66).to_le_bytes()),
            (at::SQRT_PRICE, &one),
            (at::ACTIVATION_POINT, &(CLOCK.slot - 500).to_le_bytes()),
            (at::COLLECT_FEE_MODE, &[collect]),
            (at::FEE_VERSION, &[1]),
            (at::RESERVES[0], &200_000_000u64.to_le_bytes()),
            (at::RESERVES[1], &200_000_000u64.to_le_bytes()),
            (at::LAYOUT_VERSION, &[1]),
        ],
    );
    vec![made, vault(0), vault(1)]
}

pub fn all() -> Vec<Vec<Account>> {
    vec![
        pool(0, 1, 100),
        pool(1, 4, 50 | 1_000 << 32),
        pool(2, 2, 1_000 | 5_000 << 32),
    ]
}
