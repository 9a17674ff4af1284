//! Addresses and accounts that the samples of all venues share.

use super::Clock;
use super::account::{Account, Pubkey, put};

/// The pool of every sample.
pub const POOL: Pubkey = Pubkey([7; 32]);
pub const VAULTS: [Pubkey; 2] = [Pubkey([1; 32]), Pubkey([2; 32])];
pub const MINTS: [Pubkey; 2] = [Pubkey([3; 32]), Pubkey([4; 32])];
pub const CONFIG: Pubkey = Pubkey([5; 32]);
pub const CLOCK: Clock = Clock {
    slot: 300_000_000,
    write_version: 1,
    unix_time: 1_750_000_000,
};

/// An account of zeroes but for these fields.
pub fn account(address: Pubkey, owner: &str, length: usize, fields: &[(usize, &[u8])]) -> Account {
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

/// A vault with 10^12 units of one token.
pub fn vault(side: usize) -> Account {
    let amount = 1_000_000_000_000u64.to_le_bytes();
    account(
        VAULTS[side],
        "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
        165,
        &[(0, &MINTS[side].0), (64, &amount), (108, &[1])],
    )
}
