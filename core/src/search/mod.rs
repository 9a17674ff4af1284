//! Cycles of two and three pools: only those that touch a changed pool, and of them only those whose marginal rates pay.

mod cycle;
mod graph;
mod polish;
pub mod python;
mod size;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

pub use self::cycle::MOST_LEGS;
use self::cycle::{Cycle, Step};
use self::graph::{Graph, Offer, Token};
use self::size::{Leg, Run};
use crate::pools::Pool;
use crate::pools::account::Pubkey;

/// Below 1 by more than the error of a few float operations: a cycle under it cannot pay.
const SURELY_UNPROFITABLE: f64 = 1.0 - 1e-9;

/// Cycles sized in one search unless told otherwise.
pub const MOST_SIZED: usize = 1_000;

/// What a cycle in one token may take and must bring.
#[derive(Clone, Copy, Debug)]
struct Limits {
    maximum: u64,
    cost: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            maximum: u64::MAX,
            cost: 0,
        }
    }
}

#[derive(Debug)]
struct Entry {
    pool: Arc<Pool>,
    /// Tokens a and b, as the graph numbers them.
    tokens: (Token, Token),
    /// From a to b, and from b to a.
    offers: [Offer; 2],
    /// The most that it takes whole, likewise.
    capacities: [OnceLock<u64>; 2],
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
    /// What is left after costs.
    pub fn net_profit(&self) -> i128 {
        i128::from(self.amount_out) - i128::from(self.amount_in) - i128::from(self.cost)
    }
}

/// What the last search did, in directed cycles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Cycles of the settlement tokens through a changed pool.
    pub examined: u64,
    /// Of them, those whose marginal rates pay and whose size was looked for.
    pub sized: u64,
    /// Those that pay by their rates and were left out, because more than the limit did.
    pub left_out: u64,
}

/// Holds the pools and finds cycles among them.
#[derive(Debug)]
pub struct Searcher {
    settlement: Vec<Pubkey>,
    limits: Vec<Limits>,
    /// Place in the settlement list of each token of the graph.
    places: Vec<Option<usize>>,
    entries: HashMap<u32, Entry>,
    graph: Graph,
    most_legs: usize,
    most_sized: usize,
    pub counts: Counts,
}

impl Searcher {
    /// Search for cycles that start in one of these tokens, the first of them where a cycle has several.
    pub fn new(settlement: Vec<Pubkey>, most_legs: usize, most_sized: usize) -> Self {
        Self {
            limits: vec![Limits::default(); settlement.len()],
            settlement,
            places: Vec::new(),
            entries: HashMap::new(),
            graph: Graph::default(),
            most_legs,
            most_sized,
            counts: Counts::default(),
        }
    }

    fn place(&self, token: &Pubkey) -> Option<usize> {
        self.settlement.iter().position(|other| other == token)
    }

    /// Bound the cycles of a token. Of a token that no cycle starts in nothing is kept.
    pub fn set_limits(&mut self, token: Pubkey, maximum: u64, cost: u64) {
        if let Some(place) = self.place(&token) {
            self.limits[place] = Limits { maximum, cost };
        }
    }

    fn number(&mut self, token: Pubkey) -> Token {
        let number = self.graph.number(token);
        if number as usize == self.places.len() {
            self.places.push(self.place(&token));
        }
        number
    }

    /// Take a pool's newest state.
    pub fn upsert(&mut self, id: u32, pool: Arc<Pool>) {
        self.remove(id);
        let mints = pool.mints();
        let tokens = (self.number(mints.0), self.number(mints.1));
        let offers = [true, false].map(|a_to_b| cycle::offer(id, &pool, a_to_b));
        if tokens.0 != tokens.1 {
            self.graph.add(tokens.0, tokens.1, offers[0]);
            self.graph.add(tokens.1, tokens.0, offers[1]);
        }
        self.entries.insert(
            id,
            Entry {
                pool,
                tokens,
                offers,
                capacities: Default::default(),
            },
        );
    }

    /// Forget a pool.
    pub fn remove(&mut self, id: u32) -> bool {
        let Some(entry) = self.entries.remove(&id) else {
            return false;
        };
        self.graph.remove(entry.tokens, id);
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
        let mut changed =
            changed.map_or_else(|| self.entries.keys().copied().collect(), <[u32]>::to_vec);
        changed.sort_unstable();
        changed.dedup();
        let mut collector = Collector {
            searcher: self,
            changed: &changed,
            cycles: Vec::new(),
            counts: Counts::default(),
        };
        for (position, id) in changed.iter().enumerate() {
            collector.through(*id, position);
        }
        collector.shorten(self.most_sized);
        let (cycles, mut counts) = (collector.cycles, collector.counts);
        counts.sized = cycles.len() as u64;
        let mut found: Vec<(usize, Candidate)> = cycles
            .iter()
            .filter_map(|cycle| Some((cycle.start, self.size(cycle)?)))
            .collect();
        self.counts = counts;
        found.sort_by_cached_key(|(start, candidate)| {
            let ids: Vec<u32> = candidate.legs.iter().map(|leg| leg.pool_id).collect();
            (*start, std::cmp::Reverse(candidate.net_profit()), ids)
        });
        found.into_iter().map(|(_, candidate)| candidate).collect()
    }

    /// Find the best size of a cycle, if there is one that pays.
    fn size(&self, cycle: &Cycle) -> Option<Candidate> {
        let limits = self.limits[cycle.start];
        let legs: Vec<Leg<'_>> = cycle
            .legs()
            .iter()
            .map(|step| {
                let entry = self.entries.get(&step.pool)?;
                let a_to_b = step.from == entry.tokens.0;
                Some(Leg {
                    pool: &entry.pool,
                    a_to_b,
                    capacity: &entry.capacities[usize::from(!a_to_b)],
                })
            })
            .collect::<Option<_>>()?;
        let sized = size::best(&legs, cycle.estimate, limits.maximum, limits.cost)?;
        Some(describe(
            self.settlement[cycle.start],
            limits.cost,
            cycle.legs(),
            &legs,
            &sized,
        ))
    }
}

/// Gathers the cycles of one search.
struct Collector<'a> {
    searcher: &'a Searcher,
    /// In order, each once.
    changed: &'a [u32],
    cycles: Vec<Cycle>,
    counts: Counts,
}

impl<'a> Collector<'a> {
    /// Gather the cycles through a changed pool but not through one that changed and stands before it: those are gathered.
    fn through(&mut self, id: u32, position: usize) {
        let searcher = self.searcher;
        let Some(entry) = searcher.entries.get(&id) else {
            return;
        };
        let done = &self.changed[..position];
        let fresh =
            move |offer: &&Offer| offer.pool != id && done.binary_search(&offer.pool).is_err();
        let (a, b) = entry.tokens;
        let sides = [(a, b, entry.offers[0]), (b, a, entry.offers[1])];
        if let Some(pair) = searcher.graph.pair(a, b)
            && let Some((start, turn)) = self.start(&[a, b])
        {
            for (side, (from, to, offer)) in sides.into_iter().enumerate() {
                let back = pair.offers(to, from).iter().filter(fresh);
                self.counts.examined += back.clone().count() as u64;
                for other in back.take_while(|other| pays(offer.rate * other.rate)) {
                    let legs = ([from, to], [offer, *other]);
                    self.keep(Cycle::new(start, &legs.0, &legs.1, turn ^ side));
                }
            }
        }
        if searcher.most_legs < 3 {
            return;
        }
        for (third, with_a, with_b) in searcher.graph.thirds(a, b) {
            let Some((start, _)) = self.start(&[a, b, third]) else {
                continue;
            };
            for ((from, to, offer), (away, home)) in
                sides.into_iter().zip([(with_b, with_a), (with_a, with_b)])
            {
                let away = away.offers(to, third).iter().filter(fresh);
                let home = home.offers(third, from).iter().filter(fresh);
                self.counts.examined += away.clone().count() as u64 * home.clone().count() as u64;
                let tokens = [from, to, third];
                let first = tokens
                    .iter()
                    .position(|token| searcher.places[*token as usize] == Some(start))
                    .unwrap_or(0);
                let Some(best_home) = home.clone().next() else {
                    continue;
                };
                for second in
                    away.take_while(|second| pays(offer.rate * second.rate * best_home.rate))
                {
                    let rate = offer.rate * second.rate;
                    for last in home.clone().take_while(|last| pays(rate * last.rate)) {
                        self.keep(Cycle::new(start, &tokens, &[offer, *second, *last], first));
                    }
                }
            }
        }
    }

    /// Where a cycle of these tokens starts: the place in the settlement list, and which of them it is.
    fn start(&self, tokens: &[Token]) -> Option<(usize, usize)> {
        tokens
            .iter()
            .enumerate()
            .filter_map(|(at, token)| Some((self.searcher.places[*token as usize]?, at)))
            .min()
    }

    fn keep(&mut self, cycle: Cycle) {
        self.cycles.push(cycle);
        // Twice the limit: shortening to it then costs a few operations for each cycle, however many there are.
        if self.cycles.len() > 2 * self.searcher.most_sized {
            self.shorten(self.searcher.most_sized);
        }
    }

    /// Leave out all but the most promising cycles.
    fn shorten(&mut self, limit: usize) {
        if self.cycles.len() <= limit {
            return;
        }
        self.counts.left_out += (self.cycles.len() - limit) as u64;
        let promise = |cycle: &Cycle| {
            let maximum = self.searcher.limits[cycle.start].maximum.max(1) as f64;
            cycle.estimate.profit(maximum) / maximum
        };
        self.cycles.sort_by(|one, other| {
            promise(other)
                .total_cmp(&promise(one))
                .then_with(|| one.legs().cmp(other.legs()))
        });
        self.cycles.truncate(limit);
    }
}

/// False where rates as floats show that nothing can be won.
fn pays(rate: f64) -> bool {
    rate >= SURELY_UNPROFITABLE
}

fn describe(token: Pubkey, cost: u64, steps: &[Step], legs: &[Leg<'_>], sized: &Run) -> Candidate {
    let legs = steps
        .iter()
        .zip(legs)
        .zip(&sized.movements)
        .map(|((step, leg), movement)| CandidateLeg {
            pool_id: step.pool,
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
