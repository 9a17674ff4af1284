//! Accounts as the chain holds them, and checked little-endian reads and writes on their bytes.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::{Refused, refuse};

/// A 32-byte address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pubkey(pub [u8; 32]);

impl Pubkey {
    /// Read a base58 address.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let mut bytes = [0u8; 32];
        match bs58::decode(text).onto(&mut bytes) {
            Ok(32) => Ok(Self(bytes)),
            _ => refuse(
                "bad_address",
                format!("{text:.60?} is not a base58 address of 32 bytes"),
            ),
        }
    }

    /// The address that a program derives from seeds, the bump among them. The program made sure that no key pair has it.
    pub fn derived(program: Self, seeds: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for seed in seeds {
            hash.update(seed);
        }
        hash.update(program.0);
        hash.update(b"ProgramDerivedAddress");
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Pubkey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&bs58::encode(self.0).into_string())
    }
}

impl fmt::Debug for Pubkey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// One account: its bytes are shared, so that a pool after a swap copies only what the swap wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account's address.
    pub address: Pubkey,
    /// The owning program.
    pub owner: Pubkey,
    /// The raw bytes.
    pub data: Arc<[u8]>,
    /// The balance; 0 where it was not told.
    pub lamports: u64,
}

/// The account with this address; what it is for stands in the refusal.
pub fn find<'a>(
    accounts: &'a [Account],
    address: Pubkey,
    what: &str,
) -> Result<&'a Account, Refused> {
    accounts
        .iter()
        .find(|account| account.address == address)
        .map_or_else(
            || {
                refuse(
                    "missing_account",
                    format!("the {what} {address} is not among the accounts"),
                )
            },
            Ok,
        )
}

/// The account with this address, checked to be one of a program's accounts of one kind and of the length that they have.
pub fn find_kind<'a>(
    accounts: &'a [Account],
    address: Pubkey,
    program: Pubkey,
    (discriminator, length): ([u8; 8], usize),
    what: &str,
) -> Result<&'a Account, Refused> {
    let account = find(accounts, address, what)?;
    if account.owner != program {
        return refuse(
            "wrong_owner",
            format!("the {what} {address} is owned by {}", account.owner),
        );
    }
    if bytes_at::<8>(&account.data, 0)? != discriminator {
        return refuse("wrong_discriminator", format!("{address} is not a {what}"));
    }
    if account.data.len() != length {
        return refuse(
            "short_data",
            format!(
                "a {what} has {length} bytes, this one {}",
                account.data.len()
            ),
        );
    }
    Ok(account)
}

/// Read `N` bytes at `offset`; a short account is refused.
pub fn bytes_at<const N: usize>(data: &[u8], offset: usize) -> Result<[u8; N], Refused> {
    offset
        .checked_add(N)
        .and_then(|end| data.get(offset..end))
        .and_then(|slice| slice.try_into().ok())
        .map_or_else(
            || {
                refuse(
                    "short_data",
                    format!(
                        "{N} bytes wanted at offset {offset}, the account has {}",
                        data.len()
                    ),
                )
            },
            Ok,
        )
}

macro_rules! readers {
    ($($name:ident: $type:ty),*) => {$(
        #[doc = concat!("Read a little-endian `", stringify!($type), "` at `offset`.")]
        pub fn $name(data: &[u8], offset: usize) -> Result<$type, Refused> {
            Ok(<$type>::from_le_bytes(bytes_at(data, offset)?))
        }
    )*};
}
readers!(u8_at: u8, u16_at: u16, u32_at: u32, u64_at: u64, u128_at: u128, i32_at: i32, i128_at: i128);

/// Read an address at `offset`.
pub fn key_at(data: &[u8], offset: usize) -> Result<Pubkey, Refused> {
    Ok(Pubkey(bytes_at(data, offset)?))
}

/// Overwrite bytes at `offset`. The caller has parsed the account, so the range exists; out of range is ignored.
pub fn put(data: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(target) = data.get_mut(offset..offset + bytes.len()) {
        target.copy_from_slice(bytes);
    }
}
