//! Training of a byte-level BPE tokenizer.

use std::path::Path;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library};

use super::tokenize::{Tokenizer, guarded};
use crate::error::{Error, Result};

/// `<unk>`, `<s>`, `</s>`: ids 0, 1, 2, as in LLaMA's tokenizer.
const SPECIAL: [&str; 3] = ["<unk>", "<s>", "</s>"];
/// Smallest vocabulary: the special tokens and the 256 bytes.
pub const MIN_VOCAB: usize = SPECIAL.len() + 256;
/// Most text a tokenizer is trained on, in bytes: merges have long settled by then, and the
/// library counts pairs in 32 bits, which much larger corpora would overflow.
pub(super) const TRAIN_BYTES: u64 = 1 << 30;
/// A pair seen once is no evidence for a token.
const MIN_FREQUENCY: u64 = 2;

/// Trains a byte-level BPE with `vocab` ids on `texts` (consumed as a stream: memory grows with
/// the number of different words only).
///
/// Deterministic: equal texts give an equal `tokenizer.json`, byte for byte, whatever the threads.
/// A corpus with too few repeated words gives a smaller vocabulary.
/// Errors: [`Error::Config`] when `vocab` is below 259.
pub fn train_bpe(texts: impl Iterator<Item = String> + Send, vocab: usize) -> Result<Tokenizer> {
    check_vocab(vocab)?;
    let mut trainer = TrainerWrapper::from(
        BpeTrainerBuilder::new()
            .vocab_size(vocab)
            .min_frequency(MIN_FREQUENCY)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(SPECIAL.iter().map(|&t| AddedToken::from(t, true)).collect())
            .build(),
    );
    let path = Path::new("trained tokenizer");
    let json = guarded(|| {
        let mut library = Library::new(BPE::default());
        library.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
        library.with_decoder(Some(ByteLevel::new(false, true, true)));
        library.train(&mut trainer, texts)?;
        library.to_string(false)
    })
    .and_then(|json| json.map_err(|e| e.to_string()))
    .map_err(|e| Error::data(path, format!("training failed: {e}")))?;
    Tokenizer::from_bytes(json.into_bytes(), path)
}

/// Fails when a byte-level vocabulary of `vocab` ids cannot exist.
pub(super) fn check_vocab(vocab: usize) -> Result<()> {
    if (MIN_VOCAB..=1 << 24).contains(&vocab) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "--train-tokenizer {vocab}: a byte-level vocabulary needs at least {MIN_VOCAB} ids (256 \
         bytes and {}) and at most {}",
        SPECIAL.join(" "),
        1 << 24
    )))
}
