use std::sync::OnceLock;

use super::size::Leg;
use crate::pools::Pool;
use crate::pools::testing::{CLOCK, POOL};
use crate::pools::venue::FAMILIES;

/// What a pool says that it takes is what trying finds.
#[test]
fn capacities_are_exact() {
    let (mut known, mut tried) = (0, 0);
    for family in FAMILIES {
        for accounts in (family.samples)() {
            let pool = Pool::parse(family, POOL, accounts, CLOCK).unwrap();
            for a_to_b in [true, false] {
                let capacity = OnceLock::new();
                let leg = Leg {
                    pool: &pool,
                    a_to_b,
                    capacity: &capacity,
                };
                let Some(said) = pool.venue.capacity(a_to_b, CLOCK) else {
                    tried += 1;
                    continue;
                };
                known += 1;
                assert!(leg.takes(said), "{} {a_to_b} {said}", family.name);
                assert!(!leg.takes(said + 1), "{} {a_to_b} {said}", family.name);
            }
        }
    }
    assert!(known > 0 && tried > 0);
}
