//! Topology against the golden vectors, a path-by-path oracle, and its invariants under random
//! masks, settings and thread counts.

#[path = "topology/brf_golden.rs"]
mod brf_golden;
#[path = "topology/event_properties.rs"]
mod event_properties;
#[path = "topology/rules_golden.rs"]
mod rules_golden;
#[path = "topology/score_oracle.rs"]
mod score_oracle;
#[path = "topology/trace_golden.rs"]
mod trace_golden;

use chtsl::sparse::Pattern;
use serde_json::Value;

/// A file of `tests/golden/chts/`.
fn golden(name: &str) -> Value {
    let path = format!("{}/tests/golden/chts/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("not a size: {value}")) as usize
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}

/// A mask given as one string of 0 and 1 per row.
fn mask(value: &Value) -> Pattern {
    let lines: Vec<&str> = list(value).iter().map(|v| v.as_str().expect("a mask row")).collect();
    let cols = lines[0].len();
    let flat: Vec<u64> =
        (0u64..).zip(lines.concat().bytes()).filter(|x| x.1 == b'1').map(|x| x.0).collect();
    Pattern::from_flat(lines.len(), cols, &flat).expect("a mask")
}

/// Rows of numbers, joined.
fn matrix(value: &Value) -> Vec<f64> {
    list(value).iter().flat_map(numbers).collect()
}
