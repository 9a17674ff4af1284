//! A CLMM pool as the rest of the crate sees it.

use std::sync::Arc;

use ruint::aliases::U256;

use super::dynamic::Dynamic;
use super::layout::Tick;
use super::tick_math::{MAX_TICK, MIN_TICK, sqrt_price_of_tick};
use super::{Edge, RaydiumClmm, Reason, patch, swap};
use crate::pools::account::{Account, Pubkey};
use crate::pools::error::{QuoteError, Refused, refuse};
use crate::pools::info::Info;
use crate::pools::snapshot::{Reader, Writer};
use crate::pools::token::TransferFee;
use crate::pools::venue::{Family, Protocol, Venue};
use crate::pools::{Clock, Movement, Order, concentrated};

pub const FAMILY: Family = Family {
    protocol: Protocol::RaydiumClmm,
    name: "raydium_clmm",
    parse: |address, accounts, clock| Ok(Arc::new(RaydiumClmm::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(read(input, mints)?)),
    #[cfg(test)]
    samples: super::samples::samples,
};

impl Venue for RaydiumClmm {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mints[0], self.mints[1])
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
            dynamic: outcome.moving,
            ..self.clone()
        };
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, _: Clock) -> (U256, U256) {
        // Before a swap a moving fee may be as low as its base.
        let begin = (self.sqrt_price, self.trade_fee_rate);
        let (sqrt_price, fee_rate) =
            after.map_or(begin, |after| (after.sqrt_price_after, after.fee_rate));
        concentrated::marginal_rate(a_to_b, sqrt_price, fee_rate)
    }

    fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        self.transfer_fees
    }

    fn write(&self, out: &mut Writer) {
        out.u16(self.tick_spacing)
            .u32(self.trade_fee_rate)
            .u32(self.protocol_fee_rate)
            .u32(self.fund_fee_rate)
            .u128(self.liquidity)
            .u128(self.sqrt_price)
            .i32(self.tick)
            .transfer_fee(self.transfer_fees[0])
            .transfer_fee(self.transfer_fees[1])
            .u8(self.dynamic.is_some().into());
        if let Some(dynamic) = &self.dynamic {
            dynamic.write(out);
        }
        for edge in [self.lower, self.upper] {
            out.i32(edge.tick).u8(edge.reason as u8);
        }
        for tick in self.ticks.iter() {
            out.i32(tick.index)
                .i128(tick.liquidity_net)
                .u8(tick.orders.into());
        }
    }

    fn info(&self, out: &mut Info<'_>) {
        let ticks: Vec<(i32, i128)> = self
            .ticks
            .iter()
            .map(|tick| (tick.index, tick.liquidity_net))
            .collect();
        let orders: Vec<i32> = self
            .ticks
            .iter()
            .filter(|tick| tick.orders)
            .map(|tick| tick.index)
            .collect();
        out.put("tick_spacing", self.tick_spacing)
            .put("trade_fee_rate_e6", self.trade_fee_rate)
            .put("protocol_fee_rate_e6", self.protocol_fee_rate)
            .put("fund_fee_rate_e6", self.fund_fee_rate)
            .put("liquidity", self.liquidity)
            .put("sqrt_price", self.sqrt_price)
            .put("tick", self.tick)
            .put("ticks", ticks)
            .put("dynamic_fee", self.dynamic.is_some())
            .put("limit_orders_at", orders)
            .put("known_ticks", (self.lower.tick, self.upper.tick))
            .put(
                "beyond",
                (self.lower.reason.name(), self.upper.reason.name()),
            );
    }
}

fn read(input: &mut Reader<'_>, mints: [Pubkey; 2]) -> Result<RaydiumClmm, Refused> {
    let mut pool = RaydiumClmm {
        mints,
        tick_spacing: input.u16()?,
        trade_fee_rate: input.u32()?,
        protocol_fee_rate: input.u32()?,
        fund_fee_rate: input.u32()?,
        liquidity: input.u128()?,
        sqrt_price: input.u128()?,
        tick: input.i32()?,
        transfer_fees: [input.transfer_fee()?, input.transfer_fee()?],
        dynamic: if input.flag()? {
            Some(Dynamic::read(input)?)
        } else {
            None
        },
        lower: read_edge(input)?,
        upper: read_edge(input)?,
        ticks: Vec::new().into(),
    };
    pool.check()?;
    let known = pool.lower.tick.max(MIN_TICK)..=pool.upper.tick.min(MAX_TICK);
    let mut ticks: Vec<Tick> = Vec::with_capacity(input.left() / 21);
    while input.left() > 0 {
        let (index, liquidity_net, orders) = (input.i32()?, input.i128()?, input.flag()?);
        let in_order = ticks.last().is_none_or(|last| last.index < index);
        if !in_order || !known.contains(&index) {
            return refuse(
                "bad_snapshot",
                format!("tick {index} is out of order or range"),
            );
        }
        ticks.push(Tick {
            index,
            liquidity_net,
            sqrt_price: sqrt_price_of_tick(index),
            orders,
        });
    }
    pool.ticks = ticks.into();
    Ok(pool)
}

fn read_edge(input: &mut Reader<'_>) -> Result<Edge, Refused> {
    let tick = input.i32()?;
    let reason = match input.u8()? {
        0 => Reason::Exhausted,
        1 => Reason::ArrayMissing,
        2 => Reason::ExtensionMissing,
        other => return refuse("bad_snapshot", format!("edge {other} is unknown")),
    };
    Ok(Edge { tick, reason })
}
