//! The machines that are measured, and their clocks.

use std::time::{Duration, Instant};

use chtsl::backend::{Backend, Cpu, Csr, Cuda};
use chtsl::config::Precision;
use chtsl::error::Result;

/// A backend with a number of tokens that fills it.
pub struct Machine<B> {
    pub backend: B,
    pub tokens: usize,
}

/// Times work on the machine itself.
pub trait Timed: Backend {
    /// Links to a dense scratch matrix, and a dense gradient to the links; `None` on a machine that
    /// multiplies with links as they are.
    fn scatter(&self, _: &Csr<Self>, _: &mut Self::Buf) -> Option<Result<()>> {
        None
    }
    /// Time of `iterations` calls in a row.
    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration;
}

impl Timed for Cpu {
    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration {
        let start = Instant::now();
        (0..iterations).for_each(|_| work());
        start.elapsed()
    }
}

impl Timed for Cuda {
    fn scatter(&self, w: &Csr<Self>, dvalues: &mut Self::Buf) -> Option<Result<()>> {
        Some(Cuda::scatter(self, w).and_then(|()| self.gather(w, dvalues)))
    }

    fn time(&self, iterations: u64, work: &mut dyn FnMut()) -> Duration {
        self.runtime().time(&mut || (0..iterations).for_each(|_| work())).expect("a working device")
    }
}

/// The CPU on all cores; 1024 tokens are 16 tiles.
pub fn cpu() -> Machine<Cpu> {
    let backend = Cpu::new(0, Precision::F32).expect("f32 is there");
    Machine { backend, tokens: 1024 }
}

/// A CUDA device in its usual precision, with the tokens of one micro-batch of 64 sequences.
pub fn cuda() -> Result<Machine<Cuda>> {
    Ok(Machine { backend: Cuda::open(Precision::Auto)?, tokens: 16_384 })
}
