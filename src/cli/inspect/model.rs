//! Checkpoints: configuration, true bytes, and the topology of every sparse matrix.

use serde_json::{Value, json};

use super::histogram::Histogram;
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::config::PROJECTIONS;
use crate::error::Result;
use crate::metrics::number;
use crate::sparse::Pattern;
use crate::sparse::budget::projection_shapes;
use crate::topology::Itop;

/// A projection of a checkpoint.
pub struct Site {
    /// "0.q_proj".
    pub short: String,
    /// Name of its tensors, without ".weight".
    pub full: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// All projections in order.
pub fn sites(c: &Checkpoint) -> Vec<Site> {
    let m = &c.config.model;
    let shapes = projection_shapes(m.hidden, m.intermediate);
    let of = |layer: usize| {
        PROJECTIONS.iter().zip(shapes).enumerate().map(move |(i, (name, (rows, cols)))| {
            let part = if i < 4 { "self_attn" } else { "mlp" };
            let (short, full) =
                (format!("{layer}.{name}"), format!("model.layers.{layer}.{part}.{name}"));
            Site { short, full, rows, cols }
        })
    };
    (0..m.layers).flat_map(of).collect()
}

impl Site {
    /// Links of its sparse branch, if it has one.
    pub fn links(&self, tensors: &TensorFile) -> Result<Option<Pattern>> {
        let weight = format!("{}.weight", self.full);
        if !tensors.contains(&format!("{weight}.values")) {
            return Ok(None);
        }
        tensors.pattern(&weight, self.rows, self.cols).map(Some)
    }
}

/// The checkpoint as a JSON object; hashes have been compared when it was opened, `verify` also reads
/// every tensor.
pub fn describe(c: &Checkpoint, verify: bool) -> Result<Value> {
    let tensors = c.model()?;
    let optimizer = c.optimizer()?;
    let mut parameters = 0u64;
    for name in tensors.names().filter(|n| !n.ends_with("_indices")) {
        parameters += tensors.info(name)?.1.iter().product::<usize>() as u64;
    }
    let mut layers = Vec::new();
    for site in sites(c) {
        let mut entry = json!({ "layer": site.short, "out": site.rows, "in": site.cols });
        if let Some(p) = site.links(&tensors)? {
            topology(&mut entry, &p, ever_active(&optimizer, &site)?);
        }
        let low_rank = format!("{}.low_rank.A", site.full);
        if tensors.contains(&low_rank) {
            entry["rank"] = tensors.info(&low_rank)?.1[0].into();
        }
        layers.push(entry);
    }
    let sizes = |file: &TensorFile| -> Result<Value> {
        let mut map = serde_json::Map::new();
        for name in file.names() {
            let (dtype, shape, bytes) = file.info(name)?;
            map.insert(
                name.into(),
                json!({"dtype": format!("{dtype:?}"), "shape": shape, "bytes": bytes}),
            );
        }
        Ok(map.into())
    };
    let files: std::collections::BTreeMap<_, _> =
        c.manifest.files.iter().map(|(n, f)| (n.clone(), f.bytes)).collect();
    let config = toml::Table::try_from(&c.config).expect("plain data");
    let mut value = json!({
        "checkpoint": c.path.display().to_string(),
        "step": c.state.step,
        "tokens_seen": c.state.tokens,
        "written_by": c.manifest.program,
        "precision": c.state.precision,
        "parameters": parameters,
        "files": files,
        "bytes": files.values().sum::<u64>(),
        "config": serde_json::to_value(config).expect("plain data"),
        "layers": layers,
    });
    if verify {
        value["tensors"] = json!({ "model": sizes(&tensors)?, "optimizer": sizes(&optimizer)? });
        value["verified"] = check(&tensors)?.into();
    }
    Ok(value)
}

/// Reads every number; returns what has been found in one sentence.
fn check(tensors: &TensorFile) -> Result<String> {
    let mut count = 0;
    for name in tensors.names().filter(|n| !n.ends_with("_indices")) {
        let len = tensors.info(name)?.1.iter().product();
        count += tensors.finite(name, len)?.len();
    }
    Ok(format!("hashes agree, links are sound, {count} weights are finite"))
}

fn ever_active(optimizer: &TensorFile, site: &Site) -> Result<Option<f64>> {
    let name = format!("{}.ever_active", site.short);
    if !optimizer.contains(&name) {
        return Ok(None);
    }
    Itop::from_bytes(site.rows, site.cols, optimizer.raw(&name)?).map(|itop| Some(itop.rate()))
}

fn topology(entry: &mut Value, p: &Pattern, itop: Option<f64>) {
    let (outputs, inputs) = p.unlinked();
    let rows = (0..p.rows()).map(|m| p.range(m).len() as u64);
    let columns = p.column_degrees();
    entry["links"] = p.nnz().into();
    entry["density"] = number(p.density());
    entry["unlinked_outputs"] = outputs.into();
    entry["unlinked_inputs"] = inputs.into();
    entry["kept_columns_16"] = number(p.kept_columns(16));
    entry["kept_columns_32"] = number(p.kept_columns(32));
    entry["ever_active"] = itop.map_or(Value::Null, number);
    entry["links_per_output"] = Histogram::of(rows).json();
    entry["links_per_input"] = Histogram::of(columns.into_iter().map(u64::from)).json();
}
