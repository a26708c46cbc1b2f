//! What a model holds: numbers and bytes by class, counted from the buffers themselves.

use serde::Serialize;
use serde_json::Value;

use crate::backend::Backend;
use crate::error::Result;
use crate::layer::{ParamKind, Sparse};
use crate::model::{Activations, Llama};

/// Trained numbers by class; links count once, indices not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Values at links.
    pub links: u64,
    /// Low-rank factors.
    pub low_rank: u64,
    /// Full projection matrices.
    #[serde(rename = "dense_projections")]
    pub dense: u64,
    /// Embedding and head.
    #[serde(rename = "embedding_and_head")]
    pub ends: u64,
    /// Gains of norms.
    pub norms: u64,
}

impl Parameters {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.links + self.low_rank + self.dense + self.ends + self.norms
    }

    /// By class and in all, beside the number of the same model with full matrices.
    pub fn json(&self, if_dense: u64) -> Value {
        let mut value = serde_json::to_value(self).expect("plain data");
        value["total"] = self.total().into();
        value["total_if_dense"] = if_dense.into();
        value
    }
}

/// Bytes by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Master weights, with the rounded copies that products read.
    pub weights: u64,
    /// Gradients.
    pub gradients: u64,
    /// Adam's moments and, per link, the age that corrects their bias.
    pub moments: u64,
    /// Links: the host's pattern and the backend's index with its packed values.
    pub indices: u64,
    /// Activations and their gradients for one micro-batch.
    pub activations: u64,
}

impl Bytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.indices + self.activations
    }

    /// Name and bytes of each class.
    pub fn classes(&self) -> [(&'static str, u64); 5] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("moments", self.moments),
            ("indices", self.indices),
            ("activations", self.activations),
        ]
    }
}

/// Counts a model and its buffers.
pub fn count<B: Backend>(
    backend: &B,
    model: &mut Llama<B>,
    acts: &mut Activations<B>,
) -> Result<(Parameters, Bytes)> {
    let (mut n, mut bytes) = (Parameters::default(), Bytes::default());
    let of = |x: &B::Buf| backend.buf_bytes(x) as u64;
    model.visit(&mut |p| {
        let len = backend.len(p.values) as u64;
        *match p.kind {
            ParamKind::Sparse => &mut n.links,
            ParamKind::LowRankA | ParamKind::LowRankB => &mut n.low_rank,
            ParamKind::Dense => &mut n.dense,
            ParamKind::Embedding | ParamKind::Head => &mut n.ends,
            ParamKind::Norm => &mut n.norms,
        } += len;
        bytes.weights += of(p.values);
        bytes.gradients += of(p.grad);
        bytes.moments += of(p.m) + of(p.v) + p.ages.as_deref().map_or(0, of);
        Ok(())
    })?;
    for p in model.blocks.iter().flat_map(|b| &b.projections) {
        let Sparse::Links(s) = &p.sparse else { continue };
        let pattern = s.csr.pattern.row_offsets().len() + s.csr.pattern.column_indices().len();
        bytes.indices += (4 * pattern + backend.index_bytes(&s.csr.index)) as u64;
    }
    bytes.activations = acts.bytes(backend) as u64;
    Ok((n, bytes))
}

/// The most memory that this process has held, in bytes; `None` where the system does not tell.
pub fn peak_memory() -> Option<u64> {
    status("VmHWM:")
}

/// Bytes of mapped files that are in memory now, code and token shards: part of the peak, but not of
/// what a process needs, since the system can take them back. `None` where the system does not tell.
pub fn mapped_memory() -> Option<u64> {
    status("RssFile:")
}

/// A size in `/proc/self/status`, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}
