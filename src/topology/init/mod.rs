//! Initial links: how many, and where ([`er`], [`brf`]).

pub mod brf;
pub mod er;

use crate::config::{BrfLayout, LinkCount, TopologyConfig, TopologyInit};
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use crate::sparse::{Pattern, budget};

/// Uses of the topology stream of a matrix, kept apart by its event number.
#[derive(Clone, Copy)]
enum Draw {
    /// Positions of links, addressed by draw (ER) or by row-major flat index (BRF).
    Positions = 0,
    /// Degrees, addressed by draw.
    Degrees = 1,
}

fn stream(seed: u64, layer: u32, draw: Draw) -> Stream {
    Stream::new(seed, Purpose::Topology, layer, draw as u32)
}

/// Links of a (rows, cols) matrix before the first event.
///
/// `rounded`: `round((1-s)·rows·cols)`. `released`: what the released code starts with,
/// `N - floor(s·N)` for ER and `round((1-s)·max(rows, cols)·min(rows, cols))` with halves to even
/// for BRF in its own layout; the scaled layout, which it does not have, keeps `rounded`.
pub fn initial_nnz(config: &TopologyConfig, rows: usize, cols: usize, sparsity: f64) -> usize {
    let size = rows * cols;
    match (config.count, config.init, config.brf_layout) {
        (LinkCount::Released, TopologyInit::Er, _) => {
            size - (sparsity * size as f64).floor() as usize
        }
        (LinkCount::Released, TopologyInit::Brf, BrfLayout::Released) => {
            let degree = (1.0 - sparsity) * rows.max(cols) as f64;
            (degree * rows.min(cols) as f64).round_ties_even() as usize
        }
        _ => budget::links(rows, cols, sparsity),
    }
}

/// Links that every event must leave: `rounded` keeps `round((1-s)·rows·cols)`, `released` is
/// `floor((1-s)·rows·cols)`, at times one less than the initial number.
pub fn target_nnz(config: &TopologyConfig, rows: usize, cols: usize, sparsity: f64) -> usize {
    match config.count {
        LinkCount::Rounded => budget::links(rows, cols, sparsity),
        LinkCount::Released => ((1.0 - sparsity) * (rows * cols) as f64).floor() as usize,
    }
}

/// Initial links of matrix `layer` (its unique number), as `config` says.
///
/// Neurons that the law leaves without links are counted by [`Pattern::unlinked`].
/// Errors: `Error::Config` when the sparsity or `topology.brf_r` is not in 0..=1.
pub fn initial(
    config: &TopologyConfig,
    seed: u64,
    layer: u32,
    rows: usize,
    cols: usize,
    sparsity: f64,
) -> Result<Pattern> {
    for (key, value) in [("connectivity sparsity", sparsity), ("topology.brf_r", config.brf_r)] {
        if !(0.0..=1.0).contains(&value) {
            return Err(Error::Config(format!("{key} = {value}: must lie in 0..=1")));
        }
    }
    let nnz = initial_nnz(config, rows, cols, sparsity);
    match config.init {
        TopologyInit::Er => er::links(seed, layer, rows, cols, nnz),
        TopologyInit::Brf => brf::links(config, seed, layer, rows, cols, nnz),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        let config = |count, init, brf_layout| TopologyConfig {
            count,
            init,
            brf_layout,
            ..TopologyConfig::default()
        };
        let (er, brf) = (TopologyInit::Er, TopologyInit::Brf);
        let (scaled, released) = (BrfLayout::Scaled, BrfLayout::Released);
        // 12 x 8 at 0.6: 38.4 links.
        for (count, init, layout, want) in [
            (LinkCount::Rounded, er, scaled, (38, 38)),
            (LinkCount::Released, er, scaled, (39, 38)),
            (LinkCount::Released, brf, released, (38, 38)),
            (LinkCount::Released, brf, scaled, (38, 38)),
        ] {
            let c = config(count, init, layout);
            assert_eq!((initial_nnz(&c, 12, 8, 0.6), target_nnz(&c, 12, 8, 0.6)), want, "{c:?}");
        }
    }

    #[test]
    fn bad_shares_are_errors() {
        let config = TopologyConfig::default();
        assert!(initial(&config, 1, 0, 4, 4, 1.5).is_err());
        assert!(initial(&config, 1, 0, 4, 4, f64::NAN).is_err());
        let config = TopologyConfig { brf_r: -0.1, ..config };
        assert!(initial(&config, 1, 0, 4, 4, 0.5).unwrap_err().to_string().contains("brf_r"));
    }
}
