//! A way through two or three pools and back to its first token.

use super::graph::Offer;
use crate::pools::wide::to_float;
use crate::pools::{Order, Pool};

pub const MOST_LEGS: usize = 3;

/// A directed cycle whose marginal rates pay, before its size is known.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// Place of its start token in the settlement list.
    pub start: usize,
    legs: [Step; MOST_LEGS],
    count: usize,
    pub estimate: Estimate,
}

/// One leg: which pool, and the token given as the graph numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub pool: u32,
    pub from: u32,
}

/// What a chain of constant products with the same rates and depths does: a guess where to look.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// What the first unit brings, and what it brings in each leg.
    pub rate: f64,
    pub rates: [f64; MOST_LEGS],
    /// Of the whole chain, in the start token.
    pub depth: f64,
}

impl Estimate {
    pub fn of(offers: &[Offer]) -> Self {
        let (mut rate, mut shallowness) = (1.0, 0.0);
        let mut rates = [1.0; MOST_LEGS];
        for (offer, place) in offers.iter().zip(&mut rates) {
            shallowness += rate / offer.depth;
            rate *= offer.rate;
            *place = offer.rate;
        }
        Self {
            rate,
            rates,
            depth: 1.0 / shallowness,
        }
    }

    /// Where the next unit stops paying.
    pub fn best_size(&self) -> f64 {
        (self.rate.sqrt() - 1.0) * self.depth
    }

    /// What the best size up to `maximum` brings, roughly.
    pub fn profit(&self, maximum: f64) -> f64 {
        ((self.rate.sqrt() - 1.0) * self.best_size()).min((self.rate - 1.0) * maximum)
    }
}

impl Cycle {
    /// A cycle through these offers; `from` are the tokens given. It begins at leg `first`.
    pub fn new(start: usize, from: &[u32], offers: &[Offer], first: usize) -> Self {
        let count = offers.len();
        let mut turned = [offers[0]; MOST_LEGS];
        let mut legs = [Step { pool: 0, from: 0 }; MOST_LEGS];
        for position in 0..count {
            let at = (first + position) % count;
            turned[position] = offers[at];
            legs[position] = Step {
                pool: offers[at].pool,
                from: from[at],
            };
        }
        Self {
            start,
            legs,
            count,
            estimate: Estimate::of(&turned[..count]),
        }
    }

    pub fn legs(&self) -> &[Step] {
        &self.legs[..self.count]
    }
}

/// Rates of a pool in one direction, for the graph.
pub fn offer(number: u32, pool: &Pool, a_to_b: bool) -> Offer {
    let (taken, given) = pool.marginal_rate(a_to_b, None);
    let rate = to_float(taken) / to_float(given);
    // No liquidity, or a direction that the pool does not have: nothing comes out.
    let rate = if rate.is_finite() { rate } else { 0.0 };
    Offer {
        pool: number,
        rate,
        depth: if rate > 0.0 {
            depth(pool, a_to_b, rate)
        } else {
            f64::INFINITY
        },
    }
}

/// How deep a pool is, told by what a small swap does to its rate; infinite where that is nothing.
fn depth(pool: &Pool, a_to_b: bool, rate: f64) -> f64 {
    let mut amount = 1_u64 << 20;
    let mut most = u64::MAX;
    for _ in 0..6 {
        let order = Order {
            a_to_b,
            amount,
            exact_in: true,
            sqrt_price_limit: 0,
        };
        match pool.quote(order) {
            Ok(movement) if movement.amount_in == amount => {
                let (taken, given) = pool.marginal_rate(a_to_b, Some(&movement));
                let bent = (rate * to_float(given) / to_float(taken)).sqrt() - 1.0;
                if bent > 1e-9 {
                    return amount as f64 / bent;
                }
                amount = amount.saturating_mul(1 << 10);
            }
            Err(error) if error.too_small => amount = amount.saturating_mul(1 << 10),
            Ok(_) | Err(_) => {
                most = amount;
                amount >>= 7;
            }
        }
        if amount == 0 || amount >= most {
            break;
        }
    }
    f64::INFINITY
}
