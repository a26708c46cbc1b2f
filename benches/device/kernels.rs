//! Ceilings, dense products and kernel families at the shapes of LLaMA-60M and 130M.

use chtsl::backend::cuda::Strategy;
use chtsl::backend::cuda::memory::Memory;
use chtsl::backend::cuda::runtime::{Element, Gemm, GemmOperand};
use chtsl::backend::{
    AdamStep, AttentionShape, Backend, Csr, Cuda, Hybrid, HybridGrads, LowRank, branch_sums,
};
use chtsl::config::{Activation, Precision, TopologyConfig};
use chtsl::error::Result;
use chtsl::rng::{Purpose, Stream};
use chtsl::topology::init::er;
use chtsl::topology::{self, EventInput};

use crate::record::{Record, Unit, Work};

/// (outputs, inputs) of 60M and 130M.
const SHAPES: [(usize, usize); 6] =
    [(512, 512), (1376, 512), (512, 1376), (768, 768), (2048, 768), (768, 2048)];
const DENSITIES: [f64; 4] = [0.05, 0.10, 0.15, 0.30];
const VOCAB: usize = 32_000;

/// Random bf16 or f32 memory: products of zeros run faster than of real numbers.
fn random(cuda: &Cuda, n: usize, element: Element) -> Result<Memory> {
    let s = Stream::new(9, Purpose::Init, 0, 0);
    let draws: Vec<f32> = (0..1 << 16).map(|i| s.normal(i) as f32).collect();
    let value = |i: usize| draws[i.wrapping_mul(40_503) % draws.len()];
    match element {
        Element::F32 => {
            let all: Vec<f32> = (0..n).map(value).collect();
            Memory::from_slice(cuda.shared_runtime(), &all)
        }
        Element::Bf16 => {
            let all: Vec<u16> = (0..n).map(|i| half::bf16::from_f32(value(i)).to_bits()).collect();
            Memory::from_slice(cuda.shared_runtime(), &all)
        }
    }
}

fn operand(m: &Memory, element: Element, stride: usize, transposed: bool) -> GemmOperand {
    GemmOperand { data: m.pointer(), element, stride, transposed }
}

/// Seconds of a square product.
fn square(cuda: &Cuda, n: usize, element: Element) -> Result<f64> {
    let (a, b, c) = (
        random(cuda, n * n, element)?,
        random(cuda, n * n, element)?,
        random(cuda, n * n, element)?,
    );
    let of = |m: &Memory| operand(m, element, n, false);
    let g = Gemm { m: n, n, k: n, a: of(&a), b: of(&b), c: of(&c), alpha: 1.0, beta: 0.0 };
    // SAFETY: the operands hold n·n elements each.
    Ok(Record::time(cuda, || unsafe { cuda.runtime().gemm(&g) })?[0])
}

pub fn ceilings(cuda: &Cuda, record: &mut Record) -> Result<()> {
    let bytes = 1 << 30;
    let from = Memory::zeroed(cuda.shared_runtime(), bytes)?;
    let mut to = Memory::zeroed(cuda.shared_runtime(), bytes)?;
    let seconds = Record::time(cuda, || to.copy_from(&from))?[0];
    record.bandwidth = 2.0 * bytes as f64 / seconds;
    record.tensor = 2.0 * 8192f64.powi(3) / square(cuda, 8192, Element::Bf16)?;
    record.fma = 2.0 * 4096f64.powi(3) / square(cuda, 4096, Element::F32)?;
    Ok(())
}

/// Every dense product of the models, activations feature-major (ours) and token-major.
pub fn dense(cuda: &Cuda, quick: bool, record: &mut Record) -> Result<()> {
    let tokens: &[usize] = if quick { &[16_384] } else { &[16_384, 131_072] };
    for &n in tokens {
        let heads = [(VOCAB, 512), (VOCAB, 768)];
        for (out, inn) in SHAPES.into_iter().chain(heads) {
            // The head runs in chunks.
            let n = if out == VOCAB { n.min(8192) } else { n };
            let bf16 = Element::Bf16;
            let (w, x, dy) = (
                random(cuda, out * inn, bf16)?,
                random(cuda, inn * n, bf16)?,
                random(cuda, out * n, bf16)?,
            );
            let dw = random(cuda, out * inn, Element::F32)?;
            for token_major in [false, true] {
                let layout = if token_major { "token-major" } else { "feature-major" };
                // An activation (features, n), whatever its layout.
                let act = |m: &Memory, features: usize, transposed: bool| {
                    let stride = if token_major { features } else { n };
                    operand(m, bf16, stride, transposed != token_major)
                };
                let weight = |t| operand(&w, bf16, inn, t);
                let work = Work {
                    bytes: 2.0 * (out * inn + (out + inn) * n) as f64,
                    operations: 2.0 * (out * inn * n) as f64,
                    unit: Unit::Tensor,
                };
                let mut run = |pass: &str, g: Gemm| {
                    let case = format!("{pass} {out}x{inn}, {n} tokens, {layout}");
                    // SAFETY: the operands hold their extents.
                    record.row(cuda, "gemm", case, work, || unsafe { cuda.runtime().gemm(&g) })
                };
                // A result in token-major order is the transposed product.
                let product = |m, n, k, a: GemmOperand, b: GemmOperand, c: GemmOperand| {
                    if c.transposed {
                        let flip = |x: GemmOperand| GemmOperand { transposed: !x.transposed, ..x };
                        let (a, b, c) = (flip(b), flip(a), flip(c));
                        return Gemm { m: n, n: m, k, a, b, c, alpha: 1.0, beta: 0.0 };
                    }
                    Gemm { m, n, k, a, b, c, alpha: 1.0, beta: 0.0 }
                };
                let (x_, dy_) = (act(&x, inn, false), act(&dy, out, false));
                run("forward", product(out, n, inn, weight(false), x_, dy_))?;
                run("dX", product(inn, n, out, weight(true), dy_, x_))?;
                let c = operand(&dw, Element::F32, inn, false);
                run("dW", product(out, inn, n, dy_, act(&x, inn, true), c))?;
            }
        }
    }
    Ok(())
}

fn act(cuda: &Cuda, features: usize, tokens: usize) -> Result<<Cuda as Backend>::Act> {
    let s = Stream::new(7, Purpose::Init, features as u32, 0);
    let draws: Vec<f32> = (0..(tokens + features) as u64).map(|i| s.normal(i) as f32).collect();
    let data: Vec<f32> = (0..features).flat_map(|f| draws[f..f + tokens].to_vec()).collect();
    let mut x = cuda.act(features, tokens)?;
    cuda.write_act(&mut x, &data)?;
    Ok(x)
}

fn buf(cuda: &Cuda, n: usize) -> Result<<Cuda as Backend>::Buf> {
    let s = Stream::new(8, Purpose::Init, 0, 0);
    let data: Vec<f32> = (0..n as u64).map(|i| 0.05 * s.normal(i) as f32).collect();
    let mut x = cuda.buf(n)?;
    cuda.write(&mut x, &data)?;
    Ok(x)
}

/// Every family of kernels of our own.
pub fn families(cuda: &Cuda, quick: bool, record: &mut Record) -> Result<()> {
    let links = Cuda::open(Precision::Auto)?.with_strategy(Strategy::Links);
    let tokens: &[usize] = if quick { &[16_384] } else { &[16_384, 131_072] };
    for &n in tokens {
        for (rows, cols) in SHAPES {
            products(&links, (rows, cols), n, record)?;
            layer(cuda, (rows, cols), n, record)?;
        }
        for (h, f, heads) in [(512, 1376, 8), (768, 2048, 12)] {
            rest(cuda, (h, f, heads), n, record)?;
        }
    }
    Ok(())
}

/// Kernels that walk the links.
fn products(
    cuda: &Cuda,
    (rows, cols): (usize, usize),
    n: usize,
    record: &mut Record,
) -> Result<()> {
    let (x, dy) = (act(cuda, cols, n)?, act(cuda, rows, n)?);
    let (mut y, mut dx) = (cuda.act(rows, n)?, cuda.act(cols, n)?);
    for density in DENSITIES {
        let nnz = (density * (rows * cols) as f64).round() as usize;
        let values: Vec<f32> = (0..nnz).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect();
        let s = Csr::new(cuda, er::links(1, 0, rows, cols, nnz)?, &values)?;
        let mut dv = cuda.buf(nnz)?;
        let case = format!("{rows}x{cols} at {density}, {n} tokens");
        let work = Work {
            bytes: 2.0 * ((rows + cols) * n) as f64 + 6.0 * nnz as f64,
            operations: 2.0 * (nnz * n) as f64,
            unit: Unit::Fma,
        };
        record.row(cuda, "spmm", case.clone(), work, || cuda.spmm(&s, &x, &mut y))?;
        record.row(cuda, "spmm transposed", case.clone(), work, || {
            cuda.spmm_transposed(&s, &dy, &mut dx, false)
        })?;
        record.row(cuda, "sddmm", case, work, || cuda.sddmm(&s, &dy, &x, &mut dv))?;
        if n > 16_384 {
            continue; // what follows does not depend on the tokens
        }
        let case = format!("{rows}x{cols} at {density}");
        let memory = |bytes: usize| Work { bytes: bytes as f64, operations: 0.0, unit: Unit::None };
        let values = memory(2 * rows * cols + 8 * nnz);
        record.row(cuda, "scatter", case.clone(), values, || cuda.scatter(&s))?;
        let links = memory(sector(rows * cols, nnz) + 12 * nnz);
        record.row(cuda, "gather", case.clone(), links, || cuda.gather(&s, &mut dv))?;
        let config = TopologyConfig::default();
        let rules = topology::rules(&EventInput {
            config: &config,
            seed: 1,
            layer: 0,
            t: 100,
            steps: 10_000,
            target_nnz: nnz,
            pattern: &s.pattern,
            weights: &[],
        })?;
        // Scores of every position are written once and read by the passes of the selection.
        let event = memory(5 * 4 * rows * cols);
        record.row(cuda, "topology event", case, event, || {
            topology::evolve(cuda, &s, &rules).map(drop)
        })?;
    }
    Ok(())
}

/// Bytes read by `links` random single reads of 4 bytes among `elements`: whole sectors of 32.
fn sector(elements: usize, links: usize) -> usize {
    let sectors = elements as f64 / 8.0;
    (32.0 * sectors * (1.0 - (-(links as f64) / sectors).exp())) as usize
}

/// The whole layer O = S + L with the default strategy, alignment and branch sums.
fn layer(cuda: &Cuda, (rows, cols): (usize, usize), n: usize, record: &mut Record) -> Result<()> {
    let (x, d_o) = (act(cuda, cols, n)?, act(cuda, rows, n)?);
    let (mut o, mut dx, mut scratch) = (cuda.act(rows, n)?, cuda.act(cols, n)?, cuda.act(rows, n)?);
    let mut sums = cuda.statistics(branch_sums::COUNT, n)?;
    let mut coefficients = cuda.statistics(1, n)?;
    cuda.write_act(&mut coefficients, &vec![1e-3; n])?;
    for (density, rank) in [(0.05, 16), (0.10, 48), (0.15, 80)] {
        let nnz = (density * (rows * cols) as f64).round() as usize;
        let values: Vec<f32> = (0..nnz).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect();
        let s = Csr::new(cuda, er::links(1, 0, rows, cols, nnz)?, &values)?;
        let (a, b) = (buf(cuda, rank * cols)?, buf(cuda, rows * rank)?);
        let (mut dv, mut da, mut db) =
            (cuda.buf(nnz)?, cuda.buf(rank * cols)?, cuda.buf(rows * rank)?);
        let mut u = cuda.act(rank, n)?;
        let activation = Activation::Silu;
        let low_rank = Some(LowRank { a: &a, b: &b, rank, activation, scale: 1.0 });
        let w = Hybrid { sparse: Some(&s), low_rank, rows, cols };
        let case = format!("{rows}x{cols} at {density} + rank {rank}, {n} tokens");
        let dense = (rows * cols + rank * (rows + cols)) as f64 * n as f64;
        // S is written and read once; everything else is touched once.
        let work = Work {
            bytes: 2.0 * n as f64 * (cols + 3 * rows + rank) as f64,
            operations: 2.0 * dense,
            unit: Unit::Tensor,
        };
        record.row(cuda, "layer forward", case.clone(), work, || {
            cuda.hybrid_forward(&w, &x, Some(&mut u), &mut o, Some(&mut sums))
        })?;
        let work = Work {
            bytes: 2.0 * n as f64 * (3 * cols + 6 * rows + 4 * rank) as f64,
            operations: 4.0 * dense,
            unit: Unit::Tensor,
        };
        record.row(cuda, "layer backward", case.clone(), work, || {
            cuda.copy(&d_o, &mut scratch)?;
            let grads = HybridGrads { values: Some(&mut dv), a: Some(&mut da), b: Some(&mut db) };
            let c = Some(&coefficients);
            cuda.hybrid_backward(&w, &x, Some(&u), &o, c, &mut scratch, &mut dx, false, grads)
        })?;
        // S alone with its sums: the product and one more pass over its result.
        let alone = Hybrid { sparse: Some(&s), low_rank: None, rows, cols };
        let work = Work {
            bytes: 2.0 * n as f64 * (cols + 2 * rows) as f64,
            operations: 2.0 * (rows * cols * n) as f64,
            unit: Unit::Tensor,
        };
        record.row(cuda, "product and branch sums", case, work, || {
            cuda.hybrid_forward(&alone, &x, None, &mut o, Some(&mut sums))
        })?;
    }
    Ok(())
}

/// Norms, activations, attention, head, optimiser.
fn rest(
    cuda: &Cuda,
    (h, f, heads): (usize, usize, usize),
    n: usize,
    record: &mut Record,
) -> Result<()> {
    let memory = |bytes: usize| Work { bytes: bytes as f64, operations: 0.0, unit: Unit::None };
    let case = |what: &str| format!("{what}, {n} tokens");
    let (x, dy) = (act(cuda, h, n)?, act(cuda, h, n)?);
    let (mut y, mut dx) = (cuda.act(h, n)?, cuda.act(h, n)?);
    let gain = buf(cuda, h)?;
    let mut dgain = cuda.buf(h)?;
    let mut rstd = cuda.statistics(1, n)?;
    let width = format!("{h}");
    record.row(cuda, "rmsnorm forward", case(&width), memory(4 * h * n), || {
        cuda.rmsnorm_forward(&x, &gain, 1e-6, &mut y, &mut rstd)
    })?;
    record.row(cuda, "rmsnorm backward", case(&width), memory(8 * h * n), || {
        cuda.rmsnorm_backward(&dy, &x, &gain, &rstd, &mut dx, &mut dgain)
    })?;
    record.row(cuda, "add", case(&width), memory(6 * h * n), || cuda.add(&x, &dy, &mut y))?;

    let (gate, up, d) = (act(cuda, f, n)?, act(cuda, f, n)?, act(cuda, f, n)?);
    let (mut dgate, mut dup) = (cuda.act(f, n)?, cuda.act(f, n)?);
    let width = format!("{f}");
    record.row(cuda, "swiglu forward", case(&width), memory(6 * f * n), || {
        cuda.swiglu_forward(&gate, &up, &mut dgate)
    })?;
    record.row(cuda, "swiglu backward", case(&width), memory(10 * f * n), || {
        cuda.swiglu_backward(&d, &gate, &up, &mut dgate, &mut dup)
    })?;

    let seq_len = 256;
    let shape = AttentionShape {
        sequences: n / seq_len,
        seq_len,
        heads,
        head_dim: h / heads,
        starts: None,
    };
    let mut out = cuda.act(h, n)?;
    let mut lse = cuda.statistics(heads, n)?;
    let (mut dq, mut dk, mut dv) = (cuda.act(h, n)?, cuda.act(h, n)?, cuda.act(h, n)?);
    // Two products over the causal half forward, five backward.
    let half = 2.0 * (h * n) as f64 * seq_len as f64 / 2.0;
    let width = format!("{heads} heads of {}", h / heads);
    let work = |passes: f64, bytes: usize| Work {
        bytes: bytes as f64,
        operations: passes * half,
        unit: Unit::Tensor,
    };
    record.row(cuda, "attention forward", case(&width), work(2.0, 8 * h * n), || {
        cuda.attention_forward(shape, 1e4, &x, &dy, &y, &mut out, &mut lse)
    })?;
    record.row(cuda, "attention backward", case(&width), work(5.0, 16 * h * n), || {
        let (q, k, v) = (&x, &dy, &y);
        cuda.attention_backward(shape, 1e4, q, k, v, &out, &lse, &dx, &mut dq, &mut dk, &mut dv)
    })?;

    let head = buf(cuda, VOCAB * h)?;
    let mut dhead = cuda.buf(VOCAB * h)?;
    let s = Stream::new(3, Purpose::Init, 1, 0);
    let targets: Vec<u32> = (0..n as u64).map(|i| s.below(i, VOCAB as u64) as u32).collect();
    let work = Work {
        // Logits are written once, read twice and read again by two products.
        bytes: 2.0 * n as f64 * (6 * VOCAB + 3 * h) as f64,
        operations: 6.0 * (VOCAB * h) as f64 * n as f64,
        unit: Unit::Tensor,
    };
    record.row(cuda, "head and loss", case(&format!("{h}")), work, || {
        cuda.cross_entropy_train(&head, &x, &targets, 1e-5, &mut dx, &mut dhead).map(drop)
    })?;
    let mut table = cuda.buf(VOCAB * h)?;
    record.row(cuda, "embedding forward", case(&format!("{h}")), memory(6 * h * n), || {
        cuda.embedding_forward(&head, &targets, &mut y)
    })?;
    record.row(cuda, "embedding backward", case(&format!("{h}")), memory(8 * h * n), || {
        cuda.embedding_backward(&targets, &dy, &mut table)
    })?;

    let (mut p, grad, mut m, mut v) =
        (buf(cuda, VOCAB * h)?, buf(cuda, VOCAB * h)?, cuda.buf(VOCAB * h)?, cuda.buf(VOCAB * h)?);
    let step = AdamStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
        step: 10,
        grad_scale: 1.0,
    };
    record.row(cuda, "adam", format!("{VOCAB} x {h}"), memory(28 * VOCAB * h), || {
        cuda.adam(&mut p, &grad, &mut m, &mut v, None, step)
    })?;
    Ok(())
}
