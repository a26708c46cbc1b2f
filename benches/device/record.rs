//! Rows of measurements with their prediction: max(bytes / bandwidth, operations / rate) + 3 µs, from
//! the ceilings measured in the same run.

use chtsl::backend::Cuda;
use chtsl::error::Result;
use serde_json::{Value, json};

/// Which ceiling limits the arithmetic of a kernel.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    /// Memory alone.
    None,
    /// bf16 matrix units.
    Tensor,
    /// f32 multiply-adds outside the matrix units.
    Fma,
}

/// What a kernel has to do at least.
#[derive(Clone, Copy)]
pub struct Work {
    /// Each input read once, each output written once.
    pub bytes: f64,
    pub operations: f64,
    pub unit: Unit,
}

/// Start of a kernel and its end, as the plan of the kernels assumes.
const LAUNCH_SECONDS: f64 = 3e-6;
const SAMPLES: usize = 9;

/// Everything measured in one run.
pub struct Record {
    machine: String,
    rows: Vec<Value>,
    notes: Vec<String>,
    /// Bytes per second of a device-to-device copy, read and written.
    pub bandwidth: f64,
    /// bf16 operations per second of the dense library at 8192³.
    pub tensor: f64,
    /// f32 operations per second of the dense library at 4096³.
    pub fma: f64,
    failed: bool,
}

impl Record {
    pub fn new(machine: String) -> Self {
        let (rows, notes) = (vec![], vec![]);
        Record { machine, rows, notes, bandwidth: 1.0, tensor: 1.0, fma: 1.0, failed: false }
    }

    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_string());
        self.failed = true;
    }

    /// Whether nothing went wrong.
    pub fn complete(&self) -> bool {
        !self.failed
    }

    /// Median seconds of one call, and the quartiles, over samples of about a millisecond.
    pub fn time(cuda: &Cuda, mut work: impl FnMut() -> Result<()>) -> Result<[f64; 3]> {
        let mut outcome = Ok(());
        let mut sample = |calls: usize| -> Result<f64> {
            let mut run = || {
                for _ in 0..calls {
                    if outcome.is_ok() {
                        outcome = work();
                    }
                }
            };
            Ok(cuda.runtime().time(&mut run)?.as_secs_f64() / calls as f64)
        };
        sample(2)?;
        let once = sample(3)?.max(1e-7);
        let calls = (1e-3 / once).ceil().clamp(1.0, 200.0) as usize;
        let mut times = (0..SAMPLES).map(|_| sample(calls)).collect::<Result<Vec<f64>>>()?;
        outcome?;
        times.sort_by(f64::total_cmp);
        Ok([times[SAMPLES / 2], times[SAMPLES / 4], times[SAMPLES - 1 - SAMPLES / 4]])
    }

    /// Measures one kernel and keeps the row; returns its median seconds.
    pub fn row(
        &mut self,
        cuda: &Cuda,
        family: &str,
        case: String,
        work: Work,
        run: impl FnMut() -> Result<()>,
    ) -> Result<f64> {
        let [median, low, high] = Self::time(cuda, run)?;
        let rate = match work.unit {
            Unit::None => f64::INFINITY,
            Unit::Tensor => self.tensor,
            Unit::Fma => self.fma,
        };
        let predicted = (work.bytes / self.bandwidth).max(work.operations / rate) + LAUNCH_SECONDS;
        self.rows.push(json!({
            "family": family,
            "case": case,
            "us": median * 1e6,
            "quartiles_us": [low * 1e6, high * 1e6],
            "predicted_us": predicted * 1e6,
            "measured_over_predicted": median / predicted,
            "gb_per_s": work.bytes / median / 1e9,
            "share_of_bandwidth": work.bytes / median / self.bandwidth,
            "tflop_per_s": work.operations / median / 1e12,
            "share_of_rate": work.operations / median / rate,
        }));
        Ok(median)
    }

    /// A table to read.
    pub fn markdown(&self) -> String {
        let mut text = format!("Machine: {}\n\n", self.machine);
        text += &format!(
            "Ceilings of this run: copy {:.0} GB/s (read + written), bf16 products {:.0} TF, f32 \
             products {:.1} TF.\n\n",
            self.bandwidth / 1e9,
            self.tensor / 1e12,
            self.fma / 1e12
        );
        text += "| family | case | µs (quartiles) | predicted µs | measured / predicted | GB/s \
                 (share) | TF (share) |\n|---|---|---|---|---|---|---|\n";
        let number = |r: &Value, key: &str| r[key].as_f64().unwrap_or(f64::NAN);
        for r in &self.rows {
            text += &format!(
                "| {} | {} | {:.1} ({:.1}-{:.1}) | {:.1} | {:.2} | {:.0} ({:.2}) | {:.1} ({:.2}) |\n",
                r["family"].as_str().unwrap_or_default(),
                r["case"].as_str().unwrap_or_default(),
                number(r, "us"),
                r["quartiles_us"][0].as_f64().unwrap_or(f64::NAN),
                r["quartiles_us"][1].as_f64().unwrap_or(f64::NAN),
                number(r, "predicted_us"),
                number(r, "measured_over_predicted"),
                number(r, "gb_per_s"),
                number(r, "share_of_bandwidth"),
                number(r, "tflop_per_s"),
                number(r, "share_of_rate"),
            );
        }
        for note in &self.notes {
            text += &format!("\n{note}\n");
        }
        text
    }

    /// The same as JSON.
    pub fn json(&self) -> String {
        let all = json!({
            "machine": self.machine,
            "copy_bytes_per_s": self.bandwidth,
            "bf16_ops_per_s": self.tensor,
            "f32_ops_per_s": self.fma,
            "rows": self.rows,
            "notes": self.notes,
        });
        serde_json::to_string_pretty(&all).expect("plain values")
    }
}
