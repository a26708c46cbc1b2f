//! Batches and evaluation data.

use serde::{Deserialize, Serialize};

/// How documents become sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Documents joined by EOS, cut into windows of `seq_len`.
    #[default]
    Packed,
    /// One document per sequence, truncated or padded (the papers).
    DocPad,
}

/// Batches and evaluation data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// How documents become sequences.
    pub layout: Layout,
    /// In `packed`, attention stays within a document.
    pub document_mask: bool,
    /// Evaluation stops once this many target tokens have been scored; 0 = the whole split.
    pub eval_tokens: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { layout: Layout::Packed, document_mask: false, eval_tokens: 10_000_000 }
    }
}
