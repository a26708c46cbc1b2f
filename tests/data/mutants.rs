//! Damaged files never panic: they load with checked values or say what is wrong.

use std::path::Path;

use chtsl::config::Layout;
use chtsl::data::{
    Dataset, DatasetOptions, Manifest, Order, PrepareOptions, Shard, Split, Tokenizer,
};
use chtsl::rng::{Purpose, Stream};

use super::{options, packed, run, small_tokenizer, tiny};

/// Mutants of each kind of file; `CHTSL_FAULTS=full` (tests/faults.sh) makes a thousand.
fn rounds() -> u64 {
    match std::env::var("CHTSL_FAULTS").as_deref() {
        Ok("full") => 1000,
        _ => 300,
    }
}

/// A damaged copy: one to three of bit flips, cuts, splices, doubled pieces and odd bytes.
fn mutate(good: &[u8], round: u64) -> Vec<u8> {
    let stream = Stream::new(99, Purpose::Data, 1, round as u32);
    let mut bytes = good.to_vec();
    for step in 0..1 + stream.below(0, 3) {
        let draw = |k: u64, bound: usize| stream.below(1 + 10 * step + k, bound as u64) as usize;
        if bytes.is_empty() {
            break;
        }
        let at = draw(0, bytes.len());
        let end = (at + draw(1, 40)).min(bytes.len());
        match draw(2, 7) {
            0 => bytes[at] ^= 1 << draw(3, 8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = draw(3, bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 => bytes[at..end].fill(0),
            5 => bytes[at] = b"0123456789{}[]\",:-.e"[draw(3, 20)],
            // A number becomes a large one: sizes and ids are what readers trust too easily.
            _ => drop(bytes.splice(at..at, *b"99999999")),
        }
    }
    bytes
}

#[test]
fn shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000.bin");
    run(&options(vec![tiny()], folder.path())).unwrap();
    let good = std::fs::read(&path).unwrap();
    for round in 0..rounds() {
        // Half of the mutants are of the header alone, where the decisions are.
        let bytes = match round % 2 {
            0 => mutate(&good, round),
            _ => [mutate(&good[..1024], round), good[1024..].to_vec()].concat(),
        };
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(shard) = Shard::open(&path) {
            let intact = bytes == good || shard.spare().is_none();
            assert!(shard.verify().is_err() || intact, "round {round}");
        }
        for layout in [Layout::Packed, Layout::DocPad] {
            let mask = DatasetOptions { layout, document_mask: true, ..packed(400, 16) };
            let paths = [path.clone()];
            let Ok(dataset) = Dataset::open(&paths, Split::Train, &mask) else { continue };
            let mut batch = dataset.batch(0);
            if dataset.fill(Order::Natural, 0..dataset.rows(), &mut batch).is_ok() {
                assert!(batch.ids.iter().all(|&id| id < 400), "round {round}");
            }
        }
    }
}

#[test]
fn manifests() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dataset.json");
    run(&PrepareOptions { shard_tokens: 500, ..options(vec![tiny()], folder.path()) }).unwrap();
    let good = std::fs::read(&path).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap();
    let mut loaded = 0;
    for round in 0..rounds() {
        std::fs::write(&path, mutate(&good, round)).unwrap();
        if let Ok(mutant) = Manifest::load(folder.path()) {
            // Blanks may come and go; anything else is caught by the checksum.
            assert_eq!(mutant, manifest, "round {round}");
            loaded += 1;
        }
        let _ = Dataset::open(&[folder.path().to_path_buf()], Split::Train, &packed(400, 16));
    }
    assert!(loaded < rounds() / 5, "{loaded} mutants loaded");
}

#[test]
fn manifests_stay_in_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    run(&options(vec![tiny()], folder.path())).unwrap();
    let manifest = Manifest::load(folder.path()).unwrap();
    for name in ["../x.bin", "/etc/passwd", "a/b.bin", "", "..", ".hidden", "a\\b"] {
        let mut hostile = manifest.clone();
        hostile.train.shards[0].file = name.into();
        hostile.save(folder.path()).unwrap(); // with a checksum that fits
        super::data_error(Manifest::load(folder.path()), &["plain name"]);
    }
    let mut newer = manifest;
    newer.version = 2;
    newer.save(folder.path()).unwrap();
    super::data_error(Manifest::load(folder.path()), &["version is 2", "reads 1"]);
}

#[test]
fn tokenizers() {
    let good = small_tokenizer().json().to_vec();
    for round in 0..rounds() {
        let bytes = mutate(&good, round);
        if let Ok(tokenizer) = Tokenizer::from_bytes(bytes, Path::new("t.json")) {
            assert_eq!(tokenizer.byte_lengths().len(), tokenizer.vocab_size());
            let _ = tokenizer.encode("A text, to see what it does with it: 1 + 2 = 3.");
            let _ = tokenizer.decode(&[0, 5, 300, u32::MAX]);
            let _ = tokenizer.eos(None);
        }
    }
}
