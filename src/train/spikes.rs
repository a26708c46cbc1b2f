//! Loss spikes: updates whose loss or gradient norm stands out from the last [`WINDOW`] ones.
//!
//! z = (x − mean) / standard deviation over the window, as in llm.c's outlier detector. The window
//! is part of the run's state, so a resumed run decides as an uninterrupted one.

/// Updates that a new one is compared with; before there are as many, none is a spike.
pub const WINDOW: usize = 128;

/// How far `x` stands out from `window`; `None` while the window is not full or all its values agree.
pub fn z_score(window: &[f64], x: f64) -> Option<f64> {
    if window.len() < WINDOW {
        return None;
    }
    let n = window.len() as f64;
    let mean = window.iter().sum::<f64>() / n;
    let variance = window.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n;
    (variance > 0.0).then(|| (x - mean) / variance.sqrt())
}

/// Adds a value and forgets the oldest. Spikes count too: a loss that stays high becomes the rule.
pub fn remember(window: &mut Vec<f64>, x: f64) {
    if window.len() == WINDOW {
        window.remove(0);
    }
    window.push(x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_window_that_varies_knows_spikes() {
        let mut window = Vec::new();
        for i in 0..WINDOW {
            assert_eq!(z_score(&window, 100.0), None);
            remember(&mut window, if i % 2 == 0 { 1.0 } else { 3.0 });
        }
        // Mean 2, deviation 1.
        assert!((z_score(&window, 7.0).unwrap() - 5.0).abs() < 1e-12);
        for _ in 0..WINDOW {
            remember(&mut window, 9.0);
        }
        assert_eq!((window.len(), z_score(&window, 9.5)), (WINDOW, None));
    }
}
