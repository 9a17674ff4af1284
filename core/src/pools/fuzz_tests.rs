//! Mutated bytes of every account, with overflow checks on: an error or a pool, never a panic.

use super::account::Account;
use super::testing::{CLOCK, POOL};
use super::venue::{FAMILIES, Family};
use super::{Order, Pool, snapshot};

/// A small generator: the same mutations in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

fn mutate(data: &mut Vec<u8>, dice: &mut Dice) {
    if data.is_empty() {
        return;
    }
    let at = dice.next(data.len());
    match dice.next(12) {
        0 => data.truncate(at),
        1 => data.extend([dice.next(256) as u8; 9]),
        2..=5 => {
            let width = [1, 2, 4, 8, 16][dice.next(5)].min(data.len() - at);
            data[at..at + width].fill([0, 0xff, 0x7f, 0x80][dice.next(4)]);
        }
        _ => data[at] ^= 1 << dice.next(8),
    }
}

/// Ask everything of a pool.
fn exercise(pool: &Pool, dice: &mut Dice) {
    for a_to_b in [true, false] {
        for amount in [1, dice.0, dice.0 >> 30, u64::MAX] {
            for exact_in in [true, false] {
                let order = Order {
                    a_to_b,
                    amount,
                    exact_in,
                    sqrt_price_limit: 0,
                };
                let quoted = pool.quote(order).map(|moved| moved.amount_out);
                if let Ok((next, moved)) = pool.swap(order) {
                    assert_eq!(quoted, Ok(moved.amount_out));
                    next.marginal_rate(a_to_b, Some(&moved));
                    let blob = snapshot::write(&next).expect("small");
                    assert_eq!(&*snapshot::read(&blob).expect("own").venue, &*next.venue);
                }
            }
        }
    }
}

fn fuzz(family: &Family, accounts: &[Account]) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let whole = Pool::parse(family, POOL, accounts.to_vec(), CLOCK).expect("a pool");
    let mut read = 0;
    exercise(&whole, &mut dice);
    let blob = snapshot::write(&whole).expect("small");
    for _ in 0..2_000 {
        let mut mutated = accounts.to_vec();
        for _ in 0..=dice.next(2) {
            let which = dice.next(mutated.len());
            let mut data = mutated[which].data.to_vec();
            mutate(&mut data, &mut dice);
            mutated[which].data = data.into();
        }
        let mut bytes = blob.clone();
        mutate(&mut bytes, &mut dice);
        for pool in [
            Pool::parse(family, POOL, mutated, CLOCK),
            snapshot::read(&bytes),
        ]
        .into_iter()
        .flatten()
        {
            read += 1;
            exercise(&pool, &mut dice);
        }
    }
    assert!(read > 400, "only {read} mutations were still pools");
}

#[test]
fn no_mutation_makes_a_venue_panic() {
    std::thread::scope(|scope| {
        for family in FAMILIES {
            for accounts in (family.samples)() {
                // A panic names the thread.
                std::thread::Builder::new()
                    .name(family.name.into())
                    .spawn_scoped(scope, move || fuzz(family, &accounts))
                    .expect("a thread");
            }
        }
    });
}
