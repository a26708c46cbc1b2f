//! When events happen and how strong they are: removed fraction ζ, removal exponent T, and the
//! sparsity courses of methods that prune while they train.

use std::f64::consts::PI;

use crate::config::{TopologyConfig, ZetaSchedule};

/// Removed fraction at update `t`: `ζ/2·(1 + cos(π t / T_end))` or ζ; 0 after T_end.
///
/// Source: the adaptive fraction of RigL as CHTs uses it, with `T_end = floor(end_fraction·steps)`.
/// The cosine is exactly 0 at T_end: that event removes nothing.
pub fn zeta(config: &TopologyConfig, t: u64, steps: u64) -> f64 {
    let end = config.end(steps);
    if t > end {
        return 0.0;
    }
    match config.zeta_schedule {
        ZetaSchedule::Constant => config.zeta,
        ZetaSchedule::Cosine if end == 0 => 0.0,
        ZetaSchedule::Cosine => config.zeta * 0.5 * (1.0 + libm::cos(PI * (t as f64 / end as f64))),
    }
}

/// Exponent of soft removal at update `t`: linear in T from `removal_t_start` at 0 to
/// `removal_t_end` at T_end, constant afterwards. With T = δ/(1-δ), 1 → 9 is δ = 0.5 → 0.9 (CHTs).
pub fn removal_temperature(config: &TopologyConfig, t: u64, steps: u64) -> f64 {
    let end = config.end(steps);
    let x = if end == 0 { 1.0 } else { t.min(end) as f64 / end as f64 };
    config.removal_t_start + (config.removal_t_end - config.removal_t_start) * x
}

/// Updates in `1..=steps` that carry an event, increasing.
pub fn event_times(config: &TopologyConfig, steps: u64) -> impl Iterator<Item = u64> {
    (1..=steps).filter(move |&t| config.is_event(t, steps))
}

/// Sparsity at progress `x` in 0..=1 on a sigmoid of steepness `k` that starts at `from` and ends
/// at `to` exactly: `from + (to-from)·(σ(k(2x-1)) - σ(-k)) / (σ(k) - σ(-k))`. Source: CHTss, k = 6.
pub fn sigmoid_sparsity(from: f64, to: f64, x: f64, k: f64) -> f64 {
    let sigma = |z: f64| 1.0 / (1.0 + libm::exp(-z));
    let x = x.clamp(0.0, 1.0);
    from + (to - from) * (sigma(k * (2.0 * x - 1.0)) - sigma(-k)) / (sigma(k) - sigma(-k))
}

/// Sparsity at progress `x` in 0..=1 on the cubic `to + (from-to)·(1-x)³`. Source: gradual
/// magnitude pruning (Zhu and Gupta).
pub fn cubic_sparsity(from: f64, to: f64, x: f64) -> f64 {
    let rest = 1.0 - x.clamp(0.0, 1.0);
    to + (from - to) * rest * rest * rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_60m_has_75_events_of_which_74_remove() {
        let config = TopologyConfig::default();
        let times: Vec<u64> = event_times(&config, 10_000).collect();
        assert_eq!((times.len(), times[0], times[74]), (75, 100, 7500));
        assert_eq!(times.iter().filter(|&&t| zeta(&config, t, 10_000) > 0.0).count(), 74);
        assert_eq!(zeta(&config, 7501, 10_000), 0.0);
        assert_eq!(removal_temperature(&config, 9000, 10_000), 9.0);
    }

    #[test]
    fn constant_zeta_and_runs_without_events() {
        let config =
            TopologyConfig { zeta_schedule: ZetaSchedule::Constant, ..TopologyConfig::default() };
        assert_eq!((zeta(&config, 1, 100), zeta(&config, 75, 100)), (0.1, 0.1));
        let none = TopologyConfig { end_fraction: 0.0, ..TopologyConfig::default() };
        assert_eq!(event_times(&none, 1000).count(), 0);
        assert_eq!(zeta(&none, 0, 1000), 0.0);
        assert_eq!(removal_temperature(&none, 0, 1000), 9.0);
    }

    #[test]
    fn sparsity_courses_hit_both_ends() {
        for x in [0.0, 1.0] {
            let want = 0.5 + 0.4 * x;
            assert!((sigmoid_sparsity(0.5, 0.9, x, 6.0) - want).abs() < 1e-15);
            assert!((cubic_sparsity(0.5, 0.9, x) - want).abs() < 1e-15);
        }
    }
}
