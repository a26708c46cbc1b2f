//! Merging of configuration layers and helpful errors for unknown keys.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{Config, DataConfig, MethodConfig, ModelConfig, TopologyConfig, TrainConfig};
use crate::error::{Error, Result};
use crate::files::{FileKind, read_small};

const PRESETS: &str = include_str!("../../configs/presets.toml");
const METHODS: &str = include_str!("../../configs/methods.toml");
const RECIPES: &str = include_str!("../../configs/recipes.toml");
const SECTIONS: [&str; 5] = ["model", "method", "topology", "train", "data"];

/// " (did you mean \"x\"?)" for the candidate nearest to `name`, or nothing.
pub fn suggestion<S: AsRef<str>>(name: &str, candidates: &[S]) -> String {
    nearest(name, candidates.iter().map(|c| (c.as_ref(), c.as_ref())))
}

/// The same over candidates that are compared by the first name and shown by the second.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    candidates
        .map(|(compared, shown)| (strsim::jaro_winkler(name, compared), shown))
        .filter(|(score, _)| *score > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, shown)| format!(" (did you mean {shown:?}?)"))
        .unwrap_or_default()
}

/// Overlays `top` on `base`, table by table.
fn merge(base: &mut Table, top: &Table) {
    for (key, value) in top {
        match (base.get_mut(key), value) {
            (Some(Value::Table(b)), Value::Table(t)) => merge(b, t),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// `base` with `tops` overlaid in order.
pub fn overlay(mut base: Table, tops: &[Table]) -> Table {
    for top in tops {
        merge(&mut base, top);
    }
    base
}

/// Path ("train.lr") and value of everything in `table` that is not a table itself.
pub fn leaves(table: &Table) -> Vec<(String, Value)> {
    let below = |(key, value): (&String, &Value)| match value {
        Value::Table(t) => {
            leaves(t).into_iter().map(|(path, v)| (format!("{key}.{path}"), v)).collect()
        }
        v => vec![(key.clone(), v.clone())],
    };
    table.iter().flat_map(below).collect()
}

fn builtin(text: &str) -> Table {
    text.parse().expect("a file under configs/ is not TOML")
}

/// Names of the presets, smallest first.
pub fn preset_names() -> Vec<String> {
    builtin(PRESETS).keys().cloned().collect()
}

/// Names of the methods.
pub fn method_names() -> Vec<String> {
    builtin(METHODS).keys().cloned().collect()
}

fn lookup(table: &Table, kind: &str, name: &str) -> Result<Table> {
    match table.get(name) {
        Some(Value::Table(t)) => Ok(t.clone()),
        _ => {
            let names: Vec<&str> = table.keys().map(String::as_str).collect();
            Err(Error::Config(format!(
                "unknown {kind} {name:?}{}; there are {}",
                suggestion(name, &names),
                names.join(", ")
            )))
        }
    }
}

/// One `--set key.path=value` as a table. The value is TOML, or a plain string if it is not.
pub fn parse_set(text: &str) -> Result<Table> {
    let Some((path, raw)) = text.split_once('=') else {
        return Err(Error::Config(format!(
            "--set {text:?}: expected key.path=value, for example train.lr=1e-3"
        )));
    };
    let value = format!("v = {raw}")
        .parse::<Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| Value::String(raw.to_string()));
    let keys: Vec<&str> = path.trim().split('.').collect();
    let mut table = Table::new();
    table.insert(keys[keys.len() - 1].to_string(), value);
    for key in keys[..keys.len() - 1].iter().rev() {
        let mut outer = Table::new();
        outer.insert(key.to_string(), Value::Table(table));
        table = outer;
    }
    Ok(table)
}

/// Reads a TOML file as a layer.
pub fn read_file(path: &Path) -> Result<Table> {
    let text = read_small(path, FileKind::Config)?;
    table(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
}

/// A TOML text as a table; the error says in which line it stops being one. The line itself, which the
/// library would quote, may be of any length.
pub fn table(text: &str) -> std::result::Result<Table, String> {
    text.parse::<Table>().map_err(|e| {
        let before = e.span().and_then(|s| text.get(..s.start)).unwrap_or_default();
        let (line, column) = (before.matches('\n').count(), before.chars().rev());
        let column = column.take_while(|c| *c != '\n').count();
        let message: String = one_line(e.message()).chars().take(300).collect();
        format!("not valid TOML at line {}, column {}: {message}", line + 1, column + 1)
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Merges preset, file and `--set` layers over recipe and method defaults, and checks the result.
pub fn resolve(preset: Option<&str>, file: Option<&Path>, sets: &[String]) -> Result<Config> {
    let mut base = match preset {
        Some(name) => lookup(&builtin(PRESETS), "preset", name)?,
        None => Table::new(),
    };
    let mut user = Table::new();
    if let Some(path) = file {
        merge(&mut user, &read_file(path)?);
    }
    for set in sets {
        merge(&mut user, &parse_set(set)?);
    }
    // Any two of the budget's three keys determine the third: two of the user's own replace the
    // preset's.
    let budget = ["total_sparsity", "connectivity_sparsity", "rank"];
    let given = budget.iter().filter(|k| user.get("method").and_then(|m| m.get(**k)).is_some());
    if given.count() >= 2
        && let Some(Value::Table(method)) = base.get_mut("method")
    {
        budget.iter().for_each(|k| {
            method.remove(*k);
        });
    }
    merge(&mut base, &user);
    resolve_table(base)
}

/// The same from one table of user keys.
pub fn resolve_table(user: Table) -> Result<Config> {
    let text = |section: &str, key: &str, default: &str| -> Result<String> {
        match user.get(section).and_then(|s| s.get(key)) {
            None => Ok(default.to_string()),
            Some(Value::String(s)) => Ok(s.clone()),
            Some(other) => {
                Err(Error::Config(format!("{section}.{key} = {other}: expected a string")))
            }
        }
    };
    let recipe = text("train", "recipe", "tuned")?;
    let method = text("method", "name", "chtsl")?;
    let mut table = lookup(&builtin(RECIPES), "recipe (train.recipe)", &recipe)?;
    let mut row = lookup(&builtin(METHODS), "method (method.name)", &method)?;
    let overlays = row.remove("recipe");
    merge(&mut table, &row);
    if let Some(Value::Table(by_recipe)) = overlays
        && let Some(Value::Table(overlay)) = by_recipe.get(&recipe)
    {
        merge(&mut table, overlay);
    }
    merge(&mut table, &user);
    let config = parse(table)?;
    config.validate()?;
    Ok(config)
}

/// A complete configuration as saved beside a run; nothing is filled in but struct defaults.
pub fn parse(mut table: Table) -> Result<Config> {
    let config = Config {
        model: section(&mut table, "model")?,
        method: section(&mut table, "method")?,
        topology: section(&mut table, "topology")?,
        train: section(&mut table, "train")?,
        data: section(&mut table, "data")?,
    };
    let Some((key, value)) = table.iter().next() else { return Ok(config) };
    let there = format!("there are {}", SECTIONS.join(", "));
    if value.is_table() {
        let near = suggestion(key, &SECTIONS);
        return Err(Error::Config(format!("unknown configuration section {key:?}{near}; {there}")));
    }
    // Rather a key without its section than a section without its keys.
    let paths = key_paths();
    let near = nearest(key, paths.iter().map(|(leaf, path)| (leaf.as_str(), path.as_str())));
    Err(Error::Config(format!("configuration key {key:?} has no section{near}; {there}")))
}

/// Name and path ("lr", "train.lr") of every key.
fn key_paths() -> Vec<(String, String)> {
    let keys = [
        keys::<ModelConfig>(),
        keys::<MethodConfig>(),
        keys::<TopologyConfig>(),
        keys::<TrainConfig>(),
        keys::<DataConfig>(),
    ];
    let paths = |(section, keys): (&str, Vec<String>)| -> Vec<(String, String)> {
        keys.into_iter().map(|k| (k.clone(), format!("{section}.{k}"))).collect()
    };
    SECTIONS.into_iter().zip(keys).flat_map(paths).collect()
}

/// Keys of a section, unset ones too: those that serde names when it meets one that cannot be.
fn keys<T: DeserializeOwned>() -> Vec<String> {
    let impossible = Table::from_iter([(String::new(), Value::Boolean(true))]);
    let refused = Value::Table(impossible).try_into::<T>().err();
    let message = refused.map_or(String::new(), |e| e.message().to_string());
    quoted(&message).iter().skip(1).map(|k| k.to_string()).collect()
}

/// What serde puts between back-quotes: an unknown field, then all known ones.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn section<T: DeserializeOwned + Default>(table: &mut Table, name: &str) -> Result<T> {
    let Some(value) = table.remove(name) else { return Ok(T::default()) };
    value.try_into().map_err(|e: toml::de::Error| {
        let message = e.message().to_string();
        let quoted = quoted(&message);
        if message.starts_with("unknown field") && !quoted.is_empty() {
            let paths = key_paths();
            let near = match paths.iter().find(|(key, _)| key == quoted[0]) {
                Some((_, elsewhere)) => format!(" (did you mean {elsewhere:?}?)"),
                None => suggestion(quoted[0], &quoted[1..]),
            };
            Error::Config(format!(
                "unknown configuration key {name}.{}{near}; {name} has {}",
                quoted[0],
                quoted[1..].join(", ")
            ))
        } else {
            Error::Config(format!("configuration section {name}: {}", one_line(&e.to_string())))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_method_and_recipe_resolves() {
        for preset in preset_names() {
            for method in method_names() {
                for recipe in ["tuned", "paper"] {
                    let sets = [
                        format!("method.name={method}"),
                        format!("train.recipe={recipe}"),
                        "method.total_sparsity=0.8".to_string(),
                    ];
                    let c = resolve(Some(&preset), None, &sets)
                        .unwrap_or_else(|e| panic!("{preset} {method} {recipe}: {e}"));
                    assert_eq!(c.method.name, method);
                }
            }
        }
    }

    #[test]
    fn published_parameter_counts() {
        // Parameter totals of the shared configuration files of the literature (LLaMA 9M to 1B).
        for (name, projections, ends, norms) in [
            ("9m", 802_816, 8_192_000, 1_152),
            ("60m", 25_296_896, 32_768_000, 8_704),
            ("130m", 84_934_656, 49_152_000, 19_200),
            ("350m", 302_383_104, 65_536_000, 50_176),
            ("1b", 1_207_910_400, 131_072_000, 100_352),
        ] {
            let c = resolve(Some(name), None, &[]).unwrap();
            assert_eq!(c.model.dense_parameters(), (projections, ends, norms), "{name}");
        }
    }

    #[test]
    fn unknown_keys_name_their_neighbour() {
        let e = resolve(None, None, &["train.warmpu=3".into()]).unwrap_err().to_string();
        assert!(e.contains("train.warmpu") && e.contains("did you mean \"warmup\""), "{e}");
        let e = resolve(None, None, &["trian.lr=3".into()]).unwrap_err().to_string();
        assert!(e.contains("did you mean \"train\""), "{e}");
        // A key without its section, with a mistake in it too, or in another section.
        let told = |set: &str| resolve(None, None, &[set.into()]).unwrap_err().to_string();
        for (set, meant) in [
            ("recipe=paper", "train.recipe"),
            ("warmpu=3", "train.warmup"),
            ("total_sparsity=0.9", "method.total_sparsity"),
            ("layout=doc_pad", "data.layout"),
            ("model.batch=8", "train.batch"),
        ] {
            let e = told(set);
            assert!(e.contains(&format!("did you mean {meant:?}")), "{set}: {e}");
        }
        let e = resolve(Some("60n"), None, &[]).unwrap_err().to_string();
        assert!(e.contains("did you mean \"60m\""), "{e}");
        let e = resolve(None, None, &["method.name=chts1".into()]).unwrap_err().to_string();
        assert!(e.contains("did you mean"), "{e}");
        let e = resolve(None, None, &["train.steps=\"many\"".into()]).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        assert!(resolve(None, None, &["train.steps".into()]).is_err());
    }

    #[test]
    fn a_saved_configuration_reads_back_equal() {
        let c = resolve(Some("60m"), None, &["method.total_sparsity=0.8".into()]).unwrap();
        let text = toml::to_string(&c).unwrap();
        assert_eq!(parse(text.parse().unwrap()).unwrap(), c);
    }
}
