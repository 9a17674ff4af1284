//! Which pools lead from a token to another, the best rate first.

use std::collections::HashMap;

use crate::pools::account::Pubkey;

/// A token, by a small number.
pub type Token = u32;

/// One direction of a pool, in floats: they rule cycles out and guide the search, and decide no amount.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub pool: u32,
    /// What the next unit brings after fees.
    pub rate: f64,
    /// What must be put in to take the rate to a quarter: a pool of constant product gives `rate * x / (1 + x / depth)`.
    pub depth: f64,
}

/// The pools between two tokens, by direction: from the smaller number to the larger one, and back.
#[derive(Debug, Default)]
pub struct Pair {
    offers: [Vec<Offer>; 2],
}

impl Pair {
    /// What leads from one of the two tokens to the other, the best first.
    pub fn offers(&self, from: Token, to: Token) -> &[Offer] {
        &self.offers[usize::from(from > to)]
    }
}

#[derive(Debug, Default)]
pub struct Graph {
    numbers: HashMap<Pubkey, Token>,
    pairs: HashMap<(Token, Token), Pair>,
    neighbours: Vec<Vec<Token>>,
}

fn key(one: Token, other: Token) -> (Token, Token) {
    (one.min(other), one.max(other))
}

impl Graph {
    /// The number of a token, given now if it is new.
    pub fn number(&mut self, name: Pubkey) -> Token {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = Token::try_from(self.neighbours.len()).expect("fewer than 2^32 tokens");
        self.neighbours.push(Vec::new());
        self.numbers.insert(name, number);
        number
    }

    /// Add a direction of a pool, in its place.
    pub fn add(&mut self, from: Token, to: Token, offer: Offer) {
        let pair = self.pairs.entry(key(from, to)).or_insert_with(|| {
            self.neighbours[from as usize].push(to);
            self.neighbours[to as usize].push(from);
            Pair::default()
        });
        let offers = &mut pair.offers[usize::from(from > to)];
        let before = |other: &Offer| {
            other.rate > offer.rate || (other.rate == offer.rate && other.pool < offer.pool)
        };
        offers.insert(offers.partition_point(before), offer);
    }

    /// Take a pool out, both directions.
    pub fn remove(&mut self, tokens: (Token, Token), pool: u32) {
        let Some(pair) = self.pairs.get_mut(&key(tokens.0, tokens.1)) else {
            return;
        };
        for offers in &mut pair.offers {
            offers.retain(|offer| offer.pool != pool);
        }
        if pair.offers.iter().all(Vec::is_empty) {
            self.pairs.remove(&key(tokens.0, tokens.1));
            for (token, other) in [tokens, (tokens.1, tokens.0)] {
                self.neighbours[token as usize].retain(|neighbour| *neighbour != other);
            }
        }
    }

    pub fn pair(&self, one: Token, other: Token) -> Option<&Pair> {
        self.pairs.get(&key(one, other))
    }

    /// The tokens that have pools with both of these, each with its pairs to the one and to the other.
    pub fn thirds(&self, one: Token, other: Token) -> impl Iterator<Item = (Token, &Pair, &Pair)> {
        let (mine, theirs) = (
            &self.neighbours[one as usize],
            &self.neighbours[other as usize],
        );
        let fewer = if mine.len() <= theirs.len() {
            mine
        } else {
            theirs
        };
        fewer.iter().filter_map(move |&third| {
            if third == one || third == other {
                return None;
            }
            Some((third, self.pair(one, third)?, self.pair(other, third)?))
        })
    }
}
