//! Where documents begin and end in a token stream: a document is what stands between two EOS,
//! whichever end they are on (this crate and the papers put EOS last, llm.c puts it first).

/// Start and length of every non-empty document, EOS excluded.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DocumentIndex {
    /// Position of each document's first token.
    starts: Vec<u64>,
    /// Tokens of each document; capped, which no sequence is long enough to notice.
    lengths: Vec<u32>,
}

impl DocumentIndex {
    /// Index from the positions of EOS (ascending) in a stream of `tokens` tokens.
    pub fn new(eos: &[u64], tokens: u64) -> Self {
        let mut index = DocumentIndex::default();
        let mut start = 0;
        for &end in eos.iter().chain([&tokens]) {
            if end > start {
                index.starts.push(start);
                index.lengths.push(u32::try_from(end - start).unwrap_or(u32::MAX));
            }
            start = end + 1;
        }
        index
    }

    /// Number of documents.
    pub fn len(&self) -> u64 {
        self.starts.len() as u64
    }

    /// Whether there is no document.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Position of the first token and number of tokens of document `i`, which must exist.
    pub fn get(&self, i: u64) -> (u64, u64) {
        (self.starts[i as usize], u64::from(self.lengths[i as usize]))
    }
}

/// Fills `starts` with the place in the row where each token's document starts.
///
/// A document that began before the row starts at 0. EOS belongs to the document it ends, or, when
/// `eos_first`, to the one it opens.
pub fn document_starts(ids: &[u32], eos: u32, eos_first: bool, starts: &mut [u32]) {
    let mut start = 0;
    for (t, (&id, out)) in ids.iter().zip(starts).enumerate() {
        if id == eos && eos_first {
            start = t as u32;
        }
        *out = start;
        if id == eos && !eos_first {
            start = t as u32 + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(tokens: &[u32]) -> Vec<(u64, u64)> {
        let eos: Vec<u64> =
            tokens.iter().enumerate().filter(|&(_, &t)| t == 9).map(|(i, _)| i as u64).collect();
        let index = DocumentIndex::new(&eos, tokens.len() as u64);
        (0..index.len()).map(|i| index.get(i)).collect()
    }

    #[test]
    fn documents_stand_between_eos_on_either_end() {
        assert_eq!(index(&[1, 2, 9, 3, 9]), [(0, 2), (3, 1)]);
        assert_eq!(index(&[9, 1, 2, 9, 3]), [(1, 2), (4, 1)]);
        assert_eq!(index(&[9, 9, 9]), []);
        assert_eq!(index(&[9, 9, 4, 9, 9]), [(2, 1)]);
        assert_eq!(index(&[4]), [(0, 1)]);
        assert_eq!(index(&[]), []);
    }

    #[test]
    fn starts_follow_eos() {
        let row = [5, 9, 6, 7, 9, 9, 8];
        let mut starts = [77; 7];
        document_starts(&row, 9, false, &mut starts);
        assert_eq!(starts, [0, 0, 2, 2, 2, 5, 6]);
        document_starts(&row, 9, true, &mut starts);
        assert_eq!(starts, [0, 1, 1, 1, 4, 5, 5]);
    }
}
