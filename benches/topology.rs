//! Milliseconds per topology event and per initialisation, by shape, density, start and threads.
//!
//! `cargo bench --bench topology`. Record: `benches/record/topology.md`. An event costs most when
//! links are random (ER start), least while they form a band (BRF with r = 0); training moves from
//! the second towards the first.

use std::time::Instant;

use chtsl::config::{TopologyConfig, TopologyInit};
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::{EventInput, event, initial};

/// (out, in, density); the last is one of LLaMA-1B's.
const CASES: [(usize, usize, f64); 5] =
    [(512, 512, 0.05), (512, 1376, 0.05), (1376, 512, 0.05), (512, 1376, 0.15), (2048, 5461, 0.05)];

/// Median milliseconds of `rounds` calls.
fn median_ms(rounds: usize, mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[rounds / 2]
}

fn one_event(config: &TopologyConfig, pattern: &Pattern, weights: &[f32]) {
    let change = event(EventInput {
        config,
        seed: 1,
        layer: 0,
        t: 100,
        steps: 10_000,
        target_nnz: pattern.nnz(),
        pattern,
        weights,
    });
    assert!(change.is_ok_and(|c| c.regrown > 0));
}

fn main() {
    let threads: Vec<usize> = match std::thread::available_parallelism() {
        Ok(n) if n.get() > 2 => vec![1, 2, n.get()],
        _ => vec![1, 2],
    };
    println!("out x in, density, start, threads: initial ms, event ms");
    for (rows, cols, density) in CASES {
        for init in [TopologyInit::Er, TopologyInit::Brf] {
            let config = TopologyConfig { init, ..TopologyConfig::default() };
            let make = || initial(&config, 1, 0, rows, cols, 1.0 - density);
            let Ok(pattern) = make() else { panic!("no initial links") };
            let s = Stream::new(1, Purpose::Init, 0, 0);
            let weights: Vec<f32> = (0..pattern.nnz() as u64).map(|i| s.normal(i) as f32).collect();
            let rounds = if rows * cols > 1_000_000 { 3 } else { 9 };
            for &n in &threads {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
                let Ok(pool) = pool else { panic!("no threads") };
                let start = median_ms(rounds, || assert!(pool.install(make).is_ok()));
                let step =
                    median_ms(rounds, || pool.install(|| one_event(&config, &pattern, &weights)));
                println!("{rows} x {cols}, {density}, {init:?}, {n}: {start:.1}, {step:.1}");
            }
        }
    }
}
