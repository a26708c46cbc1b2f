//! Numbers of the fault tests, and what they have to say for the record (`tests/faults.sh`).

/// The first number for every change, the second with `CHTSL_FAULTS=full`.
pub fn count(gate: usize, full: usize) -> usize {
    match std::env::var("CHTSL_FAULTS").as_deref() {
        Ok("full") => full,
        _ => gate,
    }
}

/// A line for the record.
pub fn told(what: &str) {
    println!("fault: {what}");
}
