//! Token embedding. `include/embedding.h`

use super::launch::launch;
use super::memory::{Act, Buf};
use super::{Cuda, Scratch, check_act};
use crate::backend::checks;
use crate::error::Result;

/// Checks ids against a table; returns the size of the vocabulary.
fn check(op: &'static str, table: &Buf, ids: &[u32], x: &Act) -> Result<u32> {
    check_act(op, x, x.features, ids.len())?;
    checks::ids(op, table.len, ids, x.features).map(|vocab| vocab as u32)
}

pub(super) fn forward(cuda: &Cuda, table: &Buf, ids: &[u32], x: &mut Act) -> Result<()> {
    let vocab = check("embedding_forward", table, ids, x)?;
    let mut list = cuda.scratch(Scratch::Lists, size_of_val(ids))?;
    list.write(0, ids)?;
    launch!(cuda, embedding_forward(table.raw(), vocab, list.pointer().cast(), x.raw()))
}

/// Tokens sorted by id: distinct ids, where each begins, and the tokens in order.
fn sorted(ids: &[u32]) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let mut tokens: Vec<u32> = (0..ids.len() as u32).collect();
    tokens.sort_by_key(|&n| ids[n as usize]); // stable: in order within an id
    let (mut distinct, mut starts) = (Vec::new(), Vec::new());
    for (i, &n) in tokens.iter().enumerate() {
        if distinct.last() != Some(&ids[n as usize]) {
            distinct.push(ids[n as usize]);
            starts.push(i as u32);
        }
    }
    starts.push(tokens.len() as u32);
    (distinct, starts, tokens)
}

pub(super) fn backward(cuda: &Cuda, ids: &[u32], dx: &Act, dtable: &mut Buf) -> Result<()> {
    let vocab = check("embedding_backward", dtable, ids, dx)?;
    dtable.changed();
    let (distinct, starts, tokens) = sorted(ids);
    let count = distinct.len();
    let mut lists = cuda.scratch(Scratch::Lists, 4 * (2 * count + 1 + tokens.len()))?;
    lists.write(0, &distinct)?;
    lists.write(4 * count, &starts)?;
    lists.write(4 * (2 * count + 1), &tokens)?;
    let rows = cuda.scratch(Scratch::Partial, dx.features * dx.tokens * dx.element.bytes())?;
    let first = lists.pointer().cast::<u32>().cast_const();
    let (starts, tokens) = (first.wrapping_add(count), first.wrapping_add(2 * count + 1));
    let (rows, dtable) = (rows.pointer(), dtable.raw());
    launch!(
        cuda,
        embedding_backward(dx.raw(), count as u32, first, starts, tokens, rows, vocab, dtable)
    )
}
