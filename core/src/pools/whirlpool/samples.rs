//! Small Whirlpools, one with a fixed and one with a moving fee.

use super::layout::{
    DYNAMIC_DISCRIMINATOR, FIXED_DISCRIMINATOR, ORACLE_DISCRIMINATOR, POOL_DISCRIMINATOR, PROGRAM,
};
use crate::pools::account::{Account, Pubkey, put};
use crate::pools::testing::{CLOCK, MINTS, POOL, VAULTS, account, vault};

pub fn samples() -> Vec<Vec<Account>> {
    vec![fixed(), moving()]
}

fn fixed() -> Vec<Account> {
    let spacing = 64u16.to_le_bytes();
    let (net, price) = (1_000_000_000i128, 1u128 << 64);
    let pool = account(
        POOL,
        PROGRAM,
        653,
        &[
            (0, &POOL_DISCRIMINATOR),
            (41, &spacing),
            (43, &spacing),
            (45, &3_000u16.to_le_bytes()),
            (47, &300u16.to_le_bytes()),
            (49, &net.to_le_bytes()),
            (65, &price.to_le_bytes()),
            (101, &MINTS[0].0),
            (133, &VAULTS[0].0),
            (181, &MINTS[1].0),
            (213, &VAULTS[1].0),
            (269, &[9; 32]),
            (365, &[1; 16]),
        ],
    );
    let below = account(
        Pubkey([20; 32]),
        PROGRAM,
        9_988,
        &[
            (0, &FIXED_DISCRIMINATOR),
            (8, &(-5_632i32).to_le_bytes()),
            (12 + 80 * 113, &[1]),
            (13 + 80 * 113, &net.to_le_bytes()),
            (9_956, &POOL.0),
        ],
    );
    let above = account(
        Pubkey([21; 32]),
        PROGRAM,
        260,
        &[
            (0, &DYNAMIC_DISCRIMINATOR),
            (12, &POOL.0),
            (44, &(1u128 << 5).to_le_bytes()),
            (65, &[1]),
            (66, &(-net).to_le_bytes()),
        ],
    );
    vec![pool, below, above, vault(0), vault(1)]
}

fn moving() -> Vec<Account> {
    let mut accounts = fixed();
    let mut pool = accounts[0].data.to_vec();
    put(&mut pool, 43, &1_024u16.to_le_bytes());
    accounts[0].data = pool.into();
    let updated = (CLOCK.unix_time as u64 - 100).to_le_bytes();
    accounts.push(account(
        Pubkey([22; 32]),
        PROGRAM,
        254,
        &[
            (0, &ORACLE_DISCRIMINATOR),
            (8, &POOL.0),
            (48, &30u16.to_le_bytes()),
            (50, &600u16.to_le_bytes()),
            (52, &5_000u16.to_le_bytes()),
            (54, &4_000u32.to_le_bytes()),
            (58, &350_000u32.to_le_bytes()),
            (62, &64u16.to_le_bytes()),
            (64, &64u16.to_le_bytes()),
            (82, &updated),
            (90, &updated),
            (98, &20_000u32.to_le_bytes()),
            (106, &60_000u32.to_le_bytes()),
        ],
    ));
    accounts
}
