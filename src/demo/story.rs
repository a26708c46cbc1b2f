//! One document: a cast that every sentence shares, an opening, a companion, and some sentences.

use super::grammar::{Grammar, Slot, choose};
use super::orthography::write;
use crate::rng::{Purpose, Stream, ln};

/// Names by gender, she first, most frequent first.
pub const NAMES: [[&str; 6]; 2] = [
    ["Anna", "Emma", "Lucy", "Mary", "Rose", "Sarah"],
    ["Tom", "Ben", "Jack", "Paul", "Peter", "Sam"],
];

/// What a hero may be, by gender.
const KINDS: [[&str; 2]; 2] = [["girl", "woman"], ["boy", "man"]];

/// Animals that a hero may have, most frequent first.
const PETS: [&str; 6] = ["dog", "cat", "horse", "rabbit", "goat", "owl"];

/// Subject, object and possessive by gender.
const PRONOUNS: [[&str; 3]; 2] = [["she", "her", "her"], ["he", "him", "his"]];

/// Share of stories told in the present and in the past.
const TENSE_WEIGHTS: [f64; 2] = [0.6, 0.4];

/// Fewest and most sentences of a story; all counts between are equally likely.
pub const SENTENCES: [usize; 2] = [3, 8];

/// Weights falling as 1/(rank + 3), like those of the lexicon, scaled to sum to 1.
fn ranked<const N: usize>() -> [f64; N] {
    let weights: [f64; N] = std::array::from_fn(|rank| 1.0 / (rank as f64 + 3.0));
    let total: f64 = weights.iter().sum();
    weights.map(|w| w / total)
}

/// Who and when: what the sentences of a story share. Hero and friend differ in gender, so that a
/// pronoun always says who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Gender of the hero: 0 she, 1 he.
    gender: usize,
    hero: usize,
    friend: usize,
    kind: usize,
    pet: usize,
    past: bool,
}

impl Cast {
    /// Draws a cast and returns it with its `-ln p`.
    fn draw(stream: &Stream, next: &mut u64) -> (Self, f64) {
        let mut nats = 0.0;
        let mut draw = |probabilities: &[f64]| {
            let i = choose(probabilities.iter().copied(), stream, next);
            nats -= ln(probabilities[i]);
            i
        };
        let cast = Cast {
            gender: draw(&[0.5, 0.5]),
            hero: draw(&ranked::<6>()),
            friend: draw(&ranked::<6>()),
            kind: draw(&[0.7, 0.3]),
            pet: draw(&ranked::<6>()),
            past: draw(&TENSE_WEIGHTS) == 1,
        };
        (cast, nats)
    }

    /// Every cast there is.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..2 * 6 * 6 * 2 * 6 * 2).map(|i| Cast {
            gender: i % 2,
            hero: i / 2 % 6,
            friend: i / 12 % 6,
            kind: i / 72 % 2,
            pet: i / 144 % 6,
            past: i / 864 == 1,
        })
    }

    /// The word that fills `slot`.
    pub fn word(&self, slot: Slot) -> &'static str {
        let (hero, friend) = (self.gender, 1 - self.gender);
        match slot {
            Slot::Hero => NAMES[hero][self.hero],
            Slot::Friend => NAMES[friend][self.friend],
            Slot::He => PRONOUNS[hero][0],
            Slot::Him => PRONOUNS[hero][1],
            Slot::His => PRONOUNS[hero][2],
            Slot::FriendHe => PRONOUNS[friend][0],
            Slot::FriendHim => PRONOUNS[friend][1],
            Slot::Kind => KINDS[hero][self.kind],
            Slot::Pet => PETS[self.pet],
        }
    }

    /// Symbol of the sentence at `position` in the story.
    pub fn symbol(&self, position: usize) -> String {
        let stage = ["Opening", "Companion", "Body"][position.min(2)];
        format!("{stage}{}", if self.past { 't' } else { 'n' })
    }
}

/// All words that may fill `slot` in some story.
pub fn fillers(slot: Slot) -> Vec<&'static str> {
    match slot {
        Slot::Hero | Slot::Friend => NAMES.as_flattened().to_vec(),
        Slot::He | Slot::FriendHe => PRONOUNS.iter().map(|p| p[0]).collect(),
        Slot::Him | Slot::FriendHim => PRONOUNS.iter().map(|p| p[1]).collect(),
        Slot::His => PRONOUNS.iter().map(|p| p[2]).collect(),
        Slot::Kind => KINDS.as_flattened().to_vec(),
        Slot::Pet => PETS.to_vec(),
    }
}

/// One story of the corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Sentences separated by one space.
    pub text: String,
    /// `-ln p(text)` under the generator, the end of the text included.
    pub nats: f64,
    /// What its sentences share.
    pub cast: Cast,
}

/// Document `index` of the corpus with `seed`.
pub fn document(grammar: &Grammar, seed: u64, index: u32) -> Document {
    let stream = Stream::new(seed, Purpose::Corpus, 0, index);
    let mut next = 0;
    let (cast, mut nats) = Cast::draw(&stream, &mut next);
    let counts = SENTENCES[1] - SENTENCES[0] + 1;
    let count = SENTENCES[0] + stream.below(next, counts as u64) as usize;
    next += 1;
    nats += ln(counts as f64);
    let mut text = String::new();
    let mut words = Vec::new();
    for position in 0..count {
        if position > 0 {
            text.push(' ');
        }
        let symbol = grammar.start(&cast.symbol(position));
        words.clear();
        let slot = |slot| cast.word(slot);
        nats += grammar.sample(symbol, &stream, &mut next, &slot, &mut words);
        write(&words, &mut text);
    }
    Document { text, nats, cast }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_are_complete_and_their_probabilities_sum_to_one() {
        let all: Vec<Cast> = Cast::all().collect();
        for (i, cast) in all.iter().enumerate() {
            assert!(!all[..i].contains(cast));
        }
        assert_eq!(all.len(), 1728);
        assert!((ranked::<6>().iter().sum::<f64>() - 1.0).abs() < 1e-15);
        let slots = [Slot::Hero, Slot::Friend, Slot::He, Slot::FriendHim, Slot::Kind, Slot::Pet];
        assert!(all.iter().all(|c| slots.iter().all(|&s| fillers(s).contains(&c.word(s)))));
    }
}
