//! The best size of one cycle: the sign of the marginal profit decides between two sizes, convexity when to stop.
//!
//! The profit of a cycle is a concave function of its size, up to the rounding of integers. So the tangents at two sizes, one where
//! the next unit pays and one where it does not, bound what any size brings: the search stops when that is not worth it, or when less
//! than half a unit is left to win.

use std::sync::OnceLock;

use ruint::Uint;

use super::cycle::{Estimate, MOST_LEGS};
use super::polish::polish;
use crate::pools::wide::to_float;
use crate::pools::{Movement, Order, Pool};

/// Wide enough for the product of three marginal rates.
type Product = Uint<768, 12>;

/// A float this far from 1 tells on which side of 1 the exact value lies.
const TELLING: f64 = 1e-9;

/// What may be left to win when the search stops, in units of the start token.
const LEFT: f64 = 0.5;

/// Guesses before the bracket is halved: where curves bend otherwise than guessed, guessing has no end.
const GUESSES: u32 = 10;

/// One leg of a cycle.
#[derive(Clone, Copy)]
pub struct Leg<'a> {
    pub pool: &'a Pool,
    pub a_to_b: bool,
    /// The most that the pool takes whole in this direction, once somebody has asked.
    pub capacity: &'a OnceLock<u64>,
}

impl Leg<'_> {
    pub fn order(&self, amount: u64, exact_in: bool) -> Order {
        Order {
            a_to_b: self.a_to_b,
            amount,
            exact_in,
            sqrt_price_limit: 0,
        }
    }

    pub fn takes(&self, amount: u64) -> bool {
        match self.pool.quote(self.order(amount, true)) {
            Ok(movement) => movement.amount_in == amount,
            Err(error) => error.too_small,
        }
    }

    /// The most that the pool takes whole; `refused` is more than that.
    fn capacity(&self, refused: u64) -> u64 {
        *self.capacity.get_or_init(|| {
            if let Some(known) = self.pool.venue.capacity(self.a_to_b, self.pool.clock) {
                return known;
            }
            let (mut taken, mut refused) = (0, refused);
            while refused - taken > 1 {
                let middle = middle(taken, refused);
                if self.takes(middle) {
                    taken = middle;
                } else {
                    refused = middle;
                }
            }
            taken
        })
    }
}

/// A number between two that are not neighbours: of the order of magnitude between theirs, or in the middle.
fn middle(low: u64, high: u64) -> u64 {
    let middle = low + (high - low) / 2;
    if high / 16 > low {
        return ((low.max(1) as f64 * high as f64).sqrt() as u64).clamp(low + 1, middle);
    }
    middle
}

/// A cycle at one size.
#[derive(Clone, Debug)]
pub struct Run {
    pub amount_in: u64,
    pub amount_out: u64,
    pub movements: Vec<Movement>,
}

impl Run {
    pub fn profit(&self) -> i128 {
        i128::from(self.amount_out) - i128::from(self.amount_in)
    }

    /// The better of two has more profit, or the same with less put in.
    pub fn better_than(&self, other: Option<&Self>) -> bool {
        let key = |run: &Self| (run.profit(), std::cmp::Reverse(run.amount_in));
        other.is_none_or(|other| key(self) > key(other))
    }
}

/// Why a size could not be run.
pub enum Stop {
    TooSmall,
    /// A leg, by its place, cannot take the amount that it was to be given.
    TooLarge(usize, u64),
}

/// What the next unit put into the cycle brings back, and whether that is surely more than one.
///
/// `after` holds what the legs moved so far, or nothing for an untouched cycle. The float guides the search; where it
/// is too close to 1 to tell, the exact fractions do.
fn next_unit(legs: &[Leg<'_>], after: Option<&[Movement]>) -> (f64, bool) {
    let fractions = legs.iter().enumerate().map(|(position, leg)| {
        let moved = after.and_then(|after| after.get(position));
        leg.pool.marginal_rate(leg.a_to_b, moved)
    });
    let brings: f64 = fractions
        .clone()
        .map(|(taken, given)| to_float(taken) / to_float(given))
        .product();
    if (brings - 1.0).abs() > TELLING {
        return (brings, brings > 1.0);
    }
    let (mut taken, mut given) = (Product::ONE, Product::ONE);
    for (numerator, denominator) in fractions {
        taken = taken.wrapping_mul(Product::from(numerator));
        given = given.wrapping_mul(Product::from(denominator));
    }
    (brings, taken > given)
}

/// Run the cycle at this size. A leg that does not take all it is given makes the size too large.
pub fn run(legs: &[Leg<'_>], amount_in: u64) -> Result<Run, Stop> {
    let mut amount = amount_in;
    let mut movements = Vec::with_capacity(legs.len());
    for (place, leg) in legs.iter().enumerate() {
        let movement = leg.pool.quote(leg.order(amount, true)).map_err(|error| {
            if error.too_small {
                Stop::TooSmall
            } else {
                Stop::TooLarge(place, amount)
            }
        })?;
        if movement.amount_in != amount {
            return Err(Stop::TooLarge(place, amount));
        }
        amount = movement.amount_out;
        movements.push(movement);
    }
    Ok(Run {
        amount_in,
        amount_out: amount,
        movements,
    })
}

/// The most profitable size up to `maximum` that brings more than `cost` above what it takes; `None` when there is none.
pub fn best(legs: &[Leg<'_>], estimate: Estimate, maximum: u64, cost: u64) -> Option<Run> {
    let (brings, pays) = next_unit(legs, None);
    if maximum == 0 || !pays {
        return None;
    }
    let mut bracket = Bracket {
        legs,
        low: Point {
            amount: 0,
            brings,
            profit: 0.0,
            ceiling: 0.0,
        },
        high: Point {
            amount: maximum.saturating_add(1),
            brings: f64::NAN,
            profit: f64::NAN,
            ceiling: f64::NAN,
        },
        rates: estimate.rates,
        last: (0, brings.sqrt().recip()),
        bend: brings.sqrt().recip() / estimate.depth,
        guess: estimate.best_size(),
        last_is_low: false,
        edge: true,
        best: None,
    };
    bracket.cut();
    if !bracket.close(cost as f64 + 1.0) {
        return None;
    }
    let found = match bracket.best {
        Some(best) => best,
        None => run(legs, 1).ok()?,
    };
    Some(polish(legs, found, maximum)).filter(|found| found.profit() > i128::from(cost))
}

/// A size that was looked at.
#[derive(Clone, Copy, Debug)]
struct Point {
    amount: u64,
    /// What the next unit brings there; at most that, at a size too small to run.
    brings: f64,
    profit: f64,
    /// What the profit would be at most without any rounding.
    ceiling: f64,
}

/// The next unit pays at `low` and does not at `high`, of which nothing else is known while its profit is not a number.
struct Bracket<'a> {
    legs: &'a [Leg<'a>],
    low: Point,
    high: Point,
    rates: [f64; MOST_LEGS],
    /// The last size that could be run, with its height.
    last: (u64, f64),
    /// A height is one over the root of what the next unit brings: linear in the size along constant products and chains of them.
    /// How much it rises with each unit, and the size at which it is thought to reach 1.
    bend: f64,
    guess: f64,
    last_is_low: bool,
    /// True while `high` is the least size that is known to be forbidden, so that the best one may stand just below it.
    edge: bool,
    best: Option<Run>,
}

impl Bracket<'_> {
    /// Narrow the bracket until nothing is left to win in it; `false` when no size can be worth it.
    fn close(&mut self, worth: f64) -> bool {
        for round in 0.. {
            let most = self.low.ceiling + self.left(self.low.ceiling, self.high.ceiling);
            if most < worth {
                return false;
            }
            if self.high.amount - self.low.amount <= 1
                || self.low.amount > 0 && self.left(self.low.profit, self.high.profit) < LEFT
            {
                break;
            }
            let amount = self.choose(round);
            self.probe(amount.clamp(self.low.amount + 1, self.high.amount - 1));
        }
        true
    }

    fn width(&self) -> f64 {
        (self.high.amount - self.low.amount) as f64
    }

    /// How far above `low` the tangents at both ends meet, if these are the profits there.
    fn left(&self, low: f64, high: f64) -> f64 {
        let pays = (self.low.brings - 1.0).max(0.0);
        let whole = pays * self.width();
        if high.is_nan() {
            return whole;
        }
        (pays * self.meeting(low, high)).min(whole)
    }

    /// How far from `low` the tangents meet.
    fn meeting(&self, low: f64, high: f64) -> f64 {
        let (up, down) = (self.low.brings - 1.0, 1.0 - self.high.brings);
        let at = (high - low + down * self.width()) / (up + down);
        if at.is_finite() {
            at.clamp(0.0, self.width())
        } else {
            self.width()
        }
    }

    fn choose(&self, round: u32) -> u64 {
        let (low, high) = (self.low.amount, self.high.amount);
        if round < GUESSES && !self.guess.is_nan() {
            if self.guess >= high as f64 && self.edge {
                return high - 1;
            }
            if self.guess > low as f64 && self.guess < high as f64 {
                // So near the best size that nothing is lost, on the other side of it than the last: the bracket closes from both.
                let near = 0.4 * (LEFT / self.bend).sqrt();
                let last = if self.last_is_low { low } else { high };
                let far = if round == 0 {
                    0.0
                } else {
                    (self.guess - last as f64).abs() / 16.0
                };
                let step = near.max(far);
                let aim = if self.last_is_low {
                    self.guess + step
                } else {
                    self.guess - step
                };
                let inside = aim > low as f64 && aim < high as f64;
                return if inside { aim } else { self.guess } as u64;
            }
        }
        // Along straight pieces, as the bins of some pools are, the tangents meet in the corner.
        if round < 2 * GUESSES && round.is_multiple_of(2) && !self.high.profit.is_nan() {
            return low + self.meeting(self.low.profit, self.high.profit) as u64;
        }
        middle(low, high)
    }

    /// Look at a size inside of the bracket.
    fn probe(&mut self, amount: u64) {
        let distance = (amount - self.low.amount) as f64;
        // A tangent bounds what is to come.
        let ceiling = self.low.ceiling + (self.low.brings - 1.0).max(0.0) * distance;
        match run(self.legs, amount) {
            Ok(run) => {
                let (brings, pays) = next_unit(self.legs, Some(&run.movements));
                let profit = run.profit() as f64;
                let point = Point {
                    amount,
                    brings,
                    profit,
                    ceiling: ceiling.min(profit + self.rounding(&run)),
                };
                let height = brings.sqrt().recip();
                let bend = (height - self.last.1) / (amount as f64 - self.last.0 as f64);
                if bend > 0.0 {
                    self.bend = bend;
                }
                self.guess = amount as f64 + (1.0 - height) / bend;
                self.last = (amount, height);
                if pays {
                    self.low = point;
                } else {
                    self.high = point;
                    self.edge = false;
                }
                self.last_is_low = pays;
                if run.better_than(self.best.as_ref()) {
                    self.best = Some(run);
                }
            }
            Err(Stop::TooSmall) => {
                self.low = Point {
                    amount,
                    profit: -(amount as f64),
                    ceiling,
                    ..self.low
                };
                self.last_is_low = true;
            }
            Err(Stop::TooLarge(place, given)) => {
                let forbidden = self
                    .least_too_large(place, given)
                    .filter(|least| (self.low.amount + 1..amount).contains(least));
                self.edge = forbidden.is_some();
                self.high = Point {
                    amount: forbidden.unwrap_or(amount),
                    brings: f64::NAN,
                    profit: f64::NAN,
                    ceiling: f64::NAN,
                };
                self.last_is_low = false;
            }
        }
    }

    /// Lower `high` to what the legs are known to take, where the guess is beyond that.
    fn cut(&mut self) {
        let mut reaches = self.guess;
        for (place, rate) in self.rates.iter().enumerate().take(self.legs.len()) {
            if let Some(capacity) = self.legs[place].capacity.get()
                && reaches >= *capacity as f64
                && let Some(least) = self.least_too_large(place, *capacity)
                && (1..self.high.amount).contains(&least)
            {
                self.high.amount = least;
            }
            reaches *= rate;
        }
    }

    /// The least size at which a leg is given more than it takes, as far as the legs before it can tell.
    fn least_too_large(&self, place: usize, given: u64) -> Option<u64> {
        let mut amount = self.legs[place].capacity(given).checked_add(1)?;
        for leg in self.legs[..place].iter().rev() {
            amount = leg.pool.quote(leg.order(amount, false)).ok()?.amount_in;
        }
        Some(amount)
    }

    /// What rounding may have cost a run: two units in and out of every leg and every tick crossed, at what they are worth at most.
    fn rounding(&self, run: &Run) -> f64 {
        let (mut worth, mut lost) = (1.0, 0.0);
        for (rate, movement) in self.rates.iter().zip(&run.movements).rev() {
            let steps = f64::from(movement.ticks_crossed) + 1.0;
            lost += 2.0 * steps * worth;
            worth *= rate;
            lost += 2.0 * steps * worth;
        }
        lost
    }
}
