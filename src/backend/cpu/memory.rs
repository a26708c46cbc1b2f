//! Cache-line aligned f32 arrays and the tiled activation.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

use super::simd::TILE;
use crate::backend::checks;
use crate::error::{Error, Result};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A zero-initialised f32 array whose first element starts a cache line: 64-byte vector loads that
/// straddle two lines cost twice.
#[derive(Default)]
pub struct Floats {
    lines: Vec<Line>,
    len: usize,
}

impl Floats {
    /// `len` zeros.
    ///
    /// Errors: `Error::Memory` when the allocator refuses.
    pub fn new(len: usize) -> Result<Self> {
        let count = len.div_ceil(16);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| {
            Error::Memory(format!(
                "cannot allocate {} bytes: lower train.micro_batch, model.seq_len or the model size",
                count * 64
            ))
        })?;
        lines.resize(count, Line::zeroed());
        Ok(Floats { lines, len })
    }

    /// Makes room for at least `len` elements; contents become arbitrary.
    pub(super) fn grow(&mut self, len: usize) {
        if self.len < len {
            self.lines.resize(len.div_ceil(16), Line::zeroed());
            self.len = len;
        }
    }
}

impl Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

/// An activation (features, tokens) as `[tokens/64][features][64]`.
///
/// A flat row of 1024 tokens would put every feature into the same cache sets; a tile of 64 tokens is
/// contiguous, fits the second-level cache and is a packed panel for the dense microkernel.
pub struct Act {
    features: usize,
    tokens: usize,
    data: Floats,
}

impl Act {
    /// Zeros.
    pub fn new(features: usize, tokens: usize) -> Result<Self> {
        let data = Floats::new(tokens.div_ceil(TILE) * features * TILE)?;
        Ok(Act { features, tokens, data })
    }

    /// Number of features.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// (features, tokens).
    pub(super) fn extents(&self) -> (usize, usize) {
        (self.features, self.tokens)
    }

    /// Number of tiles of 64 tokens.
    pub fn tiles(&self) -> usize {
        self.tokens.div_ceil(TILE)
    }

    /// Elements of one tile.
    pub(super) fn tile_len(&self) -> usize {
        self.features * TILE
    }

    /// Tile `i`, features × 64.
    pub(super) fn tile(&self, i: usize) -> &[f32] {
        let n = self.tile_len();
        &self.data[i * n..(i + 1) * n]
    }

    /// All tiles.
    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    /// All tiles.
    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    /// Position of (feature, token) in the data.
    pub(super) fn at(&self, feature: usize, token: usize) -> usize {
        ((token / TILE) * self.features + feature) * TILE + token % TILE
    }

    pub(super) fn fill_from(&mut self, rows: &[f32]) {
        for f in 0..self.features {
            for t in 0..self.tokens {
                let i = self.at(f, t);
                self.data[i] = rows[f * self.tokens + t];
            }
        }
    }

    pub(super) fn to_rows(&self) -> Vec<f32> {
        let mut rows = Vec::with_capacity(self.features * self.tokens);
        for f in 0..self.features {
            rows.extend((0..self.tokens).map(|t| self.data[self.at(f, t)]));
        }
        rows
    }

    pub(super) fn token(&self, t: usize) -> Vec<f32> {
        (0..self.features).map(|f| self.data[self.at(f, t)]).collect()
    }
}

/// Fails unless the activation is (features, tokens).
pub(super) fn check_act(op: &'static str, x: &Act, features: usize, tokens: usize) -> Result<()> {
    checks::act(op, x.extents(), (features, tokens))
}
