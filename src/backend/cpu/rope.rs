//! Rotary position embedding, half-split: feature i is rotated with feature i + d/2.

use std::sync::Arc;

use super::Cpu;

/// cos and sin of position·base^(-2i/d), (d/2, positions) each, computed in f64.
pub(super) struct RopeTable {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    positions: usize,
    shape: (usize, u64, usize),
}

/// Tables for positions `0..positions`, kept from the last call with the same shape.
pub(super) fn cached(cpu: &Cpu, head_dim: usize, base: f64, positions: usize) -> Arc<RopeTable> {
    let mut slot = cpu.rope.lock().expect("a kernel panicked");
    match &*slot {
        Some(table) if table.shape == (head_dim, base.to_bits(), positions) => table.clone(),
        _ => slot.insert(Arc::new(RopeTable::new(head_dim, base, 0, positions))).clone(),
    }
}

impl RopeTable {
    /// Tables for positions `first..first + positions`.
    pub(super) fn new(head_dim: usize, base: f64, first: usize, positions: usize) -> Self {
        let half = head_dim / 2;
        let mut table = RopeTable {
            cos: Vec::with_capacity(half * positions),
            sin: Vec::with_capacity(half * positions),
            positions,
            shape: (head_dim, base.to_bits(), positions),
        };
        for i in 0..half {
            let frequency = libm::pow(base, -2.0 * i as f64 / head_dim as f64);
            for t in 0..positions {
                let angle = (first + t) as f64 * frequency;
                table.cos.push(libm::cos(angle) as f32);
                table.sin.push(libm::sin(angle) as f32);
            }
        }
        table
    }

    /// Rotates a head (d, stride) in place; `inverse` rotates gradients back.
    pub(super) fn rotate(&self, head: &mut [f32], stride: usize, inverse: bool) {
        let half = head.len() / stride / 2;
        let (low, high) = head.split_at_mut(half * stride);
        for i in 0..half {
            let (cos, sin) = (&self.cos[i * self.positions..], &self.sin[i * self.positions..]);
            let a = &mut low[i * stride..][..self.positions];
            let b = &mut high[i * stride..][..self.positions];
            for t in 0..self.positions {
                let (x, y, c) = (a[t], b[t], cos[t]);
                let s = if inverse { -sin[t] } else { sin[t] };
                a[t] = x * c - y * s;
                b[t] = y * c + x * s;
            }
        }
    }
}
