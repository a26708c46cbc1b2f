//! What tensors an exported folder holds, and their bytes.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use safetensors::Dtype;

use super::writer::{self, Put, Spec};
use super::{Format, Module, modules};
use crate::checkpoint::TensorFile;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layer::{ParamKind, ParamSource};
use crate::sparse::Pattern;

/// Where a tensor comes from.
enum Origin {
    /// The dense tensor of the same name.
    Same,
    /// Values, row offsets or column indices of a sparse weight.
    Values(Module),
    RowOffsets(Module),
    Columns(Module),
    /// S + g·B·A as one matrix.
    Product(Module),
}

/// A tensor to be written.
pub(super) struct Tensor {
    spec: Spec,
    origin: Origin,
    method: Branches,
}

/// Branches of every projection.
#[derive(Clone, Copy)]
struct Branches {
    sparse: bool,
    /// Rank and g of a low-rank branch.
    low_rank: Option<(usize, f64)>,
}

/// The tensors of a folder.
pub(super) struct Plan {
    /// Of model.safetensors.
    pub weights: Vec<Tensor>,
    /// Links that the matrices of `hf` do not show: a link may have the value zero.
    pub links: Vec<Tensor>,
    /// Number of links per sparse projection.
    pub link_counts: Vec<(String, usize)>,
    /// Type of the weights.
    pub dtype: Dtype,
    /// Scale g of the low-rank branch.
    pub scale: f64,
    /// Rank of the low-rank branch, 0 without.
    pub rank: usize,
}

impl Plan {
    /// Tensors of a checkpoint of `config` in `format`.
    pub fn new(config: &Config, source: &TensorFile, format: Format) -> Result<Self> {
        let (m, method) = (&config.model, &config.method);
        let rank = if method.low_rank { config.budget()?.rank } else { 0 };
        // As the model computes: the scale is f32 there.
        let scale = f64::from(config.low_rank_scale(rank) as f32);
        let branches = Branches {
            sparse: method.sparse && !method.dense,
            low_rank: (rank > 0 && !method.dense).then_some((rank, scale)),
        };
        let product = format == Format::Hf && branches.low_rank.is_some();
        // A product of bf16 factors is not a bf16 number; everything else is written as it is stored.
        let stored = source.info("model.norm.weight")?.0;
        let dtype = if stored == Dtype::BF16 && !product { Dtype::BF16 } else { Dtype::F32 };
        let (mut weights, mut links, mut link_counts) = (Vec::new(), Vec::new(), Vec::new());
        let tensor = |name: String, dtype, shape: &[usize], origin| Tensor {
            spec: Spec { name, dtype, shape: shape.to_vec() },
            origin,
            method: branches,
        };
        // Sizes are compared before any is multiplied out.
        let same = |name: String, shape: &[usize]| -> Result<Tensor> {
            let stored = source.info(&name)?.1;
            if stored != shape {
                let expected = format!("{name} of shape {shape:?}");
                return Err(Error::shape("export", expected, format!("{stored:?}")));
            }
            Ok(tensor(name, dtype, shape, Origin::Same))
        };
        weights.push(same("model.embed_tokens.weight".into(), &[m.vocab, m.hidden])?);
        for layer in 0..m.layers {
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                weights.push(same(format!("model.layers.{layer}.{norm}.weight"), &[m.hidden])?);
            }
        }
        for module in modules(config) {
            let Module { name, rows, cols } = &module;
            let weight = format!("{name}.weight");
            let copy = || Module { name: name.clone(), rows: *rows, cols: *cols };
            if branches.sparse {
                let nnz = source.info(&format!("{weight}.col_indices"))?.1.iter().product();
                link_counts.push((name.clone(), nnz));
                let to = if format == Format::Hf { &mut links } else { &mut weights };
                if !product {
                    let (i32s, crow) = (Dtype::I32, format!("{weight}.crow_indices"));
                    to.push(tensor(crow, i32s, &[rows + 1], Origin::RowOffsets(copy())));
                    let col = format!("{weight}.col_indices");
                    to.push(tensor(col, i32s, &[nnz], Origin::Columns(copy())));
                }
                if format == Format::HfCustom {
                    let values = format!("{weight}.values");
                    weights.push(tensor(values, dtype, &[nnz], Origin::Values(copy())));
                }
            }
            if format == Format::HfCustom
                && let Some((rank, _)) = branches.low_rank
            {
                weights.push(same(format!("{name}.low_rank.A"), &[rank, *cols])?);
                weights.push(same(format!("{name}.low_rank.B"), &[*rows, rank])?);
            }
            if method.dense {
                weights.push(same(weight, &[*rows, *cols])?);
            } else if format == Format::Hf {
                weights.push(tensor(weight, dtype, &[*rows, *cols], Origin::Product(copy())));
            }
        }
        weights.push(same("model.norm.weight".into(), &[m.hidden])?);
        weights.push(same("lm_head.weight".into(), &[m.vocab, m.hidden])?);
        // Stable, so that otherwise the order is the model's.
        weights.sort_by_key(|t| t.spec.dtype == Dtype::BF16);
        Ok(Plan { weights, links, link_counts, dtype, scale, rank })
    }
}

/// Writes `tensors`, made from `source` one at a time.
pub(super) fn write(
    path: &Path,
    tensors: &[Tensor],
    source: &mut TensorFile,
    stop: &AtomicBool,
) -> Result<()> {
    let specs = tensors.iter().map(|t| &t.spec);
    writer::write(path, specs, |i, put| tensors[i].emit(source, put), stop)
}

impl Tensor {
    /// Hands its bytes over piece by piece: they are never beside the numbers as a whole.
    fn emit(&self, source: &mut TensorFile, put: &mut Put) -> Result<()> {
        let indices = |put: &mut Put, x: &[u32]| pieces(put, x, |x| (x as i32).to_le_bytes());
        let sparse = |source: &mut TensorFile, m: &Module| {
            source.sparse(&format!("{}.weight", m.name), m.rows, m.cols)
        };
        let floats = match &self.origin {
            Origin::RowOffsets(m) => return indices(put, sparse(source, m)?.0.row_offsets()),
            Origin::Columns(m) => return indices(put, sparse(source, m)?.0.column_indices()),
            Origin::Values(m) => sparse(source, m)?.1,
            Origin::Same => {
                let shape = match self.spec.shape[..] {
                    [rows, cols] => [rows, cols],
                    _ => [1, self.spec.shape[0]],
                };
                source.dense(&self.spec.name, shape, ParamKind::Dense)?
            }
            Origin::Product(m) => {
                let links = if self.method.sparse { Some(sparse(source, m)?) } else { None };
                let factors = match self.method.low_rank {
                    Some((rank, scale)) => {
                        let mut factor = |which: &str, shape, kind| {
                            source.dense(&format!("{}.low_rank.{which}", m.name), shape, kind)
                        };
                        let a = factor("A", [rank, m.cols], ParamKind::LowRankA)?;
                        let b = factor("B", [m.rows, rank], ParamKind::LowRankB)?;
                        Some((a, b, scale))
                    }
                    None => None,
                };
                multiply(m, links, factors)
            }
        };
        match self.spec.dtype {
            Dtype::BF16 => pieces(put, &floats, |x| half::bf16::from_f32(x).to_le_bytes()),
            _ => pieces(put, &floats, f32::to_le_bytes),
        }
    }
}

fn pieces<T: Copy, const N: usize>(
    put: &mut Put,
    x: &[T],
    of: impl Fn(T) -> [u8; N],
) -> Result<()> {
    x.chunks(1 << 14)
        .try_for_each(|x| put(x.iter().flat_map(|x| of(*x)).collect::<Vec<_>>().as_slice()))
}

/// S + g·B·A, row-major. Summed in f64 and rounded once, so that it is nearer to the exact matrix than
/// any order of f32 sums; without a product, the values come through unchanged.
fn multiply(
    m: &Module,
    links: Option<(Pattern, Vec<f32>)>,
    factors: Option<(Vec<f32>, Vec<f32>, f64)>,
) -> Vec<f32> {
    let mut out = vec![0.0; m.rows * m.cols];
    out.par_chunks_mut(m.cols).enumerate().for_each(|(row, out)| {
        let link = links.iter().flat_map(|(pattern, values)| {
            pattern.range(row).map(|i| (pattern.column_indices()[i] as usize, values[i]))
        });
        let Some((a, b, scale)) = &factors else {
            link.for_each(|(col, value)| out[col] = value);
            return;
        };
        let mut sum = vec![0.0f64; m.cols];
        link.for_each(|(col, value)| sum[col] = f64::from(value));
        let rank = a.len() / m.cols;
        for (a, b) in a.chunks_exact(m.cols).zip(&b[row * rank..]) {
            let weight = scale * f64::from(*b);
            sum.iter_mut().zip(a).for_each(|(s, a)| *s += weight * f64::from(*a));
        }
        out.iter_mut().zip(&sum).for_each(|(o, s)| *o = *s as f32);
    });
    out
}
