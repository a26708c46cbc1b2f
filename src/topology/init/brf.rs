//! Bipartite receptive field (CHTs): every node of one side has a prescribed degree and prefers
//! partners near its place on the ring of the other side.
//!
//! With randomness r a partner at ring distance d is drawn with probability ∝ (1 + d)^(-(1-r)/r):
//! r = 0 takes the nearest ones (a band around the diagonal), r = 1 any alike.
//!
//! Two layouts. `scaled`: degrees are those of outputs, output o sits at o·cols/rows on the ring of
//! inputs. `released`, for comparison with the published code: degrees are those of the smaller
//! side, node i of it sits at i·floor(n/m) on the larger one; when n/m is not an integer a block of
//! the larger side lies beyond every centre and may stay without links.

use rayon::prelude::*;

use super::{Draw, stream};
use crate::config::{BrfLayout, DegreeLaw, TopologyConfig};
use crate::error::{Error, Result};
use crate::rng::ln;
use crate::sparse::Pattern;
use crate::topology::select::{Candidate, keep_largest};

/// Place of a node on a ring of `n` partners: the rational `num/den`, so that distances, and with
/// them ties, are exact.
#[derive(Clone, Copy)]
struct Centre {
    n: u64,
    num: u64,
    den: u64,
}

impl Centre {
    /// Ring distance of partner `x` in units of `1/den`.
    fn distance(&self, x: u64) -> u64 {
        let d = (x * self.den).abs_diff(self.num);
        d.min(self.n * self.den - d)
    }

    /// The `k` nearest partners, ties to the lower index, increasing.
    ///
    /// Two walkers leave the centre; distances grow along both until they meet, so the nearer head
    /// is always the next nearest partner. O(k log k).
    fn nearest(&self, k: usize) -> Vec<u64> {
        let mut left = self.num / self.den % self.n;
        let mut right = (left + 1) % self.n;
        let mut chosen = Vec::with_capacity(k);
        for _ in 0..k {
            if (self.distance(left), left) <= (self.distance(right), right) {
                chosen.push(left);
                left = (left + self.n - 1) % self.n;
            } else {
                chosen.push(right);
                right = (right + 1) % self.n;
            }
        }
        chosen.sort_unstable();
        chosen
    }
}

/// `total` links over `nodes` nodes of at most `limit` links each.
///
/// Fixed: all equal up to one, the larger ones at random nodes. Multinomial (called uniform in the
/// released code): one each, the rest thrown one by one on random nodes; a throw on a full node is
/// repeated. With fewer links than nodes both laws give one link to `total` random nodes.
fn degrees(
    law: DegreeLaw,
    nodes: usize,
    limit: usize,
    total: usize,
    mut below: impl FnMut(u64) -> u64,
) -> Vec<usize> {
    if law == DegreeLaw::Fixed || total <= nodes {
        let mut degrees = vec![total / nodes; nodes];
        degrees[..total % nodes].iter_mut().for_each(|d| *d += 1);
        for i in (1..nodes).rev() {
            degrees.swap(i, below(i as u64 + 1) as usize);
        }
        return degrees;
    }
    let mut degrees = vec![1; nodes];
    let mut left = total - nodes;
    while left > 0 {
        let node = below(nodes as u64) as usize;
        if degrees[node] < limit {
            degrees[node] += 1;
            left -= 1;
        }
    }
    degrees
}

/// `nnz` links of matrix `layer` with `config`'s randomness, layout and degree law.
///
/// Partners are drawn by Gumbel-top-k, key `-((1-r)/r)·ln(1+d) + Gumbel`, with draws addressed by
/// the row-major flat index of the position in the (rows, cols) matrix; equal keys, which only an r
/// next to 0 makes likely, go to the lower index as at r = 0.
/// Errors: `Error::Shape` when `nnz` exceeds the number of positions.
pub fn links(
    config: &TopologyConfig,
    seed: u64,
    layer: u32,
    rows: usize,
    cols: usize,
    nnz: usize,
) -> Result<Pattern> {
    if nnz > rows * cols {
        return Err(Error::shape("brf", format!("at most {} links", rows * cols), nnz));
    }
    if nnz == 0 {
        return Pattern::from_flat(rows, cols, &[]);
    }
    let transposed = config.brf_layout == BrfLayout::Released && rows > cols;
    let (nodes, n) = if transposed { (cols, rows) } else { (rows, cols) };
    let centre = |node: u64| match config.brf_layout {
        BrfLayout::Scaled => Centre { n: n as u64, num: node * n as u64, den: nodes as u64 },
        BrfLayout::Released => {
            let stride = (n as u64 / nodes as u64).max(1);
            Centre { n: n as u64, num: node * stride % n as u64, den: 1 }
        }
    };
    let flat_index = |node: usize, partner: u64| {
        if transposed {
            partner * cols as u64 + node as u64
        } else {
            node as u64 * cols as u64 + partner
        }
    };

    let throws = stream(seed, layer, Draw::Degrees);
    let mut throw = 0;
    let degrees = degrees(config.degree, nodes, n, nnz, |bound| {
        throw += 1;
        throws.below(throw - 1, bound)
    });

    let draws = stream(seed, layer, Draw::Positions);
    // Capped so that a tiny r gives huge, still ordered keys instead of infinities.
    let exponent = ((1.0 - config.brf_r) / config.brf_r).min(1e300);
    let mut flat: Vec<u64> = (0..nodes)
        .into_par_iter()
        .flat_map_iter(|node| {
            let (centre, k) = (centre(node as u64), degrees[node]);
            let partners = if config.brf_r == 0.0 {
                centre.nearest(k)
            } else {
                let candidate = |x: u64| {
                    let distance = centre.distance(x) as f64 / centre.den as f64;
                    let index = flat_index(node, x);
                    let key = draws.gumbel(index) - exponent * ln(1.0 + distance);
                    Candidate::new(key, 0, x)
                };
                let mut candidates: Vec<Candidate> = (0..centre.n).map(candidate).collect();
                keep_largest(&mut candidates, k);
                candidates.iter().map(|c| c.index).collect()
            };
            partners.into_iter().map(move |x| flat_index(node, x))
        })
        .collect();
    flat.par_sort_unstable();
    Pattern::from_flat(rows, cols, &flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walkers_find_what_a_sort_finds() {
        for (n, den) in [(1u64, 1u64), (1, 5), (2, 3), (7, 1), (8, 12), (12, 8), (13, 5), (9, 9)] {
            for num in 0..n * den {
                let c = Centre { n, num, den };
                let mut order: Vec<u64> = (0..n).collect();
                order.sort_by_key(|&x| (c.distance(x), x));
                for k in 0..=n as usize {
                    let mut want = order[..k].to_vec();
                    want.sort_unstable();
                    assert_eq!(c.nearest(k), want, "n {n} centre {num}/{den} k {k}");
                }
            }
        }
    }

    #[test]
    fn degree_laws() {
        let s = stream(7, 0, Draw::Degrees);
        for law in [DegreeLaw::Fixed, DegreeLaw::Multinomial] {
            for (nodes, limit, total) in [(5, 4, 20), (5, 4, 19), (5, 4, 3), (6, 50, 40), (1, 9, 7)]
            {
                let mut i = 0;
                let d = degrees(law, nodes, limit, total, |bound| {
                    i += 1;
                    s.below(i, bound)
                });
                assert_eq!(d.iter().sum::<usize>(), total);
                assert!(d.iter().all(|&d| d <= limit && d >= usize::from(total >= nodes)));
                if law == DegreeLaw::Fixed {
                    assert!(d.iter().max().unwrap() - d.iter().min().unwrap() <= 1);
                }
            }
        }
    }

    #[test]
    fn every_setting_gives_the_exact_count() {
        for brf_layout in [BrfLayout::Scaled, BrfLayout::Released] {
            for degree in [DegreeLaw::Fixed, DegreeLaw::Multinomial] {
                for brf_r in [0.0, 1e-310, 0.01, 0.5, 1.0] {
                    let c = TopologyConfig { brf_layout, degree, brf_r, ..Default::default() };
                    for (rows, cols) in [(1, 9), (9, 1), (7, 16), (16, 7), (8, 8)] {
                        for nnz in [0, 1, 5, rows * cols - 1, rows * cols] {
                            let p = links(&c, 1, 4, rows, cols, nnz).unwrap();
                            assert_eq!((p.rows(), p.cols(), p.nnz()), (rows, cols, nnz));
                        }
                        assert!(links(&c, 1, 4, rows, cols, rows * cols + 1).is_err());
                    }
                }
            }
        }
    }
}
