//! The compiled grammar: symbols with weighted alternatives, and sampling from it.

use super::tables::{CLASSES, LEXICON, NUMBER_WEIGHTS, RULES};
use crate::rng::{Stream, ln};
use std::collections::HashMap;

/// A place that the cast of the story fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Name of the hero.
    Hero,
    /// Name of the friend.
    Friend,
    /// The hero as subject: he or she.
    He,
    /// The hero as object: him or her.
    Him,
    /// Possessive of the hero: his or her.
    His,
    /// The friend as subject.
    FriendHe,
    /// The friend as object.
    FriendHim,
    /// What the hero is: boy, girl, man or woman.
    Kind,
    /// The hero's animal.
    Pet,
}

impl Slot {
    fn parse(name: &str) -> Self {
        match name {
            "hero" => Slot::Hero,
            "friend" => Slot::Friend,
            "he" => Slot::He,
            "him" => Slot::Him,
            "his" => Slot::His,
            "fhe" => Slot::FriendHe,
            "fhim" => Slot::FriendHim,
            "kind" => Slot::Kind,
            "pet" => Slot::Pet,
            _ => panic!("no slot ${name}"),
        }
    }

    /// The slot that holds the same words when nobody knows who is who.
    fn folded(self) -> Self {
        match self {
            Slot::Friend => Slot::Hero,
            Slot::FriendHe => Slot::He,
            Slot::FriendHim => Slot::Him,
            slot => slot,
        }
    }
}

/// One item on the right of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// A symbol to expand, by index.
    Symbol(usize),
    /// A word or mark, by index into [`Grammar::words`].
    Word(usize),
    /// A word that the cast decides.
    Slot(Slot),
}

/// One way to expand a symbol.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// What it expands to; never empty.
    pub items: Vec<Item>,
    /// Its probability among the symbol's alternatives.
    pub probability: f64,
    /// `-ln probability`.
    pub nats: f64,
}

/// Symbols and words with their indices, and the alternatives of each symbol.
pub struct Grammar {
    symbols: HashMap<String, usize>,
    word_indices: HashMap<String, usize>,
    words: Vec<String>,
    alternatives: Vec<Vec<Alternative>>,
}

impl Grammar {
    /// The grammar of stories, in which hero and friend differ.
    pub fn story() -> Self {
        Self::compile(false)
    }

    /// The grammar of sentences alone: any name or pronoun may stand where the story decides which,
    /// and alternatives that differ in that only are one.
    pub fn sentence() -> Self {
        Self::compile(true)
    }

    fn compile(fold: bool) -> Self {
        let mut grammar = Grammar {
            symbols: HashMap::new(),
            word_indices: HashMap::new(),
            words: Vec::new(),
            alternatives: Vec::new(),
        };
        for &(category, entries) in LEXICON {
            for (rank, entry) in entries.split_whitespace().enumerate() {
                for (suffix, form) in forms(entry) {
                    let symbol = grammar.symbol(&format!("{category}{suffix}"), fold);
                    let word = Item::Word(grammar.word(form));
                    grammar.add(symbol, 1.0 / (rank as f64 + 3.0), vec![word]);
                }
            }
        }
        for &(left, alternatives) in RULES {
            for bound in bindings(left) {
                let symbol = grammar.symbol(&fill(left, &bound), fold);
                for &(weight, right) in alternatives {
                    for free in bindings(&fill(right, &bound)) {
                        let share = match free.iter().find(|(variable, _)| *variable == '#') {
                            Some((_, value)) => NUMBER_WEIGHTS[usize::from(*value == "2")],
                            None => 1.0,
                        };
                        let right = fill(&fill(right, &bound), &free);
                        let items =
                            right.split_whitespace().map(|item| grammar.item(item, fold)).collect();
                        grammar.add(symbol, weight * share, items);
                    }
                }
            }
        }
        for (name, &symbol) in &grammar.symbols {
            let alternatives = &mut grammar.alternatives[symbol];
            assert!(!alternatives.is_empty(), "no rule for {name}");
            let total: f64 = alternatives.iter().map(|a| a.probability).sum();
            for alternative in alternatives {
                alternative.probability /= total;
                alternative.nats = -ln(alternative.probability);
            }
        }
        grammar
    }

    fn symbol(&mut self, name: &str, fold: bool) -> usize {
        let name = if fold { name.split('@').next().unwrap_or(name) } else { name };
        let next = self.alternatives.len();
        let index = *self.symbols.entry(name.to_string()).or_insert(next);
        if index == next {
            self.alternatives.push(Vec::new());
        }
        index
    }

    fn word(&mut self, word: &str) -> usize {
        let next = self.words.len();
        let index = *self.word_indices.entry(word.to_string()).or_insert(next);
        if index == next {
            self.words.push(word.to_string());
        }
        index
    }

    fn item(&mut self, item: &str, fold: bool) -> Item {
        if let Some(slot) = item.strip_prefix('$') {
            let slot = Slot::parse(slot);
            Item::Slot(if fold { slot.folded() } else { slot })
        } else if item.starts_with(|c: char| c.is_ascii_uppercase()) {
            Item::Symbol(self.symbol(item, fold))
        } else {
            Item::Word(self.word(item))
        }
    }

    fn add(&mut self, symbol: usize, weight: f64, items: Vec<Item>) {
        let alternatives = &mut self.alternatives[symbol];
        match alternatives.iter_mut().find(|a| a.items == items) {
            Some(same) => same.probability += weight,
            None => alternatives.push(Alternative { items, probability: weight, nats: 0.0 }),
        }
    }

    /// Index of the symbol called `name`; a wrong name is a bug of the caller.
    pub fn start(&self, name: &str) -> usize {
        self.symbols[name]
    }

    /// All words and marks outside the slots, each once.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Index of `word`, if some rule contains it.
    pub fn word_index(&self, word: &str) -> Option<usize> {
        self.word_indices.get(word).copied()
    }

    /// Alternatives of every symbol, by index.
    pub fn alternatives(&self) -> &[Vec<Alternative>] {
        &self.alternatives
    }

    /// Draws an expansion of `symbol`, appends its words and returns its `-ln p`. `slot` gives the
    /// word of a slot; `next` counts the draws taken from `stream`.
    pub fn sample<'a>(
        &'a self,
        symbol: usize,
        stream: &Stream,
        next: &mut u64,
        slot: &impl Fn(Slot) -> &'a str,
        words: &mut Vec<&'a str>,
    ) -> f64 {
        let alternatives = &self.alternatives[symbol];
        let probabilities = alternatives.iter().map(|a| a.probability);
        let chosen = &alternatives[choose(probabilities, stream, next)];
        let mut nats = chosen.nats;
        for item in &chosen.items {
            match *item {
                Item::Symbol(inner) => nats += self.sample(inner, stream, next, slot, words),
                Item::Word(word) => words.push(&self.words[word]),
                Item::Slot(place) => words.push(slot(place)),
            }
        }
        nats
    }
}

/// Index drawn with the given probabilities, which sum to 1 up to rounding.
pub(super) fn choose(
    probabilities: impl ExactSizeIterator<Item = f64>,
    stream: &Stream,
    next: &mut u64,
) -> usize {
    let last = probabilities.len() - 1;
    if last == 0 {
        return 0;
    }
    let mut rest = stream.uniform(*next);
    *next += 1;
    for (i, probability) in probabilities.enumerate() {
        rest -= probability;
        if rest < 0.0 {
            return i;
        }
    }
    last
}

/// Forms of a lexicon entry with the suffix of the symbol each belongs to.
fn forms(entry: &str) -> Vec<(&'static str, &str)> {
    let parts: Vec<&str> = entry.split('/').collect();
    match parts[..] {
        [word] => vec![("", word)],
        [one, many] => vec![("1", one), ("2", many)],
        [one, many, past] => vec![("1n", one), ("2n", many), ("1t", past), ("2t", past)],
        [one, many, past, pasts] => vec![("1n", one), ("2n", many), ("1t", past), ("2t", pasts)],
        _ => panic!("{entry}: one to four forms"),
    }
}

type Binding = Vec<(char, &'static str)>;

/// All ways to fill the variables that occur in `pattern`.
fn bindings(pattern: &str) -> Vec<Binding> {
    let mut all = vec![Binding::new()];
    let variables: [(char, &[&'static str]); 4] =
        [('#', &["1", "2"]), ('~', &["n", "t"]), ('%', &CLASSES), ('@', &["@h", "@b", "@o"])];
    for (variable, values) in variables {
        if !open(pattern, variable) {
            continue;
        }
        all = all
            .iter()
            .flat_map(|binding| values.iter().map(move |value| (binding, *value)))
            .map(|(binding, value)| [binding.clone(), vec![(variable, value)]].concat())
            .collect();
    }
    all
}

/// Whether `variable` waits for a value in `pattern`; an `@` with its letter has one.
fn open(pattern: &str, variable: char) -> bool {
    pattern
        .split_whitespace()
        .any(|item| if variable == '@' { item.ends_with('@') } else { item.contains(variable) })
}

fn fill(pattern: &str, binding: &Binding) -> String {
    let fill_item = |item: &str| {
        let mut item = item.to_string();
        for (variable, value) in binding {
            if open(&item, *variable) {
                item = item.replace(*variable, value);
            }
        }
        item
    };
    pattern.split_whitespace().map(fill_item).collect::<Vec<_>>().join(" ")
}
