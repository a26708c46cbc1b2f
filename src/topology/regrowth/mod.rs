//! Regrowth rules. A rule only scores missing links ([`Scores`]); [`regrow`] selects.

pub mod ch2_l3n;

use std::sync::atomic::AtomicU64;

use rayon::prelude::*;

use super::select::{Candidate, Collector, Ties};
use crate::config::Selection;
use crate::error::{Error, Result};
use crate::rng::{Stream, ln};

/// Added to every score when fewer candidates have a positive one than links are needed, so that
/// all become eligible while positive ones still dominate. Source: the CHTs code.
pub const ZERO_SCORE_FLOOR: f64 = 1e-5;

/// Scores of all missing links of a matrix, computed piece by piece so that they need not be kept.
pub trait Scores: Sync {
    /// Working memory of one thread.
    type Scratch: Send;

    /// Number of pieces; each missing link belongs to exactly one.
    fn pieces(&self) -> usize;

    /// Fresh working memory.
    fn scratch(&self) -> Self::Scratch;

    /// Hands (row-major flat index, score >= 0) of every missing link of `piece` to `each`.
    fn visit<F: FnMut(u64, f64)>(&self, piece: usize, scratch: &mut Self::Scratch, each: F);
}

/// How new links are chosen among scored candidates.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Drawn, or the largest.
    pub select: Selection,
    /// Exponent T_g of the draw: probability ∝ score^T_g. 0 is uniform over positive candidates.
    pub temperature: f64,
    /// Draws, addressed by row-major flat index.
    pub stream: Stream,
    /// What decides between equal keys.
    pub ties: Ties,
}

/// What one thread has gathered.
struct Gathered<'a, S: Scores> {
    collector: Collector<'a>,
    scratch: S::Scratch,
    positives: usize,
    candidates: usize,
}

/// Flat indices of `n` new links, increasing.
///
/// Soft: drawn without replacement with probability ∝ score^T_g, by key `T_g·ln(score) + Gumbel`
/// (CHTs). Top-k: key = score (CHT, and the released CHTs code). Candidates with score 0 take part
/// only when the positive ones are fewer than `n`; then [`ZERO_SCORE_FLOOR`] is added to *every*
/// score first.
///
/// The result does not depend on threads: see [`Collector`]. Memory: about 48·n bytes per thread.
/// Errors: `Error::Shape` when fewer than `n` links are missing.
pub fn regrow<S: Scores>(scores: &S, choice: &Choice, n: usize) -> Result<Vec<u64>> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let (chosen, positives, candidates) = select(scores, choice, n, 0.0);
    if candidates < n {
        return Err(Error::shape("regrow", format!("at least {n} missing links"), candidates));
    }
    if positives >= n {
        return Ok(chosen);
    }
    Ok(select(scores, choice, n, ZERO_SCORE_FLOOR).0)
}

/// The best `n` of the candidates whose score + `floor` is positive; the number of candidates with
/// a positive score, and of all.
fn select<S: Scores>(
    scores: &S,
    choice: &Choice,
    n: usize,
    floor: f64,
) -> (Vec<u64>, usize, usize) {
    let bound = AtomicU64::new(0);
    let fresh = || Gathered::<S> {
        collector: Collector::new(n, &bound),
        scratch: scores.scratch(),
        positives: 0,
        candidates: 0,
    };
    let gathered = (0..scores.pieces())
        .into_par_iter()
        .fold(fresh, |mut g, piece| {
            g.collector.refresh();
            gather(scores, choice, floor, piece, &mut g);
            g
        })
        .reduce_with(|a, b| Gathered {
            collector: a.collector.merge(b.collector),
            scratch: a.scratch,
            positives: a.positives + b.positives,
            candidates: a.candidates + b.candidates,
        });
    match gathered {
        Some(g) => (g.collector.finish(), g.positives, g.candidates),
        None => (Vec::new(), 0, 0),
    }
}

/// Offers the candidates of one piece to the collector.
fn gather<S: Scores>(
    scores: &S,
    choice: &Choice,
    floor: f64,
    piece: usize,
    g: &mut Gathered<'_, S>,
) {
    // Hoisted, because keys cost three logarithms and most candidates can be refused without: with
    // threshold θ, `T·ln s - ln(-ln u) >= θ` needs `-ln u <= s^T·e^-θ`, hence, as -ln u >= 1 - u,
    // `1 - u <= s^T·e^-θ`. The slack covers the rounding of both sides; a refusal is never wrong.
    const SLACK: f64 = 1e-6;
    let t = choice.temperature;
    let Gathered { collector, scratch, positives, candidates } = g;
    let mut scale = (SLACK - collector.threshold()).exp();
    scores.visit(piece, scratch, |index, score| {
        *candidates += 1;
        *positives += usize::from(score > 0.0);
        let score = score + floor;
        if score <= 0.0 {
            return;
        }
        let threshold = collector.threshold();
        let key = match choice.select {
            Selection::Topk => score,
            Selection::Soft => {
                let limit = match t {
                    1.0 => score * scale,
                    0.0 => scale,
                    _ => (t * score.ln() - threshold + SLACK).exp(),
                };
                if 1.0 - choice.stream.uniform(index) > limit {
                    return;
                }
                let drawn = choice.stream.gumbel(index);
                if t == 0.0 { drawn } else { t * ln(score) + drawn }
            }
        };
        if key >= threshold && collector.push(Candidate::new(key, choice.ties.word(index), index)) {
            scale = (SLACK - collector.threshold()).exp();
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    /// Scores given as a list, four to a piece.
    struct Given(Vec<f64>);

    impl Scores for Given {
        type Scratch = ();
        fn pieces(&self) -> usize {
            self.0.len().div_ceil(4)
        }
        fn scratch(&self) {}
        fn visit<F: FnMut(u64, f64)>(&self, piece: usize, _: &mut (), mut each: F) {
            for i in 4 * piece..(4 * piece + 4).min(self.0.len()) {
                each(i as u64, self.0[i]);
            }
        }
    }

    fn choice(select: Selection, temperature: f64, seed: u64) -> Choice {
        let stream = Stream::new(seed, Purpose::Regrowth, 0, 1);
        Choice { select, temperature, stream, ties: Ties::Random(stream) }
    }

    #[test]
    fn shortcuts_never_change_the_selection() {
        let s = Stream::new(9, Purpose::Init, 0, 0);
        let scores = Given((0..3000).map(|i| 4.0 * s.uniform(i).powi(3)).collect());
        for t in [0.0, 0.5, 1.0, 3.0, 200.0] {
            for n in [1, 40, 2999] {
                let c = choice(Selection::Soft, t, 2);
                let mut order: Vec<(f64, u64)> = (0..3000u64)
                    .map(|i| (t * ln(scores.0[i as usize]) + c.stream.gumbel(i), i))
                    .collect();
                order.sort_by(|a, b| b.0.total_cmp(&a.0));
                let mut want: Vec<u64> = order.iter().take(n).map(|x| x.1).collect();
                want.sort_unstable();
                assert_eq!(regrow(&scores, &c, n).unwrap(), want, "t {t} n {n}");
            }
        }
    }

    #[test]
    fn zero_scores_wait_until_positives_run_out() {
        let scores = Given(vec![0.0, 2.0, 0.0, 1.0, 0.0]);
        for seed in 0..200 {
            for t in [0.0, 1.0, 5.0] {
                assert_eq!(regrow(&scores, &choice(Selection::Soft, t, seed), 2).unwrap(), [1, 3]);
            }
            let top = regrow(&scores, &choice(Selection::Topk, 1.0, seed), 3).unwrap();
            assert!(top.contains(&1) && top.contains(&3) && top.len() == 3);
            assert_eq!(regrow(&scores, &choice(Selection::Soft, 1.0, seed), 5).unwrap().len(), 5);
        }
        let c = Choice { ties: Ties::LowerIndex, ..choice(Selection::Topk, 1.0, 0) };
        assert_eq!(regrow(&scores, &c, 4).unwrap(), [0, 1, 2, 3]);
        let text = regrow(&scores, &c, 6).unwrap_err().to_string();
        assert!(text.contains("at least 6 missing links, got 5"), "{text}");
        assert!(regrow(&Given(vec![]), &c, 1).is_err());
        assert_eq!(regrow(&Given(vec![]), &c, 0).unwrap(), [0u64; 0]);
    }
}
