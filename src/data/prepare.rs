//! The `prepare` command: text files to a dataset folder of token shards.
//!
//! Equal inputs and options give equal files, byte for byte, whatever the threads and however
//! often the run was killed before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel, sync_channel};
use std::time::{Duration, Instant};

use super::encode::{Vocabulary, encode_all};
use super::fingerprint::fingerprint;
use super::folder::{Claim, Outcome};
use super::long_text::word_pieces;
use super::manifest::{
    Counts, Hash64, Manifest, Recipe, RecipeOptions, SourceEntry, Split, SplitEntry,
    TOKENIZER_FILE, TokenizerEntry,
};
use super::progress::Reporter;
use super::shard::Shard;
use super::source::{Document, Documents};
use super::split_writer::SplitWriter;
use super::stop::check_stop;
use super::tokenize::Tokenizer;
use super::train_bpe::{TRAIN_BYTES, train_bpe};
use crate::error::{Error, Result};
use crate::files::{self, FileKind};

pub use super::options::{PrepareOptions, SHARD_TOKENS, TokenizerChoice, Validation};
pub use super::progress::{Progress, Stage};

/// What a run has made or found.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The manifest, as written.
    pub manifest: Manifest,
    /// The dataset was complete before; nothing was done.
    pub already_complete: bool,
    /// Wall-clock time of the run.
    pub elapsed: Duration,
}

/// Makes the dataset folder `options.out`.
///
/// A finished folder with the same inputs (by name, size and content) and options is recognised
/// and left alone. `stop` is looked at throughout; once it is set the run removes what it has
/// written and fails with [`Error::Interrupted`].
/// Errors: [`Error::Config`] for options, [`Error::Data`] for inputs, tokenizer or an output
/// folder in use, [`Error::Io`].
pub fn prepare(
    options: &PrepareOptions,
    stop: &AtomicBool,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Result<Summary> {
    let started = Instant::now();
    options.check()?;
    // Before anything slow: names, and a tokenizer that loads and has its EOS.
    Documents::new(&options.inputs, options.source())?;
    Documents::new(options.val_inputs(), options.source())?;
    let given = match &options.tokenizer {
        TokenizerChoice::File(path) => Some(Tokenizer::load(path)?),
        TokenizerChoice::Train(_) => None,
    };
    if let Some(tokenizer) = &given {
        vocabulary(options, tokenizer)?;
    }
    let reporter = Reporter::new(progress);
    let recipe = recipe(options, given.as_ref(), stop, &reporter)?;
    let claim = match Claim::take(&options.out)? {
        Outcome::Claimed(claim) => claim,
        Outcome::Complete(manifest) => {
            check_same(&options.out, &manifest, &recipe)?;
            let (manifest, elapsed) = (*manifest, started.elapsed());
            return Ok(Summary { manifest, already_complete: true, elapsed });
        }
    };
    let (tokenizer, trained) = match given {
        Some(tokenizer) => (tokenizer, false),
        None => (train(options, &recipe, stop, &reporter)?, true),
    };
    let mut manifest = encode(options, &claim, recipe, &tokenizer, trained, stop, &reporter)?;
    files::write_atomic(&claim.folder().join(TOKENIZER_FILE), tokenizer.json())?;
    check_stop(stop)?;
    manifest.save(claim.folder())?;
    claim.finish()?;
    Ok(Summary { manifest, already_complete: false, elapsed: started.elapsed() })
}

/// A finished folder is accepted when its recipe is equal and its files are all there.
fn check_same(out: &Path, manifest: &Manifest, recipe: &Recipe) -> Result<()> {
    if manifest.fingerprint.0 != recipe.fingerprint() {
        let what = if manifest.recipe.sources != recipe.sources {
            "other input files"
        } else {
            "other options"
        };
        return Err(Error::data(
            out,
            format!(
                "already holds a dataset made from {what}: not overwritten; choose another --out \
                 or delete it"
            ),
        ));
    }
    let shards = [Some(&manifest.train), manifest.val.as_ref()];
    for entry in shards.into_iter().flatten().flat_map(|s| &s.shards) {
        let shard = Shard::open(out.join(&entry.file))?;
        if shard.spare().map(|s| s.payload_hash) != Some(entry.xxh3.0) {
            return Err(Error::data(
                shard.path(),
                "is not the shard named in dataset.json; delete the folder and prepare it again",
            ));
        }
    }
    files::regular_size(&out.join(&manifest.tokenizer.file), FileKind::Data).map(drop)
}

fn recipe(
    options: &PrepareOptions,
    tokenizer: Option<&Tokenizer>,
    stop: &AtomicBool,
    reporter: &Reporter,
) -> Result<Recipe> {
    let files = || {
        let train = options.inputs.iter().map(|p| (p, Split::Train));
        train.chain(options.val_inputs().iter().map(|p| (p, Split::Val)))
    };
    let mut total = 0;
    for (path, _) in files() {
        total += files::regular_size(path, FileKind::Data)?;
    }
    reporter.stage(Stage::Hash, total);
    let mut sources = Vec::new();
    for (path, split) in files() {
        let mut seen = |n| reporter.update(|p| p.bytes += n);
        let (size, hash) = fingerprint(path, stop, &mut seen)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sources.push(SourceEntry { name, size, xxh3: Hash64(hash), split });
    }
    Ok(Recipe {
        sources,
        options: RecipeOptions {
            tokenizer: tokenizer.map(|t| Hash64(t.hash())),
            train_vocab: match options.tokenizer {
                TokenizerChoice::Train(vocab) => Some(vocab),
                TokenizerChoice::File(_) => None,
            },
            eos: options.eos.clone(),
            model_vocab: options.model_vocab,
            text_field: options.text_field.clone(),
            val_fraction: match options.validation {
                Validation::Fraction(fraction) => Some(fraction),
                _ => None,
            },
            skip_bad_lines: options.skip_bad_lines,
            shard_tokens: options.shard_tokens,
        },
    })
}

/// EOS name and id rules of a dataset.
fn vocabulary(options: &PrepareOptions, tokenizer: &Tokenizer) -> Result<(String, Vocabulary)> {
    let (name, eos) = tokenizer.eos(options.eos.as_deref())?;
    let size =
        options.model_vocab.map_or(tokenizer.vocab_size(), |v| v.min(tokenizer.vocab_size()));
    if eos as usize >= size {
        return Err(Error::Config(format!(
            "the document end {name:?} has id {eos}, which the vocabulary limit of {size} cuts off: \
             raise the limit or choose another --eos TOKEN"
        )));
    }
    let unk = tokenizer.unk().filter(|&unk| unk != eos && (unk as usize) < size);
    Ok((name, Vocabulary { size, eos, unk }))
}

/// Trains a tokenizer on the first [`TRAIN_BYTES`] of the training documents (not on those of
/// `--val-fraction`).
///
/// The library cannot be interrupted, so it works on a thread of its own; a stop leaves that thread
/// behind, to end with the process.
fn train(
    options: &PrepareOptions,
    recipe: &Recipe,
    stop: &AtomicBool,
    reporter: &Reporter,
) -> Result<Tokenizer> {
    let TokenizerChoice::Train(vocab) = options.tokenizer else {
        return Err(Error::Config("no tokenizer to train".into()));
    };
    let inputs = recipe.sources.iter().filter(|s| s.split == Split::Train);
    reporter.stage(Stage::TrainTokenizer, inputs.map(|s| s.size).sum());
    let (text_sender, texts) = sync_channel::<String>(256);
    let (result_sender, result) = channel();
    std::thread::spawn(move || {
        let _ = result_sender.send(train_bpe(texts.into_iter(), vocab));
    });
    let documents = Documents::new(&options.inputs, options.source())?;
    let read = documents.bytes_read();
    let mut fed = 0;
    for (number, document) in documents.enumerate() {
        check_stop(stop)?;
        let Document { text, .. } = document?;
        if options.assign(number as u64) == Split::Val {
            continue;
        }
        fed += text.len() as u64;
        if fed > TRAIN_BYTES {
            break;
        }
        reporter.update(|p| {
            p.documents += 1;
            p.bytes += text.len() as u64;
            p.read = read.load(Ordering::Relaxed);
        });
        // GPT-2's pattern never joins words across a blank, so pieces of a book count the same
        // words as the whole, one piece at a time.
        for piece in word_pieces(&text) {
            if text_sender.send(piece.to_string()).is_err() {
                break; // the trainer has failed; its result says why
            }
        }
    }
    drop(text_sender);
    reporter.stage(Stage::Merge, 0);
    loop {
        match result.recv_timeout(Duration::from_millis(50)) {
            Ok(tokenizer) => return tokenizer,
            Err(RecvTimeoutError::Timeout) => {
                check_stop(stop)?;
                reporter.tick();
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::data("trained tokenizer", "the training thread failed"));
            }
        }
    }
}

fn encode(
    options: &PrepareOptions,
    claim: &Claim,
    recipe: Recipe,
    tokenizer: &Tokenizer,
    trained: bool,
    stop: &AtomicBool,
    reporter: &Reporter,
) -> Result<Manifest> {
    reporter.stage(Stage::Encode, recipe.sources.iter().map(|s| s.size).sum());
    let (eos_token, vocabulary) = vocabulary(options, tokenizer)?;
    let fingerprint = recipe.fingerprint();
    let limit = options.shard_tokens;
    let new = |split| SplitWriter::new(claim.folder(), split, limit, vocabulary, fingerprint);
    let (mut train, mut val) = (new(Split::Train), new(Split::Val));
    let mut before = 0;
    let mut counts = Counts { dropped: vocabulary.unk.is_none(), ..Counts::default() };
    for (paths, held_out) in [(options.inputs.as_slice(), false), (options.val_inputs(), true)] {
        let documents = Documents::new(paths, options.source())?;
        let read = documents.bytes_read();
        let assign = |number| if held_out { Split::Val } else { options.assign(number) };
        let seen = encode_all(documents, tokenizer, vocabulary, stop, &assign, &mut |split, e| {
            counts.eos_inside += e.eos_inside;
            counts.beyond_vocab += e.beyond_vocab;
            if e.ids.is_empty() {
                counts.empty_documents += 1;
                return Ok(());
            }
            reporter.update(|p| {
                p.documents += 1;
                p.bytes += e.text_bytes;
                p.read = before + read.load(Ordering::Relaxed);
                p.tokens += e.ids.len() as u64;
            });
            let writer = if split == Split::Train { &mut train } else { &mut val };
            writer.push(&e.ids, e.text_bytes)
        })?;
        before += read.load(Ordering::Relaxed);
        counts.empty_documents += seen.empty;
        counts.bad_lines += seen.bad_lines;
    }
    let (train, val) = (train.finish()?, val.finish()?);
    check_filled(options, &train, &val)?;
    let (format, version) = Manifest::format();
    Ok(Manifest {
        format,
        version,
        checksum: Hash64(0),
        fingerprint: Hash64(fingerprint),
        tokenizer: TokenizerEntry {
            file: TOKENIZER_FILE.into(),
            xxh3: Hash64(tokenizer.hash()),
            trained,
            ids: tokenizer.vocab_size(),
        },
        vocab_size: vocabulary.size,
        eos_token,
        eos_id: vocabulary.eos,
        unk_id: vocabulary.unk,
        train,
        val: (options.validation != Validation::None).then_some(val),
        counts,
        recipe,
        byte_lengths: tokenizer.byte_lengths()[..vocabulary.size].to_vec(),
    })
}

fn check_filled(options: &PrepareOptions, train: &SplitEntry, val: &SplitEntry) -> Result<()> {
    let none = |path: &PathBuf, more: usize, what: &str| {
        let others = if more > 0 { format!(" (and {more} more files)") } else { String::new() };
        Err(Error::data(path, format!("{what}{others}")))
    };
    if train.documents == 0 {
        let what = match options.validation {
            Validation::Fraction(_) if val.documents > 0 => {
                "no document is left for training; lower --val-fraction"
            }
            _ => "no document with text found",
        };
        return none(&options.inputs[0], options.inputs.len() - 1, what);
    }
    match &options.validation {
        Validation::Inputs(paths) if val.documents == 0 => {
            none(&paths[0], paths.len() - 1, "no document with text found")
        }
        Validation::Fraction(fraction) if val.documents == 0 => none(
            &options.inputs[0],
            options.inputs.len() - 1,
            &format!(
                "none of the {} documents fell to the validation split; raise --val-fraction \
                 {fraction} or use --val-input",
                train.documents
            ),
        ),
        _ => Ok(()),
    }
}
