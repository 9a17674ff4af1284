//! A pool in few bytes: what its quotes depend on, without the raw accounts.

use super::account::{Pubkey, bytes_at};
use super::error::{Refused, refuse};
use super::raydium_cpmm::RaydiumCpmm;
use super::raydium_v4::RaydiumV4;
use super::token::TransferFee;
use super::whirlpool::Whirlpool;
use super::whirlpool::adaptive::Adaptive;
use super::whirlpool::layout::Tick;
use super::whirlpool::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick};
use super::{Clock, Pool, Protocol, Venue};

const MAGIC: [u8; 4] = *b"PSN2";
/// What fits into one slot of shared memory.
pub const LIMIT: usize = 64 * 1024;

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn numbers(&mut self, values: &[u64]) -> &mut Self {
        for value in values {
            self.put(&value.to_le_bytes());
        }
        self
    }

    fn adaptive(&mut self, adaptive: Option<&Adaptive>) -> &mut Self {
        let Some(adaptive) = adaptive else {
            return self.put(&[0]);
        };
        self.put(&[1])
            .put(&adaptive.filter_period.to_le_bytes())
            .put(&adaptive.decay_period.to_le_bytes())
            .put(&adaptive.reduction_factor.to_le_bytes())
            .put(&adaptive.control_factor.to_le_bytes())
            .put(&adaptive.max_accumulator.to_le_bytes())
            .put(&adaptive.group_ticks.to_le_bytes())
            .put(&adaptive.major_swap_ticks.to_le_bytes())
            .numbers(&[adaptive.reference_updated, adaptive.last_major_swap])
            .put(&adaptive.volatility_reference.to_le_bytes())
            .put(&adaptive.group_reference.to_le_bytes())
            .put(&adaptive.accumulator.to_le_bytes())
    }

    fn transfer_fee(&mut self, fee: Option<TransferFee>) -> &mut Self {
        let fee = fee.unwrap_or(TransferFee {
            basis_points: 0,
            maximum: 0,
        });
        self.put(&fee.basis_points.to_le_bytes())
            .put(&fee.maximum.to_le_bytes())
    }
}

struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let bytes = bytes_at(self.data, self.at)?;
        self.at += N;
        Ok(bytes)
    }

    fn u64(&mut self) -> Result<u64, Refused> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn key(&mut self) -> Result<Pubkey, Refused> {
        Ok(Pubkey(self.take()?))
    }

    fn pair(&mut self) -> Result<[u64; 2], Refused> {
        Ok([self.u64()?, self.u64()?])
    }

    fn adaptive(&mut self) -> Result<Option<Adaptive>, Refused> {
        match self.take::<1>()? {
            [0] => return Ok(None),
            [1] => {}
            _ => return refuse("bad_snapshot", "a flag is neither 0 nor 1"),
        }
        let adaptive = Adaptive {
            filter_period: u16::from_le_bytes(self.take()?),
            decay_period: u16::from_le_bytes(self.take()?),
            reduction_factor: u16::from_le_bytes(self.take()?),
            control_factor: u32::from_le_bytes(self.take()?),
            max_accumulator: u32::from_le_bytes(self.take()?),
            group_ticks: u16::from_le_bytes(self.take()?),
            major_swap_ticks: u16::from_le_bytes(self.take()?),
            reference_updated: self.u64()?,
            last_major_swap: self.u64()?,
            volatility_reference: u32::from_le_bytes(self.take()?),
            group_reference: i32::from_le_bytes(self.take()?),
            accumulator: u32::from_le_bytes(self.take()?),
        };
        adaptive.check()?;
        Ok(Some(adaptive))
    }

    fn transfer_fee(&mut self) -> Result<Option<TransferFee>, Refused> {
        let fee = TransferFee {
            basis_points: u16::from_le_bytes(self.take()?),
            maximum: self.u64()?,
        };
        if fee.basis_points > 10_000 {
            return refuse("bad_snapshot", "a transfer fee is more than all");
        }
        Ok((fee.basis_points > 0).then_some(fee))
    }
}

/// Write a pool; refused when it does not fit into [`LIMIT`].
pub fn write(pool: &Pool) -> Result<Vec<u8>, Refused> {
    let mut out = Writer::default();
    let (mint_a, mint_b) = pool.mints();
    out.put(&MAGIC)
        .put(&[pool.protocol() as u8])
        .put(&pool.address.0)
        .numbers(&[pool.clock.slot, pool.clock.write_version])
        .put(&pool.clock.unix_time.to_le_bytes())
        .put(&mint_a.0)
        .put(&mint_b.0);
    match &pool.venue {
        Venue::Whirlpool(pool) => {
            out.put(&pool.tick_spacing.to_le_bytes())
                .put(&pool.fee_rate.to_le_bytes())
                .put(&pool.protocol_fee_rate.to_le_bytes())
                .put(&pool.liquidity.to_le_bytes())
                .put(&pool.sqrt_price.to_le_bytes())
                .put(&pool.tick.to_le_bytes())
                .transfer_fee(pool.transfer_fee_a)
                .transfer_fee(pool.transfer_fee_b)
                .adaptive(pool.adaptive.as_ref());
            for tick in pool.ticks.iter() {
                out.put(&tick.index.to_le_bytes())
                    .put(&tick.liquidity_net.to_le_bytes());
            }
        }
        Venue::RaydiumV4(pool) => {
            out.numbers(&[pool.vault_a, pool.vault_b, pool.owed_a, pool.owed_b])
                .numbers(&[pool.fee_numerator, pool.fee_denominator]);
        }
        Venue::RaydiumCpmm(pool) => {
            out.numbers(&pool.vaults)
                .numbers(&pool.owed)
                .numbers(&[pool.trade_fee_rate, pool.protocol_fee_rate])
                .numbers(&[pool.fund_fee_rate, pool.creator_fee_rate])
                .put(&[pool.creator_fee_on])
                .transfer_fee(pool.transfer_fees[0])
                .transfer_fee(pool.transfer_fees[1]);
        }
    }
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
    let [number] = input.take::<1>()?;
    let Some(protocol) = Protocol::of(number) else {
        return refuse("bad_snapshot", format!("protocol {number} is unknown"));
    };
    let address = input.key()?;
    let clock = Clock {
        slot: input.u64()?,
        write_version: input.u64()?,
        unix_time: i64::from_le_bytes(input.take()?),
    };
    let (mint_a, mint_b) = (input.key()?, input.key()?);
    let venue = match protocol {
        Protocol::Whirlpool => Venue::Whirlpool(read_whirlpool(&mut input, mint_a, mint_b)?),
        Protocol::RaydiumV4 => {
            let ([vault_a, vault_b], [owed_a, owed_b]) = (input.pair()?, input.pair()?);
            let [fee_numerator, fee_denominator] = input.pair()?;
            let pool = RaydiumV4 {
                mint_a,
                mint_b,
                vault_a,
                vault_b,
                owed_a,
                owed_b,
                fee_numerator,
                fee_denominator,
            };
            pool.check()?;
            Venue::RaydiumV4(pool)
        }
        Protocol::RaydiumCpmm => {
            let (vaults, owed) = (input.pair()?, input.pair()?);
            let [trade_fee_rate, protocol_fee_rate] = input.pair()?;
            let [fund_fee_rate, creator_fee_rate] = input.pair()?;
            let pool = RaydiumCpmm {
                mints: [mint_a, mint_b],
                vaults,
                owed,
                trade_fee_rate,
                protocol_fee_rate,
                fund_fee_rate,
                creator_fee_rate,
                creator_fee_on: input.take::<1>()?[0],
                transfer_fees: [input.transfer_fee()?, input.transfer_fee()?],
            };
            pool.check()?;
            Venue::RaydiumCpmm(pool)
        }
    };
    if input.at != data.len() {
        return refuse("bad_snapshot", "bytes are left over");
    }
    Ok(Pool {
        address,
        clock,
        venue,
        accounts: None,
    })
}

fn read_whirlpool(
    input: &mut Reader<'_>,
    mint_a: Pubkey,
    mint_b: Pubkey,
) -> Result<Whirlpool, Refused> {
    let mut pool = Whirlpool {
        tick_spacing: u16::from_le_bytes(input.take()?),
        fee_rate: u16::from_le_bytes(input.take()?),
        protocol_fee_rate: u16::from_le_bytes(input.take()?),
        liquidity: u128::from_le_bytes(input.take()?),
        sqrt_price: u128::from_le_bytes(input.take()?),
        tick: i32::from_le_bytes(input.take()?),
        mint_a,
        mint_b,
        transfer_fee_a: input.transfer_fee()?,
        transfer_fee_b: input.transfer_fee()?,
        adaptive: input.adaptive()?,
        ticks: Vec::new().into(),
    };
    pool.check()?;
    let mut ticks: Vec<Tick> = Vec::with_capacity((input.data.len() - input.at) / 20);
    while input.at < input.data.len() {
        let index = i32::from_le_bytes(input.take()?);
        let liquidity_net = i128::from_le_bytes(input.take()?);
        let in_order = ticks.last().is_none_or(|last| last.index < index);
        if !in_order || !(MIN_TICK..=MAX_TICK).contains(&index) {
            return refuse(
                "bad_snapshot",
                format!("tick {index} is out of order or range"),
            );
        }
        ticks.push(Tick {
            index,
            liquidity_net,
            sqrt_price: sqrt_price_of_tick(index),
        });
    }
    pool.ticks = ticks.into();
    Ok(pool)
}
