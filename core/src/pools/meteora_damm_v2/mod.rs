//! Meteora DAMM v2: one range of prices per pool, or a constant product that fees compound into.

mod compact;
mod curve;
mod fee;
mod layout;
mod parse;
mod patch;
#[cfg(test)]
mod samples;

use std::sync::Arc;

use ruint::aliases::U256;

use self::curve::{Curve, root_of, sides};
use self::fee::{BaseFee, Dynamic, UNIT};
use super::account::{Account, Pubkey};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::info::Info;
use super::snapshot::Writer;
use super::token::TransferFee;
use super::venue::{Family, Protocol, Venue};
use super::{Clock, Movement, Order, wide};

pub const FAMILY: Family = Family {
    protocol: Protocol::MeteoraDammV2,
    name: "meteora_damm_v2",
    parse: |address, accounts, clock| Ok(Arc::new(MeteoraDammV2::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(MeteoraDammV2::read(input, mints)?)),
    #[cfg(test)]
    samples: samples::all,
};

/// Everything a DAMM v2 pool's swaps depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteoraDammV2 {
    pub mints: [Pubkey; 2],
    pub curve: Curve,
    /// Square-root price, Q64.64.
    pub price: u128,
    pub base_fee: BaseFee,
    pub dynamic: Option<Dynamic>,
    /// The rate that no fee exceeds.
    pub highest_rate: u64,
    /// Fees are always taken in token b, else from the output.
    pub fee_in_b: bool,
    /// Percent of the fee.
    pub protocol_percent: u8,
    /// Basis points of the rest that go into the reserves of a product.
    pub compounding_bps: u16,
    /// When swaps began: a slot, or a time.
    pub opened: u64,
    pub opens_by_time: bool,
    pub transfer_fees: [Option<TransferFee>; 2],
}

/// What one swap did.
struct Outcome {
    /// Given to the curve, and taken from it.
    entered: u64,
    left: u64,
    price: u128,
    fee: u64,
    on_input: bool,
}

impl MeteoraDammV2 {
    /// Refuse figures that no working pool has.
    fn check(&self) -> Result<(), Refused> {
        self.curve.check(self.price)?;
        self.base_fee.check()?;
        if let Some(dynamic) = self.dynamic {
            dynamic.check()?;
        }
        let compounds = self.compounding_bps > 0 && !matches!(self.curve, Curve::Product { .. });
        let shares = self.protocol_percent > 100 || self.compounding_bps > 10_000;
        if compounds || shares || self.highest_rate >= UNIT {
            return refuse("bad_pool", "the fees of the pool are out of range");
        }
        Ok(())
    }

    fn fee_on_input(&self, a_to_b: bool) -> bool {
        self.fee_in_b && !a_to_b
    }

    /// The fee rate of a swap that begins now. It does not change along the swap.
    fn rate(&self, a_to_b: bool, clock: Clock) -> Result<u64, QuoteError> {
        let now = if self.opens_by_time {
            u64::try_from(clock.unix_time).unwrap_or(0)
        } else {
            clock.slot
        };
        if now < self.opened {
            return Err(quote_error("pool_disabled"));
        }
        let base = self.base_fee.rate(a_to_b, self.opened, now, self.price)?;
        let moving = self.dynamic.map_or(0, |dynamic| dynamic.rate());
        let total = moving.saturating_add(u128::from(base));
        let total = u64::try_from(total).map_err(|_| quote_error("type_cast_failed"))?;
        Ok(total.min(self.highest_rate))
    }

    fn execute(&self, order: Order, clock: Clock) -> Result<(Movement, Outcome), QuoteError> {
        if order.sqrt_price_limit != 0 {
            return Err(quote_error("price_limit_unsupported"));
        }
        let (side_in, side_out) = if order.a_to_b { (0, 1) } else { (1, 0) };
        let (fee_in, fee_out) = (self.transfer_fees[side_in], self.transfer_fees[side_out]);
        let rate = self.rate(order.a_to_b, clock)?;
        let on_input = self.fee_on_input(order.a_to_b);
        // `arrives` and `leaves` are the vaults'; the curve sees them without the fee.
        let (step, arrives, leaves) = if order.exact_in {
            let arrives = fee_in.map_or(order.amount, |fee| fee.after(order.amount));
            if arrives == 0 {
                return Err(too_small("amount_is_zero"));
            }
            let net = if on_input {
                arrives - fee::within(arrives, rate)
            } else {
                arrives
            };
            let step = self.curve.give(self.price, order.a_to_b, net)?;
            let leaves = if on_input {
                step.amount_out
            } else {
                step.amount_out - fee::within(step.amount_out, rate)
            };
            (step, arrives, leaves)
        } else {
            let leaves = fee_out.map_or(Ok(order.amount), |fee| fee.before(order.amount))?;
            let gross = if on_input {
                leaves
            } else {
                fee::including(leaves, rate)?
            };
            let step = self.curve.take(self.price, order.a_to_b, gross)?;
            let arrives = if on_input {
                fee::including(step.amount_in, rate)?
            } else {
                step.amount_in
            };
            (step, arrives, leaves)
        };
        let amount_in = match fee_in {
            _ if order.exact_in => order.amount,
            Some(fee) => fee.before(arrives)?,
            None => arrives,
        };
        let amount_out = fee_out.map_or(leaves, |fee| fee.after(leaves));
        if amount_in == 0 || amount_out == 0 {
            return Err(too_small("amount_is_zero"));
        }
        let outcome = Outcome {
            entered: step.amount_in,
            left: step.amount_out,
            price: step.price,
            fee: if on_input {
                arrives - step.amount_in
            } else {
                step.amount_out - leaves
            },
            on_input,
        };
        let (price_before, price_after) = self.prices(order.a_to_b, &outcome);
        let movement = Movement {
            amount_in,
            amount_out,
            vault_in: arrives,
            vault_out: leaves,
            fee_amount: if on_input { outcome.fee } else { 0 },
            price_before,
            price_after,
            sqrt_price_after: match self.curve {
                Curve::Range { .. } => outcome.price,
                Curve::Product { .. } => {
                    u128::from(outcome.entered) << 64 | u128::from(outcome.left)
                }
            },
            // The highest rate is below one.
            fee_rate: rate as u32,
            ticks_crossed: 0,
        };
        Ok((movement, outcome))
    }

    fn prices(&self, a_to_b: bool, outcome: &Outcome) -> (f64, f64) {
        match self.curve {
            Curve::Range { .. } => (price_of(self.price), price_of(outcome.price)),
            Curve::Product { reserves } => {
                let price = |given: u64, taken: u64| {
                    let rate = taken as f64 / given as f64;
                    if a_to_b { rate } else { rate.recip() }
                };
                let (given, taken) = sides(reserves, a_to_b);
                (
                    price(given, taken),
                    price(given.saturating_add(outcome.entered), taken - outcome.left),
                )
            }
        }
    }

    /// The protocol's part of a fee, and what goes into the reserves.
    fn shares(&self, fee: u64) -> (u64, u64) {
        let part = |of: u64, share: u64, whole: u64| {
            // No part is larger than the whole.
            (u128::from(of) * u128::from(share) / u128::from(whole)) as u64
        };
        let protocol = part(fee, u64::from(self.protocol_percent), 100);
        let compounded = part(fee - protocol, u64::from(self.compounding_bps), 10_000);
        (protocol, compounded)
    }

    /// The pool after a swap.
    fn after(&self, a_to_b: bool, outcome: &Outcome, clock: Clock) -> Result<Self, QuoteError> {
        const OVERFLOW: QuoteError = quote_error("math_overflow");
        let mut next = self.clone();
        next.price = outcome.price;
        if let Curve::Product { reserves } = &mut next.curve {
            let (side_in, side_out) = if a_to_b { (0, 1) } else { (1, 0) };
            let given = reserves[side_in].checked_add(outcome.entered);
            reserves[side_in] = given.ok_or(OVERFLOW)?;
            reserves[side_out] = reserves[side_out]
                .checked_sub(outcome.left)
                .ok_or(OVERFLOW)?;
            let compounded = reserves[1].checked_add(self.shares(outcome.fee).1);
            reserves[1] = compounded.ok_or(OVERFLOW)?;
            next.price = root_of(*reserves);
        }
        if let Some(dynamic) = &mut next.dynamic {
            let now = u64::try_from(clock.unix_time).unwrap_or(0);
            *dynamic = dynamic.after(self.price, next.price, now)?;
        }
        Ok(next)
    }
}

/// Units of token b per unit of token a. For comparing and reporting only.
fn price_of(root: u128) -> f64 {
    let root = root as f64 / 18_446_744_073_709_551_616.0;
    root * root
}

impl Venue for MeteoraDammV2 {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mints[0], self.mints[1])
    }

    fn quote(&self, order: Order, clock: Clock) -> Result<Movement, QuoteError> {
        Ok(self.execute(order, clock)?.0)
    }

    fn swap(
        &self,
        address: Pubkey,
        order: Order,
        accounts: Option<&mut Vec<Account>>,
        clock: Clock,
    ) -> Result<(Arc<dyn Venue>, Movement), QuoteError> {
        let (movement, outcome) = self.execute(order, clock)?;
        let next = self.after(order.a_to_b, &outcome, clock)?;
        if let Some(accounts) = accounts {
            let written = patch::Swap {
                a_to_b: order.a_to_b,
                entered: outcome.entered,
                left: outcome.left,
                fee_in_a: order.a_to_b == outcome.on_input,
                protocol_fee: self.shares(outcome.fee).0,
                movement: &movement,
                next: &next,
            };
            patch::write(address, accounts, &written)?;
        }
        Ok((Arc::new(next), movement))
    }

    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, clock: Clock) -> (U256, U256) {
        let rate = match after {
            Some(after) => u64::from(after.fee_rate),
            None => match self.rate(a_to_b, clock) {
                Ok(rate) => rate,
                Err(_) => return (U256::ZERO, U256::ONE),
            },
        };
        let (taken, given) = match self.curve {
            Curve::Range { .. } => {
                let price = after.map_or(self.price, |after| after.sqrt_price_after);
                let square = wide::mul(price, price);
                let one = U256::ONE << 128;
                if a_to_b { (square, one) } else { (one, square) }
            }
            Curve::Product { reserves } => {
                let (given, taken) = sides(reserves, a_to_b);
                let mark = after.map_or(0, |after| after.sqrt_price_after);
                let (entered, left) = ((mark >> 64) as u64, mark as u64);
                (
                    U256::from(taken.saturating_sub(left)),
                    U256::from(u128::from(given) + u128::from(entered)),
                )
            }
        };
        // Prices are below 2^97: their squares keep both parts below 2^228.
        (taken * U256::from(UNIT - rate), given * U256::from(UNIT))
    }

    fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        self.transfer_fees
    }

    fn write(&self, out: &mut Writer) {
        self.put(out);
    }

    fn info(&self, out: &mut Info<'_>) {
        out.put("sqrt_price", self.price)
            .put("base_fee_cliff_e9", self.base_fee.cliff)
            .put("base_fee_mode", compact::mode_of(&self.base_fee))
            .put("highest_fee_rate_e9", self.highest_rate)
            .put("protocol_fee_percent", self.protocol_percent)
            .put("compounding_fee_bps", self.compounding_bps)
            .put("fee_in_b", self.fee_in_b)
            .put("opened", self.opened)
            .put("dynamic_fee_rate_e9", self.dynamic.map(|fee| fee.rate()))
            .put("volatility", self.dynamic.map(|fee| fee.accumulator));
        match self.curve {
            Curve::Range {
                liquidity,
                lowest,
                highest,
            } => out
                .put("liquidity", liquidity)
                .put("sqrt_price_range", (lowest, highest)),
            Curve::Product { reserves } => out.put("reserves", (reserves[0], reserves[1])),
        };
    }
}
