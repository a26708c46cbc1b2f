//! Scores, removal, soft sampling and schedules against the golden vectors.

use chtsl::config::{Selection, TopologyConfig, ZetaSchedule};
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::regrowth::{Choice, Scores, ch2_l3n::Ch2L3n, regrow};
use chtsl::topology::removal::{keep, magnitude, soft_magnitude};
use chtsl::topology::schedule;
use chtsl::topology::select::Ties;

use super::{golden, list, mask, matrix, number, numbers, size};

/// Every score, every existing link and the ranking of all seven masks.
///
/// Tolerance 1e-9 relative: a term is at least 2/d and rounded by at most 2⁻³⁷, so a score is off by
/// at most d·2⁻³⁸, 2.3e-10 at the largest degree of 64; the file has 12 digits.
#[test]
fn golden_ch2_l3n_scores_and_ranking() {
    for case in list(&golden("ch_scores.json")["cases"]) {
        let name = &case["name"];
        let pattern = mask(&case["A"]);
        assert_eq!(pattern.nnz(), size(&case["nnz"]), "{name}");
        let got = Ch2L3n::new(&pattern).unwrap().dense();
        let want: Vec<Option<f64>> = list(&case["scores"]["CH2_L3n"])
            .iter()
            .flat_map(|row| list(row).iter().map(|v| v.as_f64()))
            .collect();
        assert_eq!(got.len(), want.len());
        for (i, pair) in got.iter().zip(&want).enumerate() {
            match pair {
                (Some(g), Some(w)) => {
                    assert!((g - w).abs() <= 1e-9 * w, "{name} at {i}: {g} {w}");
                }
                (None, None) => {}
                other => panic!("{name} at {i}: {other:?}"),
            }
        }
        assert_eq!(got.iter().flatten().count(), size(&case["n_candidates"]), "{name}");
        let mut positive: Vec<(f64, u64)> =
            got.iter().zip(0u64..).filter_map(|(s, i)| s.map(|s| (s, i))).collect();
        positive.retain(|x| x.0 > 0.0);
        assert_eq!(positive.len(), size(&case["n_positive_candidates"]), "{name}");
        // The file's rule: descending, equal to nine decimals means tied, then the lower index.
        positive.sort_by_key(|&(s, i)| (std::cmp::Reverse((s * 1e9).round() as u64), i));
        let ranking: Vec<u64> = positive.iter().take(32).map(|x| x.1).collect();
        let want: Vec<u64> =
            list(&case["ch2_l3n_ranking_first32"]).iter().map(|v| v.as_u64().unwrap()).collect();
        assert_eq!(ranking, want, "{name}");
    }
}

/// Magnitude scores and keep sets of every case. The file's relative importance and MEST columns
/// belong to rules that this crate's table does not name.
#[test]
fn golden_magnitude_removal() {
    for case in list(&golden("removal_scores.json")["cases"]) {
        let pattern = mask(&case["mask"]);
        let dense = matrix(&case["W"]);
        let flat = pattern.flat();
        let weights: Vec<f32> = flat.iter().map(|&f| dense[f as usize] as f32).collect();
        let keys = magnitude::keys(&weights);
        let want = matrix(&case["scores"]["weight_magnitude"]);
        for (key, &f) in keys.iter().zip(&flat) {
            // The file prints twelve significant digits.
            assert!((key - want[f as usize]).abs() <= 1e-11 * want[f as usize]);
        }
        for zeta in ["0.1", "0.3"] {
            let remove = (pattern.nnz() as f64 * zeta.parse::<f64>().unwrap()).floor() as usize;
            assert_eq!(remove, size(&case["n_prune"][zeta]));
            let kept = keep(&pattern, &keys, Ties::LowerIndex, pattern.nnz() - remove).unwrap();
            let kept: Vec<u64> = kept.iter().map(|&i| flat[i as usize]).collect();
            let want: Vec<u64> = list(&case["keep_flat_indices"][zeta]["weight_magnitude"])
                .iter()
                .map(|v| v.as_u64().unwrap())
                .collect();
            assert_eq!(kept, want);
        }
    }
}

/// Given scores of a 1 x n matrix without links.
struct Given(Vec<f64>);

impl Scores for Given {
    type Scratch = ();
    fn pieces(&self) -> usize {
        1
    }
    fn scratch(&self) {}
    fn visit<F: FnMut(u64, f64)>(&self, _: usize, _: &mut (), mut each: F) {
        (0u64..).zip(&self.0).for_each(|(i, &s)| each(i, s));
    }
}

/// How often each item is drawn, against the exact inclusion probabilities; one seed per draw.
///
/// Allowed: five standard deviations of the share, plus one draw because the shares are discrete
/// where p is within 1/R of 0 or 1. An impossible item (p = 0) must never be drawn at all.
#[test]
fn golden_soft_sampling() {
    const ROUNDS: u64 = 40_000;
    let mut kinds = std::collections::BTreeSet::new();
    for case in list(&golden("soft_sampling.json")["cases"]) {
        let (kind, n) = (case["kind"].as_str().unwrap(), size(&case["n_draw"]));
        kinds.insert(kind.to_string());
        let t = number(&case["exponent_T"]);
        let values = numbers(&case["values"]);
        let mut hits = vec![0u64; values.len()];
        if kind == "removal_keep" {
            let pattern = Pattern::full(1, values.len());
            let weights: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            for seed in 0..ROUNDS {
                let stream = Stream::new(seed, Purpose::Removal, 3, 100);
                let keys = soft_magnitude::keys(&pattern, &weights, t, &stream);
                for i in keep(&pattern, &keys, Ties::Random(stream), n).unwrap() {
                    hits[i as usize] += 1;
                }
            }
        } else {
            assert!(kind.starts_with("regrow_select"), "unknown kind {kind}");
            let scores = Given(values);
            for seed in 0..ROUNDS {
                let stream = Stream::new(seed, Purpose::Regrowth, 3, 100);
                let choice = Choice {
                    select: Selection::Soft,
                    temperature: t,
                    stream,
                    ties: Ties::Random(stream),
                };
                for i in regrow(&scores, &choice, n).unwrap() {
                    hits[i as usize] += 1;
                }
            }
        }
        for (i, (&h, p)) in hits.iter().zip(numbers(&case["inclusion_probability"])).enumerate() {
            let rounds = ROUNDS as f64;
            let allowed = 5.0 * (p * (1.0 - p) / rounds).sqrt() + 1.0 / rounds;
            let share = h as f64 / rounds;
            assert!(p > 0.0 || h == 0, "{kind} T {t} n {n}: item {i} is impossible");
            assert!((share - p).abs() <= allowed, "{kind} T {t} n {n} item {i}: {share} {p}");
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

/// Removed fraction and exponent T. Tolerance: the file's twelve digits.
#[test]
fn golden_removal_schedule() {
    let file = golden("schedules.json");
    for (steps, case) in file["removal_fraction"]["by_total_steps"].as_object().unwrap() {
        let steps: u64 = steps.parse().unwrap();
        let nine = TopologyConfig { zeta: 0.1, ..TopologyConfig::default() };
        assert_eq!(nine.zeta_schedule, ZetaSchedule::Cosine);
        let three = TopologyConfig { removal_t_end: 3.0, ..nine.clone() };
        assert_eq!(nine.end(steps), case["T_end"].as_u64().unwrap());
        for row in list(&case["rows"]) {
            let row = numbers(row);
            let t = row[0] as u64;
            assert!((schedule::zeta(&nine, t, steps) - row[1]).abs() <= 1e-12, "{row:?}");
            for (config, want) in [(&nine, row[2]), (&three, row[3])] {
                let got = schedule::removal_temperature(config, t, steps);
                assert!((got - want).abs() <= 1e-11, "{row:?}: {got}");
            }
        }
    }
}

/// Sigmoid and cubic sparsity. Tolerance: the file's twelve digits.
#[test]
fn golden_density_decay() {
    for case in list(&golden("schedules.json")["density_decay"]["cases"]) {
        let (from, to, k) = (number(&case["s_init"]), number(&case["s_final"]), number(&case["k"]));
        let (start, end) = (number(&case["t0"]), number(&case["t_end"]));
        for row in list(&case["rows"]) {
            let row = numbers(row);
            let x = (row[0] - start) / (end - start);
            assert!((schedule::sigmoid_sparsity(from, to, x, k) - row[1]).abs() <= 1e-12);
            assert!((schedule::cubic_sparsity(from, to, x) - row[2]).abs() <= 1e-12);
        }
    }
}
