//! Cycles across pools: only those that touch a changed pool, and of them only those whose marginal rates pay.

pub mod python;
mod size;

use std::collections::HashMap;
use std::sync::Arc;

use self::size::{Leg, Run};
use crate::pools::Pool;
use crate::pools::account::Pubkey;

/// Below 1 by more than the error of a few float operations: a cycle under it cannot pay.
const SURELY_UNPROFITABLE: f64 = 1.0 - 1e-9;

/// What a cycle in one token may take and must bring.
#[derive(Clone, Copy, Debug)]
struct Limits {
    maximum: u64,
    cost: u64,
}

#[derive(Debug)]
struct Entry {
    pool: Arc<Pool>,
    tokens: (Pubkey, Pubkey),
    /// Marginal rates (b to a, a to b) as floats: they only rule cycles out.
    rates: [f64; 2],
}

/// One leg of a found cycle.
#[derive(Clone, Debug)]
pub struct CandidateLeg {
    pub pool_id: u32,
    pub pool: Pubkey,
    pub a_to_b: bool,
    pub amount_in: u64,
    pub amount_out: u64,
    pub price_impact_bps: f64,
}

/// A cycle that brings more than it takes and costs.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub token: Pubkey,
    pub amount_in: u64,
    pub amount_out: u64,
    pub cost: u64,
    pub legs: Vec<CandidateLeg>,
}

impl Candidate {
    fn net_profit(&self) -> i128 {
        i128::from(self.amount_out) - i128::from(self.amount_in) - i128::from(self.cost)
    }
}

/// Holds the pools and finds cycles among them.
#[derive(Debug, Default)]
pub struct Searcher {
    settlement: Vec<Pubkey>,
    limits: HashMap<Pubkey, Limits>,
    entries: HashMap<u32, Entry>,
    /// Pool ids by their tokens (the smaller address first), in order.
    pairs: HashMap<(Pubkey, Pubkey), Vec<u32>>,
    /// Directed cycles looked at by the last search.
    pub examined: u64,
}

fn pair_of(tokens: (Pubkey, Pubkey)) -> (Pubkey, Pubkey) {
    (tokens.0.min(tokens.1), tokens.0.max(tokens.1))
}

impl Searcher {
    /// Search for cycles that start in one of these tokens, the first of them where a cycle has several.
    pub fn new(settlement: Vec<Pubkey>) -> Self {
        Self {
            settlement,
            ..Self::default()
        }
    }

    /// Bound the cycles of a token.
    pub fn set_limits(&mut self, token: Pubkey, maximum: u64, cost: u64) {
        self.limits.insert(token, Limits { maximum, cost });
    }

    /// Take a pool's newest state.
    pub fn upsert(&mut self, id: u32, pool: Arc<Pool>) {
        let tokens = pool.mints();
        if self
            .entries
            .get(&id)
            .is_none_or(|entry| entry.tokens != tokens)
        {
            self.remove(id);
            let ids = self.pairs.entry(pair_of(tokens)).or_default();
            let position = ids.partition_point(|other| *other < id);
            ids.insert(position, id);
        }
        let rates = [false, true].map(|a_to_b| {
            let (taken, given) = pool.marginal_rate(a_to_b, None);
            size::to_float(taken) / size::to_float(given)
        });
        self.entries.insert(
            id,
            Entry {
                pool,
                tokens,
                rates,
            },
        );
    }

    /// Forget a pool.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(entry) = self.entries.remove(&id) else {
            return false;
        };
        let pair = pair_of(entry.tokens);
        if let Some(ids) = self.pairs.get_mut(&pair) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.pairs.remove(&pair);
            }
        }
        true
    }

    /// Number of pools held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when no pool is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Find the cycles that touch a changed pool (all, without a list), best first within each token.
    pub fn search(&mut self, changed: Option<&[u32]>) -> Vec<Candidate> {
        let mut found = Vec::new();
        let mut examined = 0;
        match changed {
            None => {
                for ids in self.pairs.values() {
                    for (position, first) in ids.iter().enumerate() {
                        for second in &ids[position + 1..] {
                            self.examine(*first, *second, &mut found, &mut examined);
                        }
                    }
                }
            }
            Some(changed) => {
                let mut changed = changed.to_vec();
                changed.sort_unstable();
                changed.dedup();
                for id in &changed {
                    let Some(entry) = self.entries.get(id) else {
                        continue;
                    };
                    for other in self.pairs.get(&pair_of(entry.tokens)).into_iter().flatten() {
                        // Two changed pools meet once.
                        let met = *other <= *id && changed.binary_search(other).is_ok();
                        if !met {
                            self.examine(*id, *other, &mut found, &mut examined);
                        }
                    }
                }
            }
        }
        self.examined = examined;
        let rank = |candidate: &Candidate| {
            let token = self
                .settlement
                .iter()
                .position(|token| *token == candidate.token);
            let ids: Vec<u32> = candidate.legs.iter().map(|leg| leg.pool_id).collect();
            (token, std::cmp::Reverse(candidate.net_profit()), ids)
        };
        found.sort_by_cached_key(rank);
        found
    }

    /// Look at both directions between two pools of the same tokens.
    fn examine(&self, first: u32, second: u32, found: &mut Vec<Candidate>, examined: &mut u64) {
        let (Some(one), Some(two)) = (self.entries.get(&first), self.entries.get(&second)) else {
            return;
        };
        let Some(token) = self
            .settlement
            .iter()
            .find(|token| **token == one.tokens.0 || **token == one.tokens.1)
        else {
            return;
        };
        for cycle in [[(first, one), (second, two)], [(second, two), (first, one)]] {
            *examined += 1;
            // The first leg gives the start token, the second takes it.
            let directions = [cycle[0].1.tokens.0 == *token, cycle[1].1.tokens.1 == *token];
            let rate: f64 = cycle
                .iter()
                .zip(directions)
                .map(|((_, entry), a_to_b)| entry.rates[usize::from(a_to_b)])
                .product();
            if rate < SURELY_UNPROFITABLE {
                continue;
            }
            let legs: Vec<Leg<'_>> = cycle
                .iter()
                .zip(directions)
                .map(|((_, entry), a_to_b)| Leg {
                    pool: &entry.pool,
                    a_to_b,
                })
                .collect();
            let limits = self.limits.get(token).copied().unwrap_or(Limits {
                maximum: u64::MAX,
                cost: 0,
            });
            if let Some(sized) = size::best(&legs, limits.maximum) {
                let ids = cycle.map(|(id, _)| id);
                let candidate = describe(*token, limits.cost, &ids, &legs, &sized);
                if candidate.net_profit() > 0 {
                    found.push(candidate);
                }
            }
        }
    }
}

fn describe(token: Pubkey, cost: u64, ids: &[u32], legs: &[Leg<'_>], sized: &Run) -> Candidate {
    let legs = ids
        .iter()
        .zip(legs)
        .zip(&sized.movements)
        .map(|((id, leg), movement)| CandidateLeg {
            pool_id: *id,
            pool: leg.pool.address,
            a_to_b: leg.a_to_b,
            amount_in: movement.amount_in,
            amount_out: movement.amount_out,
            price_impact_bps: movement.price_impact_bps(),
        });
    Candidate {
        token,
        amount_in: sized.amount_in,
        amount_out: sized.amount_out,
        cost,
        legs: legs.collect(),
    }
}
