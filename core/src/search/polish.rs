//! The integers around the best size: the rounding of amounts makes a saw of the profit.

use super::size::{Leg, Run, run};

/// Under so many units of a token between the legs, rounding moves the profit visibly.
const COARSE: u64 = 1_000;

/// Try the integers that matter around a size, and keep the best, the smallest of equals.
///
/// Amounts between two that buy the same of the next token only cost more. So what is varied is the amount of the token between the
/// legs that comes in the fewest units, and the least amount that buys it is tried.
pub fn polish(legs: &[Leg<'_>], found: Run, maximum: u64) -> Run {
    let between = &found.movements[..legs.len() - 1];
    let Some((pivot, units)) = between
        .iter()
        .map(|movement| movement.amount_out)
        .enumerate()
        .min_by_key(|(_, units)| *units)
    else {
        return found;
    };
    let mut polisher = Polisher {
        legs,
        maximum,
        pivot,
        best: found,
        bought: Vec::new(),
    };
    if units < COARSE {
        polisher.look_further();
        polisher.trim();
    } else if units < polisher.best.amount_in {
        // A unit is worth more than one of the start token: what buys no further one is given back, and the last one may cost more
        // than it brings, where a pool comes to its end.
        polisher.buy(units);
        polisher.buy(units - 1);
    }
    polisher.best
}

struct Polisher<'a> {
    legs: &'a [Leg<'a>],
    maximum: u64,
    /// The leg that buys the token that is varied.
    pivot: usize,
    best: Run,
    /// Units that were tried.
    bought: Vec<u64>,
}

impl Polisher<'_> {
    fn units(&self) -> u64 {
        self.best.movements[self.pivot].amount_out
    }

    /// Try an amount; returns what it buys of the token that is varied.
    fn consider(&mut self, amount: u64) -> Option<u64> {
        if amount == 0 || amount > self.maximum {
            return None;
        }
        let run = run(self.legs, amount).ok()?;
        let units = run.movements[self.pivot].amount_out;
        if run.better_than(Some(&self.best)) {
            self.best = run;
        }
        Some(units)
    }

    /// Try the least amount that buys so many units.
    fn buy(&mut self, wanted: u64) {
        if self.bought.contains(&wanted) {
            return;
        }
        self.bought.push(wanted);
        let mut amount = wanted;
        for leg in self.legs[..=self.pivot].iter().rev() {
            match leg.pool.quote(leg.order(amount, false)) {
                Ok(movement) => amount = movement.amount_in,
                Err(_) => return,
            }
        }
        if self.consider(amount).is_some_and(|bought| bought < wanted) {
            self.consider(amount.saturating_add(1));
        }
    }

    /// Of few units one is worth much: look at more of them.
    fn look_further(&mut self) {
        for _ in 0..8 {
            let units = self.units();
            self.buy(units);
            let steps = (0..).map(|power| 1_u64 << power);
            for step in steps.take_while(|step| *step <= units / 16 + 1) {
                self.buy(units.saturating_sub(step));
                self.buy(units.saturating_add(step));
            }
            if self.units() == units {
                break;
            }
        }
    }

    /// Take away what brings nothing.
    fn trim(&mut self) {
        let mut step = 1_u64;
        while step > 0 {
            let less = self.best.amount_in.checked_sub(step);
            match less
                .filter(|less| *less > 0)
                .map(|less| run(self.legs, less))
            {
                Some(Ok(run)) if run.amount_out >= self.best.amount_out => {
                    self.best = run;
                    step = step.saturating_mul(2);
                }
                _ => step /= 2,
            }
        }
    }
}
