//! The operations a model is made of, each documented once; a backend implements them all.
//!
//! An activation is (features, tokens). How it lies in memory is the backend's own: layers hand
//! activations to operations and never index into them. Parameters, gradients and moments are flat
//! f32 buffers. Every operation has a fixed order of sums: the same inputs give the same bits,
//! whatever the number of threads.

pub mod adam;
mod checks;
pub mod cpu;
pub mod cuda;
pub mod evolve;
pub mod meter;

use crate::config::{Activation, Precision};
use crate::error::Result;
use crate::sparse::{LinkChange, Pattern};

pub use cpu::Cpu;
pub use cuda::Cuda;
pub use evolve::{EvolveRules, Evolved, RemovalKeys};
pub use meter::{Activity, Times, Work};

/// Marks a position without a target; its loss and gradient are zero.
pub const NO_TARGET: u32 = u32::MAX;

/// A sparse matrix: its links on the host, their device form and the values, one per link in CSR
/// order. After `values` changed, [`Backend::pack`] must run before the next product.
pub struct Csr<B: Backend> {
    /// The links.
    pub pattern: Pattern,
    /// Device form of the links, with whatever packed copy of the values the backend wants.
    pub index: B::Index,
    /// Master values in CSR order.
    pub values: B::Buf,
}

impl<B: Backend> Csr<B> {
    /// Uploads `pattern` with its `values` and packs them.
    pub fn new(backend: &B, pattern: Pattern, values: &[f32]) -> Result<Self> {
        crate::error::check_len("csr", "values", pattern.nnz(), values.len())?;
        let mut buf = backend.buf(values.len())?;
        backend.write(&mut buf, values)?;
        let index = backend.index(&pattern)?;
        let mut csr = Csr { pattern, index, values: buf };
        backend.pack(&mut csr)?;
        Ok(csr)
    }
}

/// The low-rank branch L = g·B·φ(A·x).
pub struct LowRank<'a, B: Backend> {
    /// A, (rank, in) row-major.
    pub a: &'a B::Buf,
    /// B, (out, rank) row-major.
    pub b: &'a B::Buf,
    /// Rank.
    pub rank: usize,
    /// φ.
    pub activation: Activation,
    /// g.
    pub scale: f32,
}

/// A projection O = S + L with either branch optional (not both absent).
pub struct Hybrid<'a, B: Backend> {
    /// S, the sparse branch.
    pub sparse: Option<&'a Csr<B>>,
    /// L, the low-rank branch.
    pub low_rank: Option<LowRank<'a, B>>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// Gradients of a [`Hybrid`], accumulated.
pub struct HybridGrads<'a, B: Backend> {
    /// One per link in CSR order.
    pub values: Option<&'a mut B::Buf>,
    /// As A.
    pub a: Option<&'a mut B::Buf>,
    /// As B.
    pub b: Option<&'a mut B::Buf>,
}

/// Rows of the per-token branch sums that [`Backend::hybrid_forward`] can emit.
pub mod branch_sums {
    /// Σ_m (S−L)².
    pub const DIFFERENCE: usize = 0;
    /// Σ_m min(|S|,|L|) where S·L < 0.
    pub const CANCELLED: usize = 1;
    /// Σ_m min(|S|,|L|).
    pub const OVERLAP: usize = 2;
    /// Σ_m S².
    pub const SPARSE: usize = 3;
    /// Σ_m L².
    pub const LOW_RANK: usize = 4;
    /// Number of rows.
    pub const COUNT: usize = 5;
}

/// Shape of one attention call; tokens are sequence after sequence.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape<'a> {
    /// Number of sequences.
    pub sequences: usize,
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Heads.
    pub heads: usize,
    /// Features per head, even.
    pub head_dim: usize,
    /// First position of the document of each token within its sequence; attention does not look
    /// before it.
    pub starts: Option<&'a [u32]>,
}

/// One Adam update.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate of this update.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Decay the weight itself (AdamW) instead of adding to the gradient.
    pub decoupled: bool,
    /// Number of this update, from 1, for the bias correction.
    pub step: u64,
    /// Factor on the gradient (clipping).
    pub grad_scale: f64,
}

/// Summed loss of some targets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Σ −ln p(target), nats.
    pub loss: f64,
    /// Number of targets.
    pub targets: u64,
}

/// Named operations on (features, tokens) activations.
///
/// Common errors: `Error::Shape` when extents disagree, `Error::Memory` when an allocation fails.
pub trait Backend: Sized + Send + Sync {
    /// An activation, (features, tokens), in the backend's layout. Positions beyond the last token
    /// are zero and stay so.
    type Act: Send + Sync;
    /// A flat f32 array: parameters, gradients, moments.
    type Buf: Send + Sync;
    /// Device form of a [`Pattern`].
    type Index: Send + Sync;
    /// Keys and values of past tokens for decoding.
    type Cache: Send;

    /// Short name: "cpu", "cuda".
    fn name(&self) -> &'static str;
    /// The precision it works in; never `auto`.
    fn precision(&self) -> Precision;
    /// One line for logs: instruction set, threads, device.
    fn describe(&self) -> String;

    /// Tells what kind of work begins here; the time until the next call belongs to it.
    fn mark(&self, work: Work);
    /// Time by kind of work since the backend was made. Waits for work in flight.
    fn times(&self) -> Result<Times>;
    /// Bytes of memory behind an activation.
    fn act_bytes(&self, x: &Self::Act) -> usize;
    /// Bytes of memory behind a buffer, rounded copies for products included.
    fn buf_bytes(&self, x: &Self::Buf) -> usize;
    /// Bytes of memory behind an index, packed copies of values included.
    fn index_bytes(&self, x: &Self::Index) -> usize;
    /// Bytes that this process has taken from the device and bytes that the device has left; `None`
    /// where that is the host's memory.
    fn device_memory(&self) -> Option<(usize, usize)> {
        None
    }
    /// Bytes of host memory that operations have taken as scratch so far, and keep.
    fn scratch_bytes(&self) -> usize {
        0
    }

    /// A zeroed activation.
    fn act(&self, features: usize, tokens: usize) -> Result<Self::Act>;
    /// A zeroed (rows, tokens) array of numbers per token that stay f32 in every precision: norms,
    /// log-sums, branch sums, coefficients.
    fn statistics(&self, rows: usize, tokens: usize) -> Result<Self::Act>;
    /// Copies from row-major (features, tokens).
    fn write_act(&self, x: &mut Self::Act, data: &[f32]) -> Result<()>;
    /// Copies to row-major (features, tokens).
    fn read_act(&self, x: &Self::Act) -> Result<Vec<f32>>;
    /// A zeroed buffer.
    fn buf(&self, len: usize) -> Result<Self::Buf>;
    /// Number of elements.
    fn len(&self, x: &Self::Buf) -> usize;
    /// Copies in.
    fn write(&self, x: &mut Self::Buf, data: &[f32]) -> Result<()>;
    /// Copies out.
    fn read(&self, x: &Self::Buf) -> Result<Vec<f32>>;
    /// Sets all elements to zero.
    fn zero(&self, x: &mut Self::Buf) -> Result<()>;
    /// Device form of a pattern.
    fn index(&self, pattern: &Pattern) -> Result<Self::Index>;
    /// Refreshes the packed copies of the values inside the index.
    fn pack(&self, w: &mut Csr<Self>) -> Result<()>;
    /// Rounds to what the working precision can hold (initial weights of pure bf16).
    fn round(&self, x: &mut Self::Buf) -> Result<()>;
    /// Σ x², f64, in a fixed order. Non-finite elements make it non-finite.
    fn sum_squares(&self, x: &Self::Buf) -> Result<f64>;

    /// Dense forward `y[m,n] = Σ_k w[m,k]·x[k,n]`, w row-major (M, K). Overwrites y. 2·M·K·N flops.
    fn dense_forward(&self, w: &Self::Buf, x: &Self::Act, y: &mut Self::Act) -> Result<()>;
    /// Dense input gradient `dx[k,n] (+)= Σ_m w[m,k]·dy[m,n]`.
    fn dense_backward_input(
        &self,
        w: &Self::Buf,
        dy: &Self::Act,
        dx: &mut Self::Act,
        accumulate: bool,
    ) -> Result<()>;
    /// Dense weight gradient `dw[m,k] += Σ_n dy[m,n]·x[k,n]`.
    fn dense_backward_weight(
        &self,
        dy: &Self::Act,
        x: &Self::Act,
        dw: &mut Self::Buf,
    ) -> Result<()>;

    /// Sparse forward `y[m,n] = Σ_k w[m,k]·x[k,n]` over the live links. Overwrites y.
    /// Cost: 2·nnz·N flops.
    fn spmm(&self, w: &Csr<Self>, x: &Self::Act, y: &mut Self::Act) -> Result<()>;
    /// Transposed product `dx[k,n] (+)= Σ_m w[m,k]·dy[m,n]` over the live links.
    fn spmm_transposed(
        &self,
        w: &Csr<Self>,
        dy: &Self::Act,
        dx: &mut Self::Act,
        accumulate: bool,
    ) -> Result<()>;
    /// Sampled dense-dense product: `dvalues[link(m,k)] += Σ_n dy[m,n]·x[k,n]`.
    fn sddmm(
        &self,
        w: &Csr<Self>,
        dy: &Self::Act,
        x: &Self::Act,
        dvalues: &mut Self::Buf,
    ) -> Result<()>;

    /// `u = A·x`, `O = S + L = W·x + g·B·φ(u)` (CHTsL §3). Overwrites `o` and, with a low-rank
    /// branch, `u` (rank, N), which the backward pass needs.
    ///
    /// With `sums` ([`branch_sums::COUNT`], N) also the per-token sums over outputs of (S−L)²,
    /// cancelled and total overlap, S² and L² (the parts of alignment, OCR and branch sizes).
    fn hybrid_forward(
        &self,
        w: &Hybrid<Self>,
        x: &Self::Act,
        u: Option<&mut Self::Act>,
        o: &mut Self::Act,
        sums: Option<&mut Self::Act>,
    ) -> Result<()>;
    /// Backward of [`Backend::hybrid_forward`] with the alignment gradient (methods C.3):
    /// `D = S−L = O−2L`, `dS = dO + c·D`, `dL = dO − c·D` with the per-token coefficient c (1, N),
    /// then `dvalues += dS·xᵀ` at the links, `dB += g·dL·φ(u)ᵀ`, `du = (g·Bᵀ·dL)∘φ'(u)`,
    /// `dA += du·xᵀ`, `dx (+)= Wᵀ·dS + Aᵀ·du`.
    ///
    /// `d_o` is used as scratch and holds dS afterwards. `o` is only read when `coefficients` are
    /// given.
    #[allow(clippy::too_many_arguments)]
    fn hybrid_backward(
        &self,
        w: &Hybrid<Self>,
        x: &Self::Act,
        u: Option<&Self::Act>,
        o: &Self::Act,
        coefficients: Option<&Self::Act>,
        d_o: &mut Self::Act,
        dx: &mut Self::Act,
        accumulate: bool,
        grads: HybridGrads<Self>,
    ) -> Result<()>;

    /// Sets an activation to zero.
    fn zero_act(&self, x: &mut Self::Act) -> Result<()>;
    /// `y = x`.
    fn copy(&self, x: &Self::Act, y: &mut Self::Act) -> Result<()>;
    /// `y = a + b`.
    fn add(&self, a: &Self::Act, b: &Self::Act, y: &mut Self::Act) -> Result<()>;
    /// SwiGLU `y = SiLU(gate)∘up`.
    fn swiglu_forward(&self, gate: &Self::Act, up: &Self::Act, y: &mut Self::Act) -> Result<()>;
    /// `dgate = dy∘up∘SiLU'(gate)`, `dup = dy∘SiLU(gate)`. Overwrites both.
    fn swiglu_backward(
        &self,
        dy: &Self::Act,
        gate: &Self::Act,
        up: &Self::Act,
        dgate: &mut Self::Act,
        dup: &mut Self::Act,
    ) -> Result<()>;
    /// RMSNorm `y = x·rstd∘gain`, `rstd = (mean_f x² + eps)^-½` per token, (1, N).
    fn rmsnorm_forward(
        &self,
        x: &Self::Act,
        gain: &Self::Buf,
        eps: f32,
        y: &mut Self::Act,
        rstd: &mut Self::Act,
    ) -> Result<()>;
    /// Backward of RMSNorm. **Adds** to `dx` (the residual stream's gradient) and to `dgain`.
    fn rmsnorm_backward(
        &self,
        dy: &Self::Act,
        x: &Self::Act,
        gain: &Self::Buf,
        rstd: &Self::Act,
        dx: &mut Self::Act,
        dgain: &mut Self::Buf,
    ) -> Result<()>;
    /// Causal attention with RoPE (half-split rotation, frequencies `base^(-2i/d)`) on q and k;
    /// saves ln Σ exp of each row's scores in `lse` (heads, N). q, k, v are unrotated.
    #[allow(clippy::too_many_arguments)]
    fn attention_forward(
        &self,
        shape: AttentionShape,
        rope_base: f64,
        q: &Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        out: &mut Self::Act,
        lse: &mut Self::Act,
    ) -> Result<()>;
    /// Gradients of the unrotated q, k, v; probabilities are recomputed from `lse`. Overwrites.
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &self,
        shape: AttentionShape,
        rope_base: f64,
        q: &Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        out: &Self::Act,
        lse: &Self::Act,
        d_out: &Self::Act,
        dq: &mut Self::Act,
        dk: &mut Self::Act,
        dv: &mut Self::Act,
    ) -> Result<()>;
    /// An empty cache for `sequences` sequences of at most `max_len` tokens.
    fn cache(&self, sequences: usize, max_len: usize, features: usize) -> Result<Self::Cache>;
    /// One new token per sequence at position `position`: rotates q and k, appends k and v to the
    /// cache and attends over it. `shape.seq_len` is 1.
    #[allow(clippy::too_many_arguments)]
    fn attention_decode(
        &self,
        shape: AttentionShape,
        rope_base: f64,
        position: usize,
        q: &Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        cache: &mut Self::Cache,
        out: &mut Self::Act,
    ) -> Result<()>;
    /// `x[:, n] = table[ids[n]]`, table row-major (vocab, features). Errors: `Error::Shape` for an
    /// id beyond the table.
    fn embedding_forward(&self, table: &Self::Buf, ids: &[u32], x: &mut Self::Act) -> Result<()>;
    /// `dtable[ids[n]] += dx[:, n]`, tokens in order.
    fn embedding_backward(&self, ids: &[u32], dx: &Self::Act, dtable: &mut Self::Buf)
    -> Result<()>;
    /// Head and cross-entropy in token chunks, forward and backward at once: logits `w·x` exist for
    /// one chunk at a time. `dx = scale·wᵀ(p − onehot)` (overwritten), `dw += scale·(p − onehot)·xᵀ`;
    /// positions with [`NO_TARGET`] contribute nothing. Returns the unscaled loss sum.
    fn cross_entropy_train(
        &self,
        w: &Self::Buf,
        x: &Self::Act,
        targets: &[u32],
        scale: f32,
        dx: &mut Self::Act,
        dw: &mut Self::Buf,
    ) -> Result<LossSum>;
    /// Loss alone, the same chunks.
    fn cross_entropy_eval(&self, w: &Self::Buf, x: &Self::Act, targets: &[u32]) -> Result<LossSum>;
    /// Column `token` of an activation, for sampling.
    fn read_token(&self, x: &Self::Act, token: usize) -> Result<Vec<f32>>;
    /// One Adam or AdamW update of `p` with moments `m`, `v`. With `ages` (one per element, counted
    /// up here) the bias correction uses each element's own number of updates.
    fn adam(
        &self,
        p: &mut Self::Buf,
        g: &Self::Buf,
        m: &mut Self::Buf,
        v: &mut Self::Buf,
        ages: Option<&mut Self::Buf>,
        step: AdamStep,
    ) -> Result<()>;

    /// One remove-regrow event of `w` (topology §9), or `None`: this backend leaves events of this
    /// kind to the host. The links are those that [`topology::event`](crate::topology::event())
    /// chooses on the same weights, bit for bit; nothing of `w` changes.
    ///
    /// Errors: `Error::Diverged` when a weight is not finite.
    fn evolve(&self, w: &Csr<Self>, rules: &EvolveRules) -> Result<Option<Evolved<Self>>> {
        let _ = (w, rules);
        Ok(None)
    }
    /// Moves arrays of one entry per link to the links of `change`: survivors and returned links keep
    /// theirs, newcomers get zero.
    ///
    /// Errors: `Error::Shape` when an array does not have one entry per previous link.
    fn migrate(&self, change: &LinkChange, arrays: &mut [&mut Self::Buf]) -> Result<()> {
        let mut new = Vec::new();
        for array in arrays {
            change.migrate(&self.read(array)?, &mut new)?;
            if self.len(array) != new.len() {
                **array = self.buf(new.len())?;
            }
            self.write(array, &new)?;
        }
        Ok(())
    }
}
