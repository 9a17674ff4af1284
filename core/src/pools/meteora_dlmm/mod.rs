//! Meteora DLMM: liquidity in bins, each with one price.

mod compact;
mod fee;
mod layout;
mod parse;
mod patch;
mod price;
#[cfg(test)]
mod samples;
mod swap;

use std::sync::Arc;

use ruint::aliases::U256;

use self::fee::{Parameters, UNIT, Volatility};
use self::layout::{ARRAY_BINS, Bin, MAX_BIN, MIN_BIN};
use super::account::{Account, Pubkey};
use super::error::{QuoteError, Refused, quote_error, refuse, too_small};
use super::info::Info;
use super::snapshot::Writer;
use super::token::TransferFee;
use super::venue::{Family, Protocol, Venue};
use super::{Clock, Movement, Order};

pub const FAMILY: Family = Family {
    protocol: Protocol::MeteoraDlmm,
    name: "meteora_dlmm",
    parse: |address, accounts, clock| Ok(Arc::new(MeteoraDlmm::parse(address, accounts, clock)?)),
    read: |input, mints| Ok(Arc::new(MeteoraDlmm::read(input, mints)?)),
    #[cfg(test)]
    samples: samples::all,
};

/// Everything a DLMM pair's swaps depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteoraDlmm {
    pub mints: [Pubkey; 2],
    pub bin_step: u16,
    pub fees: Parameters,
    pub volatility: Volatility,
    /// The bin that the last swap stopped in.
    pub active: i32,
    /// Fees are always taken in token b, else in the token given.
    pub fee_in_b: bool,
    /// Swaps fill limit orders too.
    pub orders: bool,
    /// Known arrays around the active bin that are marked as holding anything, without a gap, in order.
    pub arrays: Arc<[i32]>,
    /// There may be more below and above them, which is not known.
    pub unknown: [bool; 2],
    /// Bins of these arrays in which anything is offered, in order. Swaps change what they hold.
    pub bins: Arc<[Bin]>,
    pub transfer_fees: [Option<TransferFee>; 2],
}

impl MeteoraDlmm {
    /// Refuse figures that no working pool has.
    fn check(&self) -> Result<(), Refused> {
        if self.bin_step == 0 || price::of_bin(self.active, self.bin_step).is_none() {
            return refuse("bad_pool", "there is no price for the active bin");
        }
        if !(MIN_BIN..=MAX_BIN).contains(&self.active) {
            return refuse("bad_pool", format!("there is no bin {}", self.active));
        }
        self.fees.check()?;
        if !self.arrays.is_sorted_by(|one, next| one < next)
            || !self.bins.is_sorted_by(|one, next| one.id < next.id)
        {
            return refuse("bad_pool", "bins are out of order");
        }
        for bin in self.bins.iter() {
            let array = bin.id.div_euclid(ARRAY_BINS);
            let placed = self.arrays.binary_search(&array).is_ok();
            if !placed || bin.price == 0 || !(MIN_BIN..=MAX_BIN).contains(&bin.id) {
                return refuse("bad_bin", format!("bin {} cannot be traded with", bin.id));
            }
        }
        Ok(())
    }

    fn fee_on_input(&self, a_to_b: bool) -> bool {
        !(self.fee_in_b && a_to_b)
    }

    fn execute(
        &self,
        order: Order,
        clock: Clock,
        trace: Option<&mut Vec<swap::Fill>>,
    ) -> Result<(Movement, swap::Outcome), QuoteError> {
        if order.sqrt_price_limit != 0 {
            return Err(quote_error("price_limit_unsupported"));
        }
        let (side_in, side_out) = if order.a_to_b { (0, 1) } else { (1, 0) };
        let (fee_in, fee_out) = (self.transfer_fees[side_in], self.transfer_fees[side_out]);
        let amount = match (order.exact_in, fee_in, fee_out) {
            (true, Some(fee), _) => fee.after(order.amount),
            (false, _, Some(fee)) => fee.before(order.amount)?,
            _ => order.amount,
        };
        if amount == 0 {
            return Err(too_small("zero_tradable_amount"));
        }
        let inner = swap::Order {
            a_to_b: order.a_to_b,
            amount,
            exact_in: order.exact_in,
        };
        let outcome = self.run(inner, clock.unix_time, trace)?;
        let amount_in = match fee_in {
            // All that entered was used, or the swap would have failed.
            _ if order.exact_in => order.amount,
            Some(fee) => fee.before(outcome.amount_in)?,
            None => outcome.amount_in,
        };
        let amount_out = fee_out.map_or(outcome.amount_out, |fee| fee.after(outcome.amount_out));
        if amount_out == 0 {
            return Err(too_small("zero_tradable_amount"));
        }
        let price_at =
            |bin: i32| price::of_bin(bin, self.bin_step).map_or(f64::NAN, price::to_float);
        let movement = Movement {
            amount_in,
            amount_out,
            vault_in: outcome.amount_in,
            vault_out: outcome.amount_out,
            fee_amount: if self.fee_on_input(order.a_to_b) {
                outcome.fee
            } else {
                0
            },
            price_before: price_at(self.active),
            price_after: price_at(outcome.active),
            sqrt_price_after: mark(outcome.active, outcome.drained),
            fee_rate: outcome.rate,
            ticks_crossed: outcome.bins,
        };
        Ok((movement, outcome))
    }

    /// The pool after a swap that took these fills.
    fn after(&self, a_to_b: bool, outcome: &swap::Outcome, fills: &[swap::Fill]) -> Option<Self> {
        let (side_in, side_out) = if a_to_b { (0, 1) } else { (1, 0) };
        let mut bins = self.bins.to_vec();
        for fill in fills {
            let bin = bins.get_mut(fill.place)?;
            let [liquidity, processed, open] = fill.taken;
            bin.amounts[side_in] = bin.amounts[side_in].checked_add(fill.entered)?;
            bin.amounts[side_out] = bin.amounts[side_out].checked_sub(liquidity)?;
            bin.processed = bin.processed.checked_sub(processed)?;
            if open > 0 {
                // Orders that a swap begins to fill are orders begun; those begun before are filled by then.
                bin.processed = bin.processed.checked_add(bin.open.checked_sub(open)?)?;
                bin.open = 0;
            }
        }
        bins.retain(|bin| !bin.is_empty());
        Some(Self {
            active: outcome.active,
            volatility: outcome.volatility,
            bins: bins.into(),
            ..self.clone()
        })
    }
}

/// Where a swap stopped, in [`Movement::sqrt_price_after`]: the bin, and whether it has nothing left.
fn mark(bin: i32, drained: bool) -> u128 {
    let above_lowest = u128::from(bin.abs_diff(MIN_BIN));
    above_lowest << 1 | u128::from(drained)
}

fn unmark(mark: u128) -> (i32, bool) {
    (MIN_BIN.wrapping_add((mark >> 1) as i32), mark & 1 == 1)
}

impl Venue for MeteoraDlmm {
    fn protocol(&self) -> Protocol {
        FAMILY.protocol
    }

    fn mints(&self) -> (Pubkey, Pubkey) {
        (self.mints[0], self.mints[1])
    }

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
        let mut fills = Vec::new();
        let (movement, outcome) = self.execute(order, clock, Some(&mut fills))?;
        let next = self
            .after(order.a_to_b, &outcome, &fills)
            .ok_or(quote_error("math_overflow"))?;
        if let Some(accounts) = accounts {
            let written = patch::Swap {
                a_to_b: order.a_to_b,
                fee_on_input: self.fee_on_input(order.a_to_b),
                outcome: &outcome,
                movement: &movement,
                bins: &self.bins,
                fills: &fills,
            };
            patch::write(address, accounts, &written)?;
        }
        Ok((Arc::new(next), movement))
    }

    /// Within a bin every unit brings the same; the next unit is one of the next bin when the last took all of its own.
    fn marginal_rate(&self, a_to_b: bool, after: Option<&Movement>, clock: Clock) -> (U256, U256) {
        const NOTHING: (U256, U256) = (U256::ZERO, U256::ONE);
        let (from, drained) =
            after.map_or((self.active, false), |moved| unmark(moved.sqrt_price_after));
        let Ok(volatility) = self
            .volatility
            .begin(&self.fees, self.active, clock.unix_time)
        else {
            return NOTHING;
        };
        let next = self.ahead(a_to_b, from).find(
            |step| !matches!(step, Ok((place, _)) if drained && self.bins[*place].id == from),
        );
        let Some(Ok((place, _))) = next else {
            return NOTHING;
        };
        let bin = &self.bins[place];
        let rate = self
            .fees
            .rate(self.bin_step, volatility.at(&self.fees, bin.id));
        let (price, one) = (U256::from(bin.price), U256::from(price::ONE));
        let (taken, given) = if a_to_b { (price, one) } else { (one, price) };
        (taken * U256::from(UNIT - rate), given * U256::from(UNIT))
    }

    fn transfer_fees(&self) -> [Option<TransferFee>; 2] {
        self.transfer_fees
    }

    fn write(&self, out: &mut Writer) {
        self.put(out);
    }

    fn info(&self, out: &mut Info<'_>) {
        let bins: Vec<(i32, u64, u64)> = self
            .bins
            .iter()
            .map(|bin| (bin.id, bin.amounts[0], bin.amounts[1]))
            .collect();
        out.put("bin_step", self.bin_step)
            .put("active_bin", self.active)
            .put("base_fee_rate_e9", self.fees.base_rate(self.bin_step))
            .put("protocol_share_bps", self.fees.protocol_share)
            .put("volatility_accumulator", self.volatility.accumulator)
            .put("volatility_reference", self.volatility.reference)
            .put("index_reference", self.volatility.index_reference)
            .put("volatility_updated", self.volatility.updated)
            .put("fee_in_b", self.fee_in_b)
            .put("limit_orders", self.orders)
            .put("bin_arrays", self.arrays.to_vec())
            .put("more_unknown", (self.unknown[0], self.unknown[1]))
            .put("bins", bins);
    }
}
