//! `metrics.jsonl`: one JSON object per row, append-only, the truth about a run.
//!
//! | kind | fields |
//! |---|---|
//! | `train` | `step` (updates done), `tokens` (targets seen), `loss` (task cross-entropy, nats, mean over targets), `loss_align` (unweighted alignment sum over layers), `lr`, `grad_norm` (before clipping; null when an event replaced the update), `ocr`, `rms_s`, `rms_l` (by "layer.projection"), `time` |
//! | `eval` | `step`, `ppl` (token-weighted), `ppl_galore_compat` (exp of Σ batch means / (batches + 1)), `bits_per_byte` (null without a tokenizer), `loss`, `tokens`, `batches`, `precision`, `time` |
//! | `topology` | `step`, `layer`, `nnz`, `removed`, `regrown`, `returned` (of the removed, grown again at once), `itop` (share of positions ever active), `kept16` (columns that 16-row panels keep), `zeta`, `temperature` |
//! | `note` | `step`, `text`: resumes and warnings; not part of a comparison of runs |
//!
//! Wall-clock values sit in `time` alone, so rows without `time` and `note` compare bit for bit. In
//! `time.split_ms` of `train`, "sparse products" and "low-rank" of a run on the CPU are one measured pass,
//! divided between them by their multiply-adds.

pub mod csv;
pub mod tensorboard;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::files::{self, FileKind};

/// File name of the metrics.
pub const FILE: &str = "metrics.jsonl";
/// Rows that a resumed run has overtaken.
pub const SUPERSEDED: &str = "metrics.superseded.jsonl";

/// What is written beside `metrics.jsonl`; a resumed run goes on with what it has, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// `metrics.csv`.
    pub csv: bool,
    /// TensorBoard event files.
    pub tensorboard: bool,
}

/// Text of a metrics file, without lines that are not UTF-8, and its size in bytes.
pub fn read_rows(path: &Path) -> Result<(String, usize)> {
    let bytes = files::read_limited(path, u64::MAX, FileKind::Data)?;
    let lines = bytes.split_inclusive(|b| *b == b'\n');
    let text = lines.filter_map(|line| std::str::from_utf8(line).ok()).collect();
    Ok((text, bytes.len()))
}

/// Appends rows.
pub struct Metrics {
    path: PathBuf,
    file: File,
    table: Option<csv::Table>,
    events: Option<tensorboard::Events>,
    /// Step of the last evaluation among the rows that were there.
    evaluated: Option<u64>,
    /// Rows that could not be written; reported once and at the end.
    lost: u64,
    first_error: Option<Error>,
}

impl Metrics {
    /// Opens `dir/metrics.jsonl` for a run that continues after `step` finished updates: complete
    /// rows beyond it move to `metrics.superseded.jsonl`, a torn last line is dropped.
    pub fn open(dir: &Path, step: u64, extras: Extras) -> Result<Self> {
        let path = dir.join(FILE);
        let mut rows = String::new();
        // A device or a pipe in its place is written to, never read: it may have no end.
        if path.is_file() {
            let (text, size) = read_rows(&path)?;
            let (mut kept, mut overtaken) = (String::new(), String::new());
            for line in text.split_inclusive('\n') {
                let row = serde_json::from_str::<Value>(line).ok();
                let Some(at) = row.as_ref().and_then(|r| r["step"].as_u64()) else { continue };
                let to = if at <= step { &mut kept } else { &mut overtaken };
                to.push_str(line.trim_end());
                to.push('\n');
            }
            if kept.len() != size {
                if !overtaken.is_empty() {
                    let side = dir.join(SUPERSEDED);
                    let mut file = OpenOptions::new()
                        .create(true)
                        .append(true)
                        .open(&side)
                        .map_err(Error::io("open", &side))?;
                    file.write_all(overtaken.as_bytes()).map_err(Error::io("write", &side))?;
                    file.sync_all().map_err(Error::io("sync", &side))?;
                }
                files::write_atomic(&path, kept.as_bytes())?;
            }
            rows = kept;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let evaluated = rows
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|row| row["kind"] == "eval")
            .filter_map(|row| row["step"].as_u64())
            .next_back();
        // What is there already would otherwise keep rows that this run overtakes.
        let csv = extras.csv || dir.join(csv::FILE).is_file();
        let tensorboard = extras.tensorboard || dir.join(tensorboard::FOLDER).is_dir();
        let table = csv.then(|| csv::Table::open(dir, &rows)).transpose()?;
        let events = tensorboard.then(|| tensorboard::Events::open(dir, step)).transpose()?;
        Ok(Metrics { path, file, table, events, evaluated, lost: 0, first_error: None })
    }

    /// Appends one row in a single write. A failure is remembered and warned of once: training goes
    /// on, and [`Metrics::finish`] reports it.
    pub fn row(&mut self, row: Map<String, Value>) {
        let row = Value::Object(row);
        let mut line = row.to_string();
        line.push('\n');
        let written = self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path));
        let table = self.table.as_mut().map_or(Ok(()), |t| t.row(&row));
        let events = self.events.as_mut().map_or(Ok(()), |e| e.row(&row));
        let Err(error) = written.and(table).and(events) else { return };
        self.lost += 1;
        if self.first_error.is_none() {
            tracing::warn!("{error}; the run goes on without this row");
            self.first_error = Some(error);
        }
    }

    /// Whether the run that is continued has written an evaluation after `step` updates.
    pub fn has_evaluation(&self, step: u64) -> bool {
        self.evaluated == Some(step)
    }

    /// A row of kind `note`.
    pub fn note(&mut self, step: u64, text: &str) {
        let mut row = start("note", step);
        row.insert("text".into(), text.into());
        self.row(row);
    }

    /// Makes the rows so far durable.
    pub fn sync(&mut self) {
        if let Err(e) = self.file.sync_data()
            && self.first_error.is_none()
        {
            self.first_error = Some(Error::io("sync", &self.path)(e));
        }
    }

    /// The first write error, if there was any.
    pub fn finish(mut self) -> Result<()> {
        self.sync();
        match self.first_error {
            None => Ok(()),
            Some(e) => {
                tracing::warn!("{} metrics rows were lost", self.lost);
                Err(e)
            }
        }
    }
}

/// A row with its kind and step.
pub fn start(kind: &str, step: u64) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("kind".into(), kind.into());
    row.insert("step".into(), step.into());
    row
}

/// A number, or null where JSON has none (infinities, NaN).
pub fn number(x: f64) -> Value {
    serde_json::Number::from_f64(x).map_or(Value::Null, Value::Number)
}

/// Mean overlap of the q and k projections in a row of kind `train`.
pub fn ocr_qk(row: &Value) -> Option<f64> {
    let ocr = row["ocr"].as_object()?;
    let of_qk = |name: &str| name.ends_with(".q_proj") || name.ends_with(".k_proj");
    let values: Vec<f64> =
        ocr.iter().filter(|(name, _)| of_qk(name)).filter_map(|(_, v)| v.as_f64()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
