use super::layout::*;
use super::*;
use crate::pools::testing::{CLOCK, CONFIG, MINTS, POOL, account};

const LENGTH: usize = 611;

fn pool(total: u64, supply: u64) -> Account {
    let ten_thousand = 10_000u64.to_le_bytes();
    account(
        POOL,
        PROGRAMS[0],
        LENGTH,
        &[
            (0, &[STAKE_POOL]),
            (RESERVE, &CONFIG.0),
            (MINT, &MINTS[0].0),
            (TOTAL_LAMPORTS, &total.to_le_bytes()),
            (SUPPLY, &supply.to_le_bytes()),
            (LAST_UPDATE_EPOCH, &CLOCK.epoch().to_le_bytes()),
            // No optional field is there: deposit fee at 384, withdrawal fee at 402.
            (384, &ten_thousand),
            (392, &8u64.to_le_bytes()),
            (402, &ten_thousand),
            (410, &10u64.to_le_bytes()),
        ],
    )
}

fn reserve() -> Account {
    let mut reserve = account(
        CONFIG,
        STAKE_PROGRAM,
        200,
        &[
            (0, &INITIALIZED.to_le_bytes()),
            (RESERVE_RENT, &2_282_880u64.to_le_bytes()),
        ],
    );
    reserve.lamports = 5_000_000_000_000;
    reserve
}

pub fn samples() -> Vec<Vec<Account>> {
    let of = |total, supply| vec![pool(total, supply), reserve()];
    vec![
        of(1_144_546_482_246_437, 934_784_722_219_576),
        of(0, 0),
        of(1_000_000_000, u64::MAX - 5),
    ]
}

#[test]
fn offsets_of_the_sample_are_those_read() {
    let pool = StakePool::parse(POOL, &samples()[0], CLOCK).expect("a pool");
    let fee = |numerator| Fee {
        denominator: 10_000,
        numerator,
    };
    assert_eq!((pool.deposit_fee, pool.withdrawal_fee), (fee(8), fee(10)));
    assert_eq!(pool.deposit(1_000_000_000), Ok((816_729_365, 653_384)));
    assert_eq!(pool.withdraw(1_000_000_000), Ok((1_223_171_398, 1_000_000)));
}
