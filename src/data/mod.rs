//! Text to batches. The one room that knows file formats of corpora, tokenizers and token shards.
//!
//! `prepare`: [`source`] streams documents, [`tokenize`] turns each into ids, [`shard_writer`]
//! appends them with one EOS each to `train-NNNNN.bin` / `val-NNNNN.bin`, and [`manifest`] is
//! written last as `dataset.json`: a folder without it is not a dataset. `folder.rs` is the protocol
//! that keeps a killed run from leaving anything half-made under a final name.
//!
//! Training and evaluation: [`loader`] joins the memory-mapped shards ([`shard`], layout in
//! [`header`]) end to end, finds the documents in them ([`documents`]), draws the order of samples
//! ([`order`], stateless) and fills a [`batch::Batch`].
//!
//! | file | what it is for |
//! |---|---|
//! | `source.rs`, `lines.rs` | documents from txt, JSON lines, gzip and Zstandard files |
//! | `tokenize.rs`, `long_text.rs` | tokenizer, books in pieces |
//! | `byte_length.rs`, `train_bpe.rs` | bytes behind each id, training a tokenizer |
//! | `header.rs`, `shard.rs`, `shard_writer.rs` | llm.c `.bin` shards: format, reading, writing |
//! | `manifest.rs`, `recipe.rs`, `fingerprint.rs`, `folder.rs`, `stop.rs` | `dataset.json`, crash protocol, signals |
//! | `prepare.rs`, `options.rs`, `progress.rs` | the `prepare` command |
//! | `encode.rs`, `split_writer.rs` | its parallel encoder and its output |
//! | `open.rs`, `stream.rs` | from paths to one long virtual token stream |
//! | `loader.rs`, `documents.rs`, `order.rs`, `batch.rs` | from the stream to batches |

pub mod batch;
mod byte_length;
pub mod documents;
mod encode;
mod fingerprint;
mod folder;
pub mod header;
mod lines;
pub mod loader;
mod long_text;
pub mod manifest;
mod open;
mod options;
pub mod order;
pub mod prepare;
mod progress;
mod recipe;
pub mod shard;
pub mod shard_writer;
pub mod source;
mod split_writer;
mod stop;
mod stream;
pub mod tokenize;
mod train_bpe;

pub use batch::{Batch, NO_TARGET};
pub(crate) use folder::MARKER_FILE;
pub use loader::{Dataset, DatasetOptions, Order};
pub use manifest::{Manifest, Split};
pub(crate) use open::{bare_splits, check_member, usual_eos};
pub use prepare::{PrepareOptions, Progress, Stage, Summary, TokenizerChoice, Validation, prepare};
pub use shard::Shard;
pub use shard_writer::ShardWriter;
pub use tokenize::Tokenizer;
pub use train_bpe::train_bpe;
