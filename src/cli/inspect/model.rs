//! Checkpoints: configuration, true bytes, and the topology of every sparse matrix.

use serde_json::{Map, Value, json};

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
    /// Place in [`PROJECTIONS`].
    pub kind: usize,
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
        PROJECTIONS.iter().zip(shapes).enumerate().map(move |(kind, (name, (rows, cols)))| {
            let part = if kind < 4 { "self_attn" } else { "mlp" };
            let (short, full) =
                (format!("{layer}.{name}"), format!("model.layers.{layer}.{part}.{name}"));
            Site { short, full, kind, rows, cols }
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
    let sites = sites(c);
    let mut parameters = 0u64;
    for name in tensors.names().filter(|n| !n.ends_with("_indices")) {
        parameters += tensors.info(name)?.1.iter().product::<usize>() as u64;
    }
    let mut layers = Vec::new();
    let mut degrees: [[Histogram; 2]; 7] = Default::default();
    for site in &sites {
        let mut entry = json!({ "layer": site.short, "out": site.rows, "in": site.cols });
        if let Some(p) = site.links(&tensors)? {
            let of_this = topology(&mut entry, &p, ever_active(&optimizer, site)?);
            for (sum, one) in degrees[site.kind].iter_mut().zip(&of_this) {
                sum.merge(one);
            }
        }
        let low_rank = format!("{}.low_rank.A", site.full);
        if tensors.contains(&low_rank) {
            entry["rank"] = tensors.info(&low_rank)?.1[0].into();
        }
        layers.push(entry);
    }
    let summed = |side: usize| -> Value {
        let of_kind = PROJECTIONS.iter().zip(&degrees).filter(|(_, d)| d[side].count() > 0);
        of_kind
            .map(|(name, d)| (name.to_string(), d[side].json()))
            .collect::<Map<String, Value>>()
            .into()
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
        "weights": weights(&sites, &tensors, &optimizer)?,
        "layers": layers,
        "links_per_output": summed(0),
        "links_per_input": summed(1),
    });
    if verify {
        value["verified"] = check(&tensors, &optimizer)?.into();
    }
    Ok(value)
}

/// One entry per weight: its format and bytes in the file of the weights (values and indices of a CSR
/// matrix together), and what the optimizer's file holds for it (moments, ages, positions ever active).
fn weights(sites: &[Site], tensors: &TensorFile, optimizer: &TensorFile) -> Result<Vec<Value>> {
    const OF_CSR: [&str; 3] = ["values", "crow_indices", "col_indices"];
    let mut all: Map<String, Value> = Map::new();
    for name in tensors.names() {
        let (dtype, shape, bytes) = tensors.info(name)?;
        let csr = name.rsplit_once('.').filter(|(_, last)| OF_CSR.contains(last));
        let weight = csr.map_or(name, |(weight, _)| weight);
        let entry = all.entry(weight).or_insert_with(|| {
            json!({
                "name": weight,
                "dtype": "",
                "csr": csr.is_some(),
                "shape": shape,
                "bytes": 0,
                "optimizer_bytes": 0,
            })
        });
        if let Some((_, "values")) = csr {
            entry["dtype"] = format!("{dtype:?}").into();
            let site =
                sites.iter().find(|s| weight.strip_suffix(".weight") == Some(s.full.as_str()));
            if let Some(site) = site {
                entry["shape"] = json!([site.rows, site.cols]);
            }
        } else if csr.is_none() {
            entry["dtype"] = format!("{dtype:?}").into();
        }
        add(entry, "bytes", bytes);
    }
    for name in optimizer.names() {
        // `.m`, `.v` and `.ages` follow the weight's name, `.ever_active` the short one of a projection.
        let Some((of, _)) = name.rsplit_once('.') else { continue };
        let site = sites.iter().find(|s| s.short == of);
        let weight = site.map_or(of.to_string(), |s| format!("{}.weight", s.full));
        if let Some(entry) = all.get_mut(&weight) {
            add(entry, "optimizer_bytes", optimizer.info(name)?.2);
        }
    }
    let mut all: Vec<Value> = all.into_iter().map(|(_, entry)| entry).collect();
    // Layer 2 before layer 10, which the order of names does not give; what is of no layer first.
    let layer = |w: &Value| w["name"].as_str()?.split('.').nth(2)?.parse::<usize>().ok();
    all.sort_by_key(layer);
    Ok(all)
}

fn add(entry: &mut Value, key: &str, bytes: usize) {
    entry[key] = (entry[key].as_u64().unwrap_or(0) + bytes as u64).into();
}

/// Reads every number of both files; returns what has been found in one sentence.
fn check(tensors: &TensorFile, optimizer: &TensorFile) -> Result<String> {
    let read = |file: &TensorFile, left_out: &str| -> Result<usize> {
        let mut count = 0;
        for name in file.names().filter(|n| !n.ends_with(left_out)) {
            let len = file.info(name)?.1.iter().product();
            count += file.finite(name, len)?.len();
        }
        Ok(count)
    };
    let (weights, moments) = (read(tensors, "_indices")?, read(optimizer, ".ever_active")?);
    Ok(format!(
        "hashes agree, links are sound, {weights} weights and {moments} numbers of the optimizer are \
         finite"
    ))
}

fn ever_active(optimizer: &TensorFile, site: &Site) -> Result<Option<f64>> {
    let name = format!("{}.ever_active", site.short);
    if !optimizer.contains(&name) {
        return Ok(None);
    }
    Itop::from_bytes(site.rows, site.cols, optimizer.raw(&name)?).map(|itop| Some(itop.rate()))
}

/// Adds what the links of a matrix tell; returns the links per output and per input.
fn topology(entry: &mut Value, p: &Pattern, itop: Option<f64>) -> [Histogram; 2] {
    let (outputs, inputs) = p.unlinked();
    let rows = (0..p.rows()).map(|m| p.range(m).len() as u64);
    let columns = p.column_degrees();
    let degrees = [Histogram::of(rows), Histogram::of(columns.into_iter().map(u64::from))];
    entry["links"] = p.nnz().into();
    entry["density"] = number(p.density());
    entry["unlinked_outputs"] = outputs.into();
    entry["unlinked_inputs"] = inputs.into();
    entry["kept_columns_16"] = number(p.kept_columns(16));
    entry["kept_columns_32"] = number(p.kept_columns(32));
    entry["ever_active"] = itop.map_or(Value::Null, number);
    entry["links_per_output"] = degrees[0].json();
    entry["links_per_input"] = degrees[1].json();
    degrees
}
