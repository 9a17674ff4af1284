//! The best size of one cycle: bisection on the sign of the marginal profit, then the integers around it.

use ruint::Uint;

use crate::pools::error::QuoteError;
use crate::pools::{Movement, Order, Pool};

/// Wide enough for the product of three marginal rates.
type Product = Uint<768, 12>;

/// One leg of a cycle.
#[derive(Clone, Copy)]
pub struct Leg<'a> {
    pub pool: &'a Pool,
    pub a_to_b: bool,
}

/// A cycle at one size.
#[derive(Clone, Debug)]
pub struct Sized {
    pub amount_in: u64,
    pub amount_out: u64,
    pub movements: Vec<Movement>,
}

impl Sized {
    fn profit(&self) -> i128 {
        i128::from(self.amount_out) - i128::from(self.amount_in)
    }
}

/// Where an amount stands against the best one.
enum Side {
    TooSmall,
    TooLarge,
}

/// True when the next unit put into the cycle brings more than one back: the product of its marginal rates passes 1.
///
/// `after` holds what the legs moved so far, or nothing for an untouched cycle.
pub fn next_unit_pays(legs: &[Leg<'_>], after: Option<&[Movement]>) -> bool {
    let (mut taken, mut given) = (Product::ONE, Product::ONE);
    for (position, leg) in legs.iter().enumerate() {
        let moved = after.and_then(|after| after.get(position));
        let (numerator, denominator) = leg.pool.marginal_rate(leg.a_to_b, moved);
        taken = taken.wrapping_mul(Product::from(numerator));
        given = given.wrapping_mul(Product::from(denominator));
    }
    taken > given
}

/// Run the cycle at this size. A leg that does not take all it is given makes the size too large.
fn run(legs: &[Leg<'_>], amount_in: u64) -> Result<Sized, Side> {
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
    Ok(Sized {
        amount_in,
        amount_out: amount,
        movements,
    })
}

fn side_of(error: &QuoteError) -> Side {
    match error.reason {
        "zero_tradable_amount" | "invalid_input" | "zero_trading_tokens" => Side::TooSmall,
        _ => Side::TooLarge,
    }
}

/// The most profitable size up to `maximum`, before costs; `None` when no size brings more than it takes.
pub fn best(legs: &[Leg<'_>], maximum: u64) -> Option<Sized> {
    if maximum == 0 || !next_unit_pays(legs, None) {
        return None;
    }
    let pays = |amount| match run(legs, amount) {
        Ok(sized) => next_unit_pays(legs, Some(&sized.movements)),
        Err(Side::TooSmall) => true,
        Err(Side::TooLarge) => false,
    };
    // `low` pays, `high` does not. Within a millionth of the best size the profit is flat: the polish does the rest.
    let (mut low, mut high) = (0, maximum);
    if pays(maximum) {
        low = maximum;
    } else {
        while high - low > 1.max(low >> 20) {
            let middle = low + (high - low) / 2;
            if pays(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
    }
    polish(legs, low, high, maximum).filter(|sized| sized.profit() > 0)
}

/// Try the integers that matter around the bracket, and keep the best, the smallest of equals.
///
/// Amounts between two that buy the same of the next token only cost more, so for a few amounts bought by the first
/// leg the least amount that buys them is tried.
fn polish(legs: &[Leg<'_>], low: u64, high: u64, maximum: u64) -> Option<Sized> {
    let mut best: Option<Sized> = None;
    let mut consider = |amount: u64| -> Option<u64> {
        if amount == 0 || amount > maximum {
            return None;
        }
        let sized = run(legs, amount).ok()?;
        let bought = sized.movements.first().map(|movement| movement.amount_out);
        let key = |sized: &Sized| (sized.profit(), std::cmp::Reverse(sized.amount_in));
        if best.as_ref().is_none_or(|best| key(&sized) > key(best)) {
            best = Some(sized);
        }
        bought
    };
    let mut bought = None;
    for amount in [low, low + (high - low) / 2, high] {
        bought = consider(amount).or(bought);
    }
    let first = legs.first()?;
    if let Some(bought) = bought {
        for wanted in bought.saturating_sub(3)..=bought.saturating_add(3) {
            let order = Order {
                a_to_b: first.a_to_b,
                amount: wanted,
                exact_in: false,
                sqrt_price_limit: 0,
            };
            if let Ok(movement) = first.pool.quote(order) {
                consider(movement.amount_in);
                consider(movement.amount_in.saturating_add(1));
            }
        }
    }
    let around = best.as_ref()?.amount_in;
    let mut refined = best.clone();
    for amount in around.saturating_sub(2)..=around.saturating_add(2).min(maximum) {
        if let Ok(sized) = run(legs, amount.max(1)) {
            let better = refined.as_ref().is_none_or(|best| {
                (sized.profit(), std::cmp::Reverse(sized.amount_in))
                    > (best.profit(), std::cmp::Reverse(best.amount_in))
            });
            if better {
                refined = Some(sized);
            }
        }
    }
    refined
}
