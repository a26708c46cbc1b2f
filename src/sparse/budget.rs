//! Parameter arithmetic: total sparsity, connectivity sparsity and rank determine each other.
//!
//! `s_total = 1 - d_connectivity - d_spectral` over the seven projections of a block (CHTsL §4.1),
//! with `d_connectivity = 1 - s_connectivity` and `d_spectral = rank·Σ(out+in) / Σ out·in`.

use crate::error::{Error, Result};

/// (out, in) of the seven projections of a block: q, k, v, o, gate, up, down.
pub fn projection_shapes(hidden: usize, intermediate: usize) -> [(usize, usize); 7] {
    let (h, f) = (hidden, intermediate);
    [(h, h), (h, h), (h, h), (h, h), (f, h), (f, h), (h, f)]
}

/// Dense parameters of the seven projections of one block, `4h² + 3hf`.
pub fn dense_parameters(hidden: usize, intermediate: usize) -> usize {
    projection_shapes(hidden, intermediate).iter().map(|(m, k)| m * k).sum()
}

/// Low-rank parameters that one unit of rank costs in one block, `8h + 3(h+f)`.
pub fn parameters_per_rank(hidden: usize, intermediate: usize) -> usize {
    projection_shapes(hidden, intermediate).iter().map(|(m, k)| m + k).sum()
}

/// Rank that spends `density` of the dense parameters, not rounded; 16.199 for 0.05 at LLaMA-60M.
pub fn rank_for_density(hidden: usize, intermediate: usize, density: f64) -> f64 {
    density * dense_parameters(hidden, intermediate) as f64
        / parameters_per_rank(hidden, intermediate) as f64
}

/// Links of an (out, in) matrix at `sparsity`: `round((1-s)·out·in)`.
pub fn links(out: usize, inn: usize, sparsity: f64) -> usize {
    ((1.0 - sparsity) * (out * inn) as f64).round() as usize
}

/// A resolved budget. The densities are the true ones, after rounding of rank and link counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Share of missing links in each sparse matrix; 1 = no sparse branch.
    pub connectivity_sparsity: f64,
    /// Rank of each low-rank branch; 0 = no low-rank branch.
    pub rank: usize,
    /// Links over dense parameters, per block.
    pub d_connectivity: f64,
    /// Low-rank parameters over dense parameters, per block.
    pub d_spectral: f64,
}

impl Budget {
    /// True total sparsity, `1 - d_connectivity - d_spectral`.
    pub fn total_sparsity(&self) -> f64 {
        1.0 - self.d_connectivity - self.d_spectral
    }

    /// Resolves any two of the three; three must agree within one unit of rank.
    ///
    /// The rank that follows from two sparsities is rounded down to whole steps of
    /// `floor(rank per 5 % density)` as the published tables do when it is a multiple of 5 %,
    /// else simply rounded down (at least 1). With neither rank nor connectivity sparsity given,
    /// the density is split evenly between the branches.
    pub fn resolve(
        hidden: usize,
        intermediate: usize,
        total_sparsity: Option<f64>,
        connectivity_sparsity: Option<f64>,
        rank: Option<usize>,
    ) -> Result<Budget> {
        for (key, s) in [
            ("method.total_sparsity", total_sparsity),
            ("method.connectivity_sparsity", connectivity_sparsity),
        ] {
            if let Some(s) = s
                && !(0.0..=1.0).contains(&s)
            {
                return Err(Error::Config(format!("{key} = {s}: a sparsity lies in 0..=1")));
            }
        }
        let density_of = |r: f64| {
            r * parameters_per_rank(hidden, intermediate) as f64
                / dense_parameters(hidden, intermediate) as f64
        };
        let rank_from = |total: f64, conn: f64| -> Result<usize> {
            let spectral = conn - total; // (1 - total) - (1 - conn)
            if spectral < -1e-9 {
                return Err(Error::Config(format!(
                    "method.connectivity_sparsity = {conn} keeps {:.4} of the parameters, more \
                     than the {:.4} that method.total_sparsity = {total} allows: raise it to at \
                     least {total}",
                    1.0 - conn,
                    1.0 - total
                )));
            }
            if spectral <= 1e-9 {
                return Ok(0);
            }
            let per_step = rank_for_density(hidden, intermediate, 0.05).floor();
            let steps = spectral / 0.05;
            let rank = if (steps - steps.round()).abs() < 1e-9 && per_step >= 1.0 {
                per_step * steps.round()
            } else {
                rank_for_density(hidden, intermediate, spectral).floor()
            };
            Ok((rank as usize).max(1))
        };
        let (conn, rank) = match (total_sparsity, connectivity_sparsity, rank) {
            (Some(total), Some(conn), Some(r)) => {
                let expected = rank_for_density(hidden, intermediate, conn - total);
                if (r as f64 - expected).abs() > 1.0 + 1e-9 + expected * 0.02 {
                    return Err(Error::Config(format!(
                        "method.total_sparsity = {total}, connectivity_sparsity = {conn} and rank \
                         = {r} disagree: 1 - {total} = {:.4} of the {} parameters of a block, less \
                         {:.4} for the links, leaves rank {expected:.2} at {} parameters per unit \
                         of rank; drop one of the three keys",
                        1.0 - total,
                        dense_parameters(hidden, intermediate),
                        1.0 - conn,
                        parameters_per_rank(hidden, intermediate),
                    )));
                }
                (conn, r)
            }
            (Some(total), Some(conn), None) => (conn, rank_from(total, conn)?),
            (Some(total), None, Some(r)) => {
                let conn = total + density_of(r as f64);
                if conn > 1.0 + 1e-9 {
                    return Err(Error::Config(format!(
                        "method.rank = {r} alone costs {:.4} of the dense parameters, more than \
                         the {:.4} that method.total_sparsity = {total} allows",
                        density_of(r as f64),
                        1.0 - total
                    )));
                }
                (conn.min(1.0), r)
            }
            (None, Some(conn), Some(r)) => (conn, r),
            (Some(total), None, None) => {
                let conn = 1.0 - (1.0 - total) / 2.0;
                (conn, rank_from(total, conn)?)
            }
            (None, Some(conn), None) => (conn, 0),
            (None, None, Some(r)) => (1.0, r),
            (None, None, None) => (0.0, 0),
        };
        let dense = dense_parameters(hidden, intermediate) as f64;
        let links: usize = projection_shapes(hidden, intermediate)
            .iter()
            .map(|&(m, k)| self::links(m, k, conn))
            .sum();
        Ok(Budget {
            connectivity_sparsity: conn,
            rank,
            d_connectivity: links as f64 / dense,
            d_spectral: density_of(rank as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_steps_of_the_published_sizes() {
        // methods: r_step = 0.05 (4h²+3hf)/(8h+3(h+f)); the preprint rounds 16.199 and 24.253.
        for (h, f, want) in
            [(512, 1376, 16.199), (768, 2048, 24.253), (128, 352, 4.07), (1024, 2736, 32.35)]
        {
            assert!((rank_for_density(h, f, 0.05) - want).abs() < 6e-3, "{h}");
        }
        let b = Budget::resolve(512, 1376, Some(0.7), Some(0.95), None).unwrap();
        assert_eq!((b.rank, b.connectivity_sparsity), (80, 0.95));
        assert!((1.0 - b.total_sparsity() - 0.2969).abs() < 1e-4);
        let b = Budget::resolve(512, 1376, Some(0.9), None, None).unwrap();
        assert_eq!((b.rank, b.connectivity_sparsity), (16, 0.95));
        assert!((1.0 - b.total_sparsity() - 0.0994).abs() < 1e-4);
    }

    #[test]
    fn any_two_determine_the_third_and_contradictions_show_the_arithmetic() {
        let two = Budget::resolve(512, 1376, Some(0.9), None, Some(16)).unwrap();
        assert!((two.connectivity_sparsity - 0.94938).abs() < 1e-4);
        assert!(Budget::resolve(512, 1376, Some(0.9), Some(0.95), Some(16)).is_ok());
        let e = Budget::resolve(512, 1376, Some(0.9), Some(0.95), Some(64)).unwrap_err();
        assert!(e.to_string().contains("rank 16.20"), "{e}");
        assert!(Budget::resolve(512, 1376, Some(0.9), Some(0.8), None).is_err());
        assert!(Budget::resolve(512, 1376, Some(1.5), None, None).is_err());
        assert!(Budget::resolve(512, 1376, Some(0.9), None, Some(1000)).is_err());
    }
}
