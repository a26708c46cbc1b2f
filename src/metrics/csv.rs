//! `metrics.csv`: the rows of kinds `train` and `eval` as a table, for spreadsheets and data frames.
//!
//! The table is derived from `metrics.jsonl` and made anew from it whenever a run is opened that has
//! one or wants one, so it never says more than that file. A value that a row does not have is an empty
//! cell.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ocr_qk;
use crate::error::{Error, Result};

/// File name of the table.
pub const FILE: &str = "metrics.csv";

/// Columns and where their numbers stand in a row; `ocr_qk` is a mean over the layers.
const COLUMNS: [(&str, &str); 16] = [
    ("kind", "/kind"),
    ("step", "/step"),
    ("tokens", "/tokens"),
    ("loss", "/loss"),
    ("loss_align", "/loss_align"),
    ("lr", "/lr"),
    ("grad_norm", "/grad_norm"),
    ("ocr_qk", ""),
    ("ppl", "/ppl"),
    ("ppl_galore_compat", "/ppl_galore_compat"),
    ("bits_per_byte", "/bits_per_byte"),
    ("batches", "/batches"),
    ("precision", "/precision"),
    ("step_ms", "/time/step_ms"),
    ("tokens_per_s", "/time/tokens_per_s"),
    ("eval_s", "/time/eval_s"),
];

/// Appends rows to the table.
pub struct Table {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl Table {
    /// Starts `dir/metrics.csv` with the rows of `text`, the content of `metrics.jsonl`.
    pub fn open(dir: &Path, text: &str) -> Result<Self> {
        let path = dir.join(FILE);
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        let mut table = Table { path, writer: csv::Writer::from_writer(file) };
        table.write(COLUMNS.iter().map(|(name, _)| name.to_string()))?;
        for line in text.lines() {
            if let Ok(row) = serde_json::from_str(line) {
                table.row(&row)?;
            }
        }
        Ok(table)
    }

    /// Appends a row, if its kind has a place in the table.
    pub fn row(&mut self, row: &Value) -> Result<()> {
        if !matches!(row["kind"].as_str(), Some("train" | "eval")) {
            return Ok(());
        }
        self.write(COLUMNS.iter().map(|(name, place)| match row.pointer(place) {
            _ if *name == "ocr_qk" => ocr_qk(row).map_or(String::new(), |x| x.to_string()),
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(number) => number.to_string(),
        }))
    }

    fn write(&mut self, cells: impl Iterator<Item = String>) -> Result<()> {
        let failed = |e: csv::Error| match e.into_kind() {
            csv::ErrorKind::Io(e) => Error::io("write", &self.path)(e),
            other => Error::data(&self.path, format!("{other:?}")),
        };
        self.writer.write_record(cells).map_err(failed)?;
        self.writer.flush().map_err(Error::io("write", &self.path))
    }
}
