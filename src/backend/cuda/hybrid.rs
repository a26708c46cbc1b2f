//! O = S + L, forward and backward. `include/low_rank.h`, `include/alignment.h`
//!
//! S is made where O will be, and the low-rank pass adds L to it on the way; dS takes the place of dO
//! likewise. Rank-sized products that sum over tokens or links go to the dense library and to
//! [`super::sddmm`].

use super::bindings::{CHTSL_IDENTITY, CHTSL_SILU, chtsl_act, chtsl_low_rank, chtsl_matrix};
use super::gemm::of_matrix;
use super::launch::launch;
use super::memory::{Act, View};
use super::runtime::{Element, Gemm};
use super::{Cuda, Scratch, check_act, sddmm, spmm};
use crate::backend::{Activity, Backend, Hybrid, HybridGrads, LowRank, branch_sums, checks};
use crate::config::Activation;
use crate::error::Result;

/// The branch as launchers take it.
fn raw(cuda: &Cuda, w: &Hybrid<Cuda>, low: &LowRank<Cuda>) -> Result<chtsl_low_rank> {
    let activation = match low.activation {
        Activation::Identity => CHTSL_IDENTITY,
        Activation::Silu => CHTSL_SILU,
    };
    Ok(chtsl_low_rank {
        a: cuda.operand(low.a, low.rank, w.cols)?,
        b: cuda.operand(low.b, w.rows, low.rank)?,
        scale: low.scale,
        activation: activation as i32,
    })
}

/// An activation that a launcher does without.
fn absent() -> chtsl_act {
    chtsl_act { data: std::ptr::null_mut(), features: 0, tokens: 0, stride: 0, type_: 0 }
}

pub(super) fn forward(
    cuda: &Cuda,
    w: &Hybrid<Cuda>,
    x: &Act,
    u: Option<&mut Act>,
    o: &mut Act,
    sums: Option<&mut Act>,
) -> Result<()> {
    const OP: &str = "hybrid_forward";
    let extents = u.as_deref().map(Act::extents);
    checks::hybrid(OP, cuda, w, x.extents(), extents, o.extents())?;
    if let Some(s) = &sums {
        check_act(OP, s, branch_sums::COUNT, x.tokens)?;
    }
    if w.rows == 0 || x.tokens == 0 {
        return Ok(());
    }
    if let Some(s) = w.sparse {
        cuda.mark(Activity::Sparse.into());
        spmm::forward(cuda, s, x, o)?;
    }
    let sums = sums.map(|s| s.raw());
    match (&w.low_rank, u) {
        (Some(low), Some(u)) => {
            cuda.mark(Activity::LowRank.into());
            let branch = raw(cuda, w, low)?;
            let s = if w.sparse.is_some() { o.raw() } else { absent() };
            let sums = sums.unwrap_or(absent());
            launch!(
                cuda,
                low_rank_forward(branch, x.raw(), u.raw(), s, o.raw(), sums, cuda.version)
            )
        }
        _ => match sums {
            Some(sums) => {
                launch!(cuda, alignment_forward(o.raw(), absent(), o.raw(), sums, cuda.version))
            }
            None => Ok(()),
        },
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    cuda: &Cuda,
    w: &Hybrid<Cuda>,
    x: &Act,
    u: Option<&Act>,
    o: &Act,
    coefficients: Option<&Act>,
    d_o: &mut Act,
    dx: &mut Act,
    accumulate: bool,
    grads: HybridGrads<Cuda>,
) -> Result<()> {
    const OP: &str = "hybrid_backward";
    let rank = checks::hybrid(OP, cuda, w, x.extents(), u.map(Act::extents), o.extents())?;
    check_act(OP, d_o, w.rows, x.tokens)?;
    check_act(OP, dx, w.cols, x.tokens)?;
    let given = coefficients.map(|c| (c.extents(), x.tokens));
    checks::hybrid_grads(OP, cuda, w, rank, given, &grads)?;
    let HybridGrads { values, a, b } = grads;
    if x.tokens == 0 {
        return Ok(());
    }
    if let (Some(low), Some(u), Some(a), Some(b)) = (&w.low_rank, u, a, b) {
        cuda.mark(Activity::LowRank.into());
        // φ(u) and du; dL, where it is not dO itself.
        let bytes = u.bytes();
        let hidden = cuda.scratch(Scratch::Hidden, 2 * bytes)?;
        let (phi, du) = (View::new(&hidden, 0, u), View::new(&hidden, bytes, u));
        let branch = cuda.scratch(Scratch::Branch, coefficients.map_or(0, |_| d_o.bytes()))?;
        let apart = coefficients.map(|c| (c, View::new(&branch, 0, d_o)));
        let silu = low.activation == Activation::Silu;
        let (output, c, d_l) = match &apart {
            Some((c, d_l)) => (o.raw(), c.raw(), d_l.raw()),
            None => (absent(), absent(), absent()),
        };
        let factors = raw(cuda, w, low)?;
        let kept = if silu { phi.raw() } else { absent() };
        launch!(
            cuda,
            low_rank_backward(
                factors,
                u.raw(),
                output,
                c,
                d_o.raw(),
                d_l,
                kept,
                du.raw(),
                cuda.version
            )
        )?;
        let d_l: &Act = apart.as_ref().map_or(&*d_o, |(_, d_l)| d_l);
        let phi: &Act = if silu { &phi } else { u };
        b.changed();
        weight_gradient(cuda, low.scale, d_l, phi, b.matrix(w.rows, low.rank))?;
        a.changed();
        weight_gradient(cuda, 1.0, &du, x, a.matrix(low.rank, w.cols))?;
        cuda.gemm(&Gemm {
            m: w.cols,
            n: x.stride,
            k: low.rank,
            a: of_matrix(factors.a, cuda.element, true),
            b: du.operand(false),
            c: dx.operand(false),
            alpha: 1.0,
            beta: f32::from(accumulate),
        })?;
    }
    if let (Some(s), Some(values)) = (w.sparse, values) {
        cuda.mark(Activity::Sparse.into());
        sddmm::sddmm(cuda, s, d_o, x, values)?;
        spmm::transposed(cuda, s, d_o, dx, accumulate || rank > 0)?;
    }
    Ok(())
}

/// `dw += alpha·dy·xᵀ`.
fn weight_gradient(cuda: &Cuda, alpha: f32, dy: &Act, x: &Act, dw: chtsl_matrix) -> Result<()> {
    cuda.gemm(&Gemm {
        m: dy.features,
        n: x.features,
        k: x.tokens,
        a: dy.operand(false),
        b: x.operand(true),
        c: of_matrix(dw, Element::F32, false),
        alpha,
        beta: 1.0,
    })
}
