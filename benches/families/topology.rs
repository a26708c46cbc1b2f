//! One remove-regrow event with its rebuilt index. There is no dense counterpart.

use chtsl::config::TopologyConfig;
use chtsl::topology::{self, EventInput};
use criterion::{Criterion, Throughput};

use crate::inputs::{DENSITIES, SHAPES, random};
use crate::machine::{Machine, Timed};
use crate::sparse::row;

pub fn groups<B: Timed>(c: &mut Criterion, machine: &Machine<B>) {
    let bk = &machine.backend;
    let config = TopologyConfig::default();
    for (rows, cols) in SHAPES {
        let mut g = c.benchmark_group(format!("topology/{}/{rows}x{cols}", bk.name()));
        g.throughput(Throughput::Elements((rows * cols) as u64));
        for density in DENSITIES {
            let s = random(bk, rows, cols, density);
            let rules = topology::rules(&EventInput {
                config: &config,
                seed: 1,
                layer: 0,
                t: 100,
                steps: 10_000,
                target_nnz: s.pattern.nnz(),
                pattern: &s.pattern,
                weights: &[],
            });
            let rules = rules.expect("rules");
            row(&mut g, bk, &density.to_string(), &mut || {
                topology::evolve(bk, &s, &rules).expect("an event");
            });
        }
        g.finish();
    }
}
