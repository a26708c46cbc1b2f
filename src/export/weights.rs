//! The tensors of a Hugging Face folder, in one file or several, as a source of parameters.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::OWN;
use crate::checkpoint::TensorFile;
use crate::error::{Error, Result};
use crate::files::{FileKind, is_plain_name, read_small};
use crate::layer::{ParamKind, ParamSource};
use crate::sparse::Pattern;

const ONE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The weights of a folder.
pub(super) struct Weights {
    folder: std::path::PathBuf,
    files: Vec<TensorFile>,
    /// File of each tensor.
    place: BTreeMap<String, usize>,
    /// Links of sparse weights that are stored as matrices.
    links: Option<TensorFile>,
    used: BTreeSet<String>,
}

impl Weights {
    /// Opens the weights in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let names = if folder.join(ONE).exists() {
            vec![ONE.to_string()]
        } else if folder.join(INDEX).exists() {
            shards(&folder.join(INDEX))?
        } else {
            let pickled = folder.join("pytorch_model.bin").exists();
            return Err(Error::checkpoint(
                folder,
                if pickled {
                    "holds pickled weights only; save it again as safetensors \
                     (save_pretrained with safe_serialization=True)"
                } else {
                    "has neither model.safetensors nor model.safetensors.index.json; give the \
                     folder of a model in Hugging Face's layout"
                },
            ));
        };
        let mut weights = Weights {
            folder: folder.into(),
            files: Vec::new(),
            place: BTreeMap::new(),
            links: None,
            used: BTreeSet::new(),
        };
        for name in names {
            let path = folder.join(&name);
            let file = TensorFile::open(&path)?;
            for tensor in file.names() {
                if weights.place.insert(tensor.into(), weights.files.len()).is_some() {
                    let text = format!("tensor {tensor} is in another file of the folder too");
                    return Err(Error::checkpoint(&path, text));
                }
            }
            weights.files.push(file);
        }
        let path = folder.join(OWN).join("links.safetensors");
        if path.exists() {
            weights.links = Some(TensorFile::open(&path)?);
        }
        Ok(weights)
    }

    /// Whether links are stored beside matrices.
    pub fn has_links(&self) -> bool {
        self.links.is_some()
    }

    fn file(&mut self, name: &str) -> Result<&mut TensorFile> {
        self.used.insert(name.to_string());
        match self.place.get(name) {
            Some(i) => Ok(&mut self.files[*i]),
            None => Err(Error::checkpoint(
                &self.folder,
                format!("tensor {name}, which config.json calls for, is in no file of the folder"),
            )),
        }
    }

    /// Fails if the files hold a tensor that no parameter asked for: the architecture is another one.
    pub fn check_all_used(&self) -> Result<()> {
        let ours = |name: &&String| {
            // Old folders store the rotary frequencies, which follow from the configuration.
            !self.used.contains(*name) && !name.ends_with(".rotary_emb.inv_freq")
        };
        let rest: Vec<&String> = self.place.keys().filter(ours).collect();
        match rest.first() {
            None => Ok(()),
            Some(name) => Err(Error::checkpoint(
                &self.folder,
                format!(
                    "has {} tensors that this architecture has no place for, such as {name}",
                    rest.len()
                ),
            )),
        }
    }
}

/// Files named by an index, each once.
fn shards(index: &Path) -> Result<Vec<String>> {
    let value: Value = serde_json::from_str(&read_small(index, FileKind::Checkpoint)?)
        .map_err(|e| Error::checkpoint(index, format!("not valid JSON: {e}")))?;
    let Some(map) = value["weight_map"].as_object() else {
        return Err(Error::checkpoint(index, "has no object weight_map"));
    };
    let mut files = BTreeSet::new();
    for file in map.values() {
        let name = file.as_str().unwrap_or_default();
        if !(is_plain_name(name) && name.ends_with(".safetensors")) {
            return Err(Error::checkpoint(index, format!("names {file}, not a plain file name")));
        }
        files.insert(name.to_string());
    }
    Ok(files.into_iter().collect())
}

impl ParamSource for Weights {
    fn dense(&mut self, name: &str, shape: [usize; 2], kind: ParamKind) -> Result<Vec<f32>> {
        self.file(name)?.dense(name, shape, kind)
    }

    fn sparse(&mut self, name: &str, rows: usize, cols: usize) -> Result<(Pattern, Vec<f32>)> {
        let Some(links) = &self.links else {
            // One file, unless somebody has split the folder: then the tensors are apart.
            let indices = |file: &TensorFile, part: &str| file.indices(&format!("{name}{part}"));
            let crow = indices(self.file(&format!("{name}.crow_indices"))?, ".crow_indices")?;
            let col = indices(self.file(&format!("{name}.col_indices"))?, ".col_indices")?;
            let pattern = Pattern::new(rows, cols, crow, col)
                .map_err(|e| Error::checkpoint(&self.folder, format!("{name}: {e}")))?;
            let values = format!("{name}.values");
            let values = self.file(&values)?.finite(&values, pattern.nnz())?;
            return Ok((pattern, values));
        };
        let pattern = links.pattern(name, rows, cols)?;
        let matrix = self.dense(name, [rows, cols], ParamKind::Dense)?;
        let values: Vec<f32> = pattern.flat().iter().map(|&i| matrix[i as usize]).collect();
        let count = |list: &[f32]| list.iter().filter(|x| **x != 0.0).count();
        if count(&matrix) != count(&values) {
            return Err(Error::checkpoint(
                &self.folder,
                format!(
                    "{name} has weights outside the links in {OWN}/links.safetensors, as after \
                     training elsewhere; remove {OWN}/ to import full matrices"
                ),
            ));
        }
        Ok((pattern, values))
    }
}
