//! The recogniser: how many derivations a sentence has, 0 when the grammar does not accept it.

use super::grammar::{Grammar, Item};
use super::orthography::{ends_sentence, read, sentences};
use super::story::{Cast, NAMES, fillers};

/// Counts derivations top-down, each (symbol, position) once. The grammar has neither recursion
/// nor empty rules, so this ends without further care.
pub struct Acceptor {
    grammar: Grammar,
    starts: Vec<usize>,
}

impl Default for Acceptor {
    fn default() -> Self {
        Self::new()
    }
}

impl Acceptor {
    /// Judges sentences alone: of any stage and tense, whoever the names and pronouns mean.
    pub fn new() -> Self {
        let grammar = Grammar::sentence();
        let names = ["Openingn", "Openingt", "Companionn", "Companiont", "Bodyn", "Bodyt"];
        let starts = names.iter().map(|name| grammar.start(name)).collect();
        Acceptor { grammar, starts }
    }

    /// Number of derivations of `sentence` with its capital and end mark; 0 means not accepted.
    pub fn derivations(&self, sentence: &str) -> u64 {
        count(&self.grammar, &self.starts, sentence, None)
    }

    /// Whether the grammar has `sentence`.
    pub fn accepts(&self, sentence: &str) -> bool {
        self.derivations(sentence) > 0
    }
}

/// Number of derivations of `sentence` at `position` of a story with `cast`, in the grammar of
/// [`Grammar::story`].
pub fn story_derivations(grammar: &Grammar, cast: &Cast, position: usize, sentence: &str) -> u64 {
    count(grammar, &[grammar.start(&cast.symbol(position))], sentence, Some(cast))
}

/// How many sentences of `text` the grammar accepts, and how many there are. A last piece without
/// an end mark counts as a sentence (and is refused), as does a first one without a capital;
/// `whole_only` leaves both out, for samples that start or stop in the middle of a sentence.
pub fn accepted_share(acceptor: &Acceptor, text: &str, whole_only: bool) -> (usize, usize) {
    let mut pieces: Vec<&str> = sentences(text).collect();
    if whole_only {
        if pieces.last().is_some_and(|piece| !piece.ends_with(ends_sentence)) {
            pieces.pop();
        }
        if pieces.first().is_some_and(|p| !p.starts_with(|c: char| c.is_ascii_uppercase())) {
            pieces.remove(0);
        }
    }
    (pieces.iter().filter(|piece| acceptor.accepts(piece)).count(), pieces.len())
}

fn count(grammar: &Grammar, starts: &[usize], sentence: &str, cast: Option<&Cast>) -> u64 {
    let is_name = |word: &str| NAMES.as_flattened().contains(&word);
    let Some(words) = read(sentence, is_name) else {
        return 0;
    };
    let indices = words.iter().map(|word| grammar.word_index(word)).collect();
    let memo = vec![None; grammar.alternatives().len() * words.len()];
    let mut chart = Chart { grammar, cast, words: &words, indices, memo };
    let end = words.len();
    let mut total = 0;
    for &start in starts {
        let ends = chart.expand(start, 0);
        total += ends.iter().filter(|e| e.0 == end).map(|e| e.1).sum::<u64>();
    }
    total
}

/// Ends of the spans that a symbol covers, each with the number of derivations.
type Ends = Vec<(usize, u64)>;

struct Chart<'a> {
    grammar: &'a Grammar,
    cast: Option<&'a Cast>,
    words: &'a [String],
    indices: Vec<Option<usize>>,
    memo: Vec<Option<Ends>>,
}

impl Chart<'_> {
    fn expand(&mut self, symbol: usize, start: usize) -> Ends {
        if start == self.words.len() {
            return Ends::new();
        }
        let cell = symbol * self.words.len() + start;
        if let Some(ends) = &self.memo[cell] {
            return ends.clone();
        }
        let grammar = self.grammar;
        let mut ends = Ends::new();
        for alternative in &grammar.alternatives()[symbol] {
            let mut reached = vec![(start, 1)];
            for &item in &alternative.items {
                let mut after = Ends::new();
                for &(at, ways) in &reached {
                    self.step(item, at, ways, &mut after);
                }
                reached = after;
                if reached.is_empty() {
                    break;
                }
            }
            for (end, ways) in reached {
                merge(&mut ends, end, ways);
            }
        }
        self.memo[cell] = Some(ends.clone());
        ends
    }

    fn step(&mut self, item: Item, at: usize, ways: u64, after: &mut Ends) {
        match item {
            Item::Symbol(symbol) => {
                for (end, inner) in self.expand(symbol, at) {
                    merge(after, end, ways * inner);
                }
            }
            Item::Word(word) => {
                if self.indices.get(at).is_some_and(|&i| i == Some(word)) {
                    merge(after, at + 1, ways);
                }
            }
            Item::Slot(slot) => {
                let fits = |word: &String| match self.cast {
                    Some(cast) => cast.word(slot) == word,
                    None => fillers(slot).contains(&word.as_str()),
                };
                if self.words.get(at).is_some_and(fits) {
                    merge(after, at + 1, ways);
                }
            }
        }
    }
}

fn merge(ends: &mut Ends, end: usize, ways: u64) {
    match ends.iter_mut().find(|e| e.0 == end) {
        Some(same) => same.1 += ways,
        None => ends.push((end, ways)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_written_sentences_are_judged() {
        let acceptor = Acceptor::new();
        let good = [
            "Anna is a kind girl who lives in the village.",
            "The dogs near the old tree that the boy sees run to the barn.",
            "Every day, he says that the farmers who eat the cakes are happy.",
            "Sarah and Tom give an old man an orange.",
            "Why does she carry the red ball?",
        ];
        for sentence in good {
            assert_eq!(acceptor.derivations(sentence), 1, "{sentence}");
        }
        let bad = [
            "The dogs near the old tree that the boy sees runs to the barn.",
            "The dogs near the old tree that the boy see run to the barn.",
            "Her sees the dog.",
            "A dogs sleep near the wall.",
            "These dog sleeps near the wall.",
            "She says that the boy sees the dog and the cat.",
            "The girl walked to the school because she likes the cat.",
            "The dog sleeps near the wall",
            "The xyzzy sleeps near the wall.",
            "",
        ];
        for sentence in bad {
            assert_eq!(acceptor.derivations(sentence), 0, "{sentence}");
        }
    }

    #[test]
    fn shares_count_whole_sentences_when_asked() {
        let acceptor = Acceptor::new();
        let text = "sees the dog. The cat laughs. They sleep near the wall. She runs aw";
        assert_eq!(accepted_share(&acceptor, text, false), (1, 4));
        assert_eq!(accepted_share(&acceptor, text, true), (1, 2));
        assert_eq!(accepted_share(&acceptor, "", true), (0, 0));
    }
}
