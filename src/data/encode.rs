//! Documents to ids on all cores, in order, with bounded memory.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;

use rayon::prelude::*;

use super::manifest::Split;
use super::source::{Document, Documents, SourceCounts};
use super::stop::check_stop;
use super::tokenize::Tokenizer;
use crate::error::{Error, Result};

/// A batch is closed at this many bytes of text or documents: enough to keep all cores busy, small
/// enough that a stop is noticed within a fraction of a second.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_DOCUMENTS: usize = 4096;
/// Batches read ahead while one is being encoded.
const AHEAD: usize = 2;

/// What may stand inside a document, and what takes the place of the rest.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    /// Ids must be below this.
    pub size: usize,
    /// Ends documents, so may not stand inside one.
    pub eos: u32,
    /// Replacement; without one, offending ids are dropped.
    pub unk: Option<u32>,
}

/// One encoded document.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Ids, EOS last; empty when the text gives no token.
    pub ids: Vec<u32>,
    /// EOS ids found inside.
    pub eos_inside: u64,
    /// Ids beyond the vocabulary found inside.
    pub beyond_vocab: u64,
    /// Bytes of the text.
    pub text_bytes: u64,
}

impl Vocabulary {
    /// Replaces or drops what may not stand inside a document and appends its EOS.
    pub fn close(&self, mut ids: Vec<u32>) -> Encoded {
        let mut encoded = Encoded::default();
        ids.retain_mut(|id| {
            if *id == self.eos {
                encoded.eos_inside += 1;
            } else if *id as usize >= self.size {
                encoded.beyond_vocab += 1;
            } else {
                return true;
            }
            match self.unk {
                Some(unk) => *id = unk,
                None => return false,
            }
            true
        });
        if !ids.is_empty() {
            ids.push(self.eos);
        }
        encoded.ids = ids;
        encoded
    }
}

/// Encodes `documents`; `assign` gives the split of the document with a number (counted from 0)
/// and `take` receives the results in order. Returns what the source has counted.
///
/// A thread of its own reads and decompresses while the others encode.
pub fn encode_all(
    documents: Documents,
    tokenizer: &Tokenizer,
    vocabulary: Vocabulary,
    stop: &AtomicBool,
    assign: &(dyn Fn(u64) -> Split + Sync),
    take: &mut dyn FnMut(Split, Encoded) -> Result<()>,
) -> Result<SourceCounts> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Result<Vec<(Split, Document)>>>(AHEAD);
        let reader = scope.spawn(move || {
            let mut documents = documents;
            let (mut batch, mut bytes, mut number) = (Vec::new(), 0, 0);
            while let Some(item) = documents.next() {
                // A closed channel means that the other side has given up: its error counts.
                match item {
                    Err(e) => {
                        let _ = sender.send(Err(e));
                        return documents.counts();
                    }
                    Ok(document) => {
                        bytes += document.text.len();
                        batch.push((assign(number), document));
                        number += 1;
                    }
                }
                if bytes >= BATCH_BYTES || batch.len() >= BATCH_DOCUMENTS {
                    bytes = 0;
                    if sender.send(Ok(std::mem::take(&mut batch))).is_err() {
                        return documents.counts();
                    }
                }
            }
            let _ = sender.send(Ok(batch));
            documents.counts()
        });
        for batch in receiver {
            let encoded: Vec<Result<(Split, Encoded)>> = batch?
                .into_par_iter()
                .map(|(split, document)| {
                    let ids = tokenizer.encode_unless(stop, &document.text)?;
                    let mut encoded = vocabulary.close(ids);
                    encoded.text_bytes = document.text.len() as u64;
                    Ok((split, encoded))
                })
                .collect();
            for item in encoded {
                let (split, encoded) = item?;
                take(split, encoded)?;
            }
            check_stop(stop)?;
        }
        reader.join().map_err(|_| Error::data("corpus", "the reading thread failed"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offending_ids_are_replaced_or_dropped_and_counted() {
        let with = Vocabulary { size: 10, eos: 1, unk: Some(0) };
        let e = with.close(vec![5, 1, 12, 9]);
        assert_eq!((e.ids, e.eos_inside, e.beyond_vocab), (vec![5, 0, 0, 9, 1], 1, 1));
        let without = Vocabulary { unk: None, ..with };
        let e = without.close(vec![5, 1, 12, 9]);
        assert_eq!((e.ids, e.eos_inside, e.beyond_vocab), (vec![5, 9, 1], 1, 1));
        assert!(without.close(vec![1, 11]).ids.is_empty());
        assert!(with.close(vec![]).ids.is_empty());
    }
}
