//! SIMD levels chosen at run time. A kernel is written once over [`Simd`] and compiled for AVX-512,
//! AVX2 + FMA and a portable vector; [`Level::run`] picks the body.
//!
//! The portable level multiplies and adds in separate roundings with a fixed vector width, so it gives
//! the same bits on every machine: golden losses are recorded with it (`CHTSL_SIMD=portable`).

// Several register arrays are walked by one index; safety is stated once for the whole trait.
#![allow(clippy::needless_range_loop, clippy::missing_safety_doc)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod hybrid;
pub mod math;
pub mod panel;
pub mod pointwise;
mod portable;
pub mod sparse;

use crate::error::{Error, Result};

/// Tokens per tile of an activation: 64 × f32 = four cache lines, 4 zmm or 8 ymm registers.
pub const TILE: usize = 64;

/// A vector of f32 lanes. All methods are element-wise unless said otherwise.
///
/// # Safety
/// Methods that take pointers need them valid for `LANES` elements (no alignment needed). Every
/// method must run inside [`Level::run`], which guarantees the instructions exist.
#[allow(clippy::missing_safety_doc)] // said once, above
pub trait Simd: Copy {
    /// The vector register.
    type V: Copy;
    /// Elements per register.
    const LANES: usize;
    /// Rows that the dense microkernel keeps in registers (6 or 2).
    const ROWS: usize;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// Loads `LANES` elements.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Stores `LANES` elements.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// a + b.
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b.
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// √a.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a·b + c; one rounding where the machine has FMA, two on the portable level.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller of both.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of both.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// |a|.
    unsafe fn abs(a: Self::V) -> Self::V;
    /// `if a < b { c } else { 0 }`.
    unsafe fn where_less(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a < b { 0 } else { c }`: `c` also where one of them is not a number.
    unsafe fn zero_where_less(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for integral n in -126..=127.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// Rounds to the nearest bf16 value, ties to even (finite inputs).
    unsafe fn to_bf16(a: Self::V) -> Self::V;
    /// Sum of all lanes, pairwise in a fixed order.
    unsafe fn sum(a: Self::V) -> f32;
    /// Lane i of the result is the sum of all lanes of `p[i]`, for the first `LANES` vectors.
    unsafe fn sum_each(p: &[Self::V; 16]) -> Self::V;
}

/// A function body generic over the SIMD level, with its arguments as fields.
pub trait Kernel {
    /// What the body returns.
    type Out;
    /// The body; implement with `#[inline(always)]`.
    ///
    /// # Safety
    /// Only to be called by [`Level::run`]; further needs are the implementor's.
    unsafe fn run<S: Simd>(self) -> Self::Out;
}

/// Instruction set in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No explicit instructions; identical bits everywhere.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl Level {
    /// The best level of this machine, or the one that `CHTSL_SIMD` = `portable`, `avx2` or
    /// `avx512` names.
    ///
    /// Errors: `Error::Config` for another name or a level that the machine lacks.
    pub fn detect() -> Result<Level> {
        let best = Self::best();
        let wanted = match std::env::var("CHTSL_SIMD").as_deref() {
            Err(_) | Ok("") | Ok("auto") => return Ok(best),
            Ok("portable") => Level::Portable,
            Ok("avx2") => Level::Avx2,
            Ok("avx512") => Level::Avx512,
            Ok(other) => {
                return Err(Error::Config(format!(
                    "CHTSL_SIMD = {other:?}: use auto, portable, avx2 or avx512"
                )));
            }
        };
        if wanted > best {
            return Err(Error::Config(format!(
                "CHTSL_SIMD asks for {wanted:?} but this machine has {best:?}: unset it"
            )));
        }
        Ok(wanted)
    }

    /// All levels that this machine can run, slowest first.
    pub fn available() -> Vec<Level> {
        [Level::Portable, Level::Avx2, Level::Avx512]
            .into_iter()
            .filter(|l| *l <= Self::best())
            .collect()
    }

    fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Level::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// Runs `kernel` compiled for this level.
    ///
    /// # Safety
    /// What the kernel itself asks for. The instructions are known to exist: a `Level` above
    /// portable only comes from detection.
    #[inline]
    pub unsafe fn run<K: Kernel>(self, kernel: K) -> K::Out {
        // SAFETY: detection established the features; the rest is the caller's promise.
        unsafe {
            match self {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => avx512::run(kernel),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => avx2::run(kernel),
                _ => kernel.run::<portable::Portable>(),
            }
        }
    }
}
