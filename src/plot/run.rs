//! The rows of a run as curves.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::config::PROJECTIONS;
use crate::error::{Error, Result};
use crate::files::{FileKind, read_small};
use crate::metrics::{self, ocr_qk};

/// Points (step, value) in order.
pub type Curve = Vec<(f64, f64)>;

/// What a run folder tells.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Name of the folder.
    pub name: String,
    /// Its `config.toml`; empty when there is none.
    pub config: toml::Table,
    train: Vec<Value>,
    eval: Vec<Value>,
    topology: Vec<Value>,
    /// Remarks and their step.
    pub notes: Vec<(u64, String)>,
}

impl Run {
    /// Reads `dir/metrics.jsonl`.
    ///
    /// Errors: `Error::Data` when the folder holds no metrics or no row can be drawn.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join(metrics::FILE);
        if !path.exists() {
            return Err(Error::data(
                dir,
                format!("is not a run folder: it has no {}", metrics::FILE),
            ));
        }
        let (text, _) = metrics::read_rows(&path)?;
        let mut run = Run::parse(&text);
        if run.train.is_empty() && run.eval.is_empty() {
            return Err(Error::data(&path, "has no rows yet: nothing to draw"));
        }
        let whole = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
        run.name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let config = read_small(&dir.join("config.toml"), FileKind::Config).unwrap_or_default();
        run.config = config.parse().unwrap_or_default();
        Ok(run)
    }

    /// From the text of a metrics file; lines that are torn are left out.
    pub fn parse(text: &str) -> Self {
        let mut run = Run::default();
        for row in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            match row["kind"].as_str() {
                Some("train") => run.train.push(row),
                Some("eval") => run.eval.push(row),
                Some("topology") => run.topology.push(row),
                Some("note") => {
                    let text = row["text"].as_str().unwrap_or_default().to_string();
                    run.notes.push((row["step"].as_u64().unwrap_or(0), text));
                }
                _ => {}
            }
        }
        run
    }

    fn curve(rows: &[Value], value: impl Fn(&Value) -> Option<f64>) -> Curve {
        let points = rows.iter().filter_map(|r| Some((r["step"].as_f64()?, value(r)?)));
        points.collect()
    }

    /// A number of the training rows, by JSON pointer such as "/loss" or "/time/tokens_per_s".
    pub fn train(&self, pointer: &str) -> Curve {
        Run::curve(&self.train, |r| r.pointer(pointer)?.as_f64())
    }

    /// A number of the evaluations.
    pub fn eval(&self, pointer: &str) -> Curve {
        Run::curve(&self.eval, |r| r.pointer(pointer)?.as_f64())
    }

    /// Mean overlap of q and k.
    pub fn ocr_qk(&self) -> Curve {
        Run::curve(&self.train, ocr_qk)
    }

    /// Means over the layers of a group of the training rows ("ocr", "rms_s", "rms_l") by projection.
    pub fn by_projection(&self, group: &str) -> Vec<(&'static str, Curve)> {
        let mean = |row: &Value, projection: &str| -> Option<f64> {
            let of = row[group].as_object()?.iter();
            let values: Vec<f64> = of
                .filter(|(name, _)| name.rsplit('.').next() == Some(projection))
                .filter_map(|(_, v)| v.as_f64())
                .collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let curves = PROJECTIONS.iter().map(|p| (*p, Run::curve(&self.train, |r| mean(r, p))));
        curves.filter(|(_, c)| !c.is_empty()).collect()
    }

    /// Over all matrices of each event: the sum of `of` over the sum of `over`.
    pub fn events(&self, of: &str, over: &str) -> Curve {
        let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for row in &self.topology {
            let Some(step) = row["step"].as_u64() else { continue };
            let sum = sums.entry(step).or_default();
            sum.0 += row[of].as_f64().unwrap_or(0.0);
            sum.1 += row[over].as_f64().unwrap_or(0.0);
        }
        let share = |(step, (of, over)): (u64, (f64, f64))| (step as f64, of / over.max(1.0));
        sums.into_iter().map(share).collect()
    }

    /// Mean over all matrices of each event.
    pub fn event_means(&self, of: &str) -> Curve {
        let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for row in &self.topology {
            let (Some(step), Some(value)) = (row["step"].as_u64(), row[of].as_f64()) else {
                continue;
            };
            let sum = sums.entry(step).or_default();
            *sum = (sum.0 + value, sum.1 + 1.0);
        }
        sums.into_iter().map(|(step, (sum, n))| (step as f64, sum / n)).collect()
    }

    /// The last evaluation.
    pub fn last_evaluation(&self) -> Option<&Value> {
        self.eval.last()
    }

    /// Median of a number of the training rows.
    pub fn median(&self, pointer: &str) -> Option<f64> {
        let mut values: Vec<f64> = self.train(pointer).into_iter().map(|(_, y)| y).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// Updates done.
    pub fn steps(&self) -> u64 {
        let last = |rows: &[Value]| rows.last().and_then(|r| r["step"].as_u64()).unwrap_or(0);
        last(&self.train).max(last(&self.eval))
    }

    /// A key of the configuration, such as "method.name", as text.
    pub fn setting(&self, path: &str) -> String {
        let mut value = None;
        let mut table = Some(&self.config);
        for key in path.split('.') {
            value = table.and_then(|t| t.get(key));
            table = value.and_then(toml::Value::as_table);
        }
        match value {
            Some(toml::Value::String(s)) => s.clone(),
            Some(v) => v.to_string(),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_curves() {
        let text = r#"{"kind":"train","step":1,"loss":4.0,"ocr":{"0.q_proj":0.2,"1.q_proj":0.4,"0.k_proj":0.6},"time":{"tokens_per_s":10.0}}
{"kind":"topology","step":1,"layer":"0.q_proj","nnz":100,"removed":30,"returned":3,"itop":0.2}
{"kind":"topology","step":1,"layer":"0.k_proj","nnz":300,"removed":10,"returned":1,"itop":0.4}
{"kind":"train","step":2,"loss":null,"ocr":{},"time":{"tokens_per_s":30.0}}
{"kind":"eval","step":2,"ppl":50.0}
{"kind":"note","step":2,"text":"resumed"}
{"kind":"train","st"#;
        let run = Run::parse(text);
        assert_eq!(run.train("/loss"), [(1.0, 4.0)]);
        assert_eq!(run.train("/time/tokens_per_s"), [(1.0, 10.0), (2.0, 30.0)]);
        let ocr = run.by_projection("ocr");
        assert_eq!(ocr.iter().map(|(n, _)| *n).collect::<Vec<_>>(), ["q_proj", "k_proj"]);
        assert!((ocr[0].1[0].1 - 0.3).abs() < 1e-12);
        assert_eq!(run.ocr_qk().len(), 1);
        assert_eq!(run.events("removed", "nnz"), [(1.0, 0.1)]);
        assert!((run.event_means("itop")[0].1 - 0.3).abs() < 1e-12);
        assert_eq!((run.steps(), run.notes.len()), (2, 1));
        assert_eq!(run.last_evaluation().unwrap()["ppl"], 50.0);
    }
}
