//! Causal attention with RoPE. `include/attention.h`

use super::Cuda;
use super::memory::Act;
use crate::backend::AttentionShape;
use crate::error::Result;

/// Keys and values of past tokens.
pub struct KvCache {}

impl KvCache {
    pub(super) fn new(
        _cuda: &Cuda,
        _sequences: usize,
        _max_len: usize,
        _features: usize,
    ) -> Result<Self> {
        unimplemented!()
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

#[allow(clippy::too_many_arguments)]
pub(super) fn forward(
    _cuda: &Cuda,
    _shape: AttentionShape,
    _rope_base: f64,
    _q: &Act,
    _k: &Act,
    _v: &Act,
    _out: &mut Act,
    _lse: &mut Act,
) -> Result<()> {
    unimplemented!()
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    _cuda: &Cuda,
    _shape: AttentionShape,
    _rope_base: f64,
    _saved: Saved,
    _d_out: &Act,
    _dq: &mut Act,
    _dk: &mut Act,
    _dv: &mut Act,
) -> Result<()> {
    unimplemented!()
}

pub(super) fn decode(
    _cuda: &Cuda,
    _shape: AttentionShape,
    _rope_base: f64,
    _position: usize,
    _qkv: (&Act, &Act, &Act),
    _cache: &mut KvCache,
    _out: &mut Act,
) -> Result<()> {
    unimplemented!()
}
