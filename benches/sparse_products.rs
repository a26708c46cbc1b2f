//! S·X, Sᵀ·X and SDDMM on one thread against the dense products they replace.
//!
//! `cargo bench --bench sparse_products` prints the table of `benches/record/sparse-products.md`
//! and then runs the criterion groups; `... -- table` prints the table alone and any other filter
//! runs only the groups that it matches. With `CHTSL_BENCH_TOPOLOGY=model.safetensors` the table
//! also has links of a trained model (`<name>.weight.crow_indices` and `.col_indices`).
//!
//! The dense side is the `gemm` crate with every matrix column-major, the layout it is fastest in.
//! Both sides of a ratio are timed in turn within one run: on a shared machine the speed of either
//! alone drifts by more than what is measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chtsl::backend::cpu::{Act, Floats};
use chtsl::backend::{Backend, Cpu, Csr};
use chtsl::config::{Precision, TopologyConfig};
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::init::{brf, er};
use criterion::{Criterion, Throughput};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// (outputs, inputs) of LLaMA-60M: down_proj, gate_proj and up_proj, the four of attention.
const SHAPES: [(usize, usize); 3] = [(512, 1376), (1376, 512), (512, 512)];
const DENSITIES: [f64; 4] = [0.05, 0.10, 0.15, 0.30];
const TOKENS: usize = 1024;
/// Odd, so that the median is a sample.
const SAMPLES: usize = 21;
/// Time that one side of a sample takes at least, and calls.
const SAMPLE_SECONDS: f64 = 0.008;
const SAMPLE_CALLS: usize = 2;

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Forward,
    Transposed,
    Sampled,
}

const OPS: [Op; 3] = [Op::Forward, Op::Transposed, Op::Sampled];

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Forward => "S·X",
            Op::Transposed => "Sᵀ·X",
            Op::Sampled => "SDDMM",
        }
    }

    fn slug(self) -> &'static str {
        match self {
            Op::Forward => "spmm",
            Op::Transposed => "spmm_transposed",
            Op::Sampled => "sddmm",
        }
    }
}

fn normals(n: usize, seed: u64) -> Vec<f32> {
    let s = Stream::new(seed, Purpose::Init, 0, 0);
    (0..n as u64).map(|i| s.normal(i) as f32).collect()
}

fn cpu() -> Cpu {
    Cpu::new(1, Precision::F32).expect("one thread")
}

fn act(cpu: &Cpu, features: usize, seed: u64) -> Act {
    let mut x = cpu.act(features, TOKENS).expect("memory");
    cpu.write_act(&mut x, &normals(features * TOKENS, seed)).expect("the right length");
    x
}

/// One sparse matrix with the activations and gradients of a layer.
struct Sparse<'a> {
    cpu: &'a Cpu,
    w: Csr<Cpu>,
    x: Act,
    dy: Act,
    y: Act,
    dx: Act,
    dvalues: Floats,
}

impl<'a> Sparse<'a> {
    fn new(cpu: &'a Cpu, pattern: Pattern) -> Self {
        let (rows, cols, nnz) = (pattern.rows(), pattern.cols(), pattern.nnz());
        Sparse {
            cpu,
            w: Csr::new(cpu, pattern, &normals(nnz, 1)).expect("memory"),
            x: act(cpu, cols, 2),
            dy: act(cpu, rows, 3),
            y: cpu.act(rows, TOKENS).expect("memory"),
            dx: cpu.act(cols, TOKENS).expect("memory"),
            dvalues: cpu.buf(nnz).expect("memory"),
        }
    }

    fn flops(&self) -> f64 {
        (2 * self.w.pattern.nnz() * TOKENS) as f64
    }

    fn run(&mut self, op: Op) {
        let (w, x, dy) = (&self.w, &self.x, &self.dy);
        match op {
            Op::Forward => self.cpu.spmm(w, x, &mut self.y),
            Op::Transposed => self.cpu.spmm_transposed(w, dy, &mut self.dx, false),
            Op::Sampled => self.cpu.sddmm(w, dy, x, &mut self.dvalues),
        }
        .expect("extents agree");
    }

    fn pack(&mut self) {
        self.cpu.pack(&mut self.w).expect("extents agree");
    }
}

/// A column-major product (m, k)·(k, n) by the `gemm` crate.
struct Dense {
    extents: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Dense {
    /// The product that `op` of a (rows, cols) matrix replaces.
    fn new(op: Op, (rows, cols): (usize, usize)) -> Self {
        let [m, n, k] = match op {
            Op::Forward => [rows, TOKENS, cols],
            Op::Transposed => [cols, TOKENS, rows],
            Op::Sampled => [rows, cols, TOKENS],
        };
        Dense {
            extents: [m, n, k],
            a: normals(m * k, 1),
            b: normals(k * n, 2),
            c: vec![0.0; m * n],
        }
    }

    fn flops(&self) -> f64 {
        2.0 * self.extents.iter().product::<usize>() as f64
    }

    fn run(&mut self) {
        let [m, n, k] = self.extents;
        let parallelism = gemm::Parallelism::None;
        // SAFETY: a, b and c have m·k, k·n and m·n elements; columns are m, k and m apart.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.c.as_mut_ptr(),
                m as isize,
                1,
                false,
                self.a.as_ptr(),
                m as isize,
                1,
                self.b.as_ptr(),
                k as isize,
                1,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
        black_box(&mut self.c);
    }
}

/// Our dense forward product.
struct Panels<'a> {
    cpu: &'a Cpu,
    w: Floats,
    x: Act,
    y: Act,
}

impl<'a> Panels<'a> {
    fn new(cpu: &'a Cpu, (rows, cols): (usize, usize)) -> Self {
        let mut w = cpu.buf(rows * cols).expect("memory");
        cpu.write(&mut w, &normals(rows * cols, 1)).expect("the right length");
        Panels { cpu, w, x: act(cpu, cols, 2), y: cpu.act(rows, TOKENS).expect("memory") }
    }

    fn run(&mut self) {
        self.cpu.dense_forward(&self.w, &self.x, &mut self.y).expect("extents agree");
    }
}

/// Seconds of one call, over `calls` calls.
fn seconds(calls: usize, work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    (0..calls).for_each(|_| work());
    start.elapsed().as_secs_f64() / calls as f64
}

/// Median seconds of both sides and quartiles of their ratio.
struct Contest {
    ours: f64,
    dense: f64,
    ratio: [f64; 3],
}

/// Samples of either side in turn, after one unmeasured call each.
fn contest(ours: &mut dyn FnMut(), dense: &mut dyn FnMut()) -> Contest {
    let calls = |work: &mut dyn FnMut()| {
        work();
        ((SAMPLE_SECONDS / seconds(1, work)).ceil() as usize).max(SAMPLE_CALLS)
    };
    let (a, b) = (calls(ours), calls(dense));
    let pairs: Vec<(f64, f64)> =
        (0..SAMPLES).map(|_| (seconds(a, ours), seconds(b, dense))).collect();
    let sorted = |f: fn(&(f64, f64)) -> f64| {
        let mut x: Vec<f64> = pairs.iter().map(f).collect();
        x.sort_by(f64::total_cmp);
        x
    };
    let ratios = sorted(|p| p.1 / p.0);
    Contest {
        ours: sorted(|p| p.0)[SAMPLES / 2],
        dense: sorted(|p| p.1)[SAMPLES / 2],
        ratio: [SAMPLES / 4, SAMPLES / 2, SAMPLES - 1 - SAMPLES / 4].map(|i| ratios[i]),
    }
}

fn random(shape: (usize, usize), density: f64) -> Pattern {
    let nnz = (density * (shape.0 * shape.1) as f64).round() as usize;
    er::links(1, 0, shape.0, shape.1, nnz).expect("links fit")
}

fn band((rows, cols): (usize, usize), density: f64) -> Pattern {
    let nnz = (density * (rows * cols) as f64).round() as usize;
    let config = TopologyConfig { brf_r: 0.0, ..TopologyConfig::default() };
    brf::links(&config, 1, 0, rows, cols, nnz).expect("links fit")
}

/// Unsigned numbers of an I32 or I64 tensor.
fn indices(t: &TensorView) -> Vec<u32> {
    let width = match t.dtype() {
        Dtype::I32 => 4,
        Dtype::I64 => 8,
        other => panic!("indices of type {other:?}"),
    };
    // Little-endian and below 2^31: the low four bytes are the number.
    t.data().chunks_exact(width).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// The first matrix of each shape in a checkpoint, with its name. A file has no column counts: a
/// matrix belongs to the narrowest shape that its indices fit.
fn trained(path: &str) -> Vec<(String, Pattern)> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut names: Vec<&str> =
        file.names().iter().filter_map(|n| n.strip_suffix(".weight.crow_indices")).collect();
    names.sort_unstable();
    let mut found: Vec<(String, Pattern)> = vec![];
    for name in names {
        let part =
            |what: &str| indices(&file.tensor(&format!("{name}.weight.{what}")).expect(what));
        let (offsets, columns) = (part("crow_indices"), part("col_indices"));
        let last = columns.iter().max().map_or(0, |c| *c as usize);
        let fits = SHAPES.iter().filter(|s| s.0 + 1 == offsets.len() && s.1 > last);
        let Some(&(rows, cols)) = fits.min_by_key(|s| s.1) else { continue };
        if found.iter().all(|(_, p)| (p.rows(), p.cols()) != (rows, cols)) {
            let pattern = Pattern::new(rows, cols, offsets, columns).expect("sorted indices");
            found.push((name.to_string(), pattern));
        }
    }
    found
}

fn geometric_mean(x: &[f64]) -> f64 {
    (x.iter().map(|x| x.ln()).sum::<f64>() / x.len() as f64).exp()
}

/// Rows of one kind of mask, all operations, and the geometric means over its shapes.
fn rows(cpu: &Cpu, kind: &str, patterns: &[Pattern]) {
    for op in OPS {
        let mut ratios = vec![];
        for pattern in patterns {
            let shape = (pattern.rows(), pattern.cols());
            let (mut sparse, mut dense) =
                (Sparse::new(cpu, pattern.clone()), Dense::new(op, shape));
            let (useful, all) = (sparse.flops(), dense.flops());
            let c = contest(&mut || sparse.run(op), &mut || dense.run());
            println!(
                "| {kind} | {:.2} | {} | {} x {} | {:.1} | {:.1} | {:.1} ({:.1}-{:.1}) |",
                pattern.density(),
                op.name(),
                shape.0,
                shape.1,
                useful / c.ours / 1e9,
                all / c.dense / 1e9,
                c.ratio[1],
                c.ratio[0],
                c.ratio[2],
            );
            ratios.push(c.ratio[1]);
        }
        println!(
            "| {kind} | {:.2} | {} | **geometric mean** | | | **{:.1}** |",
            patterns[0].density(),
            op.name(),
            geometric_mean(&ratios)
        );
    }
}

fn table(cpu: &Cpu) {
    println!("{}, {TOKENS} tokens, median of {SAMPLES} alternating samples", cpu.describe());
    println!(
        "| links | density | product | out x in | ours GFLOP/s | gemm GFLOP/s | times faster |"
    );
    println!("|---|---|---|---|---|---|---|");
    for density in DENSITIES {
        rows(cpu, "random", &SHAPES.map(|s| random(s, density)));
    }
    for density in DENSITIES {
        rows(cpu, "band", &SHAPES.map(|s| band(s, density)));
    }
    if let Ok(path) = std::env::var("CHTSL_BENCH_TOPOLOGY") {
        let matrices = trained(&path);
        assert!(!matrices.is_empty(), "{path} has no matrix of shape {SHAPES:?}");
        for (name, p) in &matrices {
            println!(
                "| trained: {name} | {:.2} | | {} x {} | | | |",
                p.density(),
                p.rows(),
                p.cols()
            );
        }
        let patterns: Vec<Pattern> = matrices.into_iter().map(|m| m.1).collect();
        rows(cpu, "trained", &patterns);
    }
    for shape in SHAPES {
        let (mut panels, mut dense) = (Panels::new(cpu, shape), Dense::new(Op::Forward, shape));
        let flops = dense.flops();
        let c = contest(&mut || panels.run(), &mut || dense.run());
        println!(
            "| dense | 1.00 | W·X | {} x {} | {:.1} | {:.1} | {:.2} ({:.2}-{:.2}) |",
            shape.0,
            shape.1,
            flops / c.ours / 1e9,
            flops / c.dense / 1e9,
            c.ratio[1],
            c.ratio[0],
            c.ratio[2],
        );
    }
    println!("\nPacking the values after an update, as a share of one S·X of {TOKENS} tokens:");
    for density in DENSITIES {
        for shape in SHAPES {
            let mut one = Sparse::new(cpu, random(shape, density));
            let mut other = Sparse::new(cpu, random(shape, density));
            let c = contest(&mut || one.pack(), &mut || other.run(Op::Forward));
            let share = 100.0 / c.ratio[1];
            println!(
                "{} x {} at {density}: {:.0} us, {share:.0} %",
                shape.0,
                shape.1,
                c.ours * 1e6
            );
        }
    }
}

/// Criterion's groups: elements are flops, so that its throughput reads as flop/s.
fn groups(criterion: &mut Criterion, cpu: &Cpu) {
    for op in OPS {
        let mut group = criterion.benchmark_group(op.slug());
        for shape in SHAPES {
            let size = format!("{}x{}", shape.0, shape.1);
            for (kind, pattern) in [("random", random(shape, 0.05)), ("band", band(shape, 0.05))] {
                let mut sparse = Sparse::new(cpu, pattern);
                group.throughput(Throughput::Elements(sparse.flops() as u64));
                group.bench_function(format!("{kind}/{size}"), |b| b.iter(|| sparse.run(op)));
            }
            let mut dense = Dense::new(op, shape);
            group.throughput(Throughput::Elements(dense.flops() as u64));
            group.bench_function(format!("gemm/{size}"), |b| b.iter(|| dense.run()));
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("dense_forward");
    for shape in SHAPES {
        let mut panels = Panels::new(cpu, shape);
        group.throughput(Throughput::Elements((2 * shape.0 * shape.1 * TOKENS) as u64));
        group.bench_function(format!("{}x{}", shape.0, shape.1), |b| b.iter(|| panels.run()));
    }
    group.finish();
}

fn main() {
    let cpu = cpu();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let filter = args.iter().find(|a| !a.starts_with('-'));
    let quick = args.iter().any(|a| a == "--test" || a == "--list");
    if !quick && filter.is_none_or(|f| f == "table") {
        table(&cpu);
    }
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    groups(&mut criterion, &cpu);
    criterion.final_summary();
}
