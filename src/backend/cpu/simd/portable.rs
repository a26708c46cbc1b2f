//! Plain Rust on arrays of 8: the compiler may vectorise it, but every rounding is fixed.

use super::Simd;

#[derive(Clone, Copy)]
pub struct Portable;

type V = [f32; 8];

#[inline(always)]
fn map(a: V, f: impl Fn(f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i]))
}

#[inline(always)]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY (load, store): pointers are valid for 8 elements by the trait's contract.
#[allow(unsafe_op_in_unsafe_fn)]
impl Simd for Portable {
    type V = V;
    const LANES: usize = 8;
    const ROWS: usize = 2;
    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        p.cast::<V>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        p.cast::<V>().write_unaligned(v)
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn sqrt(a: V) -> V {
        map(a, f32::sqrt)
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn abs(a: V) -> V {
        map(a, f32::abs)
    }
    #[inline(always)]
    unsafe fn where_less(a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { c[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn zero_where_less(a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| if a[i] < b[i] { 0.0 } else { c[i] })
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        map(a, f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn pow2(n: V) -> V {
        map(n, |x| f32::from_bits(((x as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn to_bf16(a: V) -> V {
        map(a, |x| {
            let bits = x.to_bits();
            f32::from_bits(bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & !0xFFFF)
        })
    }
    #[inline(always)]
    unsafe fn sum(a: V) -> f32 {
        let b: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
        (b[0] + b[2]) + (b[1] + b[3])
    }
    #[inline(always)]
    unsafe fn sum_each(p: &[V; 16]) -> V {
        std::array::from_fn(|i| Self::sum(p[i]))
    }
}
