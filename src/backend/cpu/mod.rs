//! The CPU backend: reference and product. SIMD kernels over tiles of 64 tokens, rayon over tiles.
//!
//! Work is split by tile or by fixed blocks of rows, never by thread, and partial sums are added in
//! a fixed order, so results do not depend on the number of threads.

mod adam;
mod attention;
mod cross_entropy;
mod elementwise;
mod embedding;
mod gemm;
mod hybrid;
mod memory;
mod rmsnorm;
mod rope;
mod sddmm;
pub mod simd;
mod spmm;

use std::sync::{Arc, Mutex};

use crate::backend::meter::{HostMeter, Times, Work};
use crate::backend::{AdamStep, AttentionShape, Backend, Csr, Hybrid, HybridGrads, LossSum};
use crate::config::Precision;
use crate::error::{Error, Result, check_len};
use crate::sparse::Pattern;

pub use attention::KvCache;
pub use memory::{Act, Floats};
pub use simd::Level;
pub use spmm::BlockedIndex;

/// The CPU backend.
pub struct Cpu {
    level: Level,
    pool: rayon::ThreadPool,
    /// Round every result to bf16, as a machine that stores everything in bf16 would.
    bf16: bool,
    /// One scratch area per thread, grown on first use and then kept.
    scratch: Vec<Mutex<Floats>>,
    /// Scratch of whole operations (partial gradients, transposed tiles).
    shared: Mutex<Floats>,
    /// Rotary tables of the last shape.
    rope: Mutex<Option<Arc<rope::RopeTable>>>,
    meter: HostMeter,
}

impl Cpu {
    /// A backend with `threads` threads (0 = all cores) and the SIMD level of `CHTSL_SIMD` or the
    /// machine's best.
    ///
    /// Errors: `Error::Config` for a precision that this backend lacks.
    pub fn new(threads: usize, precision: Precision) -> Result<Self> {
        Self::with_level(threads, precision, Level::detect()?)
    }

    /// The same with an explicit SIMD level.
    pub fn with_level(threads: usize, precision: Precision, level: Level) -> Result<Self> {
        let bf16 = match precision {
            Precision::Auto | Precision::F32 => false,
            Precision::Bf16Pure => true,
            Precision::Bf16Master => {
                return Err(Error::Config(
                    "train.precision = \"bf16_master\" needs a CUDA device; on the CPU use \
                     \"f32\" (the default there) or \"bf16_pure\""
                        .into(),
                ));
            }
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("chtsl-{i}"))
            .build()
            .map_err(|e| Error::Memory(format!("cannot start {threads} threads: {e}")))?;
        let scratch = (0..pool.current_num_threads()).map(|_| Mutex::default()).collect();
        Ok(Cpu {
            level,
            pool,
            bf16,
            scratch,
            shared: Mutex::default(),
            rope: Mutex::default(),
            meter: HostMeter::default(),
        })
    }

    /// SIMD level in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `f` with at least `len` elements of this thread's scratch (contents arbitrary).
    fn with_scratch<T>(&self, len: usize, f: impl FnOnce(&mut [f32]) -> T) -> T {
        let slot = rayon::current_thread_index().unwrap_or(0);
        let mut area = self.scratch[slot].lock().expect("a kernel panicked");
        area.grow(len);
        f(&mut area[..len])
    }
}

impl Backend for Cpu {
    type Act = Act;
    type Buf = Floats;
    type Index = BlockedIndex;
    type Cache = KvCache;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn precision(&self) -> Precision {
        if self.bf16 { Precision::Bf16Pure } else { Precision::F32 }
    }

    fn describe(&self) -> String {
        format!("cpu, {} threads, {:?}", self.threads(), self.level).to_lowercase()
    }

    fn mark(&self, work: Work) {
        self.meter.mark(work);
    }

    fn times(&self) -> Result<Times> {
        Ok(self.meter.times())
    }

    fn act_bytes(&self, x: &Act) -> usize {
        4 * x.data().len()
    }

    fn buf_bytes(&self, x: &Floats) -> usize {
        4 * x.len()
    }

    fn index_bytes(&self, x: &BlockedIndex) -> usize {
        x.bytes()
    }

    fn scratch_bytes(&self) -> usize {
        let areas = self.scratch.iter().chain([&self.shared]);
        areas.map(|area| 4 * area.lock().expect("a kernel panicked").len()).sum()
    }

    fn act(&self, features: usize, tokens: usize) -> Result<Act> {
        Act::new(features, tokens)
    }

    fn statistics(&self, rows: usize, tokens: usize) -> Result<Act> {
        Act::new(rows, tokens)
    }

    fn write_act(&self, x: &mut Act, data: &[f32]) -> Result<()> {
        check_len("write_act", "elements", x.features() * x.tokens(), data.len())?;
        x.fill_from(data);
        Ok(())
    }

    fn read_act(&self, x: &Act) -> Result<Vec<f32>> {
        Ok(x.to_rows())
    }

    fn buf(&self, len: usize) -> Result<Floats> {
        Floats::new(len)
    }

    fn len(&self, x: &Floats) -> usize {
        x.len()
    }

    fn write(&self, x: &mut Floats, data: &[f32]) -> Result<()> {
        check_len("write", "elements", x.len(), data.len())?;
        x.copy_from_slice(data);
        Ok(())
    }

    fn read(&self, x: &Floats) -> Result<Vec<f32>> {
        Ok(x.to_vec())
    }

    fn zero(&self, x: &mut Floats) -> Result<()> {
        x.fill(0.0);
        Ok(())
    }

    fn index(&self, pattern: &Pattern) -> Result<BlockedIndex> {
        BlockedIndex::new(pattern)
    }

    fn pack(&self, w: &mut Csr<Self>) -> Result<()> {
        check_len("pack", "values", w.pattern.nnz(), w.values.len())?;
        w.index.pack(&w.values);
        Ok(())
    }

    fn round(&self, x: &mut Floats) -> Result<()> {
        if self.bf16 {
            elementwise::round_to_bf16(self, x);
        }
        Ok(())
    }

    fn sum_squares(&self, x: &Floats) -> Result<f64> {
        Ok(elementwise::sum_squares(self, x))
    }

    fn dense_forward(&self, w: &Floats, x: &Act, y: &mut Act) -> Result<()> {
        gemm::forward(self, w, x, y)
    }

    fn dense_backward_input(
        &self,
        w: &Floats,
        dy: &Act,
        dx: &mut Act,
        accumulate: bool,
    ) -> Result<()> {
        gemm::backward_input(self, w, dy, dx, accumulate)
    }

    fn dense_backward_weight(&self, dy: &Act, x: &Act, dw: &mut Floats) -> Result<()> {
        gemm::backward_weight(self, dy, x, dw)
    }

    fn spmm(&self, w: &Csr<Self>, x: &Act, y: &mut Act) -> Result<()> {
        spmm::forward(self, w, x, y)
    }

    fn spmm_transposed(
        &self,
        w: &Csr<Self>,
        dy: &Act,
        dx: &mut Act,
        accumulate: bool,
    ) -> Result<()> {
        spmm::transposed(self, w, dy, dx, accumulate)
    }

    fn sddmm(&self, w: &Csr<Self>, dy: &Act, x: &Act, dvalues: &mut Floats) -> Result<()> {
        sddmm::sddmm(self, w, dy, x, dvalues)
    }

    fn hybrid_forward(
        &self,
        w: &Hybrid<Self>,
        x: &Act,
        u: Option<&mut Act>,
        o: &mut Act,
        sums: Option<&mut Act>,
    ) -> Result<()> {
        hybrid::forward(self, w, x, u, o, sums)
    }

    fn hybrid_backward(
        &self,
        w: &Hybrid<Self>,
        x: &Act,
        u: Option<&Act>,
        o: &Act,
        coefficients: Option<&Act>,
        d_o: &mut Act,
        dx: &mut Act,
        accumulate: bool,
        grads: HybridGrads<Self>,
    ) -> Result<()> {
        hybrid::backward(self, w, x, u, o, coefficients, d_o, dx, accumulate, grads)
    }

    fn zero_act(&self, x: &mut Act) -> Result<()> {
        x.data_mut().fill(0.0);
        Ok(())
    }

    fn copy(&self, x: &Act, y: &mut Act) -> Result<()> {
        memory::check_act("copy", x, y.features(), y.tokens())?;
        y.data_mut().copy_from_slice(x.data());
        Ok(())
    }

    fn add(&self, a: &Act, b: &Act, y: &mut Act) -> Result<()> {
        elementwise::add(self, a, b, y)
    }

    fn swiglu_forward(&self, gate: &Act, up: &Act, y: &mut Act) -> Result<()> {
        elementwise::swiglu_forward(self, gate, up, y)
    }

    fn swiglu_backward(
        &self,
        dy: &Act,
        gate: &Act,
        up: &Act,
        dgate: &mut Act,
        dup: &mut Act,
    ) -> Result<()> {
        elementwise::swiglu_backward(self, dy, gate, up, dgate, dup)
    }

    fn rmsnorm_forward(
        &self,
        x: &Act,
        gain: &Floats,
        eps: f32,
        y: &mut Act,
        rstd: &mut Act,
    ) -> Result<()> {
        rmsnorm::forward(self, x, gain, eps, y, rstd)
    }

    fn rmsnorm_backward(
        &self,
        dy: &Act,
        x: &Act,
        gain: &Floats,
        rstd: &Act,
        dx: &mut Act,
        dgain: &mut Floats,
    ) -> Result<()> {
        rmsnorm::backward(self, dy, x, gain, rstd, dx, dgain)
    }

    fn attention_forward(
        &self,
        shape: AttentionShape,
        rope_base: f64,
        q: &Act,
        k: &Act,
        v: &Act,
        out: &mut Act,
        lse: &mut Act,
    ) -> Result<()> {
        attention::forward(self, shape, rope_base, [q, k, v], out, lse)
    }

    fn attention_backward(
        &self,
        shape: AttentionShape,
        rope_base: f64,
        q: &Act,
        k: &Act,
        v: &Act,
        out: &Act,
        lse: &Act,
        d_out: &Act,
        dq: &mut Act,
        dk: &mut Act,
        dv: &mut Act,
    ) -> Result<()> {
        attention::backward(self, shape, rope_base, [q, k, v, out, d_out], lse, [dq, dk, dv])
    }

    fn cache(&self, sequences: usize, max_len: usize, features: usize) -> Result<KvCache> {
        KvCache::new(sequences, max_len, features)
    }

    fn attention_decode(
        &self,
        shape: AttentionShape,
        rope_base: f64,
        position: usize,
        q: &Act,
        k: &Act,
        v: &Act,
        cache: &mut KvCache,
        out: &mut Act,
    ) -> Result<()> {
        attention::decode(self, shape, rope_base, position, [q, k, v], cache, out)
    }

    fn embedding_forward(&self, table: &Floats, ids: &[u32], x: &mut Act) -> Result<()> {
        embedding::forward(self, table, ids, x)
    }

    fn embedding_backward(&self, ids: &[u32], dx: &Act, dtable: &mut Floats) -> Result<()> {
        embedding::backward(self, ids, dx, dtable)
    }

    fn cross_entropy_train(
        &self,
        w: &Floats,
        x: &Act,
        targets: &[u32],
        scale: f32,
        dx: &mut Act,
        dw: &mut Floats,
    ) -> Result<LossSum> {
        cross_entropy::train(self, w, x, targets, scale, dx, dw)
    }

    fn cross_entropy_eval(&self, w: &Floats, x: &Act, targets: &[u32]) -> Result<LossSum> {
        cross_entropy::eval(self, w, x, targets)
    }

    fn read_token(&self, x: &Act, token: usize) -> Result<Vec<f32>> {
        if token >= x.tokens() {
            return Err(Error::shape("read_token", format!("token below {}", x.tokens()), token));
        }
        Ok(x.token(token))
    }

    fn adam(
        &self,
        p: &mut Floats,
        g: &Floats,
        m: &mut Floats,
        v: &mut Floats,
        ages: Option<&mut Floats>,
        step: AdamStep,
    ) -> Result<()> {
        adam::adam(self, p, g, m, v, ages, step)
    }
}
