//! The swap loop: bin after bin in the direction of the swap, each at one price and one fee.

use super::MeteoraDlmm;
use super::fee::{self, Volatility};
use super::layout::{ARRAY_BINS, Bin};
use super::price;
use crate::pools::error::{QuoteError, quote_error};

const OVERFLOW: QuoteError = quote_error("math_overflow");
/// Bin arrays that one swap may visit: the program sets no limit, a transaction's size and compute budget do.
const MOST_ARRAYS: usize = 3;

/// What a swap asks for, transfer fees taken off.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub a_to_b: bool,
    pub amount: u64,
    pub exact_in: bool,
}

/// What a swap took out of one bin.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// Place of the bin among the pool's.
    pub place: usize,
    /// Of liquidity, of orders begun, of orders untouched.
    pub taken: [u64; 3],
    /// Given to liquidity, the fee not included.
    pub entered: u64,
}

/// What a swap did.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    pub amount_in: u64,
    pub amount_out: u64,
    /// In the token given or in the token taken, as the pool charges.
    pub fee: u64,
    /// Counted with the fills only.
    pub protocol_fee: u64,
    /// The bin it stopped in.
    pub active: i32,
    /// That bin has nothing left in this direction.
    pub drained: bool,
    pub volatility: Volatility,
    /// Fee rate of the last bin.
    pub rate: u32,
    pub bins: u32,
}

/// What happened in one bin.
struct InBin {
    consumed: u64,
    received: u64,
    fee: u64,
    taken: [u64; 3],
    entered: [u64; 3],
}

impl MeteoraDlmm {
    /// The bins that a swap passes from `from` on, each with its place and what it can give.
    ///
    /// Ends with an error that tells why no swap comes further.
    pub fn ahead(
        &self,
        a_to_b: bool,
        from: i32,
    ) -> impl Iterator<Item = Result<(usize, u64), QuoteError>> {
        let first = self.arrays_before(a_to_b, self.active.div_euclid(ARRAY_BINS));
        let begin = self.bins.partition_point(|bin| bin.id < from);
        let places: Box<dyn Iterator<Item = usize>> = if a_to_b {
            let end = begin + usize::from(self.bins.get(begin).is_some_and(|bin| bin.id == from));
            Box::new((0..end).rev())
        } else {
            Box::new(begin..self.bins.len())
        };
        let reachable = places.filter_map(move |place| {
            let bin = &self.bins[place];
            let capacity = bin.capacity(a_to_b, self.orders);
            if capacity == 0 {
                return None;
            }
            let visited = self.arrays_before(a_to_b, bin.id.div_euclid(ARRAY_BINS)) - first;
            Some(if visited < MOST_ARRAYS {
                Ok((place, capacity))
            } else {
                Err(quote_error("too_many_bin_arrays"))
            })
        });
        let end = if self.unknown[usize::from(!a_to_b)] {
            quote_error("bin_array_missing")
        } else {
            quote_error("pair_insufficient_liquidity")
        };
        reachable.chain(std::iter::once(Err(end)))
    }

    /// How many marked arrays a swap meets before this one, from the outermost known.
    fn arrays_before(&self, a_to_b: bool, index: i32) -> usize {
        if a_to_b {
            self.arrays.len() - self.arrays.partition_point(|array| *array <= index)
        } else {
            self.arrays.partition_point(|array| *array < index)
        }
    }

    /// Run an order. What was taken from each bin is noted when asked for.
    pub fn run(
        &self,
        order: Order,
        now: i64,
        mut trace: Option<&mut Vec<Fill>>,
    ) -> Result<Outcome, QuoteError> {
        let volatility = self.volatility.begin(&self.fees, self.active, now)?;
        let mut left = order.amount;
        let mut outcome = Outcome {
            amount_in: 0,
            amount_out: 0,
            fee: 0,
            protocol_fee: 0,
            active: self.active,
            drained: false,
            volatility,
            rate: 0,
            bins: 0,
        };
        for step in self.ahead(order.a_to_b, self.active) {
            let (place, capacity) = step?;
            let bin = &self.bins[place];
            outcome.active = bin.id;
            outcome.volatility.accumulator = volatility.at(&self.fees, bin.id);
            outcome.bins += 1;
            let rate = self
                .fees
                .rate(self.bin_step, outcome.volatility.accumulator);
            // At most a tenth of a billion.
            outcome.rate = rate as u32;
            let in_bin = if order.exact_in {
                self.give(bin, left, rate, order.a_to_b)?
            } else {
                self.take(bin, left, capacity, rate, order.a_to_b)?
            };
            let progress = if order.exact_in {
                in_bin.consumed
            } else {
                in_bin.received
            };
            // A bin so small that the fee eats all it gives is passed over when the output is asked for.
            if progress > 0 {
                left = left.checked_sub(progress).ok_or(OVERFLOW)?;
                let add = |sum: u64, more: u64| sum.checked_add(more).ok_or(OVERFLOW);
                outcome.amount_in = add(outcome.amount_in, in_bin.consumed)?;
                outcome.amount_out = add(outcome.amount_out, in_bin.received)?;
                outcome.fee = add(outcome.fee, in_bin.fee)?;
                if let Some(trace) = trace.as_deref_mut() {
                    let entered = in_bin.entered.into_iter().fold(0, u64::saturating_add);
                    outcome.protocol_fee = add(
                        outcome.protocol_fee,
                        fee::protocol_part(&self.fees, in_bin.fee, in_bin.entered[0], entered),
                    )?;
                    trace.push(Fill {
                        place,
                        taken: in_bin.taken,
                        entered: in_bin.entered[0],
                    });
                }
            }
            if left == 0 {
                let taken = in_bin.taken.into_iter().map(u128::from).sum::<u128>();
                outcome.drained = taken >= u128::from(capacity);
                return Ok(outcome);
            }
        }
        // `ahead` ends with an error.
        Err(quote_error("pair_insufficient_liquidity"))
    }

    /// Give up to `amount` to a bin.
    fn give(&self, bin: &Bin, amount: u64, rate: u128, a_to_b: bool) -> Result<InBin, QuoteError> {
        let fee_on_input = self.fee_on_input(a_to_b);
        let mut fee = if fee_on_input {
            fee::within(amount, rate)
        } else {
            0
        };
        let net = amount - fee;
        let mut left = net;
        let (mut taken, mut entered) = ([0; 3], [0; 3]);
        for (at, layer) in bin.layers(a_to_b, self.orders).into_iter().enumerate() {
            if layer == 0 || (at > 0 && left == 0) {
                continue;
            }
            let whole = price::given_for(layer, bin.price, a_to_b)?;
            (entered[at], taken[at]) = if left >= whole {
                (whole, layer)
            } else {
                (left, price::taken_for(left, bin.price, a_to_b)?)
            };
            left -= entered[at];
        }
        let mut consumed = amount;
        if left > 0 {
            consumed = net - left;
            if fee_on_input {
                fee = fee::on_top(consumed, rate)?;
                consumed = consumed.checked_add(fee).ok_or(OVERFLOW)?;
            }
        }
        let gross = taken
            .into_iter()
            .try_fold(0u64, |sum, part: u64| sum.checked_add(part))
            .ok_or(OVERFLOW)?;
        if !fee_on_input {
            fee = fee::within(gross, rate);
        }
        Ok(InBin {
            consumed,
            received: if fee_on_input { gross } else { gross - fee },
            fee,
            taken,
            entered,
        })
    }

    /// Take up to `amount` from a bin: the least input is computed, and given.
    fn take(
        &self,
        bin: &Bin,
        amount: u64,
        capacity: u64,
        rate: u128,
        a_to_b: bool,
    ) -> Result<InBin, QuoteError> {
        let fee_on_input = self.fee_on_input(a_to_b);
        let gross = if fee_on_input {
            amount
        } else {
            let fee = fee::on_top(amount, rate)?;
            amount.checked_add(fee).ok_or(OVERFLOW)?
        };
        if gross >= capacity {
            return self.give(bin, u64::MAX, rate, a_to_b);
        }
        let mut left = gross;
        let mut given = 0u64;
        for layer in bin.layers(a_to_b, self.orders) {
            let part = left.min(layer);
            left -= part;
            let needed = price::given_for(part, bin.price, a_to_b)?;
            given = given.checked_add(needed).ok_or(OVERFLOW)?;
        }
        if fee_on_input {
            let fee = fee::on_top(given, rate)?;
            given = given.checked_add(fee).ok_or(OVERFLOW)?;
        }
        let mut in_bin = self.give(bin, given, rate, a_to_b)?;
        // What rounding gives beyond the wish stays with the pool.
        in_bin.received = amount;
        Ok(in_bin)
    }
}
