//! Magnitude removal: the links with the smallest |w| go (SET, RigL, CHT).

/// Keys of the links, `|w|`, in CSR order.
pub fn keys(weights: &[f32]) -> Vec<f64> {
    weights.iter().map(|&w| f64::from(w).abs()).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sign_does_not_matter() {
        assert_eq!(super::keys(&[-2.0, 0.5, -0.0]), [2.0, 0.5, 0.0]);
    }
}
