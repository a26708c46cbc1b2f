//! Causal attention with RoPE. `include/attention.h`

use super::Cuda;
use super::bindings::chtsl_attention;
use super::launch::launch;
use super::memory::{Act, Memory};
use super::{Scratch, check_act};
use crate::backend::{AttentionShape, checks};
use crate::error::{Error, Result};

/// Largest number of features per head that the kernels hold in shared memory.
const MOST_HEAD_DIM: usize = 128;

/// (cos, sin) of position·base^(-2i/d), computed in f64, kept from the last call.
pub(super) struct Rope {
    head_dim: usize,
    base: u64,
    positions: usize,
    table: Memory,
}

impl Rope {
    fn new(cuda: &Cuda, head_dim: usize, base: f64, positions: usize) -> Result<Self> {
        let half = head_dim / 2;
        let frequencies: Vec<f64> =
            (0..half).map(|i| libm::pow(base, -2.0 * i as f64 / head_dim as f64)).collect();
        let table: Vec<[f32; 2]> = (0..positions)
            .flat_map(|p| frequencies.iter().map(move |f| p as f64 * f))
            .map(|angle| [libm::cos(angle) as f32, libm::sin(angle) as f32])
            .collect();
        let table = Memory::from_slice(&cuda.runtime, &table)?;
        Ok(Rope { head_dim, base: base.to_bits(), positions, table })
    }
}

/// Keys, rotated, and values of past tokens: (sequences, features, max_len) each, f32.
pub struct KvCache {
    keys: Memory,
    values: Memory,
    sequences: usize,
    max_len: usize,
    features: usize,
}

impl KvCache {
    pub(super) fn new(
        cuda: &Cuda,
        sequences: usize,
        max_len: usize,
        features: usize,
    ) -> Result<Self> {
        let bytes = 4 * sequences * max_len * features;
        let new = || Memory::zeroed(&cuda.runtime, bytes);
        Ok(KvCache { keys: new()?, values: new()?, sequences, max_len, features })
    }
}

/// What the forward pass leaves for the backward pass.
pub(super) struct Saved<'a> {
    pub q: &'a Act,
    pub k: &'a Act,
    pub v: &'a Act,
    pub out: &'a Act,
    pub lse: &'a Act,
}

fn check(op: &'static str, shape: &AttentionShape, acts: &[&Act]) -> Result<()> {
    checks::attention(op, shape, acts.iter().map(|a| a.extents()))?;
    if shape.head_dim > MOST_HEAD_DIM {
        return Err(Error::shape(
            op,
            format!("a head width of at most {MOST_HEAD_DIM}"),
            shape.head_dim,
        ));
    }
    // Tiles of keys are skipped up to the start of a tile's first query.
    let falls = |s: &[u32]| s.windows(2).any(|pair| pair[1] < pair[0]);
    if shape.starts.is_some_and(|s| s.chunks(shape.seq_len.max(1)).any(falls)) {
        let expected = "document starts that do not decrease within a sequence";
        return Err(Error::shape(op, expected, "a smaller one after a larger one"));
    }
    Ok(())
}

/// Runs `f` with the shape as launchers take it, tables and document starts uploaded.
fn with_shape(
    cuda: &Cuda,
    shape: &AttentionShape,
    rope_base: f64,
    positions: usize,
    f: impl FnOnce(chtsl_attention) -> Result<()>,
) -> Result<()> {
    let mut slot = cuda.rope.lock().expect("not poisoned");
    let wanted = (shape.head_dim, rope_base.to_bits());
    let rope = match &mut *slot {
        Some(r) if (r.head_dim, r.base) == wanted && r.positions >= positions => r,
        slot => slot.insert(Rope::new(cuda, shape.head_dim, rope_base, positions)?),
    };
    let starts = match shape.starts {
        Some(list) => {
            let mut memory = cuda.scratch(Scratch::Lists, size_of_val(list))?;
            memory.write(0, list)?;
            Some(memory)
        }
        None => None,
    };
    f(chtsl_attention {
        sequences: shape.sequences as u32,
        seq_len: shape.seq_len as u32,
        heads: shape.heads as u32,
        head_dim: shape.head_dim as u32,
        starts: starts.as_ref().map_or(std::ptr::null(), |m| m.pointer().cast_const().cast()),
        rope: rope.table.pointer().cast(),
    })
}

#[allow(clippy::too_many_arguments)]
pub(super) fn forward(
    cuda: &Cuda,
    shape: AttentionShape,
    rope_base: f64,
    q: &Act,
    k: &Act,
    v: &Act,
    out: &mut Act,
    lse: &mut Act,
) -> Result<()> {
    const OP: &str = "attention_forward";
    check(OP, &shape, &[q, k, v, out])?;
    check_act(OP, lse, shape.heads, q.tokens)?;
    if q.tokens == 0 || shape.heads == 0 {
        return Ok(());
    }
    with_shape(cuda, &shape, rope_base, shape.seq_len, |a| {
        launch!(cuda, attention_forward(a, q.raw(), k.raw(), v.raw(), out.raw(), lse.raw()))
    })
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    cuda: &Cuda,
    shape: AttentionShape,
    rope_base: f64,
    saved: Saved,
    d_out: &Act,
    dq: &mut Act,
    dk: &mut Act,
    dv: &mut Act,
) -> Result<()> {
    const OP: &str = "attention_backward";
    let Saved { q, k, v, out, lse } = saved;
    check(OP, &shape, &[q, k, v, out, d_out, dq, dk, dv])?;
    check_act(OP, lse, shape.heads, q.tokens)?;
    if q.tokens == 0 || shape.heads == 0 {
        return Ok(());
    }
    let results = [dq.raw(), dk.raw(), dv.raw()];
    with_shape(cuda, &shape, rope_base, shape.seq_len, |a| {
        let [dq, dk, dv] = results;
        let (q, k, v, out) = (q.raw(), k.raw(), v.raw(), out.raw());
        launch!(cuda, attention_backward(a, q, k, v, out, lse.raw(), d_out.raw(), dq, dk, dv))
    })
}

pub(super) fn decode(
    cuda: &Cuda,
    shape: AttentionShape,
    rope_base: f64,
    position: usize,
    (q, k, v): (&Act, &Act, &Act),
    cache: &mut KvCache,
    out: &mut Act,
) -> Result<()> {
    const OP: &str = "attention_decode";
    check(OP, &shape, &[q, k, v, out])?;
    let features = shape.heads * shape.head_dim;
    if shape.seq_len != 1 || cache.sequences != shape.sequences || cache.features != features {
        return Err(Error::shape(OP, "one token per cached sequence", shape.seq_len));
    }
    if position >= cache.max_len {
        return Err(Error::shape(OP, format!("position below {}", cache.max_len), position));
    }
    if q.tokens == 0 || shape.heads == 0 {
        return Ok(());
    }
    let (at, len) = (position as u32, cache.max_len as u32);
    let scores =
        cuda.scratch(Scratch::Partial, 4 * shape.sequences * shape.heads * cache.max_len)?;
    let (keys, values) = (cache.keys.pointer().cast(), cache.values.pointer().cast());
    let scores = scores.pointer().cast();
    let shape = AttentionShape { starts: None, ..shape };
    with_shape(cuda, &shape, rope_base, cache.max_len, |a| {
        let (q, k, v, out) = (q.raw(), k.raw(), v.raw(), out.raw());
        launch!(cuda, attention_decode(a, at, len, q, k, v, keys, values, scores, out))
    })
}
