//! A split of a dataset as numbered rows, and batches of them.
//!
//! Two layouts over the same shards. `packed`: row i holds tokens i·T .. (i+1)·T of the joined
//! stream and every position predicts the next token. `doc_pad`: row i is document i and its EOS,
//! cut or padded to T; padding and the last position predict nothing.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use super::batch::{Batch, NO_TARGET};
use super::documents::{DocumentIndex, document_starts};
use super::manifest::{Manifest, Split};
use super::open::{Opened, open};
use super::order;
use super::stream::TokenStream;
use super::tokenize::Tokenizer;
use crate::config::{Config, Layout};
use crate::error::{Error, Result};

/// How a token stream becomes rows.
#[derive(Clone, Copy, Debug)]
pub struct DatasetOptions {
    /// Every id must be below this (`model.vocab`).
    pub vocab: usize,
    /// Tokens per row, T (`model.seq_len`); at least 2.
    pub seq_len: usize,
    /// Rows from windows or from documents.
    pub layout: Layout,
    /// In `packed`, fill [`Batch::starts`].
    pub document_mask: bool,
    /// EOS of foreign shards, which do not name one; `None` = llm.c's: 50256 in u16 shards, 128000
    /// in u32 shards.
    pub eos: Option<u32>,
}

impl DatasetOptions {
    /// Options from the sections `model` and `data` of a configuration.
    pub fn from_config(config: &Config) -> Self {
        DatasetOptions {
            vocab: config.model.vocab,
            seq_len: config.model.seq_len,
            layout: config.data.layout,
            document_mask: config.data.document_mask,
            eos: None,
        }
    }
}

/// Which row a sample number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Sample i is row i; for evaluation.
    Natural,
    /// Sample numbers run on over the epochs, each of which visits every row once in an order of
    /// its own; for training.
    Shuffled {
        /// `train.seed`.
        seed: u64,
    },
}

/// One split, ready to be read.
pub struct Dataset {
    stream: TokenStream,
    manifest: Option<Manifest>,
    path: PathBuf,
    eos: Option<u32>,
    /// llm.c's streams open with EOS; ours never do.
    eos_first: bool,
    documents: Option<DocumentIndex>,
    options: DatasetOptions,
    rows: u64,
    fingerprint: u64,
}

impl Dataset {
    /// Opens `split` of `paths`: one folder made by `prepare`, one folder of bare llm.c shards, or
    /// `.bin` files (told apart by "train" and "val" in their names).
    ///
    /// Errors: [`Error::Data`] naming the file and what is wrong: missing split or manifest, a
    /// damaged header, an id outside the vocabulary, too little data for one row.
    pub fn open(paths: &[PathBuf], split: Split, options: &DatasetOptions) -> Result<Self> {
        let started = Instant::now();
        let data = Self::new(open(paths, split, options.eos)?, options)?;
        tracing::debug!(
            "opened {}, {split}: {} tokens in {} shards, {} rows of {}, in {:.2} s",
            data.path.display(),
            data.tokens(),
            data.stream.shards().count(),
            data.rows,
            options.seq_len,
            started.elapsed().as_secs_f64()
        );
        Ok(data)
    }

    /// Dataset over tokens in memory, documents ended by `options.eos`.
    pub fn from_tokens(tokens: Vec<u32>, options: &DatasetOptions) -> Result<Self> {
        let stream = TokenStream::from_tokens(tokens);
        let path = PathBuf::from("tokens in memory");
        Self::new(Opened { stream, manifest: None, path, eos: options.eos }, options)
    }

    fn new(opened: Opened, options: &DatasetOptions) -> Result<Self> {
        let Opened { stream, manifest, path, eos } = opened;
        let options = *options;
        if options.seq_len < 2 || options.vocab == 0 {
            return Err(Error::Config(format!(
                "model.seq_len = {} must be at least 2 and model.vocab = {} at least 1",
                options.seq_len, options.vocab
            )));
        }
        stream.check_vocab(options.vocab)?;
        let needs_eos = options.layout == Layout::DocPad || options.document_mask;
        let eos = eos.filter(|&id| (id as usize) < options.vocab);
        let (mut documents, mut eos_first) = (None, false);
        if needs_eos {
            let Some(id) = eos else {
                return Err(Error::data(
                    &path,
                    "does not say which id sets documents apart (or it lies outside the \
                     vocabulary): prepare the text with `chtsl prepare`, or use data.layout = \
                     \"packed\" without data.document_mask",
                ));
            };
            let mut first = [0];
            if stream.len() > 0 {
                stream.read(0, &mut first)?;
                eos_first = first[0] == id;
            }
            if options.layout == Layout::DocPad {
                documents = Some(DocumentIndex::new(&stream.positions_of(id), stream.len()));
            }
        }
        let rows = match &documents {
            Some(documents) => documents.len(),
            None => stream.len().saturating_sub(1) / options.seq_len as u64,
        };
        if rows == 0 {
            let tokens = stream.len();
            let what = match options.layout {
                Layout::DocPad => format!("{tokens} tokens hold no document"),
                Layout::Packed => format!(
                    "{tokens} tokens are too few for one sequence of model.seq_len = {} and its \
                     last target; lower it or add text",
                    options.seq_len
                ),
            };
            return Err(Error::data(&path, what));
        }
        let fingerprint = stream.fingerprint();
        Ok(Dataset {
            stream,
            manifest,
            path,
            eos,
            eos_first,
            documents,
            options,
            rows,
            fingerprint,
        })
    }

    /// Rows of one epoch.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Tokens in the split.
    pub fn tokens(&self) -> u64 {
        self.stream.len()
    }

    /// Options it was opened with.
    pub fn options(&self) -> &DatasetOptions {
        &self.options
    }

    /// Hash over the content of the split: equal fingerprints mean equal rows for equal options.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Content of `dataset.json`; `None` for bare shards.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// Id that sets documents apart, when known and within the vocabulary.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Loads the tokenizer of a prepared folder; `None` for bare shards.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        let Some(manifest) = &self.manifest else { return Ok(None) };
        Tokenizer::load(self.path.join(&manifest.tokenizer.file)).map(Some)
    }

    /// Bytes of text behind `id`, by the rule of [`Tokenizer::byte_lengths`]; `None` for bare
    /// shards. Ids that the dataset does not use have 0.
    pub fn bytes_of(&self, id: u32) -> Option<u32> {
        self.byte_lengths().map(|table| table.get(id as usize).copied().unwrap_or(0))
    }

    /// The whole table behind [`Dataset::bytes_of`].
    pub fn byte_lengths(&self) -> Option<&[u32]> {
        self.manifest.as_ref().map(|m| m.byte_lengths.as_slice())
    }

    /// Batch with room for `sequences` rows of this dataset.
    pub fn batch(&self, sequences: usize) -> Batch {
        Batch::new(sequences, self.options.seq_len, self.masked())
    }

    /// Epoch and row of sample `number`.
    ///
    /// Errors: [`Error::Shape`] for a number beyond the rows in natural order.
    pub fn sample(&self, order: Order, number: u64) -> Result<(u64, u64)> {
        match order {
            Order::Shuffled { seed } => Ok(order::sample(seed, self.rows, number)),
            Order::Natural if number < self.rows => Ok((0, number)),
            Order::Natural => {
                Err(Error::shape("Dataset::sample", format!("a row below {}", self.rows), number))
            }
        }
    }

    /// Fills `batch` with the samples `numbers`. Allocates only when `batch` is too small.
    ///
    /// Errors: [`Error::Data`] naming file and offset when an id lies outside the vocabulary (a
    /// shard damaged after its header was written).
    pub fn fill(&self, order: Order, numbers: Range<u64>, batch: &mut Batch) -> Result<()> {
        let sequences = numbers.end.saturating_sub(numbers.start) as usize;
        let seq_len = self.options.seq_len;
        batch.reset(sequences, seq_len, self.masked());
        for (place, number) in numbers.enumerate() {
            let (_, row) = self.sample(order, number)?;
            let tokens = place * seq_len..(place + 1) * seq_len;
            let ids = &mut batch.ids[tokens.clone()];
            let targets = &mut batch.targets[tokens.clone()];
            match &self.documents {
                None => self.fill_window(row, ids, targets)?,
                Some(documents) => self.fill_document(documents.get(row), ids, targets)?,
            }
            if let (Some(starts), Some(eos)) = (&mut batch.starts, self.eos) {
                document_starts(ids, eos, self.eos_first, &mut starts[tokens]);
            }
            batch.target_tokens += self.targets_of(row) as usize;
        }
        Ok(())
    }

    /// Number of targets in the samples `numbers`, without reading any token.
    pub fn count_targets(&self, order: Order, numbers: Range<u64>) -> Result<u64> {
        if self.documents.is_none() && matches!(order, Order::Shuffled { .. }) {
            return Ok(numbers.end.saturating_sub(numbers.start) * self.options.seq_len as u64);
        }
        numbers.map(|number| Ok(self.targets_of(self.sample(order, number)?.1))).sum()
    }

    /// Reads every shard and compares it with the hashes stored in it.
    pub fn verify(&self) -> Result<()> {
        self.stream.shards().try_for_each(|shard| shard.verify())
    }

    fn masked(&self) -> bool {
        self.options.document_mask && self.options.layout == Layout::Packed
    }

    fn targets_of(&self, row: u64) -> u64 {
        let seq_len = self.options.seq_len as u64;
        match &self.documents {
            None => seq_len,
            // The document and its EOS, of which the first is predicted by nothing.
            Some(documents) => (documents.get(row).1 + 1).min(seq_len) - 1,
        }
    }

    fn fill_window(&self, row: u64, ids: &mut [u32], targets: &mut [u32]) -> Result<()> {
        let at = row * ids.len() as u64;
        self.stream.read(at, ids)?;
        let mut next = [0];
        self.stream.read(at + ids.len() as u64, &mut next)?;
        let last = ids.len() - 1;
        targets[..last].copy_from_slice(&ids[1..]);
        targets[last] = next[0];
        self.check_ids(at, ids)?;
        self.check_ids(at + ids.len() as u64, &next)
    }

    fn fill_document(
        &self,
        (start, length): (u64, u64),
        ids: &mut [u32],
        targets: &mut [u32],
    ) -> Result<()> {
        let taken = length.min(ids.len() as u64) as usize;
        self.stream.read(start, &mut ids[..taken])?;
        self.check_ids(start, &ids[..taken])?;
        let mut filled = taken;
        if let (Some(eos), Some(end)) = (self.eos, ids.get_mut(taken)) {
            *end = eos;
            filled += 1;
        }
        targets.fill(NO_TARGET);
        targets[..filled - 1].copy_from_slice(&ids[1..filled]);
        Ok(())
    }

    /// Fails when one of `ids`, which stand at position `at`, is outside the vocabulary.
    fn check_ids(&self, at: u64, ids: &[u32]) -> Result<()> {
        let vocab = self.options.vocab;
        match ids.iter().position(|&id| id as usize >= vocab) {
            None => Ok(()),
            Some(t) => Err(self.stream.beyond_vocab(at + t as u64, ids[t], vocab)),
        }
    }
}
