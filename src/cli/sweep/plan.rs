//! The file of a sweep.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Table;

use crate::config::layers;
use crate::error::{Error, Result};

/// What a sweep does. Paths are relative to the folder the command runs in, except those of data that
/// the sweep prepares itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Data to prepare first.
    #[serde(default)]
    pub prepare: Vec<Prepared>,
    /// Preset of all runs.
    pub preset: Option<String>,
    /// Training data: a folder, or the name of something prepared here.
    pub data: String,
    /// Settings that all runs have in common.
    #[serde(default)]
    pub set: Table,
    /// Further data that finished runs are evaluated on, by name.
    #[serde(default)]
    pub evaluate: BTreeMap<String, String>,
    /// The runs.
    #[serde(rename = "run")]
    pub runs: Vec<Trial>,
}

/// Data made by `chtsl prepare`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// Its name, also of its folder.
    pub name: String,
    /// Arguments of `chtsl prepare` but `--out`; "@name" is the folder of what was prepared before.
    pub arguments: Vec<String>,
}

/// One run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// Its name, also of its folder.
    pub name: String,
    /// Runs of which the best one counts.
    pub group: Option<String>,
    /// Its own settings.
    #[serde(default)]
    pub set: Table,
}

fn safe(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

impl Sweep {
    /// Reads and checks a file: every run must be a valid configuration before the first one starts.
    pub fn load(path: &Path) -> Result<Self> {
        let table = layers::read_file(path)?;
        let wrong = |e: String| Error::Config(format!("{}: {e}", path.display()));
        let sweep: Sweep =
            table.try_into().map_err(|e: toml::de::Error| wrong(e.message().to_string()))?;
        let mut names: Vec<&str> = sweep.runs.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(wrong(format!("two runs are called {:?}", twice[0])));
        }
        let prepared = sweep.prepare.iter().map(|p| p.name.as_str());
        let evaluated = sweep.evaluate.keys().map(String::as_str);
        if let Some(name) =
            names.iter().copied().chain(prepared).chain(evaluated).find(|n| !safe(n))
        {
            return Err(wrong(format!(
                "{name:?} cannot name a folder: use letters, digits, '-', '_' and '.'"
            )));
        }
        for run in &sweep.runs {
            layers::resolve(sweep.preset.as_deref(), None, &run.settings(&sweep))
                .map_err(|e| wrong(format!("run {:?}: {e}", run.name)))?;
        }
        Ok(sweep)
    }
}

/// The folder behind a name: prepared by the sweep, or given.
pub fn data_folder(data: &str, sweep: &Sweep, out: &Path) -> PathBuf {
    match sweep.prepare.iter().find(|p| p.name == data) {
        Some(prepared) => prepared.folder(out),
        None => PathBuf::from(data),
    }
}

impl Prepared {
    /// Where it goes.
    pub fn folder(&self, out: &Path) -> PathBuf {
        out.join("data").join(&self.name)
    }

    /// Arguments of the program.
    pub fn arguments(&self, out: &Path) -> Vec<String> {
        let resolved = |word: &String| match word.strip_prefix('@') {
            Some(inside) => out.join("data").join(inside).to_string_lossy().into_owned(),
            None => word.clone(),
        };
        let mut words = vec!["prepare".to_string()];
        words.extend(self.arguments.iter().map(resolved));
        words.extend(["--out".into(), self.folder(out).to_string_lossy().into_owned()]);
        words
    }
}

impl Trial {
    /// Its settings, the common ones first.
    pub fn settings(&self, sweep: &Sweep) -> Vec<String> {
        let all = layers::overlay(sweep.set.clone(), std::slice::from_ref(&self.set));
        layers::leaves(&all).iter().map(|(path, value)| format!("{path}={value}")).collect()
    }

    /// Arguments of the program.
    pub fn arguments(&self, sweep: &Sweep, out: &Path) -> Vec<String> {
        let folder = out.join("runs").join(&self.name);
        let data = data_folder(&sweep.data, sweep, out);
        let mut words: Vec<String> = vec!["pretrain".into()];
        if let Some(preset) = &sweep.preset {
            words.extend(["--preset".into(), preset.clone()]);
        }
        words.extend(["--data".into(), data.to_string_lossy().into_owned()]);
        words.extend(["--out".into(), folder.to_string_lossy().into_owned()]);
        words.extend(["--resume".into(), "auto".into()]);
        for set in self.settings(sweep) {
            words.extend(["--set".into(), set]);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Sweep> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sweep.toml");
        std::fs::write(&path, text).unwrap();
        Sweep::load(&path)
    }

    const GOOD: &str = r#"
preset = "tiny"
data = "bpe"
[evaluate]
other = "elsewhere/data"
[[prepare]]
name = "bpe"
arguments = ["--input", "a.jsonl", "--train-tokenizer", "300"]
[[prepare]]
name = "again"
arguments = ["--input", "b.jsonl", "--tokenizer", "@bpe/tokenizer.json"]
[set]
train = { steps = 7, warmup = 1 }
[[run]]
name = "dense"
group = "dense"
set = { method.name = "dense", train.lr = 1e-3 }
[[run]]
name = "sparse"
"#;

    #[test]
    fn runs_become_commands() {
        let sweep = load(GOOD).unwrap();
        let out = Path::new("o");
        let words = sweep.runs[0].arguments(&sweep, out).join(" ");
        assert_eq!(
            words,
            "pretrain --preset tiny --data o/data/bpe --out o/runs/dense --resume auto \
             --set train.steps=7 --set train.warmup=1 --set train.lr=0.001 \
             --set method.name=\"dense\""
        );
        let words = sweep.prepare[1].arguments(out).join(" ");
        assert!(words.ends_with("--tokenizer o/data/bpe/tokenizer.json --out o/data/again"));
        assert_eq!(data_folder("elsewhere/data", &sweep, out), Path::new("elsewhere/data"));
    }

    #[test]
    fn mistakes_are_named_before_anything_runs() {
        for (from, to, part) in [
            ("name = \"sparse\"", "name = \"dense\"", "two runs are called"),
            ("name = \"sparse\"", "name = \"../x\"", "cannot name a folder"),
            ("steps = 7", "stepz = 7", "train.stepz"),
            ("preset = \"tiny\"", "presett = \"tiny\"", "presett"),
            ("preset = \"tiny\"", "preset = \"big\"", "unknown preset"),
        ] {
            let e = load(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(e.contains(part) && e.contains("sweep.toml"), "{e}");
        }
    }
}
