//! Random initial parameters: a pure function of seed, tensor and position.

use crate::config::{Config, LowRankInit, SparseInit};
use crate::error::{Error, Result};
use crate::layer::{ParamKind, ParamSource};
use crate::rng::{Purpose, Stream};
use crate::sparse::Pattern;
use crate::topology;

/// Initial weights N(0, init_std²), norms 1, links by the topology's law.
///
/// The draw of an element depends on its row-major position alone, so a sparse matrix starts with
/// the values that the dense one has at its links.
pub struct RandomInit<'a> {
    config: &'a Config,
    seed: u64,
}

impl<'a> RandomInit<'a> {
    /// Parameters of `config` from its seed.
    pub fn new(config: &'a Config) -> Self {
        RandomInit { config, seed: config.train.seed }
    }
}

/// Number of a projection among all: 7·layer + position, from its Hugging Face name.
pub fn projection_index(name: &str) -> Option<u32> {
    let layer: u32 = name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()?;
    let which =
        crate::config::PROJECTIONS.iter().position(|p| name.split('.').any(|part| part == *p))?;
    Some(7 * layer + which as u32)
}

impl ParamSource for RandomInit<'_> {
    fn dense(&mut self, name: &str, shape: [usize; 2], kind: ParamKind) -> Result<Vec<f32>> {
        let len = shape[0] * shape[1];
        let layer = projection_index(name).unwrap_or(match kind {
            ParamKind::Embedding => (1 << 24) - 1,
            _ => (1 << 24) - 2,
        });
        let stream = |event| Stream::new(self.seed, Purpose::Init, layer, event);
        let normal = |event, std: f64| -> Vec<f32> {
            let s = stream(event);
            (0..len as u64).map(|i| (std * s.normal(i)) as f32).collect()
        };
        let std = self.config.model.init_std;
        Ok(match kind {
            ParamKind::Norm => vec![1.0; len],
            ParamKind::Embedding | ParamKind::Head | ParamKind::Dense | ParamKind::Sparse => {
                normal(0, std)
            }
            ParamKind::LowRankA | ParamKind::LowRankB => {
                let is_a = kind == ParamKind::LowRankA;
                let event = if is_a { 1 } else { 2 };
                let rank = if is_a { shape[0] } else { shape[1] };
                match self.config.method.low_rank_init {
                    LowRankInit::Cola => {
                        // q = (out+in)^(-1/4)·r^(-1/4): the product BA then has std (out+in)^(-1/2).
                        let (out, inn) = self.factor_extents(name)?;
                        let q = libm::pow(((out + inn) * rank) as f64, -0.25);
                        normal(event, q)
                    }
                    LowRankInit::Normal => normal(event, std),
                    LowRankInit::KaimingZero if is_a => {
                        let (s, bound) = (stream(event), 1.0 / (shape[1] as f64).sqrt());
                        let draw = |i| ((2.0 * s.uniform(i) - 1.0) * bound) as f32;
                        (0..len as u64).map(draw).collect()
                    }
                    LowRankInit::KaimingZero => vec![0.0; len],
                }
            }
        })
    }

    fn sparse(&mut self, name: &str, rows: usize, cols: usize) -> Result<(Pattern, Vec<f32>)> {
        let layer = projection_index(name)
            .ok_or_else(|| Error::shape("init", "a projection's name", name))?;
        let sparsity = self.config.budget()?.connectivity_sparsity;
        let t = &self.config.topology;
        let pattern = topology::initial(t, self.seed, layer, rows, cols, sparsity)?;
        let std = match self.config.method.sparse_init {
            SparseInit::Masked => self.config.model.init_std,
            SparseInit::VariancePreserving => {
                self.config.model.init_std / pattern.density().max(1e-12).sqrt()
            }
        };
        let stream = Stream::new(self.seed, Purpose::Init, layer, 0);
        let values = pattern.flat().iter().map(|&i| (std * stream.normal(i)) as f32).collect();
        Ok((pattern, values))
    }
}

impl RandomInit<'_> {
    /// (out, in) of the projection that a low-rank factor belongs to.
    fn factor_extents(&self, name: &str) -> Result<(usize, usize)> {
        let index = projection_index(name)
            .ok_or_else(|| Error::shape("init", "a projection's name", name))?;
        let m = &self.config.model;
        let shapes = crate::sparse::budget::projection_shapes(m.hidden, m.intermediate);
        Ok(shapes[index as usize % 7])
    }
}
