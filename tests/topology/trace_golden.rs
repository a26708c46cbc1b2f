//! Sixteen updates of three layers against the recorded run of the reference scheduler.

use chtsl::config::{LinkCount, Removal, Selection, TopologyConfig};
use chtsl::sparse::Pattern;
use chtsl::topology::{EventInput, NEW, event, target_nnz};
use serde_json::Value;

use super::{golden, list, mask, matrix, size};

const STEPS: u64 = 16;
const SPARSITY: f64 = 0.6;

/// One sparse matrix with Adam's moments, all in CSR order.
struct Layer {
    pattern: Pattern,
    weights: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Layer {
    fn at_links(pattern: &Pattern, dense: &Value) -> Vec<f32> {
        let dense = matrix(dense);
        pattern.flat().iter().map(|&f| dense[f as usize] as f32).collect()
    }

    /// Adam without weight decay; `k` counts the steps of the optimizer from 1.
    fn adam(&mut self, gradient: &[f32], k: i32) {
        let (lr, beta1, beta2, eps) = (1e-2f32, 0.9f32, 0.999f32, 1e-8f32);
        let (c1, c2) = (1.0 - beta1.powi(k), (1.0 - beta2.powi(k)).sqrt());
        for (i, &g) in gradient.iter().enumerate() {
            self.m[i] = beta1 * self.m[i] + (1.0 - beta1) * g;
            self.v[i] = beta2 * self.v[i] + (1.0 - beta2) * g * g;
            self.weights[i] -= lr / c1 * self.m[i] / (self.v[i].sqrt() / c2 + eps);
        }
    }

    /// The layer against one step of the file: masks exactly, numbers within 1e-6 (the file's
    /// arithmetic is single precision, nine digits printed), nothing outside the links.
    fn compare(&self, step: &Value, i: usize) {
        assert_eq!(self.pattern, mask(&step["mask_after"][i]), "layer {i} step {}", step["step"]);
        for (name, got) in
            [("W_after", &self.weights), ("exp_avg_after", &self.m), ("exp_avg_sq_after", &self.v)]
        {
            let mut dense = vec![0.0; self.pattern.rows() * self.pattern.cols()];
            for (&f, &x) in self.pattern.flat().iter().zip(got) {
                dense[f as usize] = f64::from(x);
            }
            for (j, (got, want)) in dense.iter().zip(matrix(&step[name][i])).enumerate() {
                let place = format!("{name} layer {i} step {} at {j}", step["step"]);
                assert!((got - want).abs() <= 1e-6, "{place}: {got} {want}");
            }
        }
    }
}

/// The `ch2_topk` trace in full: magnitude removal and CH2-L3n top-k at steps 4, 8 and 12, where the
/// optimizer does not step. The file's other two traces need rules not in this crate's table.
#[test]
fn golden_trace_ch2_topk() {
    let file = golden("dst_trace.json");
    let config = TopologyConfig {
        zeta: 0.3,
        update_interval: 4,
        removal: Removal::Magnitude,
        regrow_select: Selection::Topk,
        count: LinkCount::Released,
        event_replaces_step: true,
        ..TopologyConfig::default()
    };
    assert_eq!(config.end(STEPS), 12);
    let trace = list(&file["traces"]).iter().find(|t| t["kind"] == "ch2_topk").unwrap();
    let mut layers: Vec<Layer> = list(&trace["init_mask"])
        .iter()
        .zip(list(&trace["init_W"]))
        .map(|(links, weights)| {
            let pattern = mask(links);
            let zeros = vec![0.0; pattern.nnz()];
            let weights = Layer::at_links(&pattern, weights);
            Layer { pattern, weights, m: zeros.clone(), v: zeros }
        })
        .collect();
    let (mut k, mut compared, mut newcomers, mut returned) = (0, 0, 0, 0);
    let steps = list(&trace["steps"]);
    assert_eq!(steps.len() as u64, STEPS);
    for (t, step) in (1..).zip(steps) {
        assert_eq!(size(&step["step"]) as u64, t);
        let is_event = config.is_event(t, STEPS);
        assert_eq!(step["dst_event"].as_bool().unwrap(), is_event);
        k += i32::from(!is_event);
        for (i, layer) in layers.iter_mut().enumerate() {
            let Layer { pattern, weights, .. } = &*layer;
            if is_event {
                let target_nnz = target_nnz(&config, pattern.rows(), pattern.cols(), SPARSITY);
                let change = event(EventInput {
                    config: &config,
                    seed: 0,
                    layer: i as u32,
                    t,
                    steps: STEPS,
                    target_nnz,
                    pattern,
                    weights,
                })
                .unwrap();
                newcomers += change.source.iter().filter(|&&s| s == NEW).count();
                returned += change.returned;
                for array in [&mut layer.weights, &mut layer.m, &mut layer.v] {
                    let old = std::mem::take(array);
                    change.migrate(&old, array).unwrap();
                }
                layer.pattern = change.pattern;
            } else {
                let gradient = Layer::at_links(pattern, &step["G"][i]);
                layer.adam(&gradient, k);
            }
            if step.get("mask_after").is_some() {
                layer.compare(step, i);
                compared += 1;
            }
        }
    }
    // The trace must have exercised what it is for.
    assert!(compared >= 15 && newcomers > 0 && returned > 0, "{compared} {newcomers} {returned}");
}
