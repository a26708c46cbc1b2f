//! Histograms with bins of doubling width: 0, 1, 2-3, 4-7, ...

use serde_json::{Map, Value};

/// Counts by bin.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    bins: Vec<u64>,
    count: u64,
    sum: u64,
    range: Option<(u64, u64)>,
}

impl Histogram {
    /// Of all values.
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut h = Histogram::default();
        values.into_iter().for_each(|x| h.add(x));
        h
    }

    /// Counts a value.
    pub fn add(&mut self, x: u64) {
        let bin = (u64::BITS - x.leading_zeros()) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += 1;
        self.count += 1;
        self.sum += x;
        self.range = Some(self.range.map_or((x, x), |(low, high)| (low.min(x), high.max(x))));
    }

    /// Counts everything that `other` has counted.
    pub fn merge(&mut self, other: &Histogram) {
        if self.bins.len() < other.bins.len() {
            self.bins.resize(other.bins.len(), 0);
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, n)| *bin += n);
        self.count += other.count;
        self.sum += other.sum;
        self.range = match (self.range, other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }

    /// Values counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Extremes, mean and the bins that are not empty.
    pub fn json(&self) -> Value {
        let mut map = Map::new();
        let Some((low, high)) = self.range else { return Value::Null };
        map.insert("least".into(), low.into());
        map.insert("mean".into(), (self.sum as f64 / self.count as f64).into());
        map.insert("most".into(), high.into());
        let mut bins = Map::new();
        for (i, n) in self.bins.iter().enumerate().filter(|(_, n)| **n > 0) {
            let name = match i {
                0 | 1 => i.to_string(),
                _ => format!("{}-{}", 1u64 << (i - 1), (1u128 << i) - 1),
            };
            bins.insert(name, (*n).into());
        }
        map.insert("bins".into(), bins.into());
        map.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_double() {
        let v = Histogram::of([0, 1, 2, 3, 4, 7, 8]).json();
        assert_eq!(v["bins"].to_string(), r#"{"0":1,"1":1,"2-3":2,"4-7":2,"8-15":1}"#);
        assert_eq!((v["least"].as_u64(), v["most"].as_u64()), (Some(0), Some(8)));
        assert!((v["mean"].as_f64().unwrap() - 25.0 / 7.0).abs() < 1e-12);
        assert!(Histogram::of([]).json().is_null());
    }

    #[test]
    fn merged_counts_are_those_of_all_values() {
        for (a, b) in [(vec![0, 9], vec![1, 2, 300]), (vec![], vec![4]), (vec![4], vec![])] {
            let mut sum = Histogram::of(a.clone());
            sum.merge(&Histogram::of(b.clone()));
            assert_eq!(sum.json(), Histogram::of(a.into_iter().chain(b)).json());
        }
    }
}
