//! The data room from outside: shards, sources, tokenizers, `prepare` and batches.

mod layouts;
mod preparing;
mod shards;
mod sources;
mod tokenizers;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use chtsl::config::Layout;
use chtsl::data::{
    DatasetOptions, PrepareOptions, Summary, Tokenizer, TokenizerChoice, prepare, train_bpe,
};
use chtsl::error::{Error, Result};

/// The tiny corpus of this repository.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny.jsonl")
}

/// Texts of the tiny corpus.
pub fn tiny_texts() -> Vec<String> {
    let lines = std::fs::read_to_string(tiny()).unwrap();
    let text = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().into()
    };
    lines.lines().map(text).collect()
}

/// A tokenizer small enough to train in every test.
pub fn small_tokenizer() -> Tokenizer {
    train_bpe(tiny_texts().into_iter(), 400).unwrap()
}

/// `prepare` without stop or progress.
pub fn run(options: &PrepareOptions) -> Result<Summary> {
    prepare(options, &AtomicBool::new(false), &|_| {})
}

/// Options for `inputs` with a 400-id tokenizer trained on them.
pub fn options(inputs: Vec<PathBuf>, out: &Path) -> PrepareOptions {
    PrepareOptions::new(inputs, TokenizerChoice::Train(400), out.to_path_buf())
}

/// Rows of `seq_len` tokens in `packed` layout.
pub fn packed(vocab: usize, seq_len: usize) -> DatasetOptions {
    DatasetOptions { vocab, seq_len, layout: Layout::Packed, document_mask: false, eos: None }
}

/// The message of a data error; fails the test for any other kind.
#[track_caller]
pub fn data_error<T>(result: Result<T>, parts: &[&str]) -> String {
    let error = match result {
        Ok(_) => panic!("an error with {parts:?} was expected"),
        Err(error) => error,
    };
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(matches!(error, Error::Data { .. }));
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    text
}

/// Name and content of every file in a folder.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    all.sort();
    all
}
