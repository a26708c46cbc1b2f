//! What all backends refuse alike: extents that disagree, ids and targets outside the vocabulary.

use crate::backend::{AttentionShape, Backend, Hybrid, HybridGrads, NO_TARGET};
use crate::error::{Error, Result, check_len};

/// (features, tokens) of an activation.
pub(super) type Extents = (usize, usize);

/// Compares the extents of an activation.
pub(super) fn act(op: &'static str, got: Extents, wanted: Extents) -> Result<()> {
    if got == wanted {
        return Ok(());
    }
    let (features, tokens) = wanted;
    Err(Error::shape(
        op,
        format!("an activation of {features} features x {tokens} tokens"),
        format!("{} x {}", got.0, got.1),
    ))
}

/// Checks token ids against a table of `len` elements; returns the size of the vocabulary.
pub(super) fn ids(op: &'static str, len: usize, ids: &[u32], features: usize) -> Result<usize> {
    let vocab = len / features.max(1);
    check_len(op, "elements of the table", vocab * features, len)?;
    if let Some((n, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= vocab) {
        return Err(Error::shape(op, format!("token ids below {vocab}"), format!("{id} at {n}")));
    }
    Ok(vocab)
}

/// Checks a head of `len` weights and the targets; returns the size of the vocabulary.
pub(super) fn head(op: &'static str, len: usize, x: Extents, targets: &[u32]) -> Result<usize> {
    let (features, tokens) = x;
    let vocab = len / features.max(1);
    check_len(op, "weights", vocab * features, len)?;
    if vocab == 0 {
        return Err(Error::shape(op, "a head of at least one token", 0));
    }
    check_len(op, "targets", tokens, targets.len())?;
    match targets.iter().find(|&&t| t != NO_TARGET && t as usize >= vocab) {
        Some(t) => Err(Error::shape(op, format!("targets below {vocab}"), t)),
        None => Ok(vocab),
    }
}

/// Checks the shape of an attention call and its activations; returns the number of tokens.
pub(super) fn attention(
    op: &'static str,
    s: &AttentionShape,
    acts: impl IntoIterator<Item = Extents>,
) -> Result<usize> {
    let (features, tokens) = (s.heads * s.head_dim, s.sequences * s.seq_len);
    for a in acts {
        act(op, a, (features, tokens))?;
    }
    if s.head_dim == 0 || !s.head_dim.is_multiple_of(2) {
        return Err(Error::shape(op, "an even head width", s.head_dim));
    }
    if let Some(starts) = s.starts {
        check_len(op, "document starts", tokens, starts.len())?;
        let late = starts.iter().enumerate().find(|(i, t)| **t as usize > i % s.seq_len);
        if let Some((i, t)) = late {
            return Err(Error::shape(op, format!("document start at or before token {i}"), t));
        }
    }
    Ok(tokens)
}

/// Compares all extents of a projection with its activations; returns the rank (0 = no branch).
pub(super) fn hybrid<B: Backend>(
    op: &'static str,
    backend: &B,
    w: &Hybrid<B>,
    x: Extents,
    u: Option<Extents>,
    o: Extents,
) -> Result<usize> {
    let tokens = x.1;
    act(op, x, (w.cols, tokens))?;
    act(op, o, (w.rows, tokens))?;
    if let Some(s) = w.sparse
        && (s.pattern.rows(), s.pattern.cols()) != (w.rows, w.cols)
    {
        return Err(Error::shape(
            op,
            format!("a {} x {} pattern", w.rows, w.cols),
            format!("{} x {}", s.pattern.rows(), s.pattern.cols()),
        ));
    }
    match (&w.low_rank, u) {
        (Some(low), Some(u)) => {
            check_len(op, "elements of A", low.rank * w.cols, backend.len(low.a))?;
            check_len(op, "elements of B", low.rank * w.rows, backend.len(low.b))?;
            act(op, u, (low.rank, tokens))?;
            if low.rank == 0 {
                return Err(Error::shape(op, "rank of at least 1", 0));
            }
            Ok(low.rank)
        }
        (None, _) if w.sparse.is_some() => Ok(0),
        (Some(_), None) => Err(Error::shape(op, "an activation for u = A·x", "none")),
        (None, _) => Err(Error::shape(op, "at least one branch", "none")),
    }
}

/// Compares the gradients of a projection of rank `rank` with its branches, and its coefficients.
pub(super) fn hybrid_grads<B: Backend>(
    op: &'static str,
    backend: &B,
    w: &Hybrid<B>,
    rank: usize,
    coefficients: Option<(Extents, usize)>,
    grads: &HybridGrads<B>,
) -> Result<()> {
    if let Some((c, tokens)) = coefficients {
        act(op, c, (1, tokens))?;
        if rank == 0 {
            return Err(Error::shape(op, "a low-rank branch beside alignment", "none"));
        }
    }
    for (grad, len, what) in [
        (&grads.values, w.sparse.map(|s| s.pattern.nnz()), "link gradients"),
        (&grads.a, (rank > 0).then_some(rank * w.cols), "gradients of A"),
        (&grads.b, (rank > 0).then_some(rank * w.rows), "gradients of B"),
    ] {
        match (grad, len) {
            (Some(g), Some(len)) => check_len(op, what, len, backend.len(g))?,
            (None, None) => {}
            _ => return Err(Error::shape(op, format!("{what} exactly with that branch"), what)),
        }
    }
    Ok(())
}
