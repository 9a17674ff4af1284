//! The best size of one cycle: bisection on the sign of the marginal profit, then the integers around it.

use ruint::Uint;
use ruint::aliases::U256;

use crate::pools::error::QuoteError;
use crate::pools::{Movement, Order, Pool};

/// Wide enough for the product of three marginal rates.
type Product = Uint<768, 12>;

/// A float this far from 1 tells on which side of 1 the exact value lies.
const TELLING: f64 = 1e-9;

/// Under so many units of the token between the legs, rounding moves the profit visibly.
const COARSE: u64 = 10_000;

/// One leg of a cycle.
#[derive(Clone, Copy)]
pub struct Leg<'a> {
    pub pool: &'a Pool,
    pub a_to_b: bool,
}

/// A cycle at one size.
#[derive(Clone, Debug)]
pub struct Run {
    pub amount_in: u64,
    pub amount_out: u64,
    pub movements: Vec<Movement>,
}

impl Run {
    fn profit(&self) -> i128 {
        i128::from(self.amount_out) - i128::from(self.amount_in)
    }

    /// What the first leg gives.
    fn bought(&self) -> u64 {
        self.movements
            .first()
            .map_or(0, |movement| movement.amount_out)
    }
}

/// Where an amount stands against the best one.
enum Side {
    TooSmall,
    TooLarge,
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

/// The nearest float, give or take a few units in its last place.
pub fn to_float(value: U256) -> f64 {
    let scale = 18_446_744_073_709_551_616.0;
    value
        .as_limbs()
        .iter()
        .rev()
        .fold(0.0, |sum, limb| sum * scale + *limb as f64)
}

/// Run the cycle at this size. A leg that does not take all it is given makes the size too large.
fn run(legs: &[Leg<'_>], amount_in: u64) -> Result<Run, Side> {
    let mut amount = amount_in;
    let mut movements = Vec::with_capacity(legs.len());
    for leg in legs {
        let movement = leg
            .pool
            .quote(Order {
                a_to_b: leg.a_to_b,
                amount,
                exact_in: true,
                sqrt_price_limit: 0,
            })
            .map_err(|error| side_of(&error))?;
        if movement.amount_in != amount {
            return Err(Side::TooLarge);
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

fn side_of(error: &QuoteError) -> Side {
    if error.too_small {
        Side::TooSmall
    } else {
        Side::TooLarge
    }
}

/// The most profitable size up to `maximum`, before costs; `None` when no size brings more than it takes.
pub fn best(legs: &[Leg<'_>], maximum: u64) -> Option<Run> {
    let (brings, pays) = next_unit(legs, None);
    if maximum == 0 || !pays {
        return None;
    }
    let mut bracket = Bracket {
        legs,
        low: 0,
        high: maximum.saturating_add(1),
        points: [(0, brings.sqrt().recip()), (0, f64::NAN)],
    };
    bracket.close();
    polish(legs, bracket.low, maximum).filter(|sized| sized.profit() > 0)
}

/// The next unit pays at `low` and does not at `high`.
struct Bracket<'a> {
    legs: &'a [Leg<'a>],
    low: u64,
    high: u64,
    /// The last two sizes that could be run, with one over the root of what the next unit brought there.
    points: [(u64, f64); 2],
}

impl Bracket<'_> {
    /// Narrow the bracket to this size; true when the next unit pays there.
    fn probe(&mut self, amount: u64) -> bool {
        let pays = match run(self.legs, amount) {
            Ok(sized) => {
                let (brings, pays) = next_unit(self.legs, Some(&sized.movements));
                self.points = [(amount, brings.sqrt().recip()), self.points[0]];
                pays
            }
            Err(side) => matches!(side, Side::TooSmall),
        };
        if pays {
            self.low = amount;
        } else {
            self.high = amount;
        }
        pays
    }

    /// Find the two neighbouring sizes between which the next unit stops paying.
    fn close(&mut self) {
        if let Some(near_is_low) = self.approach() {
            // The guess is near: step away from it until the sign changes.
            let mut step = 1u64;
            loop {
                let outward = if near_is_low {
                    self.low
                        .checked_add(step)
                        .filter(|amount| *amount < self.high)
                } else {
                    self.high
                        .checked_sub(step)
                        .filter(|amount| *amount > self.low)
                };
                match outward {
                    Some(amount) if self.probe(amount) == near_is_low => {
                        step = step.saturating_mul(4)
                    }
                    _ => break,
                }
            }
        }
        while self.high - self.low > 1 {
            self.probe(self.low + (self.high - self.low) / 2);
        }
    }

    /// Come near the best size in few probes; whether the last one paid, if it is near.
    ///
    /// Along constant products, one over the root of the marginal rate is linear in the size, and a chain of such
    /// swaps is one again: the line through two probes meets 1 at the best size, or in its neighbourhood where ticks
    /// are crossed. The guess only says where to look; the sign found there counts.
    fn approach(&mut self) -> Option<bool> {
        let mut guessed: Option<u64> = None;
        for _ in 0..8 {
            if self.high - self.low <= 1 {
                return None;
            }
            let [(last, one), (before, other)] = self.points;
            let slope = (one - other) / (last as f64 - before as f64);
            let guess = last as f64 + (1.0 - one) / slope;
            let inside = guess > self.low as f64 && guess < self.high as f64;
            let amount = if inside {
                guess as u64
            } else if self.low == 0 {
                // Nothing is known of the scale yet: small enough not to run out of liquidity.
                self.high.min(1 << 20) / 2
            } else {
                self.low
                    .saturating_mul(16)
                    .min(self.low + (self.high - self.low) / 2)
            }
            .clamp(self.low + 1, self.high - 1);
            let pays = self.probe(amount);
            if inside && guessed.is_some_and(|guessed| guessed.abs_diff(amount) <= guessed >> 16) {
                return Some(pays);
            }
            guessed = inside.then_some(amount);
        }
        None
    }
}

/// Try the integers that matter around a size, and keep the best, the smallest of equals.
///
/// Amounts between two that buy the same of the next token only cost more, so what is varied is the amount bought by
/// the first leg, and the least amount that buys it is tried.
fn polish(legs: &[Leg<'_>], around: u64, maximum: u64) -> Option<Run> {
    let first = legs.first()?;
    let mut best: Option<Run> = None;
    // What the first leg gives for this amount; the better of it and the best so far is kept.
    let consider = |best: &mut Option<Run>, amount: u64| -> Option<u64> {
        if amount == 0 || amount > maximum {
            return None;
        }
        let sized = run(legs, amount).ok()?;
        let bought = sized.bought();
        let key = |sized: &Run| (sized.profit(), std::cmp::Reverse(sized.amount_in));
        if best.as_ref().is_none_or(|best| key(&sized) > key(best)) {
            *best = Some(sized);
        }
        Some(bought)
    };
    let buying = |best: &mut Option<Run>, wanted: u64| {
        let order = Order {
            a_to_b: first.a_to_b,
            amount: wanted,
            exact_in: false,
            sqrt_price_limit: 0,
        };
        if let Ok(movement) = first.pool.quote(order)
            && consider(best, movement.amount_in).is_some_and(|bought| bought < wanted)
        {
            consider(best, movement.amount_in.saturating_add(1));
        }
    };
    consider(&mut best, around);
    consider(&mut best, around.saturating_add(1));
    let mut bought = best.as_ref()?.bought();
    for wanted in bought.saturating_sub(1)..=bought.saturating_add(1) {
        buying(&mut best, wanted);
    }
    // Of few units one is worth much, and the rounding of fees makes a saw of the profit: look further around.
    if bought < COARSE {
        for _ in 0..8 {
            bought = best.as_ref()?.bought();
            for step in (0..)
                .map(|power| 1u64 << power)
                .take_while(|step| *step <= bought / 16 + 1)
            {
                buying(&mut best, bought.saturating_sub(step));
                buying(&mut best, bought.saturating_add(step));
            }
            if best.as_ref()?.bought() == bought {
                break;
            }
        }
    }
    best.map(|best| trim(legs, best))
}

/// The least amount that brings as much.
fn trim(legs: &[Leg<'_>], mut best: Run) -> Run {
    let mut step = 1u64;
    while step > 0 {
        let less = best
            .amount_in
            .checked_sub(step)
            .filter(|amount| *amount > 0);
        match less.map(|amount| run(legs, amount)) {
            Some(Ok(sized)) if sized.amount_out >= best.amount_out => {
                best = sized;
                step = step.saturating_mul(2);
            }
            _ => step /= 2,
        }
    }
    best
}
