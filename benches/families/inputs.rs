//! Shapes and seeded inputs.

use chtsl::backend::{Backend, Csr};
use chtsl::rng::{Purpose, Stream};
use chtsl::topology::init::er;

/// (outputs, inputs) of LLaMA-60M and 130M: attention, gate and up, down.
pub const SHAPES: [(usize, usize); 6] =
    [(512, 512), (1376, 512), (512, 1376), (768, 768), (2048, 768), (768, 2048)];

pub const DENSITIES: [f64; 4] = [0.05, 0.10, 0.20, 0.30];

/// Standard normal numbers times `scale`.
pub fn normal(seed: u64, n: usize, scale: f64) -> Vec<f32> {
    let stream = Stream::new(seed, Purpose::Init, 0, 0);
    (0..n as u64).map(|i| (scale * stream.normal(i)) as f32).collect()
}

/// An activation of normal numbers.
pub fn act<B: Backend>(backend: &B, seed: u64, features: usize, tokens: usize) -> B::Act {
    let mut x = backend.act(features, tokens).expect("memory");
    // One row of numbers repeated with shifts: drawing every element would take longer than timing.
    let draws = normal(seed, tokens + features, 1.0);
    let data: Vec<f32> = (0..features).flat_map(|f| draws[f..f + tokens].to_vec()).collect();
    backend.write_act(&mut x, &data).expect("the right length");
    x
}

/// A parameter of normal numbers.
pub fn buf<B: Backend>(backend: &B, seed: u64, n: usize) -> B::Buf {
    let mut x = backend.buf(n).expect("memory");
    backend.write(&mut x, &normal(seed, n, 0.05)).expect("the right length");
    x
}

/// A matrix with uniformly random links.
pub fn random<B: Backend>(backend: &B, rows: usize, cols: usize, density: f64) -> Csr<B> {
    let nnz = (density * (rows * cols) as f64).round() as usize;
    let pattern = er::links(1, 0, rows, cols, nnz).expect("a pattern");
    let values = normal(2, nnz, 0.05);
    Csr::new(backend, pattern, &values).expect("memory")
}
