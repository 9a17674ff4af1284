//! Mutated bytes of every account, with overflow checks on: an error or a pool, never a panic.

use super::account::{Account, Pubkey, put};
use super::{Clock, Order, Pool, Protocol, snapshot};

const POOL: Pubkey = Pubkey([7; 32]);
const VAULTS: [Pubkey; 2] = [Pubkey([1; 32]), Pubkey([2; 32])];
const MINTS: [Pubkey; 2] = [Pubkey([3; 32]), Pubkey([4; 32])];
const CONFIG: Pubkey = Pubkey([5; 32]);
const CLOCK: Clock = Clock {
    slot: 300_000_000,
    write_version: 1,
    unix_time: 1_750_000_000,
};

/// A small generator: the same mutations in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

fn account(address: Pubkey, owner: &str, length: usize, fields: &[(usize, &[u8])]) -> Account {
    let mut data = vec![0; length];
    for (offset, bytes) in fields {
        put(&mut data, *offset, bytes);
    }
    Account {
        address,
        owner: Pubkey::parse(owner).expect("an address"),
        data: data.into(),
        lamports: 0,
    }
}

fn vault(side: usize) -> Account {
    let amount = 1_000_000_000_000u64.to_le_bytes();
    account(
        VAULTS[side],
        "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
        165,
        &[(0, &MINTS[side].0), (64, &amount), (108, &[1])],
    )
}

fn whirlpool() -> Vec<Account> {
    use super::whirlpool::layout::{
        DYNAMIC_DISCRIMINATOR, FIXED_DISCRIMINATOR, POOL_DISCRIMINATOR, PROGRAM,
    };
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

fn raydium_v4() -> Vec<Account> {
    let pool = account(
        POOL,
        super::raydium_v4::PROGRAM,
        752,
        &[
            (0, &6u64.to_le_bytes()),
            (176, &25u64.to_le_bytes()),
            (184, &10_000u64.to_le_bytes()),
            (192, &77u64.to_le_bytes()),
            (336, &VAULTS[0].0),
            (368, &VAULTS[1].0),
            (400, &MINTS[0].0),
            (432, &MINTS[1].0),
        ],
    );
    vec![pool, vault(0), vault(1)]
}

fn raydium_cpmm() -> Vec<Account> {
    let program = super::raydium_cpmm::PROGRAM;
    let pool = account(
        POOL,
        program,
        637,
        &[
            (0, &[0xf7, 0xed, 0xe3, 0xf5, 0xd7, 0xc3, 0xde, 0x46]),
            (8, &CONFIG.0),
            (72, &VAULTS[0].0),
            (104, &VAULTS[1].0),
            (168, &MINTS[0].0),
            (200, &MINTS[1].0),
            (390, &[1]),
        ],
    );
    let config = account(
        CONFIG,
        program,
        236,
        &[
            (0, &[0xda, 0xf4, 0x21, 0x68, 0xcb, 0xcb, 0x2b, 0x6f]),
            (12, &2_500u64.to_le_bytes()),
            (20, &120_000u64.to_le_bytes()),
            (28, &40_000u64.to_le_bytes()),
            (108, &500u64.to_le_bytes()),
        ],
    );
    vec![pool, config, vault(0), vault(1)]
}

fn mutate(data: &mut Vec<u8>, dice: &mut Dice) {
    if data.is_empty() {
        return;
    }
    let at = dice.next(data.len());
    match dice.next(12) {
        0 => data.truncate(at),
        1 => data.extend([dice.next(256) as u8; 9]),
        2..=5 => {
            let width = [1, 2, 4, 8, 16][dice.next(5)].min(data.len() - at);
            data[at..at + width].fill([0, 0xff, 0x7f, 0x80][dice.next(4)]);
        }
        _ => data[at] ^= 1 << dice.next(8),
    }
}

/// Ask everything of a pool.
fn exercise(pool: &Pool, dice: &mut Dice) {
    for a_to_b in [true, false] {
        for amount in [1, dice.0, dice.0 >> 30, u64::MAX] {
            for exact_in in [true, false] {
                let order = Order {
                    a_to_b,
                    amount,
                    exact_in,
                    sqrt_price_limit: 0,
                };
                let quoted = pool.quote(order).map(|moved| moved.amount_out);
                if let Ok((next, moved)) = pool.swap(order) {
                    assert_eq!(quoted, Ok(moved.amount_out));
                    next.marginal_rate(a_to_b, Some(&moved));
                    assert_eq!(
                        snapshot::read(&snapshot::write(&next).expect("small"))
                            .expect("own")
                            .venue,
                        next.venue
                    );
                }
            }
        }
    }
}

fn fuzz(protocol: Protocol, accounts: &[Account]) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let whole = Pool::parse(protocol, POOL, accounts.to_vec(), CLOCK).expect("a pool");
    let mut read = 0;
    exercise(&whole, &mut dice);
    let blob = snapshot::write(&whole).expect("small");
    for _ in 0..5_000 {
        let mut mutated = accounts.to_vec();
        for _ in 0..=dice.next(2) {
            let which = dice.next(mutated.len());
            let mut data = mutated[which].data.to_vec();
            mutate(&mut data, &mut dice);
            mutated[which].data = data.into();
        }
        let mut bytes = blob.clone();
        mutate(&mut bytes, &mut dice);
        for pool in [
            Pool::parse(protocol, POOL, mutated, CLOCK),
            snapshot::read(&bytes),
        ]
        .into_iter()
        .flatten()
        {
            read += 1;
            exercise(&pool, &mut dice);
        }
    }
    assert!(read > 1_000, "only {read} mutations were still pools");
}

#[test]
fn whirlpool_never_panics() {
    fuzz(Protocol::Whirlpool, &whirlpool());
}

#[test]
fn adaptive_whirlpool_never_panics() {
    use super::whirlpool::layout::{ORACLE_DISCRIMINATOR, PROGRAM};
    let mut accounts = whirlpool();
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
    fuzz(Protocol::Whirlpool, &accounts);
}

#[test]
fn raydium_v4_never_panics() {
    fuzz(Protocol::RaydiumV4, &raydium_v4());
}

#[test]
fn raydium_cpmm_never_panics() {
    fuzz(Protocol::RaydiumCpmm, &raydium_cpmm());
}
