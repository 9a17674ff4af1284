//! A pool in few bytes: what its quotes depend on, without the raw accounts.

use super::account::{Pubkey, bytes_at};
use super::error::{Refused, refuse};
use super::token::TransferFee;
use super::venue::Family;
use super::{Clock, Pool};

const MAGIC: [u8; 4] = *b"PSN2";
/// What fits into one slot of shared memory.
pub const LIMIT: usize = 64 * 1024;

/// What venues write themselves to, little-endian.
#[derive(Default)]
pub struct Writer(Vec<u8>);

/// What venues read themselves from. What is not there is refused.
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

macro_rules! integers {
    ($($name:ident),*) => {
        impl Writer {
            $(
                pub fn $name(&mut self, value: $name) -> &mut Self {
                    self.put(&value.to_le_bytes())
                }
            )*
        }

        impl Reader<'_> {
            $(
                pub fn $name(&mut self) -> Result<$name, Refused> {
                    Ok($name::from_le_bytes(self.take()?))
                }
            )*
        }
    };
}
integers!(u8, u16, u32, u64, u128, i32, i64, i128);

impl Writer {
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn u64s(&mut self, values: &[u64]) -> &mut Self {
        for value in values {
            self.u64(*value);
        }
        self
    }

    pub fn transfer_fee(&mut self, fee: Option<TransferFee>) -> &mut Self {
        let fee = fee.unwrap_or(TransferFee {
            basis_points: 0,
            maximum: 0,
        });
        self.u16(fee.basis_points).u64(fee.maximum)
    }
}

impl Reader<'_> {
    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let bytes = bytes_at(self.data, self.at)?;
        self.at += N;
        Ok(bytes)
    }

    pub fn key(&mut self) -> Result<Pubkey, Refused> {
        Ok(Pubkey(self.take()?))
    }

    pub fn u64s<const N: usize>(&mut self) -> Result<[u64; N], Refused> {
        let mut values = [0; N];
        for value in &mut values {
            *value = self.u64()?;
        }
        Ok(values)
    }

    pub fn flag(&mut self) -> Result<bool, Refused> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => refuse("bad_snapshot", "a flag is neither 0 nor 1"),
        }
    }

    pub fn transfer_fee(&mut self) -> Result<Option<TransferFee>, Refused> {
        let fee = TransferFee {
            basis_points: self.u16()?,
            maximum: self.u64()?,
        };
        if fee.basis_points > 10_000 {
            return refuse("bad_snapshot", "a transfer fee is more than all");
        }
        Ok((fee.basis_points > 0).then_some(fee))
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.data.len() - self.at
    }
}

/// Write a pool; refused when it does not fit into [`LIMIT`].
pub fn write(pool: &Pool) -> Result<Vec<u8>, Refused> {
    let mut out = Writer::default();
    let (mint_a, mint_b) = pool.mints();
    out.put(&MAGIC)
        .u8(pool.venue.protocol() as u8)
        .put(&pool.address.0)
        .u64s(&[pool.clock.slot, pool.clock.write_version])
        .i64(pool.clock.unix_time)
        .put(&mint_a.0)
        .put(&mint_b.0);
    pool.venue.write(&mut out);
    if out.0.len() > LIMIT {
        return refuse(
            "too_large",
            format!(
                "the snapshot has {} bytes, the limit is {LIMIT}",
                out.0.len()
            ),
        );
    }
    Ok(out.0)
}

/// Read a pool back; everything that the quote math relies on is checked again.
pub fn read(data: &[u8]) -> Result<Pool, Refused> {
    let mut input = Reader { data, at: 0 };
    if input.take::<4>()? != MAGIC {
        return refuse(
            "bad_snapshot",
            "this is not a pool snapshot of this version",
        );
    }
    let number = input.u8()?;
    let Some(family) = Family::of(number) else {
        return refuse("bad_snapshot", format!("protocol {number} is unknown"));
    };
    let address = input.key()?;
    let clock = Clock {
        slot: input.u64()?,
        write_version: input.u64()?,
        unix_time: input.i64()?,
    };
    let mints = [input.key()?, input.key()?];
    let venue = (family.read)(&mut input, mints)?;
    if input.left() != 0 {
        return refuse("bad_snapshot", "bytes are left over");
    }
    Ok(Pool {
        address,
        clock,
        venue,
        accounts: None,
    })
}
