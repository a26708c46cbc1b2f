//! What a run remembers beside its tensors.

use serde::{Deserialize, Serialize};

/// Version of the checkpoint format: 2 has a checksum in its manifest.
pub const FORMAT: u32 = 2;

/// Position of a run after a finished update. Random draws are pure functions of the seed and these
/// counters, so no generator state is needed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of the format.
    pub format: u32,
    /// Version of the program.
    pub program: String,
    /// Updates done, skipped and replaced ones included.
    pub step: u64,
    /// Optimizer updates done, for the bias correction.
    pub optimizer_steps: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Number of the next training sample; epochs follow from it.
    pub samples: u64,
    /// Updates skipped in a row because of non-finite numbers.
    pub skipped_in_a_row: u64,
    /// Hash over the training tokens.
    pub dataset_fingerprint: u64,
    /// Folder of the data, absolute; unset where the run made its own, and in older checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_folder: Option<String>,
    /// Hash of the tokenizer, if known.
    pub tokenizer_hash: Option<u64>,
    /// Precision in use.
    pub precision: String,
    /// rms of L per projection at the first logged update, to notice a blow-up.
    pub first_rms_l: Vec<f64>,
    /// Losses of the last updates, where spikes are watched for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_losses: Vec<f64>,
    /// Gradient norms of the last updates, likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_norms: Vec<f64>,
}
