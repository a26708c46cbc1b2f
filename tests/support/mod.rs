//! What tests of operations share: the backends present, seeded inputs, comparisons with computed
//! tolerances and central differences. The f64 loops to compare with are in [`oracle`].

pub mod device;
pub mod emulated;
pub mod oracle;

use std::sync::OnceLock;

use chtsl::backend::cpu::{Cpu, Level};
use chtsl::backend::{Backend, Csr};
use chtsl::config::{Precision, TopologyConfig};
use chtsl::error::{Error, Result};
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::init::{brf, er};

use oracle::Bounded;

/// Precisions that every operation is tested in.
pub const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16Pure];

/// The CPU at every SIMD level of this machine, on one thread and on three.
pub fn cpus(precision: Precision) -> &'static [Cpu] {
    static CPUS: [OnceLock<Vec<Cpu>>; 2] = [OnceLock::new(), OnceLock::new()];
    CPUS[usize::from(precision == Precision::Bf16Pure)].get_or_init(|| {
        let new = |level, threads| Cpu::with_level(threads, precision, level).expect("a backend");
        Level::available().into_iter().flat_map(|l| [new(l, 1), new(l, 3)]).collect()
    })
}

/// Whether tests run on a kind of backend: all kinds, or those that `CHTSL_TEST_BACKENDS` lists
/// (`cpu,emulated,cuda`), as a sanitizer on a device wants it.
pub fn wanted(kind: &str) -> bool {
    static LIST: OnceLock<Option<String>> = OnceLock::new();
    let list = LIST.get_or_init(|| std::env::var("CHTSL_TEST_BACKENDS").ok());
    list.as_ref().is_none_or(|l| l.split(',').any(|k| k == kind))
}

/// Evaluates a body once for every backend present, whatever their types: the one list of backends.
macro_rules! on_each {
    ($precision:expr, |$backend:ident| $body:expr) => {
        if $crate::support::wanted("cpu") {
            for $backend in $crate::support::cpus($precision) {
                $body;
            }
        }
        if $crate::support::wanted("emulated") {
            for $backend in $crate::support::emulated::backends($precision) {
                $body;
            }
        }
        if $crate::support::wanted("cuda") {
            for $backend in $crate::support::device::backends($precision) {
                $body;
            }
        }
    };
}
pub(crate) use on_each;

/// Seeded inputs that the precision can hold.
pub struct Source {
    stream: Stream,
    next: u64,
    precision: Precision,
}

/// Kinds of input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    Zeros,
    Ones,
    /// Multiples of 1/8 from -2 to 2: sums are exact in f32, so a lost or doubled term shows fully.
    Ramp,
    Random,
}

impl Source {
    pub fn new(seed: u64, precision: Precision) -> Self {
        Source { stream: Stream::new(seed, Purpose::Init, 0, 0), next: 0, precision }
    }

    fn draw(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Standard normal numbers times `scale`.
    pub fn normal(&mut self, n: usize, scale: f64) -> Vec<f32> {
        let first = self.next + 1;
        self.next += n as u64;
        let x = (first..=self.next).map(|i| (scale * self.stream.normal(i)) as f32).collect();
        self.hold(x)
    }

    pub fn fill(&mut self, fill: Fill, n: usize) -> Vec<f32> {
        match fill {
            Fill::Zeros => vec![0.0; n],
            Fill::Ones => vec![1.0; n],
            Fill::Ramp => (0..n).map(|i| (i * 7 % 33) as f32 / 8.0 - 2.0).collect(),
            Fill::Random => self.normal(n, 1.0),
        }
    }

    /// Uniform integer in `0..bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let i = self.draw();
        self.stream.below(i, bound as u64) as usize
    }

    /// Rounds numbers to what the precision holds.
    pub fn hold(&self, mut x: Vec<f32>) -> Vec<f32> {
        if self.precision == Precision::Bf16Pure {
            x.iter_mut().for_each(|x| *x = bf16(*x));
        }
        x
    }

    /// Uniformly random links.
    pub fn pattern(&mut self, rows: usize, cols: usize, density: f64) -> Pattern {
        let nnz = (density * (rows * cols) as f64).round() as usize;
        er::links(self.draw(), 0, rows, cols, nnz).expect("a pattern")
    }

    /// Rows without links, full rows and random ones in turn.
    pub fn uneven(&mut self, rows: usize, cols: usize) -> Pattern {
        let flat: Vec<u64> = (0..(rows * cols) as u64)
            .filter(|f| match f / cols as u64 % 3 {
                0 => false,
                1 => true,
                _ => self.below(4) == 0,
            })
            .collect();
        Pattern::from_flat(rows, cols, &flat).expect("a pattern")
    }

    /// A band around the diagonal (BRF with r = 0).
    pub fn band(&mut self, rows: usize, cols: usize, density: f64) -> Pattern {
        let nnz = (density * (rows * cols) as f64).round() as usize;
        let config = TopologyConfig { brf_r: 0.0, ..TopologyConfig::default() };
        brf::links(&config, self.draw(), 0, rows, cols, nnz).expect("a pattern")
    }
}

/// Nearest bf16 value.
pub fn bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// An activation with these row-major elements.
pub fn act<B: Backend>(backend: &B, features: usize, tokens: usize, data: &[f32]) -> B::Act {
    let mut x = backend.act(features, tokens).expect("memory");
    backend.write_act(&mut x, data).expect("the right length");
    x
}

/// An activation of leftovers, for operations that overwrite.
pub fn stale<B: Backend>(backend: &B, features: usize, tokens: usize) -> B::Act {
    act(backend, features, tokens, &vec![77.0; features * tokens])
}

/// Numbers per token that stay f32, with these elements.
pub fn statistics<B: Backend>(backend: &B, rows: usize, tokens: usize, data: &[f32]) -> B::Act {
    let mut x = backend.statistics(rows, tokens).expect("memory");
    backend.write_act(&mut x, data).expect("the right length");
    x
}

/// Leftover numbers per token, for operations that overwrite.
pub fn stale_statistics<B: Backend>(backend: &B, rows: usize, tokens: usize) -> B::Act {
    statistics(backend, rows, tokens, &vec![77.0; rows * tokens])
}

/// A buffer with these elements.
pub fn buf<B: Backend>(backend: &B, data: &[f32]) -> B::Buf {
    let mut x = backend.buf(data.len()).expect("memory");
    backend.write(&mut x, data).expect("the right length");
    x
}

/// The elements of a finished activation, after a look at the positions beyond its last token.
///
/// They cannot be read, but sums over tokens include them: with every token set to zero, Σ x² of
/// each feature (an sddmm over the diagonal) is zero only if they are.
pub fn take<B: Backend>(backend: &B, mut x: B::Act, features: usize, tokens: usize) -> Vec<f32> {
    let values = backend.read_act(&x).expect("readable");
    assert_eq!(values.len(), features * tokens);
    backend.write_act(&mut x, &vec![0.0; features * tokens]).expect("the right length");
    let flat: Vec<u64> = (0..features as u64).map(|f| f * features as u64 + f).collect();
    let diagonal = Pattern::from_flat(features, features, &flat).expect("a pattern");
    let w = Csr::new(backend, diagonal, &vec![0.0; features]).expect("memory");
    let mut squares = buf(backend, &vec![0.0; features]);
    backend.sddmm(&w, &x, &x, &mut squares).expect("extents agree");
    let squares = backend.read(&squares).expect("readable");
    assert!(squares.iter().all(|s| *s == 0.0), "positions beyond the last token: {squares:?}");
    values
}

/// Columns `0..n` of a row-major (features, tokens) array.
pub fn columns(x: &[f32], tokens: usize, n: usize) -> Vec<f32> {
    x.chunks_exact(tokens.max(1)).flat_map(|row| row[..n].iter().copied()).collect()
}

/// How far results may be from the f64 loop, in units of an element's magnitude ([`Bounded`]).
#[derive(Clone, Copy)]
pub struct Tolerance {
    pub precision: Precision,
    /// f32 roundings on the longest chain to one element: the length of its sums and a few more.
    pub terms: usize,
    /// bf16 roundings on that chain, where the precision is bf16.
    pub roundings: usize,
}

impl Tolerance {
    /// First-order bound that holds for every input: each rounding adds at most one unit.
    fn worst(&self) -> f64 {
        let short = if self.precision == Precision::Bf16Pure { self.roundings } else { 0 };
        self.terms as f64 * 2f64.powi(-24) + short as f64 * 1.02 * 2f64.powi(-8)
    }

    /// Size of the error of a whole vector: roundings of either sign add up like √terms; a factor
    /// of 4 covers those that tokens or rows have in common.
    fn typical(&self) -> f64 {
        let short = if self.precision == Precision::Bf16Pure { self.roundings } else { 0 };
        4.0 * ((self.terms as f64).sqrt() * 2f64.powi(-24) + (short as f64).sqrt() * 2f64.powi(-8))
    }

    /// Compares a saved statistic, which is f32 in every precision.
    pub fn statistic(&self, what: &str, got: &[f32], want: &[Bounded]) {
        assert_eq!(got.len(), want.len(), "{what}");
        // Below e^-87.3 exponentials are zero, whatever they are multiplied with.
        const FLOOR: f64 = 1e-30;
        for (i, (&g, w)) in got.iter().zip(want).enumerate() {
            let allowed = self.worst() * w.magnitude + FLOOR;
            let error = (f64::from(g) - w.value).abs();
            assert!(error <= allowed, "{what} at {i}: {g} for {}, {error} > {allowed}", w.value);
        }
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let a = norm(&mut got.iter().map(|x| f64::from(*x)));
        let b = norm(&mut want.iter().map(|x| x.value));
        let magnitude = norm(&mut want.iter().map(|x| x.magnitude));
        if a > FLOOR && b > FLOOR {
            // 1 - cosine = half the squared distance of the unit vectors.
            let pairs = got.iter().zip(want);
            let apart = norm(&mut pairs.map(|(g, w)| f64::from(*g) / a - w.value / b));
            let allowed = self.typical() * magnitude / b;
            assert!(apart <= allowed, "{what}: 1 - cosine is {:e}", apart * apart / 2.0);
        }
    }

    /// Compares a parameter, its gradient or its moments. The CPU's pure bf16 stores them in bf16,
    /// devices keep them in f32.
    pub fn check_parameter<B: Backend>(
        &self,
        backend: &B,
        what: &str,
        got: &[f32],
        want: &[Bounded],
    ) {
        match backend.name() {
            "cpu" => self.check(what, got, want),
            _ => self.statistic(what, got, want),
        }
    }

    /// Compares a result, which the precision must be able to hold.
    pub fn check(&self, what: &str, got: &[f32], want: &[Bounded]) {
        self.statistic(what, got, want);
        if self.precision == Precision::Bf16Pure {
            let bad = got.iter().find(|x| bf16(**x).to_bits() != x.to_bits());
            assert!(bad.is_none(), "{what}: {bad:?} is not a bf16 value");
        }
    }
}

/// Compares gradients of `f` at `inputs` with central differences: along random directions, and
/// element by element where an input is small.
///
/// With h = ε^⅓ truncation and cancellation are both near 1e-10 of the gradient's size.
pub fn assert_derivative(
    what: &str,
    inputs: &[Vec<f64>],
    gradients: &[Vec<f64>],
    f: impl Fn(&[Vec<f64>]) -> f64,
) {
    let h = f64::EPSILON.cbrt();
    let difference = |which: usize, direction: &[f64]| {
        let shifted = |h: f64| {
            let mut moved = inputs.to_vec();
            moved[which].iter_mut().zip(direction).for_each(|(x, d)| *x += h * d);
            f(&moved)
        };
        (shifted(h) - shifted(-h)) / (2.0 * h)
    };
    let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
    // Cancellation in f itself, whose value may be large beside its slope.
    let noise = f(inputs).abs() * 1e-9;
    for (which, gradient) in gradients.iter().enumerate() {
        let n = inputs[which].len();
        assert_eq!(gradient.len(), n, "{what}, input {which}");
        assert!(norm(gradient) > 0.0, "{what}, input {which}: no gradient");
        let stream = Stream::new(17, Purpose::Init, which as u32, 0);
        let random = (0..4u64)
            .map(|d| (0..n as u64).map(|i| stream.normal(d << 32 | i)).collect::<Vec<f64>>());
        let single = (0..if n <= 100 { n } else { 0 }).map(|i| {
            let mut unit = vec![0.0; n];
            unit[i] = 1.0;
            unit
        });
        for (case, direction) in random.chain(single).enumerate() {
            let got: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
            let want = difference(which, &direction);
            let allowed = 1e-7 * norm(gradient) * norm(&direction) + noise;
            assert!(
                (got - want).abs() <= allowed,
                "{what}, input {which}, direction {case}: {got} for {want}"
            );
        }
    }
}

/// Inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// f64 copies.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// Copies that carry their magnitudes.
pub fn bounded(x: &[f32]) -> Vec<Bounded> {
    x.iter().map(|x| Bounded::from(f64::from(*x))).collect()
}

/// Fails unless the operation refused the extents.
pub fn assert_refused<T>(what: &str, result: Result<T>) {
    assert!(matches!(result, Err(Error::Shape { .. })), "{what} accepted wrong extents");
}
