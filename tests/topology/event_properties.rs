//! What must hold after every event, whatever the mask, the weights and the settings.

use chtsl::config::{LinkCount, Removal, Selection, TopologyConfig, TopologyInit, ZetaSchedule};
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::{EventInput, Itop, LinkChange, NEW, event, initial, target_nnz};
use proptest::prelude::*;

use super::score_oracle::random_pattern;

/// Weights that are easy to trace: no two alike, in both signs.
fn weights(kind: u8, n: usize, seed: u64) -> Vec<f32> {
    let s = Stream::new(seed, Purpose::Init, 8, 0);
    (0..n as u64)
        .map(|i| match kind {
            0 => 0.0,
            1 => 0.25,
            // Mostly zero: removal must run through equal keys of -inf.
            2 if s.uniform(i) < 0.7 => 0.0,
            _ => s.normal(i) as f32,
        })
        .collect()
}

fn run(
    config: &TopologyConfig,
    pattern: &Pattern,
    weights: &[f32],
    t: u64,
    target_nnz: usize,
    seed: u64,
) -> LinkChange {
    event(EventInput { config, seed, layer: 5, t, steps: 100, target_nnz, pattern, weights })
        .unwrap()
}

/// Checks a change against the links before it, without the crate's own bookkeeping.
fn check(change: &LinkChange, old: &Pattern, values: &[f32], target: usize) {
    let after = change.pattern.flat();
    assert_eq!(after.len(), target);
    assert!(after.windows(2).all(|w| w[0] < w[1]));
    assert!(after.iter().all(|&f| f < (old.rows() * old.cols()) as u64));
    let before = old.flat();
    let mut moved = vec![7.0; 3];
    change.migrate(values, &mut moved).unwrap();
    assert_eq!(moved.len(), target);
    let mut newcomers = 0;
    for (&f, &x) in after.iter().zip(&moved) {
        match before.iter().position(|&g| g == f) {
            Some(i) => assert_eq!(x.to_bits(), values[i].to_bits(), "link {f} lost its value"),
            None => {
                assert_eq!(x.to_bits(), 0, "newcomer {f} does not start clean");
                newcomers += 1;
            }
        }
    }
    assert_eq!(change.source.iter().filter(|&&s| s == NEW).count(), newcomers);
    assert_eq!(change.regrown - change.returned, newcomers);
    assert_eq!(before.len() - change.removed + change.regrown, target);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn invariants_hold_for_any_mask_and_setting(
        rows in 1usize..20, cols in 1usize..20,
        density in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
        zeta in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
        temperatures in prop_oneof![Just((0.0, 0.0)), Just((1e9, 1e9)), (0.0f64..9.0, 0.0f64..4.0)],
        kind in 0u8..4, removal in 0u8..3, topk in any::<bool>(), released in any::<bool>(),
        drift in -2i64..3, seed in any::<u64>(),
    ) {
        let config = TopologyConfig {
            zeta,
            zeta_schedule: ZetaSchedule::Constant,
            removal: [Removal::None, Removal::Magnitude, Removal::SoftMagnitude][removal as usize],
            removal_t_start: temperatures.0,
            removal_t_end: temperatures.0,
            regrow_temperature: temperatures.1,
            regrow_select: if topk { Selection::Topk } else { Selection::Soft },
            count: if released { LinkCount::Released } else { LinkCount::Rounded },
            ..TopologyConfig::default()
        };
        let mut pattern = random_pattern(rows, cols, density, seed);
        let mut values = weights(kind, pattern.nnz(), seed);
        // The target may differ from the links present, as `released` counts and schedules have it.
        let target = (pattern.nnz() as i64 + drift).clamp(0, (rows * cols) as i64) as usize;
        for t in 1..6 {
            let change = run(&config, &pattern, &values, t, target, seed);
            check(&change, &pattern, &values, target);
            let remove = match config.removal {
                Removal::None => 0,
                _ => (pattern.nnz() as f64 * zeta).floor() as usize,
            };
            prop_assert_eq!(change.removed, remove.max(pattern.nnz().saturating_sub(target)));
            let again = run(&config, &pattern, &values, t, target, seed);
            prop_assert_eq!(&again, &change);
            let mut moved = vec![];
            change.migrate(&values, &mut moved).unwrap();
            (pattern, values) = (change.pattern, moved);
        }
    }
}

/// A run of events as in training: weights move between them, the positions ever seen grow, the
/// number of links never changes.
#[test]
fn many_events_in_a_row_keep_the_count_and_explore() {
    let (rows, cols, sparsity, steps) = (48, 80, 0.9, 400);
    for init in [TopologyInit::Er, TopologyInit::Brf] {
        let config = TopologyConfig { init, update_interval: 10, ..TopologyConfig::default() };
        let mut pattern = initial(&config, 1, 0, rows, cols, sparsity).unwrap();
        let target = target_nnz(&config, rows, cols, sparsity);
        let mut values = weights(3, target, 1);
        let mut itop = Itop::new(rows, cols);
        itop.update(&pattern).unwrap();
        let (mut rate, mut events) = (itop.rate(), 0);
        assert!((rate - 0.1).abs() < 1e-12);
        for t in chtsl::topology::schedule::event_times(&config, steps) {
            let change = event(EventInput {
                config: &config,
                seed: 1,
                layer: 0,
                t,
                steps,
                target_nnz: target,
                pattern: &pattern,
                weights: &values,
            })
            .unwrap();
            check(&change, &pattern, &values, target);
            let mut moved = vec![];
            change.migrate(&values, &mut moved).unwrap();
            let s = Stream::new(t, Purpose::Init, 9, 0);
            (0u64..).zip(&mut moved).for_each(|(i, w)| *w += 0.1 * s.normal(i) as f32);
            (pattern, values) = (change.pattern, moved);
            itop.update(&pattern).unwrap();
            assert!(itop.rate() >= rate);
            (rate, events) = (itop.rate(), events + 1);
        }
        assert_eq!(events, 30);
        // Thirty events at ζ = 0.1 falling to 0 renew a link about 1.5 times on average.
        assert!(rate > 0.11 && rate < 0.3, "{init:?} {rate}");
    }
}

/// Without anything to remove the links stay; with everything removed the pattern is drawn anew,
/// uniformly, because no link is left to score by.
#[test]
fn zeta_zero_changes_nothing_and_zeta_one_redraws() {
    let p = random_pattern(6, 9, 0.3, 4);
    let values = weights(3, p.nnz(), 4);
    let config = |zeta| TopologyConfig {
        zeta,
        zeta_schedule: ZetaSchedule::Constant,
        ..TopologyConfig::default()
    };
    let change = run(&config(0.0), &p, &values, 1, p.nnz(), 1);
    assert_eq!((change.pattern, change.removed, change.regrown), (p.clone(), 0, 0));
    assert!(change.source.iter().enumerate().all(|(i, &s)| s as usize == i));

    let (mut hits, rounds) = (vec![0f64; 54], 4000);
    for seed in 0..rounds {
        let change = run(&config(1.0), &p, &values, 1, p.nnz(), seed);
        assert_eq!((change.removed, change.regrown), (p.nnz(), p.nnz()));
        change.pattern.flat().iter().for_each(|&f| hits[f as usize] += 1.0);
    }
    let share = p.nnz() as f64 / 54.0;
    let allowed = 5.0 * (share * (1.0 - share) / rounds as f64).sqrt();
    assert!(hits.iter().all(|h| (h / rounds as f64 - share).abs() <= allowed));
}

/// Equal weights: the kept set is uniform, not biased towards low indices.
#[test]
fn equal_weights_are_removed_without_bias() {
    let p = Pattern::from_flat(4, 8, &[0, 3, 9, 12, 18, 20, 27, 30]).unwrap();
    for removal in [Removal::Magnitude, Removal::SoftMagnitude] {
        let config = TopologyConfig {
            removal,
            zeta: 0.5,
            zeta_schedule: ZetaSchedule::Constant,
            ..TopologyConfig::default()
        };
        for w in [0.0, 0.25] {
            let (mut kept, rounds) = ([0f64; 8], 4000);
            for seed in 0..rounds {
                // Half of the links as target: nothing is regrown, only the kept set remains.
                for &s in &run(&config, &p, &[w; 8], 1, 4, seed).source {
                    kept[s as usize] += 1.0;
                }
            }
            let allowed = 5.0 * (0.25 / rounds as f64).sqrt();
            assert!(kept.iter().all(|k| (k / rounds as f64 - 0.5).abs() <= allowed), "{kept:?}");
        }
    }
}

/// The same links on one thread and on four, for initial links, hard and soft events.
#[test]
fn thread_count_does_not_matter() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let life = || {
        let mut all = vec![];
        for (select, brf_r) in [(Selection::Soft, 0.25), (Selection::Topk, 0.0)] {
            let config = TopologyConfig {
                regrow_select: select,
                brf_r,
                update_interval: 10,
                ..TopologyConfig::default()
            };
            let mut p = initial(&config, 3, 2, 150, 230, 0.93).unwrap();
            for t in [10, 20, 30, 40] {
                let values = weights(3, p.nnz(), t);
                p = run(&config, &p, &values, t, p.nnz(), 3).pattern;
                all.push(p.clone());
            }
        }
        all
    };
    let one = pool(1).install(life);
    for _ in 0..3 {
        assert!(pool(4).install(life) == one);
    }
}

/// Links of one seed, written down: a change of generator, keys, score or order shows here, on any
/// machine. Recorded from this crate; a deliberate change of the rules records them anew.
#[test]
fn links_of_one_seed_stay_what_they_are() {
    let config = |init, brf_r| TopologyConfig { init, brf_r, ..TopologyConfig::default() };
    let er = initial(&config(TopologyInit::Er, 0.0), 1, 0, 6, 10, 0.8).unwrap();
    assert_eq!(er.flat(), [1, 2, 4, 7, 15, 26, 35, 36, 37, 38, 39, 45]);
    let brf = initial(&config(TopologyInit::Brf, 0.5), 1, 0, 6, 10, 0.8).unwrap();
    assert_eq!(brf.flat(), [0, 1, 13, 18, 23, 27, 33, 35, 40, 44, 50, 56]);
    let values = weights(3, brf.nnz(), 1);
    let soft = TopologyConfig {
        zeta: 0.4,
        zeta_schedule: ZetaSchedule::Constant,
        ..TopologyConfig::default()
    };
    let change = run(&soft, &brf, &values, 1, 12, 1);
    assert_eq!(change.pattern.flat(), [0, 4, 13, 17, 23, 27, 33, 37, 40, 44, 50, 54]);
    assert_eq!(change.source, [0, NEW, 2, NEW, 4, 5, 6, NEW, 8, 9, 10, NEW]);
}
