//! A Whirlpool as the rest of the crate sees it.

use std::sync::Arc;

use ruint::aliases::U256;

use super::adaptive::Adaptive;
use super::layout::Tick;
use super::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick};
use super::{Whirlpool, patch, swap};
use crate::pools::account::{Account, Pubkey};
use crate::pools::error::{QuoteError, Refused, refuse};
use crate::pools::info::Info;
use crate::pools::snapshot::{Reader, Writer};
use crate::pools::token::TransferFee;
use crate::pools::venue::{Family, Protocol, Venue};
use crate::pools::{Clock, Movement, Order, concentrated};

pub const FAMILY: Family = Family {
    protocol: Protocol::Whirlpool,
    name: "whirlpool",
    parse: |address, accounts, clock| Ok(Arc::new(Whirlpool::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(read(input, mints)?)),
    #[cfg(test)]
    samples: super::samples::samples,
};

impl Venue for Whirlpool {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mint_a, self.mint_b)
    }

    /// Only a moving fee depends on the clock.
    fn quote(&self, order: Order, clock: Clock) -> Result<Movement, QuoteError> {
        Ok(self.execute(order, clock, None)?.0)
    }

    fn swap(
        &self,
        address: Pubkey,
        order: Order,
        accounts: Option<&mut Vec<Account>>,
        clock: Clock,
    ) -> Result<(Arc<dyn Venue>, Movement), QuoteError> {
        let mut trace = swap::Trace::default();
        let (movement, outcome) = self.execute(order, clock, Some(&mut trace))?;
        if let Some(accounts) = accounts {
            patch::write(
                address,
                accounts,
                order.a_to_b,
                &outcome,
                &movement,
                &trace,
                clock,
            )?;
        }
        let next = Self {
            liquidity: outcome.liquidity,
            sqrt_price: outcome.sqrt_price,
            tick: outcome.tick,
            adaptive: outcome.moving,
            ..self.clone()
        };
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, _: Clock) -> (U256, U256) {
        // Before a swap a moving fee may be as low as its base.
        let begin = (self.sqrt_price, u32::from(self.fee_rate));
        let (sqrt_price, fee_rate) =
            after.map_or(begin, |after| (after.sqrt_price_after, after.fee_rate));
        concentrated::marginal_rate(a_to_b, sqrt_price, fee_rate)
    }

    fn capacity(&self, a_to_b: bool, clock: Clock) -> Option<u64> {
        if self.transfer_fee_a.is_some() || self.transfer_fee_b.is_some() {
            return None;
        }
        swap::capacity(self, a_to_b, clock.unix_time).ok()
    }

    fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        [self.transfer_fee_a, self.transfer_fee_b]
    }

    fn write(&self, out: &mut Writer) {
        out.u16(self.tick_spacing)
            .u16(self.fee_rate)
            .u16(self.protocol_fee_rate)
            .u128(self.liquidity)
            .u128(self.sqrt_price)
            .i32(self.tick)
            .transfer_fee(self.transfer_fee_a)
            .transfer_fee(self.transfer_fee_b);
        write_adaptive(out, self.adaptive.as_ref());
        for tick in self.ticks.iter() {
            out.i32(tick.index).i128(tick.liquidity_net);
        }
    }

    fn info(&self, out: &mut Info<'_>) {
        let ticks: Vec<(i32, i128)> = self
            .ticks
            .iter()
            .map(|tick| (tick.index, tick.liquidity_net))
            .collect();
        out.put("tick_spacing", self.tick_spacing)
            .put("fee_rate_e6", self.fee_rate)
            .put("protocol_fee_rate_bps", self.protocol_fee_rate)
            .put("liquidity", self.liquidity)
            .put("sqrt_price", self.sqrt_price)
            .put("tick", self.tick)
            .put("ticks", ticks)
            .put("adaptive_fee", self.adaptive.is_some());
    }
}

fn read(input: &mut Reader<'_>, [mint_a, mint_b]: [Pubkey; 2]) -> Result<Whirlpool, Refused> {
    let mut pool = Whirlpool {
        tick_spacing: input.u16()?,
        fee_rate: input.u16()?,
        protocol_fee_rate: input.u16()?,
        liquidity: input.u128()?,
        sqrt_price: input.u128()?,
        tick: input.i32()?,
        mint_a,
        mint_b,
        transfer_fee_a: input.transfer_fee()?,
        transfer_fee_b: input.transfer_fee()?,
        adaptive: read_adaptive(input)?,
        ticks: Vec::new().into(),
    };
    pool.check()?;
    let mut ticks: Vec<Tick> = Vec::with_capacity(input.left() / 20);
    while input.left() > 0 {
        let (index, liquidity_net) = (input.i32()?, input.i128()?);
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

fn write_adaptive(out: &mut Writer, adaptive: Option<&Adaptive>) {
    let Some(adaptive) = adaptive else {
        out.u8(0);
        return;
    };
    out.u8(1)
        .u16(adaptive.filter_period)
        .u16(adaptive.decay_period)
        .u16(adaptive.reduction_factor)
        .u32(adaptive.control_factor)
        .u32(adaptive.max_accumulator)
        .u16(adaptive.group_ticks)
        .u16(adaptive.major_swap_ticks)
        .u64(adaptive.reference_updated)
        .u64(adaptive.last_major_swap)
        .u32(adaptive.volatility_reference)
        .i32(adaptive.group_reference)
        .u32(adaptive.accumulator);
}

fn read_adaptive(input: &mut Reader<'_>) -> Result<Option<Adaptive>, Refused> {
    if !input.flag()? {
        return Ok(None);
    }
    let adaptive = Adaptive {
        filter_period: input.u16()?,
        decay_period: input.u16()?,
        reduction_factor: input.u16()?,
        control_factor: input.u32()?,
        max_accumulator: input.u32()?,
        group_ticks: input.u16()?,
        major_swap_ticks: input.u16()?,
        reference_updated: input.u64()?,
        last_major_swap: input.u64()?,
        volatility_reference: input.u32()?,
        group_reference: input.i32()?,
        accumulator: input.u32()?,
    };
    adaptive.check()?;
    Ok(Some(adaptive))
}
