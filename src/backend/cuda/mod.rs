//! The CUDA backend: handwritten kernels reached through one table of launchers, cuBLASLt for dense
//! products.
//!
//! | file | what |
//! |---|---|
//! | [`driver`] | opens the device: libcuda, cuBLASLt, and a sentence for what is missing |
//! | [`device`] | the open device as a machine: memory, copies, a stream, dense products |
//! | [`runtime`] | what a machine offers beside kernels; a device or the tests' emulator |
//! | [`memory`] | activations, parameters, links in device memory |
//! | `launch` | calls of launchers, their status |
//! | the families | checked calls into `include/<family>.h` |
//!
//! Activations are feature-major, one row per feature, tokens contiguous and padded with zeros to a
//! multiple of 128. All work goes to one stream, in order. Sums have a fixed order: no float
//! atomics, no choice made by timing.

mod adam;
mod attention;
#[allow(clippy::all, missing_docs, non_camel_case_types, rustdoc::all)]
#[rustfmt::skip]
pub mod bindings;
mod cross_entropy;
pub mod device;
pub mod driver;
mod elementwise;
mod embedding;
mod gemm;
mod hybrid;
mod launch;
pub mod memory;
mod meter;
mod rmsnorm;
pub mod runtime;
mod sddmm;
mod spmm;
mod topology;

use std::sync::{Arc, Mutex, MutexGuard};

use crate::backend::{
    AdamStep, AttentionShape, Backend, Csr, EvolveRules, Evolved, Hybrid, HybridGrads, LossSum,
    Times, Work, checks,
};
use crate::config::Precision;
use crate::error::{Error, Result, check_len};
use crate::sparse::{LinkChange, Pattern};

pub use attention::KvCache;
use memory::Memory;
pub use memory::{Act, Buf, Index};
use runtime::{Element, Runtime};

/// The CUDA backend on a device or on the emulator.
pub struct Cuda {
    runtime: Arc<dyn Runtime>,
    /// Type of activations and of operands of products.
    element: Element,
    /// Which implementation of a kernel runs where one is named; 0 = the default.
    version: i32,
    strategy: Strategy,
    /// Scratch of whole operations by purpose, grown on first use and then kept.
    scratch: [Mutex<Memory>; Scratch::COUNT],
    /// Bias corrections of Adam by age.
    corrections: Mutex<Option<adam::Corrections>>,
    /// Rotary tables of the last shape.
    rope: Mutex<Option<attention::Rope>>,
    meter: meter::Meter,
}

/// How products with the links of a matrix are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Kernels that walk the links.
    Links,
    /// The links are scattered into a dense scratch matrix, the dense library multiplies, and the
    /// gradient is gathered at the links.
    #[default]
    Dense,
}

/// Purposes of scratch memory. An operation that holds several takes them in this order, so that two
/// threads with one backend cannot wait for each other.
#[derive(Clone, Copy)]
enum Scratch {
    /// Gradient of the low-rank branch's output, where alignment sets it apart from the sum's.
    Branch,
    /// Dense form of a sparse matrix, or its dense gradient.
    Dense,
    /// Inside of the low-rank branch: φ(u) and the gradient of u.
    Hidden,
    /// Logits of one chunk of tokens.
    Logits,
    /// Small integer lists: token ids, targets, document starts.
    Lists,
    /// Transposed copies, and partial sums of reductions.
    Partial,
}

impl Scratch {
    const COUNT: usize = 6;
}

impl Cuda {
    /// A backend on the first device, in `precision`.
    ///
    /// Errors: `Error::Device` with one sentence that says what is missing; `Error::Config` for a
    /// precision that this backend lacks.
    pub fn open(precision: Precision) -> Result<Self> {
        Cuda::new(Arc::new(device::Device::open()?), precision)
    }

    /// A backend on `runtime` in `precision`.
    ///
    /// Errors: `Error::Config` for a precision that this backend lacks.
    pub fn new(runtime: Arc<dyn Runtime>, precision: Precision) -> Result<Self> {
        let element = match precision {
            Precision::F32 => Element::F32,
            Precision::Auto | Precision::Bf16Master => Element::Bf16,
            Precision::Bf16Pure => {
                return Err(Error::Config(
                    "train.precision = \"bf16_pure\" is not available on CUDA yet; use \
                     \"bf16_master\" (the default there) or \"f32\", or --device cpu"
                        .into(),
                ));
            }
        };
        let scratch = (0..Scratch::COUNT)
            .map(|_| Ok(Mutex::new(Memory::new(&runtime, 0)?)))
            .collect::<Result<Vec<_>>>()?;
        let scratch = scratch.try_into().ok().expect("one per purpose");
        Ok(Cuda {
            runtime,
            element,
            version: 0,
            strategy: Strategy::default(),
            scratch,
            corrections: Mutex::new(None),
            rope: Mutex::new(None),
            meter: meter::Meter::default(),
        })
    }

    /// The same with another way to multiply with links.
    pub fn with_strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The same with a certain implementation of every kernel that has several: 1 is the naive one.
    pub fn with_version(mut self, version: i32) -> Self {
        self.version = version;
        self
    }

    /// The machine, to allocate on it.
    pub fn shared_runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// The machine.
    pub fn runtime(&self) -> &dyn Runtime {
        &*self.runtime
    }

    fn statistic(&self, features: usize, tokens: usize) -> Result<Act> {
        Act::new(&self.runtime, features, tokens, Element::F32)
    }

    /// At least `bytes` of scratch for a purpose, contents arbitrary.
    fn scratch(&self, purpose: Scratch, bytes: usize) -> Result<MutexGuard<'_, Memory>> {
        let mut memory = self.scratch[purpose as usize].lock().expect("not poisoned");
        if memory.bytes() < bytes {
            // The old piece is freed first: both together might not fit. Work in flight on it is
            // ordered before its release by the stream.
            *memory = Memory::new(&self.runtime, 0)?;
            *memory = Memory::new(&self.runtime, bytes)?;
        }
        Ok(memory)
    }
}

/// Compares the extents of an activation.
fn check_act(op: &'static str, x: &Act, features: usize, tokens: usize) -> Result<()> {
    checks::act(op, x.extents(), (features, tokens))
}

impl Drop for Cuda {
    fn drop(&mut self) {
        self.meter.clear(&*self.runtime);
    }
}

impl Backend for Cuda {
    type Act = Act;
    type Buf = Buf;
    type Index = Index;
    type Cache = KvCache;

    fn name(&self) -> &'static str {
        self.runtime.name()
    }

    fn precision(&self) -> Precision {
        match self.element {
            Element::F32 => Precision::F32,
            Element::Bf16 => Precision::Bf16Master,
        }
    }

    fn describe(&self) -> String {
        let precision = match self.element {
            Element::F32 => "f32",
            Element::Bf16 => "bf16 with f32 master weights",
        };
        format!("{}, {precision}", self.runtime.describe())
    }

    fn mark(&self, work: Work) {
        self.meter.mark(&*self.runtime, work);
    }

    fn times(&self) -> Result<Times> {
        self.meter.times(&*self.runtime)
    }

    fn act_bytes(&self, x: &Act) -> usize {
        x.bytes()
    }

    fn buf_bytes(&self, x: &Buf) -> usize {
        x.bytes()
    }

    fn index_bytes(&self, x: &Index) -> usize {
        x.bytes()
    }

    fn device_memory(&self) -> Option<(usize, usize)> {
        self.runtime.memory()
    }

    fn act(&self, features: usize, tokens: usize) -> Result<Act> {
        Act::new(&self.runtime, features, tokens, self.element)
    }

    fn statistics(&self, features: usize, tokens: usize) -> Result<Act> {
        self.statistic(features, tokens)
    }

    fn write_act(&self, x: &mut Act, data: &[f32]) -> Result<()> {
        check_len("write_act", "elements", x.features * x.tokens, data.len())?;
        x.write(data)
    }

    fn read_act(&self, x: &Act) -> Result<Vec<f32>> {
        x.read()
    }

    fn buf(&self, len: usize) -> Result<Buf> {
        Buf::new(&self.runtime, len)
    }

    fn len(&self, x: &Buf) -> usize {
        x.len
    }

    fn write(&self, x: &mut Buf, data: &[f32]) -> Result<()> {
        check_len("write", "elements", x.len, data.len())?;
        x.changed();
        x.memory.write(0, data)
    }

    fn read(&self, x: &Buf) -> Result<Vec<f32>> {
        let mut data = vec![0.0; x.len];
        x.memory.read(0, &mut data)?;
        Ok(data)
    }

    fn zero(&self, x: &mut Buf) -> Result<()> {
        x.changed();
        x.memory.clear()
    }

    fn index(&self, pattern: &Pattern) -> Result<Index> {
        Index::new(&self.runtime, pattern)
    }

    fn pack(&self, w: &mut Csr<Self>) -> Result<()> {
        check_len("pack", "values", w.index.nnz, w.values.len)
    }

    fn round(&self, _: &mut Buf) -> Result<()> {
        Ok(()) // parameters are f32 in every precision of this backend
    }

    fn sum_squares(&self, x: &Buf) -> Result<f64> {
        elementwise::sum_squares(self, x)
    }

    fn dense_forward(&self, w: &Buf, x: &Act, y: &mut Act) -> Result<()> {
        gemm::forward(self, w, x, y)
    }

    fn dense_backward_input(
        &self,
        w: &Buf,
        dy: &Act,
        dx: &mut Act,
        accumulate: bool,
    ) -> Result<()> {
        gemm::backward_input(self, w, dy, dx, accumulate)
    }

    fn dense_backward_weight(&self, dy: &Act, x: &Act, dw: &mut Buf) -> Result<()> {
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

    fn sddmm(&self, w: &Csr<Self>, dy: &Act, x: &Act, dvalues: &mut Buf) -> Result<()> {
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
        x.memory.clear()
    }

    fn copy(&self, x: &Act, y: &mut Act) -> Result<()> {
        elementwise::copy(x, y)
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
        gain: &Buf,
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
        gain: &Buf,
        rstd: &Act,
        dx: &mut Act,
        dgain: &mut Buf,
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
        attention::forward(self, shape, rope_base, q, k, v, out, lse)
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
        let saved = attention::Saved { q, k, v, out, lse };
        attention::backward(self, shape, rope_base, saved, d_out, dq, dk, dv)
    }

    fn cache(&self, sequences: usize, max_len: usize, features: usize) -> Result<KvCache> {
        KvCache::new(self, sequences, max_len, features)
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
        attention::decode(self, shape, rope_base, position, (q, k, v), cache, out)
    }

    fn embedding_forward(&self, table: &Buf, ids: &[u32], x: &mut Act) -> Result<()> {
        embedding::forward(self, table, ids, x)
    }

    fn embedding_backward(&self, ids: &[u32], dx: &Act, dtable: &mut Buf) -> Result<()> {
        embedding::backward(self, ids, dx, dtable)
    }

    fn cross_entropy_train(
        &self,
        w: &Buf,
        x: &Act,
        targets: &[u32],
        scale: f32,
        dx: &mut Act,
        dw: &mut Buf,
    ) -> Result<LossSum> {
        cross_entropy::train(self, w, x, targets, scale, dx, dw)
    }

    fn cross_entropy_eval(&self, w: &Buf, x: &Act, targets: &[u32]) -> Result<LossSum> {
        cross_entropy::eval(self, w, x, targets)
    }

    fn read_token(&self, x: &Act, token: usize) -> Result<Vec<f32>> {
        elementwise::read_token(self, x, token)
    }

    fn adam(
        &self,
        p: &mut Buf,
        g: &Buf,
        m: &mut Buf,
        v: &mut Buf,
        ages: Option<&mut Buf>,
        step: AdamStep,
    ) -> Result<()> {
        adam::adam(self, p, g, m, v, ages, step)
    }

    fn evolve(&self, w: &Csr<Self>, rules: &EvolveRules) -> Result<Option<Evolved<Self>>> {
        topology::evolve(self, w, rules)
    }

    fn migrate(&self, change: &LinkChange, arrays: &mut [&mut Buf]) -> Result<()> {
        topology::migrate(self, change, arrays)
    }
}
