//! The launchers of `low_rank` and `alignment` themselves: every version over ranks and token counts off
//! their tiles, fused against unfused passes, and the arguments they refuse.

use chtsl::backend::branch_sums;
use chtsl::backend::cuda::Strategy;
use chtsl::backend::cuda::bindings::*;
use chtsl::config::{Activation, Precision};
use chtsl_emulation::Order;

use super::low_rank::{Case, Plan, check};
use crate::support::emulated::backend;
use crate::support::{PRECISIONS, Source};

/// A rank below, at and above each boundary: a fragment (16), the ranks of a part (64, 128), those of
/// the tensor cores (256).
const RANKS: [usize; 14] = [1, 3, 16, 17, 24, 32, 48, 64, 80, 120, 128, 200, 256, 258];

#[test]
fn every_version_takes_every_rank() {
    for precision in PRECISIONS {
        let versions: &[i32] = match precision {
            Precision::F32 => &[1, 2],
            _ => &[1, 2, 3],
        };
        for (i, rank) in RANKS.into_iter().enumerate() {
            let tokens = [1, 5, 64, 130][i % 4];
            let extents = [(33, 70, tokens), (90, 41, tokens), (64, 64, tokens)][i % 3];
            let activation = [Activation::Silu, Activation::Identity][i / 2 % 2];
            let plan = |aligned| Plan {
                extents,
                density: (i % 4 != 3).then_some(0.3),
                low_rank: Some((rank, activation, 0.75)),
                aligned,
            };
            let cases = [true, false].map(|a| Case::new(500 + i as u64, precision, plan(a)));
            for &version in versions {
                // Version 3 ends at rank 256; the default goes on.
                let version = if rank > 256 && version == 3 { 0 } else { version };
                let backend = backend(precision, Order::Random(3), Strategy::Dense, version);
                cases.iter().for_each(|case| check(&backend, case));
            }
        }
    }
}

/// Past rank 64 a part of version 3 has several tiles, which leave through one patch of shared memory; 90
/// rows are two steps of B.
#[test]
fn parts_of_several_tiles() {
    let low_rank = Some((80, Activation::Silu, 0.75));
    let plan = Plan { extents: (90, 41, 5), density: Some(0.3), low_rank, aligned: true };
    let case = Case::new(600, Precision::Bf16Pure, plan);
    check(&backend(Precision::Bf16Pure, Order::Random(3), Strategy::Dense, 3), &case);
}

fn launchers() -> &'static chtsl_launcher_table {
    chtsl_emulation::set_options(chtsl_emulation::Options::default());
    // SAFETY: the table lives as long as the program and was compiled from the same header.
    unsafe { &*chtsl_emulation::launchers().cast() }
}

/// Emulated memory with an activation or a matrix.
struct Array {
    memory: *mut std::ffi::c_void,
    rows: usize,
    cols: usize,
    stride: usize,
    bf16: bool,
}

impl Array {
    fn new(precision: Precision, stride: usize, rows: usize, data: &[f32]) -> Self {
        let (cols, bf16) = (data.len() / rows.max(1), precision != Precision::F32);
        let memory = chtsl_emulation::alloc((rows * stride * if bf16 { 2 } else { 4 }).max(1));
        assert!(!memory.is_null());
        let array = Array { memory, rows, cols, stride, bf16 };
        for i in 0..rows * stride {
            let (row, col) = (i / stride, i % stride);
            let value = if col < cols { data[row * cols + col] } else { 0.0 };
            // SAFETY: within the memory just allocated.
            unsafe {
                match bf16 {
                    true => *memory.cast::<u16>().add(i) = half::bf16::from_f32(value).to_bits(),
                    false => *memory.cast::<f32>().add(i) = value,
                }
            }
        }
        array
    }

    /// An activation: rows padded with zeros to whole tiles.
    fn activation(precision: Precision, rows: usize, data: &[f32]) -> Self {
        let tokens = data.len() / rows.max(1);
        Array::new(precision, tokens.next_multiple_of(128), rows, data)
    }

    fn matrix(precision: Precision, rows: usize, data: &[f32]) -> Self {
        let cols = data.len() / rows;
        let unit = if precision == Precision::F32 { 1 } else { 8 };
        Array::new(precision, cols.next_multiple_of(unit), rows, data)
    }

    /// Elements; the padding must be zero.
    fn read(&self) -> Vec<f32> {
        let mut values = vec![];
        for i in 0..self.rows * self.stride {
            // SAFETY: within the memory.
            let value = unsafe {
                match self.bf16 {
                    true => half::bf16::from_bits(*self.memory.cast::<u16>().add(i)).to_f32(),
                    false => *self.memory.cast::<f32>().add(i),
                }
            };
            if i % self.stride < self.cols {
                values.push(value);
            } else {
                assert!(value == 0.0, "padding at {i}: {value}");
            }
        }
        values
    }

    fn act(&self) -> chtsl_act {
        chtsl_act {
            data: self.memory,
            features: self.rows as u32,
            tokens: self.cols as u32,
            stride: self.stride as u32,
            type_: i32::from(self.bf16),
        }
    }

    fn raw(&self) -> chtsl_matrix {
        chtsl_matrix {
            data: self.memory,
            rows: self.rows as u32,
            cols: self.cols as u32,
            stride: self.stride as u32,
            type_: i32::from(self.bf16),
        }
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        // SAFETY: allocated above, and this was the only owner.
        let freed = unsafe { chtsl_emulation::free(self.memory) };
        if !std::thread::panicking() {
            freed.expect("intact guards around a buffer");
        }
    }
}

fn absent() -> chtsl_act {
    chtsl_act { data: std::ptr::null_mut(), features: 0, tokens: 0, stride: 0, type_: 0 }
}

/// Operands of one projection on the emulator.
struct Operands {
    a: Array,
    b: Array,
    x: Array,
    u: Array,
    s: Array,
    o: Array,
    sums: Array,
    d_o: Array,
    d_l: Array,
    c: Array,
    phi: Array,
    du: Array,
}

const TOKENS: usize = 70;

impl Operands {
    fn new(precision: Precision, out: usize, rank: usize, inputs: usize) -> Self {
        let mut source = Source::new(9, precision);
        let mut act = |p, rows| Array::activation(p, rows, &source.normal(rows * TOKENS, 1.0));
        let [x, s, d_o] = [inputs, out, out].map(|rows| act(precision, rows));
        let c = act(Precision::F32, 1);
        let stale = |p, rows| Array::activation(p, rows, &vec![7.0; rows * TOKENS]);
        let mut source = Source::new(10, precision);
        Operands {
            a: Array::matrix(precision, rank, &source.normal(rank * inputs, 0.2)),
            b: Array::matrix(precision, out, &source.normal(out * rank, 0.2)),
            u: stale(precision, rank),
            o: stale(precision, out),
            sums: stale(Precision::F32, branch_sums::COUNT),
            d_l: stale(precision, out),
            phi: stale(precision, rank),
            du: stale(precision, rank),
            x,
            s,
            d_o,
            c,
        }
    }

    fn weights(&self) -> chtsl_low_rank {
        let (a, b) = (self.a.raw(), self.b.raw());
        chtsl_low_rank { a, b, scale: 1.5, activation: CHTSL_SILU as i32 }
    }

    fn forward(&self, s: chtsl_act, sums: chtsl_act, version: i32) -> i32 {
        let (x, u, o) = (self.x.act(), self.u.act(), self.o.act());
        let launch = launchers().low_rank_forward.unwrap();
        // SAFETY: memory of these extents.
        unsafe { launch(self.weights(), x, u, s, o, sums, version, std::ptr::null_mut()) }
    }

    fn backward(&self, aligned: bool, version: i32) -> i32 {
        let pick = |x: &Array| if aligned { x.act() } else { absent() };
        let (o, c, d_l) = (pick(&self.o), pick(&self.c), pick(&self.d_l));
        let (u, d_o, phi, du) = (self.u.act(), self.d_o.act(), self.phi.act(), self.du.act());
        let launch = launchers().low_rank_backward.unwrap();
        // SAFETY: as above.
        unsafe { launch(self.weights(), u, o, c, d_o, d_l, phi, du, version, std::ptr::null_mut()) }
    }
}

fn assert_close(what: &str, got: &[f32], want: &[f32], unit: f32) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= unit * size, "{what} at {i}: {g} for {w}");
    }
}

/// L alone, then the branches joined by passes of their own, against the fused passes.
#[test]
fn fused_and_unfused_passes_agree() {
    for precision in PRECISIONS {
        // S, L and O are of order 1: a few roundings of each, and of sums over 90 features.
        let unit = if precision == Precision::F32 { 1e-5 } else { 0.03 };
        let versions = if precision == Precision::F32 { 1..3 } else { 1..4 };
        for version in versions {
            let name = |what: &str| format!("{what}, version {version}, {precision:?}");
            let apart = Operands::new(precision, 90, 24, 41);
            let fused = Operands::new(precision, 90, 24, 41);
            assert_eq!(fused.forward(fused.s.act(), fused.sums.act(), version), 0);

            assert_eq!(apart.forward(absent(), absent(), version), 0);
            let l = Array::activation(precision, 90, &apart.o.read());
            let joint = version.min(2);
            let (s, o, sums) = (apart.s.act(), apart.o.act(), apart.sums.act());
            let join = launchers().alignment_forward.unwrap();
            // SAFETY: memory of these extents.
            let status = unsafe { join(s, l.act(), o, sums, joint, std::ptr::null_mut()) };
            assert_eq!(status, 0);
            assert_close(&name("O"), &fused.o.read(), &apart.o.read(), unit);
            assert_close(&name("sums"), &fused.sums.read(), &apart.sums.read(), unit);
            if precision == Precision::F32 {
                assert_eq!(fused.o.read(), apart.o.read(), "{}", name("O = S + L to the bit"));
            }

            let (d_s, d_o, c) = (&apart.d_o, apart.d_o.act(), apart.c.act());
            let pull = launchers().alignment_backward.unwrap();
            // SAFETY: as above.
            let status = unsafe {
                let d_l = apart.d_l.act();
                pull(d_o, fused.o.act(), l.act(), c, d_s.act(), d_l, joint, std::ptr::null_mut())
            };
            assert_eq!(status, 0);
            assert_eq!(fused.backward(true, version), 0);
            assert_close(&name("dS"), &fused.d_o.read(), &d_s.read(), unit);
            assert_close(&name("dL"), &fused.d_l.read(), &apart.d_l.read(), unit);

            // du from a given dL is what comes out when alignment has been done before.
            let mut after = Operands::new(precision, 90, 24, 41);
            std::mem::swap(&mut after.d_o, &mut { apart }.d_l);
            after.u = Array::activation(precision, 24, &fused.u.read());
            let before = after.d_o.read();
            assert_eq!(after.backward(false, version), 0);
            assert_eq!(after.d_o.read(), before, "{}", name("dO stays"));
            assert_close(&name("du"), &fused.du.read(), &after.du.read(), unit);
            assert_eq!(fused.phi.read(), after.phi.read(), "{}", name("phi"));
        }
    }
}

/// Naive and fast passes over branches that have O in place of S.
#[test]
fn branches_are_joined_in_place() {
    for precision in PRECISIONS {
        let run = |version: i32, in_place: bool| {
            let w = Operands::new(precision, 37, 5, 20);
            let o = Array::activation(precision, 37, &w.s.read());
            let (s, o) = if in_place { (o.act(), o) } else { (w.s.act(), o) };
            let launch = launchers().low_rank_forward.unwrap();
            let (x, u, sums) = (w.x.act(), w.u.act(), w.sums.act());
            // SAFETY: memory of these extents.
            let status = unsafe {
                launch(w.weights(), x, u, s, o.act(), sums, version, std::ptr::null_mut())
            };
            assert_eq!(status, 0);
            [o.read(), w.sums.read(), w.u.read()]
        };
        for version in [0, 1, 2] {
            assert_eq!(run(version, true), run(version, false), "{precision:?} {version}");
        }
    }
}

#[test]
fn launchers_refuse_what_they_cannot_take() {
    let w = Operands::new(Precision::Bf16Pure, 16, 8, 24);
    let f32s = Operands::new(Precision::F32, 16, 8, 24);
    let table = launchers();
    let (forward, backward) = (table.low_rank_forward.unwrap(), table.low_rank_backward.unwrap());
    let stream = std::ptr::null_mut();
    type Edit<'a> =
        dyn Fn(&mut chtsl_low_rank, &mut [chtsl_act; 5], &mut [chtsl_act; 7], &mut i32) + 'a;
    // Status of both passes after an edit: x, u, s, o, sums; u, o, c, d_o, d_l, phi, du.
    let status = |edit: &Edit| {
        let mut weights = w.weights();
        let mut f = [w.x.act(), w.u.act(), w.s.act(), w.o.act(), w.sums.act()];
        let (c, d_o, d_l) = (w.c.act(), w.d_o.act(), w.d_l.act());
        let mut b = [w.u.act(), w.o.act(), c, d_o, d_l, w.phi.act(), w.du.act()];
        let mut v = 0;
        edit(&mut weights, &mut f, &mut b, &mut v);
        // SAFETY: arguments are right or refused before anything is touched.
        unsafe {
            (
                forward(weights, f[0], f[1], f[2], f[3], f[4], v, stream),
                backward(weights, b[0], b[1], b[2], b[3], b[4], b[5], b[6], v, stream),
            )
        }
    };
    let (shape, alignment) = (CHTSL_BAD_SHAPE, CHTSL_BAD_ALIGNMENT);
    let unsupported = CHTSL_UNSUPPORTED;
    assert_eq!(status(&|_, _, _, _| ()), (0, 0));
    let both = |code, edit: &Edit| assert_eq!(status(edit), (code, code));
    both(unsupported, &|_, _, _, v| *v = 4);
    both(unsupported, &|_, _, _, v| *v = -1);
    both(unsupported, &|w, _, _, _| w.activation = 2);
    both(unsupported, &|w, _, _, _| w.b.type_ = 0);
    both(shape, &|w, _, _, _| w.b.rows = 15);
    both(shape, &|w, _, _, _| w.b.stride = 7);
    both(shape, &|w, _, _, _| w.b.data = std::ptr::null_mut());
    both(alignment, &|w, _, _, _| w.b.stride = 12);
    both(alignment, &|w, _, _, _| w.b.data = w.b.data.wrapping_byte_add(2));
    both(shape, &|w, f, b, _| {
        (w.a.rows, w.b.cols, f[1].features) = (0, 0, 0);
        (b[0].features, b[5].features, b[6].features) = (0, 0, 0);
    });
    assert_eq!(status(&|w, _, _, _| w.a.cols = 23).0, shape);
    // Every activation in turn: tokens, stride, alignment, type.
    for i in 0..5 {
        let code = |edit: &dyn Fn(&mut chtsl_act)| status(&|_, f, _, _| edit(&mut f[i])).0;
        assert_eq!(code(&|x| x.tokens += 1), shape, "{i}");
        assert_eq!(code(&|x| x.stride = 100), alignment, "{i}");
        assert_eq!(code(&|x| x.data = x.data.wrapping_byte_add(4)), alignment, "{i}");
        assert_eq!(code(&|x| x.type_ = if i == 4 { 1 } else { 0 }), unsupported, "{i}");
    }
    for i in 0..7 {
        let code = |edit: &dyn Fn(&mut chtsl_act)| status(&|_, _, b, _| edit(&mut b[i])).1;
        assert_eq!(code(&|x| x.tokens += 1), shape, "{i}");
        assert_eq!(code(&|x| x.stride = 100), alignment, "{i}");
        assert_eq!(code(&|x| x.data = x.data.wrapping_byte_add(4)), alignment, "{i}");
        assert_eq!(code(&|x| x.type_ = if i == 2 { 1 } else { 0 }), unsupported, "{i}");
    }
    // Output, coefficients and dL go together.
    for i in [1, 2, 4] {
        assert_eq!(status(&|_, _, b, _| b[i].data = std::ptr::null_mut()).1, shape, "{i}");
    }
    assert_eq!(f32s.forward(f32s.s.act(), f32s.sums.act(), 3), unsupported);
    assert_eq!(f32s.backward(true, 3), unsupported);

    let (join, pull) = (table.alignment_forward.unwrap(), table.alignment_backward.unwrap());
    let (s, l, o, sums, c) = (w.s.act(), w.d_l.act(), w.o.act(), w.sums.act(), w.c.act());
    // SAFETY: as above.
    unsafe {
        assert_eq!(join(s, l, o, sums, 0, stream), 0);
        assert_eq!(join(s, l, o, sums, 3, stream), unsupported);
        assert_eq!(join(s, l, o, c, 0, stream), shape);
        assert_eq!(join(s, w.x.act(), o, sums, 0, stream), shape);
        assert_eq!(join(s, f32s.s.act(), o, sums, 0, stream), unsupported);
        assert_eq!(pull(o, o, l, c, o, l, 0, stream), 0);
        assert_eq!(pull(o, o, l, c, o, l, 3, stream), unsupported);
        assert_eq!(pull(o, o, l, absent(), o, l, 0, stream), shape);
        assert_eq!(pull(o, w.x.act(), l, c, o, l, 0, stream), shape);
        assert_eq!(pull(o, o, l, c, f32s.o.act(), l, 0, stream), unsupported);
    }
}
