//! Events of the CUDA backend against those of the host: equal to the bit, whatever the masks, the
//! weights and the settings.

use std::ffi::c_void;
use std::sync::Arc;

use chtsl::backend::cuda::Strategy;
use chtsl::backend::cuda::bindings::{chtsl_draws, chtsl_links, chtsl_rank};
use chtsl::backend::cuda::memory::Memory;
use chtsl::backend::cuda::runtime::Runtime;
use chtsl::backend::{Backend, Csr, Cuda};
use chtsl::config::{
    LinkCount, Precision, Removal, Selection, TopologyConfig, TopologyInit, ZetaSchedule,
};
use chtsl::error::Error;
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::regrowth::ch2_l3n::Ch2L3n;
use chtsl::topology::removal::soft_magnitude;
use chtsl::topology::select::order_bits;
use chtsl::topology::{EventInput, event, initial, rules};
use chtsl_emulation::Order;
use proptest::prelude::*;

use crate::support::emulated::{Emulated, backend};
use crate::support::{device, emulated, wanted};

/// Both machines with default and naive kernels; the emulator in three orders of lanes and blocks.
fn backends() -> Vec<&'static Cuda> {
    let emulated = wanted("emulated").then(|| emulated::backends(Precision::F32));
    let device = wanted("cuda").then(|| device::backends(Precision::F32));
    emulated.into_iter().chain(device).flatten().collect()
}

/// Links drawn independently with probability `density`.
fn random_pattern(rows: usize, cols: usize, density: f64, seed: u64) -> Pattern {
    let s = Stream::new(seed, Purpose::Init, 7, 0);
    let flat: Vec<u64> = (0..(rows * cols) as u64).filter(|&f| s.uniform(f) < density).collect();
    Pattern::from_flat(rows, cols, &flat).unwrap()
}

/// Settings whose removed fraction and exponent are the same at every update.
fn settings(zeta: f64, temperature: f64, regrow_temperature: f64) -> TopologyConfig {
    TopologyConfig {
        zeta,
        zeta_schedule: ZetaSchedule::Constant,
        removal_t_start: temperature,
        removal_t_end: temperature,
        regrow_temperature,
        ..TopologyConfig::default()
    }
}

/// The event here and there: the change, the device's own index, and values moved along.
fn agree(cuda: &Cuda, input: EventInput) {
    let host = event(input).unwrap();
    let csr = Csr::new(cuda, input.pattern.clone(), input.weights).unwrap();
    let rules = rules(&EventInput { weights: &[], ..input }).unwrap();
    let evolved = cuda.evolve(&csr, &rules).unwrap().expect("an event on the device");
    assert_eq!(evolved.change, host, "{:?} {input:?}", rules);
    assert_eq!(evolved.index.pattern().unwrap(), host.pattern);
    assert_eq!(evolved.index.transposed().unwrap(), host.pattern.transposed());
    let (mut moved, mut ages) = (csr.values, cuda.buf(input.weights.len()).unwrap());
    let numbers: Vec<f32> = (0..input.weights.len()).map(|i| i as f32 + 1.0).collect();
    cuda.write(&mut ages, &numbers).unwrap();
    cuda.migrate(&host, &mut [&mut moved, &mut ages]).unwrap();
    for (device, old) in [(&moved, input.weights), (&ages, &numbers[..])] {
        let mut want = vec![];
        host.migrate(old, &mut want).unwrap();
        assert_eq!(cuda.read(device).unwrap(), want);
    }
}

/// Weights by kind: all zero, all equal, mostly zero, of any size down to subnormal numbers, normal.
fn weights(kind: u8, n: usize, seed: u64) -> Vec<f32> {
    let s = Stream::new(seed, Purpose::Init, 8, 0);
    (0..n as u64)
        .map(|i| match kind {
            0 => 0.0,
            1 => 0.25,
            2 if s.uniform(i) < 0.7 => -0.0,
            3 => Some(f32::from_bits(s.bits(i) as u32)).filter(|w| w.is_finite()).unwrap_or(1.0),
            _ => s.normal(i) as f32,
        })
        .collect()
}

/// One full row, one full column, few links elsewhere, and empty rows and columns.
fn uneven(rows: usize, cols: usize) -> Pattern {
    let flat: Vec<u64> = (0..rows * cols)
        .filter(|f| {
            let (row, col) = (f / cols, f % cols);
            row == rows / 2 || col == cols / 3 || (row % 5 == 0 && col % 7 == row % 3)
        })
        .map(|f| f as u64)
        .collect();
    Pattern::from_flat(rows, cols, &flat).unwrap()
}

#[test]
fn events_equal_the_hosts_on_many_masks() {
    for cuda in backends() {
        for (rows, cols) in [(1, 1), (1, 45), (37, 1), (33, 65), (70, 31)] {
            let brf = TopologyConfig { init: TopologyInit::Brf, ..TopologyConfig::default() };
            let mut masks: Vec<Pattern> =
                [0.0, 0.02, 0.3, 1.0].map(|d| random_pattern(rows, cols, d, 5)).to_vec();
            masks.push(uneven(rows, cols));
            masks.extend(initial(&brf, 1, 0, rows, cols, 0.9));
            for (i, pattern) in masks.iter().enumerate() {
                let (nnz, size) = (pattern.nnz(), rows * cols);
                let weights = weights(4, nnz, i as u64);
                let cases = [
                    (0.1, 1.0, 1.0, nnz),
                    (0.0, 9.0, 1.0, nnz),
                    (1.0, 9.0, 1.0, nnz),
                    (0.3, 0.0, 0.0, (nnz + 3).min(size)),
                    (0.3, 4.5, 3.0, nnz.saturating_sub(nnz / 3)),
                ];
                for (zeta, removal_t, regrow_t, target_nnz) in cases {
                    for select in [Selection::Soft, Selection::Topk] {
                        let config = TopologyConfig {
                            regrow_select: select,
                            ..settings(zeta, removal_t, regrow_t)
                        };
                        agree(
                            cuda,
                            EventInput {
                                config: &config,
                                seed: 7,
                                layer: 5,
                                t: 3,
                                steps: 100,
                                target_nnz,
                                pattern,
                                weights: &weights,
                            },
                        );
                    }
                }
            }
        }
    }
}

/// Selections that no key decides: all weights equal or zero, and zero scores. The candidates need
/// several digits of every part of the order.
#[test]
fn ties_are_broken_as_on_the_host() {
    let (rows, cols) = (61, 67);
    for cuda in backends() {
        for (density, kind) in [(0.7, 1), (0.7, 0), (0.01, 1), (0.3, 2), (0.3, 3)] {
            let pattern = random_pattern(rows, cols, density, 2);
            let weights = weights(kind, pattern.nnz(), 4);
            for count in [LinkCount::Rounded, LinkCount::Released] {
                for removal in [Removal::None, Removal::Magnitude, Removal::SoftMagnitude] {
                    let config = TopologyConfig {
                        count,
                        removal,
                        regrow_select: Selection::Topk,
                        ..settings(0.4, 2.0, 1.0)
                    };
                    let target_nnz = pattern.nnz() + 200 * usize::from(density < 0.5);
                    agree(
                        cuda,
                        EventInput {
                            config: &config,
                            seed: 11,
                            layer: 0,
                            t: 8,
                            steps: 100,
                            target_nnz,
                            pattern: &pattern,
                            weights: &weights,
                        },
                    );
                }
            }
        }
    }
}

/// As many candidates with a positive score as links to regrow: the last count at which candidates
/// without one stay out. One more, and at this temperature all are drawn alike.
#[test]
fn positive_scores_may_just_suffice() {
    let pattern = random_pattern(19, 23, 0.06, 8);
    let scores = Ch2L3n::new(&pattern).unwrap().dense();
    let positive = scores.iter().flatten().filter(|s| **s > 0.0).count();
    let missing = 19 * 23 - pattern.nnz();
    assert!(positive > 10 && positive + 100 < missing, "{positive} of {missing}");
    let weights = weights(4, pattern.nnz(), 1);
    for cuda in backends() {
        for regrown in [positive - 1, positive, positive + 1] {
            agree(
                cuda,
                EventInput {
                    config: &settings(0.0, 1.0, 0.0),
                    seed: 3,
                    layer: 1,
                    t: 4,
                    steps: 100,
                    target_nnz: pattern.nnz() + regrown,
                    pattern: &pattern,
                    weights: &weights,
                },
            );
        }
    }
}

#[test]
fn a_matrix_of_the_model() {
    let (rows, cols) = (512, 1376);
    let emulated = backend(Precision::F32, Order::Forward, Strategy::Links, 0);
    let config = TopologyConfig { init: TopologyInit::Er, ..TopologyConfig::default() };
    let pattern = initial(&config, 1, 0, rows, cols, 0.95).unwrap();
    let weights = weights(4, pattern.nnz(), 1);
    let input = EventInput {
        config: &config,
        seed: 1,
        layer: 3,
        t: 100,
        steps: 10_000,
        target_nnz: pattern.nnz(),
        pattern: &pattern,
        weights: &weights,
    };
    // The naive kernel would take the emulator minutes.
    for cuda in backends().into_iter().filter(|c| c.name() != "emulated").chain([&emulated]) {
        agree(cuda, input);
    }
}

#[test]
fn weights_that_cannot_be_ranked_are_named() {
    let config = TopologyConfig::default();
    let pattern = random_pattern(9, 14, 0.5, 1);
    for cuda in backends() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = weights(4, pattern.nnz(), 1);
            (weights[17], weights[30]) = (bad, f32::NAN);
            let input = EventInput {
                config: &config,
                seed: 1,
                layer: 2,
                t: 100,
                steps: 1000,
                target_nnz: pattern.nnz(),
                pattern: &pattern,
                weights: &weights,
            };
            let csr = Csr::new(cuda, pattern.clone(), &weights).unwrap();
            let there = cuda.evolve(&csr, &rules(&input).unwrap()).err().expect("a refusal");
            assert!(matches!(there, Error::Diverged { step: 100, .. }), "{there}");
            assert_eq!(there.to_string(), event(input).unwrap_err().to_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_mask_and_setting(
        rows in 1usize..40, cols in 1usize..40,
        density in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
        zeta in prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0],
        temperatures in prop_oneof![Just((0.0, 0.0)), (0.0f64..9.0, 0.0f64..4.0)],
        kind in 0u8..5, removal in 0u8..3, topk in any::<bool>(), released in any::<bool>(),
        drift in -9i64..10, seed in any::<u64>(), t in 1u64..100, naive in any::<bool>(),
    ) {
        let config = TopologyConfig {
            removal: [Removal::None, Removal::Magnitude, Removal::SoftMagnitude][removal as usize],
            regrow_select: if topk { Selection::Topk } else { Selection::Soft },
            count: if released { LinkCount::Released } else { LinkCount::Rounded },
            ..settings(zeta, temperatures.0, temperatures.1)
        };
        let pattern = random_pattern(rows, cols, density, seed);
        let weights = weights(kind, pattern.nnz(), seed);
        let target_nnz = (pattern.nnz() as i64 + drift).clamp(0, (rows * cols) as i64) as usize;
        let order = Order::Random(seed);
        let cuda = backend(Precision::F32, order, Strategy::Links, i32::from(naive));
        agree(&cuda, EventInput {
            config: &config, seed, layer: 5, t, steps: 100, target_nnz,
            pattern: &pattern, weights: &weights,
        });
    }
}

/// Links of a host pattern in device memory.
struct Lists {
    offsets: Memory,
    indices: Memory,
    raw: chtsl_links,
}

impl Lists {
    fn new(runtime: &Arc<dyn Runtime>, p: &Pattern, offsets: &[u32], indices: &[u32]) -> Self {
        let offsets = Memory::from_slice(runtime, offsets).unwrap();
        let indices = Memory::from_slice(runtime, indices).unwrap();
        let raw = chtsl_links {
            offsets: offsets.pointer().cast(),
            indices: indices.pointer().cast(),
            rows: p.rows() as u32,
            cols: p.cols() as u32,
            nnz: p.nnz() as u32,
        };
        Lists { offsets, indices, raw }
    }

    fn rows(runtime: &Arc<dyn Runtime>, p: &Pattern) -> Self {
        Lists::new(runtime, p, p.row_offsets(), p.column_indices())
    }
}

fn pointer<T>(memory: &Memory) -> *mut T {
    memory.pointer().cast::<c_void>().cast()
}

/// Removal keys of weights from the smallest subnormal to the largest number.
#[test]
fn keys_equal_the_hosts_to_the_bit() {
    let runtime = Emulated::machine(Order::Reverse);
    let s = Stream::new(21, Purpose::Init, 0, 0);
    let pattern = random_pattern(90, 70, 0.6, 3);
    let mut weights: Vec<f32> = (0..pattern.nnz() as u64)
        .map(|i| f32::from_bits(s.bits(i) as u32))
        .map(|w| if w.is_finite() { w } else { f32::from_bits(1) })
        .collect();
    weights[..6].copy_from_slice(&[0.0, -0.0, 1.0, f32::MAX, -f32::MIN_POSITIVE, 1.0 - 6e-8]);
    let draws = Stream::new(1 << 40 | 5, Purpose::Removal, 1 << 20, 77);
    let ([key_low, key_high], [purpose, event]) = draws.parts();
    let links = Lists::rows(&runtime, &pattern);
    let values = Memory::from_slice(&runtime, &weights).unwrap();
    let (keys, refused) = (Memory::new(&runtime, 8 * weights.len()).unwrap(), [9u32]);
    let refused = Memory::from_slice(&runtime, &refused).unwrap();
    for temperature in [0.0, 0.3, 1.0, 9.0] {
        let rank = chtsl_rank {
            draws: chtsl_draws { key_low, key_high, purpose, event },
            temperature,
            soft: 1,
        };
        let launch = runtime.launchers().topology_removal_keys.unwrap();
        // SAFETY: the arrays have the extents of the links.
        let status = unsafe {
            launch(
                links.raw,
                pointer(&values),
                rank,
                pointer(&keys),
                pointer(&refused),
                runtime.stream(),
            )
        };
        assert_eq!(status, 0, "{}", runtime.fault(status));
        let mut got = vec![0u64; weights.len()];
        keys.read(0, &mut got).unwrap();
        let want = soft_magnitude::keys(&pattern, &weights, temperature, &draws);
        assert!(got.iter().zip(&want).all(|(g, w)| *g == order_bits(*w)), "T {temperature}");
    }
    drop((links.offsets, links.indices));
}

/// Scores of both kernels as the integers they are, marks at links, and the number of positive ones.
/// The larger shapes put 2, 4 and 8 seeds into a block, and none: 29 100 terms fit no shared memory.
#[test]
fn scores_equal_the_hosts_to_the_bit() {
    let runtime = Emulated::machine(Order::Random(5));
    for (rows, cols, density, version) in [
        (1, 1, 0.0, 2),
        (23, 31, 0.2, 1),
        (23, 31, 0.2, 2),
        (31, 23, 1.0, 1),
        (31, 23, 0.9, 2),
        (300, 17, 0.1, 2),
        (19, 530, 0.1, 2),
        (1100, 9, 0.2, 2),
        (7, 5461, 0.1, 2),
        (2, 29_100, 0.001, 0),
    ] {
        let pattern = random_pattern(rows, cols, density, 6);
        let t = pattern.transposed();
        let (links, transposed) = (
            Lists::rows(&runtime, &pattern),
            Lists::new(&runtime, &pattern, &t.col_offsets, &t.row_indices),
        );
        let scores = Memory::new(&runtime, 8 * rows * cols).unwrap();
        let positives = Memory::new(&runtime, 8).unwrap();
        let launch = runtime.launchers().topology_scores.unwrap();
        // SAFETY: the arrays have the extents of the links.
        let status = unsafe {
            launch(
                links.raw,
                transposed.raw,
                pointer(&scores),
                pointer(&positives),
                version,
                runtime.stream(),
            )
        };
        assert_eq!(status, 0, "{}", runtime.fault(status));
        let (mut got, mut count) = (vec![0u64; rows * cols], [0u64]);
        scores.read(0, &mut got).unwrap();
        positives.read(0, &mut count).unwrap();
        let want = Ch2L3n::new(&pattern).unwrap().dense();
        // Exact: scores of these sizes stay below 2^53 units.
        let units = |s: &Option<f64>| s.map_or(u64::MAX, |s| (s * (1u64 << 36) as f64) as u64);
        assert!(got.iter().zip(&want).all(|(g, w)| *g == units(w)), "{rows} x {cols} v{version}");
        let positive = want.iter().flatten().filter(|s| **s > 0.0).count();
        assert_eq!(count[0], positive as u64);
    }
}
