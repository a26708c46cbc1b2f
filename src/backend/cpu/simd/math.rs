//! exp, sigmoid and SiLU over any SIMD level, from one polynomial.

use super::Simd;

/// e^x with relative error below 2e-7 for x up to 88.3 (clamped there); 0 below -87.3, so that a
/// masked score of -inf has probability exactly 0 and no result is subnormal. NaN stays NaN: a broken
/// number must reach the loss, where it is noticed.
///
/// Cody-Waite reduction x = n·ln 2 + r, |r| ≤ ½ ln 2, and a degree-6 polynomial for e^r
/// (coefficients of the truncated series, corrected in the last two terms as in Cephes' expf).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: element-wise register arithmetic only.
    unsafe {
        let lowest = S::splat(-87.3);
        let input = x;
        let x = S::max(lowest, S::min(S::splat(88.3), x));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-0.693_359_4), x);
        let r = S::fma(n, S::splat(2.121_944_4e-4), r);
        let mut p = S::splat(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
            p = S::fma(p, r, S::splat(c));
        }
        let p = S::add(S::fma(p, S::mul(r, r), r), S::splat(1.0));
        S::zero_where_less(input, lowest, S::mul(p, S::pow2(n)))
    }
}

/// 1 / (1 + e^-x).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: element-wise register arithmetic only.
    unsafe {
        let one = S::splat(1.0);
        S::div(one, S::add(one, exp::<S>(S::sub(S::splat(0.0), x))))
    }
}
