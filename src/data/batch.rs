//! One batch of sequences, ready for a forward pass.

/// Marks a position whose prediction is not scored.
pub const NO_TARGET: u32 = u32::MAX;

/// `sequences` rows of `seq_len` tokens, row after row. Buffers are made once and refilled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Input ids, all below the vocabulary; padding is 0.
    pub ids: Vec<u32>,
    /// Id to predict at each position, or [`NO_TARGET`].
    pub targets: Vec<u32>,
    /// With `data.document_mask`: for each token, where its document starts within its row, so
    /// that position t attends to `starts[t]..=t`. `None`: rows attend to all that came before.
    pub starts: Option<Vec<u32>>,
    /// Rows filled.
    pub sequences: usize,
    /// Tokens per row.
    pub seq_len: usize,
    /// Positions with a target.
    pub target_tokens: usize,
}

impl Batch {
    /// Empty batch with room for `sequences` rows of `seq_len` tokens.
    pub fn new(sequences: usize, seq_len: usize, document_mask: bool) -> Self {
        let room = || Vec::with_capacity(sequences * seq_len);
        Batch {
            ids: room(),
            targets: room(),
            starts: document_mask.then(room),
            sequences: 0,
            seq_len,
            target_tokens: 0,
        }
    }

    /// Sets the number of rows and clears everything: ids 0, no targets.
    pub(super) fn reset(&mut self, sequences: usize, seq_len: usize, document_mask: bool) {
        let tokens = sequences * seq_len;
        for (buffer, value) in [(&mut self.ids, 0), (&mut self.targets, NO_TARGET)] {
            buffer.clear();
            buffer.resize(tokens, value);
        }
        if document_mask {
            let starts = self.starts.get_or_insert_default();
            starts.clear();
            starts.resize(tokens, 0);
        } else {
            self.starts = None;
        }
        (self.sequences, self.seq_len, self.target_tokens) = (sequences, seq_len, 0);
    }
}
