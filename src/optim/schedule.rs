//! Learning rate: linear warm-up, cosine to a floor, and the re-warm-up after topology events.

use crate::config::{TopologyConfig, TrainConfig};

/// Factor on the peak learning rate for the update with `u` updates before it (topology §5):
///
/// `g = u/warmup` before the end of the warm-up, then
/// `floor + (1−floor)·½(1 + cos(π(u−warmup)/(steps−warmup)))`; times `h = (u mod interval)/rewarmup`
/// while `u mod interval < rewarmup`. The first update and the one after each event have rate 0
/// under a re-warm-up: moments accumulate, weights wait.
pub fn factor(u: u64, t: &TrainConfig, topology: &TopologyConfig) -> f64 {
    let global = if u < t.warmup {
        u as f64 / t.warmup as f64
    } else {
        let span = (t.steps - t.warmup).max(1) as f64;
        let x = (u - t.warmup) as f64 / span;
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * x.min(1.0)));
        t.min_lr_ratio + (1.0 - t.min_lr_ratio) * cosine
    };
    let interval = topology.update_interval;
    if t.rewarmup == 0 || interval == 0 {
        return global;
    }
    let since = u % interval;
    if since < t.rewarmup { global * since as f64 / t.rewarmup as f64 } else { global }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_learning_rate_factors() {
        let text = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/chts/schedules.json"
        ))
        .unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let lr = &json["learning_rate"];
        let mut seen = 0;
        for (steps, warmup) in [(10_000, 1000), (20_000, 2000)] {
            let t = TrainConfig {
                steps,
                warmup,
                rewarmup: lr["restart_warmup"].as_u64().unwrap(),
                min_lr_ratio: lr["min_ratio"].as_f64().unwrap(),
                ..TrainConfig::default()
            };
            let topology = TopologyConfig {
                update_interval: lr["cycle"].as_u64().unwrap(),
                ..TopologyConfig::default()
            };
            for row in lr[format!("total_{steps}_warmup_{warmup}")].as_array().unwrap() {
                let (u, want) = (row[0].as_u64().unwrap(), row[1].as_f64().unwrap());
                let got = factor(u, &t, &topology);
                assert!((got - want).abs() < 1e-9, "{u}: {got} {want}");
                seen += 1;
            }
        }
        assert!(seen > 60);
    }

    #[test]
    fn ends_of_the_schedule() {
        let t = TrainConfig { steps: 1000, warmup: 100, ..TrainConfig::default() };
        let none = TopologyConfig::default();
        assert_eq!(factor(0, &t, &none), 0.0);
        assert_eq!(factor(100, &t, &none), 1.0);
        assert!(factor(999, &t, &none) > 0.1 && factor(999, &t, &none) < 0.1001);
        let no_warmup = TrainConfig { warmup: 0, ..t };
        assert_eq!(factor(0, &no_warmup, &none), 1.0);
    }
}
