//! The demonstration corpus: exact entropy, one derivation per text, and an acceptor that refuses.

use chtsl::demo::accept::{Acceptor, story_derivations};
use chtsl::demo::grammar::{Grammar, Item, Slot};
use chtsl::demo::orthography::{read, sentences, write};
use chtsl::demo::story::{Cast, NAMES};
use chtsl::demo::{Bigram, DemoCorpus, Document, generate};
use chtsl::rng::{Purpose, Stream};
use std::collections::{HashMap, HashSet};

fn sample(count: u32) -> Vec<Document> {
    generate(1, 0..count).collect()
}

#[test]
fn every_sentence_has_exactly_one_derivation() {
    let (grammar, acceptor) = (Grammar::story(), Acceptor::new());
    for document in sample(4000) {
        for (position, sentence) in sentences(&document.text).enumerate() {
            let within = story_derivations(&grammar, &document.cast, position, sentence);
            assert_eq!((within, acceptor.derivations(sentence)), (1, 1), "{sentence}");
        }
    }
}

#[test]
fn the_cast_can_be_read_off_the_text() {
    let grammar = Grammar::story();
    for document in sample(40) {
        let first: Vec<&str> = sentences(&document.text).take(2).collect();
        let derivations = |cast: &Cast, at: usize| story_derivations(&grammar, cast, at, first[at]);
        let fitting: Vec<Cast> = Cast::all()
            .filter(|cast| derivations(cast, 0) > 0 && derivations(cast, 1) > 0)
            .collect();
        assert_eq!(fitting, [document.cast], "{}", document.text);
    }
}

#[test]
fn documents_are_a_pure_function_of_seed_and_index() {
    let whole: Vec<Document> = generate(3, 0..50).collect();
    let parts: Vec<Document> = generate(3, 0..20).chain(generate(3, 20..50)).collect();
    assert_eq!(whole, parts);
    let other: Vec<Document> = generate(4, 0..50).collect();
    assert!(whole.iter().zip(&other).all(|(a, b)| a.text != b.text));
    let distinct: HashSet<&str> = whole.iter().map(|d| d.text.as_str()).collect();
    assert_eq!(distinct.len(), whole.len());
}

/// `Σ p` over all expansions and `-Σ p·ln p`, exactly: symbols are visited bottom-up, and the
/// entropy of an expansion is that of its choice plus those of its parts.
fn mass_and_entropy(
    grammar: &Grammar,
    symbol: usize,
    memo: &mut HashMap<usize, (f64, f64)>,
    path: &mut Vec<usize>,
) -> (f64, f64) {
    assert!(!path.contains(&symbol), "the grammar recurses");
    if let Some(&known) = memo.get(&symbol) {
        return known;
    }
    path.push(symbol);
    let (mut mass, mut entropy) = (0.0, 0.0);
    for alternative in &grammar.alternatives()[symbol] {
        assert!(!alternative.items.is_empty());
        let (mut product, mut sum) = (alternative.probability, alternative.nats);
        for item in &alternative.items {
            if let Item::Symbol(inner) = *item {
                let (p, h) = mass_and_entropy(grammar, inner, memo, path);
                product *= p;
                sum += h;
            }
        }
        mass += product;
        entropy += alternative.probability * sum;
    }
    path.pop();
    memo.insert(symbol, (mass, entropy));
    (mass, entropy)
}

#[test]
fn probabilities_sum_to_one_and_nats_average_to_the_exact_entropy() {
    let grammar = Grammar::story();
    let mut memo = HashMap::new();
    let mut entropy_of = |name: &str| {
        let (mass, entropy) =
            mass_and_entropy(&grammar, grammar.start(name), &mut memo, &mut Vec::new());
        assert!((mass - 1.0).abs() < 1e-12, "{name}: {mass}");
        entropy
    };
    // The cast: gender, two names, kind, pet, tense; then 3 to 8 sentences with equal chances.
    let entropy = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
    let total: f64 = (3..9).map(|r| 1.0 / f64::from(r)).sum();
    let ranked: Vec<f64> = (3..9).map(|r| 1.0 / f64::from(r) / total).collect();
    let cast = entropy(&[0.5, 0.5]) + 3.0 * entropy(&ranked) + entropy(&[0.7, 0.3]);
    // Expected nats of a story of `count` sentences in the present or past: most of the spread
    // between stories is their length, and this takes it out.
    let mut expected = [[0.0; 9]; 2];
    for (past, tense, share) in [(0, "n", 0.6f64), (1, "t", 0.4)] {
        let [opening, companion, body] =
            ["Opening", "Companion", "Body"].map(|stage| entropy_of(&format!("{stage}{tense}")));
        for (count, nats) in expected[past].iter_mut().enumerate().skip(3) {
            *nats = cast - share.ln() + 6f64.ln() + opening + companion;
            *nats += (count - 2) as f64 * body;
        }
    }
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let bound = 0.6 * mean(&expected[0][3..]) + 0.4 * mean(&expected[1][3..]);
    let mut residuals = Vec::new();
    let mut counts = [0u32; 9];
    for document in generate(2, 0..40_000) {
        let count = sentences(&document.text).count();
        let past = usize::from(document.cast.symbol(0).ends_with('t'));
        counts[count] += 1;
        residuals.push(document.nats - expected[past][count]);
    }
    let drift = mean(&residuals);
    let spread = mean(&residuals.iter().map(|x| (x - drift).powi(2)).collect::<Vec<_>>());
    let error = (spread / residuals.len() as f64).sqrt();
    println!("entropy {bound:.4} nats per document, sampled {drift:+.4} ± {error:.4} off");
    assert!(drift.abs() < 4.0 * error, "{drift} {error}");
    let chance: f64 =
        counts[3..].iter().map(|&n| (f64::from(n) * 6.0 / 40_000.0 - 1.0).powi(2)).sum();
    // Chi-squared with 5 degrees of freedom stays below 20.5 in 99.9 % of cases.
    assert!(chance * 40_000.0 / 6.0 < 20.5, "{counts:?}");
}

#[test]
fn texts_are_as_frequent_as_their_probability_says() {
    // The first sentence of a story, written by many (cast, choice) pairs: the most frequent ones
    // must come as often as -ln p, computed from the grammar alone, says.
    let grammar = Grammar::story();
    let cast = Cast::all().next().unwrap();
    let symbol = grammar.start(&cast.symbol(0));
    let stream = Stream::new(5, Purpose::Corpus, 1, 0);
    let (mut next, draws) = (0, 200_000);
    let mut seen: HashMap<String, (f64, u32)> = HashMap::new();
    for _ in 0..draws {
        let mut words = Vec::new();
        let slot = |slot: Slot| cast.word(slot);
        let nats = grammar.sample(symbol, &stream, &mut next, &slot, &mut words);
        let mut text = String::new();
        write(&words, &mut text);
        let entry = seen.entry(text).or_insert((nats, 0));
        assert_eq!(entry.0.to_bits(), nats.to_bits(), "one text, one probability");
        entry.1 += 1;
    }
    let frequent = seen.values().filter(|(nats, _)| (-nats).exp() * f64::from(draws) > 100.0);
    let mut checked = 0;
    for &(nats, count) in frequent {
        let expected = (-nats).exp() * f64::from(draws);
        assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt());
        checked += 1;
    }
    assert!(checked > 100);
}

/// Verb and noun forms that differ in number only.
const NUMBER: [(&str, &str); 12] = [
    ("is", "are"),
    ("was", "were"),
    ("does", "do"),
    ("runs", "run"),
    ("walks", "walk"),
    ("sleeps", "sleep"),
    ("sits", "sit"),
    ("sees", "see"),
    ("finds", "find"),
    ("says", "say"),
    ("eats", "eat"),
    ("carries", "carry"),
];

fn words_of(sentence: &str) -> Vec<String> {
    read(sentence, |w| NAMES.as_flattened().contains(&w)).unwrap()
}

fn text_of(words: &[String]) -> String {
    let mut text = String::new();
    write(&words.iter().map(String::as_str).collect::<Vec<_>>(), &mut text);
    text
}

#[test]
fn corrupted_sentences_are_rejected() {
    let acceptor = Acceptor::new();
    let stream = Stream::new(9, Purpose::Corpus, 1, 1);
    let (mut agreement, mut swaps) = ([0u32; 2], [0u32; 2]);
    for (i, document) in sample(1500).iter().enumerate() {
        for (j, sentence) in sentences(&document.text).enumerate() {
            let words = words_of(sentence);
            for at in 0..words.len() {
                let other = NUMBER.iter().find_map(|&(one, many)| match words[at].as_str() {
                    w if w == one => Some(many),
                    w if w == many => Some(one),
                    _ => None,
                });
                if let Some(other) = other {
                    let mut wrong = words.clone();
                    wrong[at] = other.to_string();
                    agreement[0] += 1;
                    agreement[1] += u32::from(!acceptor.accepts(&text_of(&wrong)));
                }
            }
            let index = (i * 8 + j) as u64;
            let a = stream.below(2 * index, words.len() as u64 - 1) as usize;
            let b = stream.below(2 * index + 1, words.len() as u64 - 1) as usize;
            if words[a] != words[b] {
                let mut wrong = words.clone();
                wrong.swap(a, b);
                swaps[0] += 1;
                swaps[1] += u32::from(!acceptor.accepts(&text_of(&wrong)));
            }
        }
    }
    let share = |[all, refused]: [u32; 2]| f64::from(refused) / f64::from(all);
    println!("rejected: agreement {:.4} {agreement:?}", share(agreement));
    println!("rejected: swapped words {:.4} {swaps:?}", share(swaps));
    assert!(agreement[0] > 1000 && share(agreement) >= 0.95);
    assert!(swaps[0] > 1000 && share(swaps) >= 0.80);
}

#[test]
fn agreement_is_out_of_reach_of_a_bigram() {
    // Words instead of subwords: the same comparison without a tokenizer in the way.
    let mut ids: HashMap<String, u32> = HashMap::new();
    let mut tokens = |documents: &[Document]| -> Vec<u32> {
        let mut stream = Vec::new();
        for document in documents {
            for sentence in sentences(&document.text) {
                for word in words_of(sentence) {
                    let next = ids.len() as u32 + 1;
                    stream.push(*ids.entry(word).or_insert(next));
                }
            }
            stream.push(0);
        }
        stream
    };
    let (train, valid): (Vec<_>, Vec<_>) =
        (generate(1, 1000..9000).collect(), generate(1, 0..1000).collect());
    let (train, scored) = (tokens(&train), tokens(&valid));
    let bigram = Bigram::train(ids.len() + 1, train).perplexity(&scored);
    let nats: f64 = valid.iter().map(|d| d.nats).sum();
    let bound = (nats / scored.len() as f64).exp();
    println!("{} words; bound {bound:.2}, bigram {bigram:.2} per word", ids.len());
    assert!((250..=450).contains(&ids.len()));
    assert!(bigram > 1.4 * bound);
}

#[test]
fn files_hold_the_documents_and_their_entropy() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = DemoCorpus::write(folder.path(), 7, 30, 10).unwrap();
    assert_eq!(DemoCorpus::open(folder.path()).unwrap(), corpus);
    let read = |path: &std::path::Path| -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let parse = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|line| parse(line)["text"].as_str().unwrap().to_string()).collect()
    };
    let all: Vec<Document> = generate(7, 0..40).collect();
    let texts: Vec<String> = all.iter().map(|d| d.text.clone()).collect();
    assert_eq!(read(&corpus.valid), texts[..10]);
    assert_eq!(read(&corpus.train), texts[10..]);
    assert_eq!(corpus.info.valid_nats, all[..10].iter().map(|d| d.nats).sum::<f64>());
    assert_eq!(corpus.info.valid_bytes, texts[..10].iter().map(|t| t.len() as u64).sum::<u64>());
    assert!(DemoCorpus::open(&folder.path().join("nowhere")).is_err());
    assert!(DemoCorpus::write(folder.path(), 7, u32::MAX, 1).is_err());
}
