//! What has been found, as text for 80 columns; the longest names need a few more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::table::Table;
use crate::cli::say;
use crate::error::Result;

/// What the columns of the table of matrices mean.
const LEGEND: &str = "  density: share of the positions of the sparse branch that are linked
  rank: of the low-rank branch
  unlinked: outputs/inputs without a link; the low-rank branch reaches them all
  k16, k32: share of the inputs that 16 or 32 consecutive outputs are linked to,
    mean over such panels: what a kernel that works on panels must read
  ever: share of the positions that had a link at any time of the run (ITOP)";

/// Prints a shard or a dataset.
pub fn data(value: &Value) -> Result<()> {
    nested(value, 0, Keys::Words)
}

/// Prints a checkpoint.
pub fn checkpoint(v: &Value) -> Result<()> {
    say(format!("checkpoint: {}", text(&v["checkpoint"])))?;
    say(format!("step: {} ({} target tokens seen)", v["step"], v["tokens_seen"]))?;
    say(format!("written by: chtsl {} in {}", text(&v["written_by"]), text(&v["precision"])))?;
    say(format!("parameters: {} (links count once, indices not at all)", v["parameters"]))?;
    say("files:")?;
    for (name, bytes) in v["files"].as_object().into_iter().flatten() {
        say(format!("  {name}: {}", size(bytes)))?;
    }
    say(format!("  in all: {}", size(&v["bytes"])))?;
    if let Some(verified) = v["verified"].as_str() {
        say(format!("verified: {verified}"))?;
    }
    say("config:")?;
    nested(&v["config"], 1, Keys::AsTheyAre)?;
    weights(&v["weights"])?;
    matrices(&v["layers"])?;
    degrees("links per output: outputs by their number of links", &v["links_per_output"])?;
    degrees("links per input: inputs by their number of links", &v["links_per_input"])?;
    for picture in v["pictures"].as_array().into_iter().flatten() {
        say(format!("picture: {}", text(picture)))?;
    }
    Ok(())
}

/// A blank line, a title and a table.
fn section(title: &str, table: &Table) -> Result<()> {
    say(format!("\n{title}"))?;
    table.lines().iter().try_for_each(say)
}

fn weights(list: &Value) -> Result<()> {
    let mut table = Table::new(&["name", "form", "out x in", "bytes", "moments"]);
    let mut types = BTreeSet::new();
    for w in list.as_array().into_iter().flatten() {
        let shape: Vec<String> =
            w["shape"].as_array().into_iter().flatten().map(Value::to_string).collect();
        types.insert(text(&w["dtype"]));
        table.row(vec![
            text(&w["name"]),
            if w["csr"] == true { "CSR" } else { "" }.into(),
            shape.join("x"),
            size(&w["bytes"]),
            size(&w["optimizer_bytes"]),
        ]);
    }
    let types: Vec<String> = types.into_iter().collect();
    let title = format!(
        "weights in {}; bytes: CSR with its indices; moments: with ages, positions ever active",
        types.join(", ")
    );
    section(&title, &table)
}

fn matrices(list: &Value) -> Result<()> {
    let mut table = Table::new(&[
        "matrix", "out x in", "links", "density", "rank", "unlinked", "k16", "k32", "ever",
    ]);
    let (mut sparse, mut branches) = (false, false);
    for m in list.as_array().into_iter().flatten() {
        let cell = |key: &str| if m[key].is_null() { String::new() } else { m[key].to_string() };
        let share = |key: &str, digits: usize| {
            m[key].as_f64().map_or(String::new(), |x| format!("{x:.digits$}"))
        };
        let unlinked = match m["links"].is_null() {
            true => String::new(),
            false => format!("{}/{}", m["unlinked_outputs"], m["unlinked_inputs"]),
        };
        sparse |= !m["links"].is_null();
        branches |= sparse || !m["rank"].is_null();
        table.row(vec![
            text(&m["layer"]),
            format!("{}x{}", m["out"], m["in"]),
            cell("links"),
            share("density", 4),
            cell("rank"),
            unlinked,
            share("kept_columns_16", 2),
            share("kept_columns_32", 2),
            share("ever_active", 3),
        ]);
    }
    // Shapes alone stand with the weights already.
    if branches {
        section("matrices", &table)?;
    }
    if sparse { say(LEGEND) } else { Ok(()) }
}

/// One line per projection, one column per bin that any of them has; nothing without links.
fn degrees(title: &str, by_projection: &Value) -> Result<()> {
    let all = || by_projection.as_object().into_iter().flatten();
    let mut bins = BTreeMap::new();
    for name in all().filter_map(|(_, h)| h["bins"].as_object()).flat_map(|b| b.keys()) {
        // In order of their first number: 4 of "4-7".
        let first = name.split('-').next().and_then(|n| n.parse::<u64>().ok());
        bins.insert(first, name.as_str());
    }
    if bins.is_empty() {
        return Ok(());
    }
    let fixed = ["all layers", "least", "mean", "most"];
    let heading: Vec<&str> = fixed.into_iter().chain(bins.values().copied()).collect();
    let mut table = Table::new(&heading);
    for (name, h) in all() {
        let mean = h["mean"].as_f64().unwrap_or(f64::NAN);
        let (least, most) = (h["least"].to_string(), h["most"].to_string());
        let mut row = vec![name.clone(), least, format!("{mean:.1}"), most];
        row.extend(bins.values().map(|bin| h["bins"][*bin].as_u64().unwrap_or(0).to_string()));
        table.row(row);
    }
    section(title, &table)
}

/// How keys are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Without underscores.
    Words,
    /// As `--set` takes them.
    AsTheyAre,
}

/// Nested values as indented lines.
fn nested(value: &Value, depth: usize, keys: Keys) -> Result<()> {
    let pad = "  ".repeat(depth);
    for (key, value) in value.as_object().into_iter().flatten() {
        let name = if keys == Keys::Words { key.replace('_', " ") } else { key.clone() };
        match value {
            Value::Object(h) if h.contains_key("bins") => {
                let mean = h["mean"].as_f64().unwrap_or(f64::NAN);
                say(format!("{pad}{name}: {} to {}, mean {mean:.1}", h["least"], h["most"]))?;
                let mut table = Table::new(&["tokens", "documents"]);
                for (bin, n) in h["bins"].as_object().into_iter().flatten() {
                    table.row(vec![bin.clone(), n.to_string()]);
                }
                table.lines().iter().try_for_each(|line| say(format!("{pad}  {line}")))?;
            }
            Value::Object(_) => {
                say(format!("{pad}{name}:"))?;
                nested(value, depth + 1, keys)?;
            }
            Value::Array(items) if items.iter().any(Value::is_string) => {
                say(format!("{pad}{name}:"))?;
                items.iter().try_for_each(|item| say(format!("{pad}  {}", text(item))))?;
            }
            Value::Null if key == "first_texts" => {
                say(format!("{pad}{name}: with --tokenizer FILE only"))?;
            }
            Value::Null => {
                let absent = if key == "val" { "none" } else { "not told" };
                say(format!("{pad}{name}: {absent}"))?;
            }
            Value::Number(n) if n.is_f64() && keys == Keys::Words => {
                say(format!("{pad}{name}: {:.3}", n.as_f64().unwrap_or(f64::NAN)))?;
            }
            value => say(format!("{pad}{name}: {}", text(value)))?,
        }
    }
    Ok(())
}

/// A string without quotes, anything else as JSON.
fn text(v: &Value) -> String {
    v.as_str().map_or_else(|| v.to_string(), String::from)
}

/// Bytes with a unit.
fn size(v: &Value) -> String {
    match v.as_f64().unwrap_or(f64::NAN) {
        b if b < 1e3 => format!("{b} B"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b => format!("{:.1} MB", b / 1e6),
    }
}
