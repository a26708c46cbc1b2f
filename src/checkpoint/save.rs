//! Writing a checkpoint.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use safetensors::{Dtype, SafeTensorError, View};

use super::folder::{CHECKPOINTS, FileEntry, MANIFEST, Manifest, hash_file, list, name};
use super::state::{FORMAT, State};
use crate::backend::Backend;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::{self, sync_parent, write_synced};
use crate::layer::ParamRef;
use crate::model::Llama;
use crate::topology::Itop;

/// A tensor ready to be written.
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn floats(data: &[f32], shape: Vec<usize>, bf16: bool) -> Tensor {
    if bf16 {
        let bytes = data.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        return Tensor { dtype: Dtype::BF16, shape, bytes };
    }
    let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    Tensor { dtype: Dtype::F32, shape, bytes }
}

fn indices(data: &[u32]) -> Tensor {
    let bytes = data.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect();
    Tensor { dtype: Dtype::I32, shape: vec![data.len()], bytes }
}

type Tensors = Vec<(String, Tensor)>;

/// `data`, unless there is a number in it that is none: such a model cannot be gone on with.
fn finite(name: &str, suffix: &str, data: Vec<f32>, step: u64) -> Result<Vec<f32>> {
    match data.iter().position(|x| !x.is_finite()) {
        None => Ok(data),
        Some(i) => Err(Error::Diverged {
            step,
            message: format!(
                "{name}{suffix} holds {} at {i}, so no checkpoint is written; resume from the last \
                 one with a lower train.lr or with train.clip",
                data[i]
            ),
        }),
    }
}

/// Weights (with links) and optimizer state of one parameter.
fn collect<B: Backend>(
    backend: &B,
    p: &ParamRef<B>,
    step: u64,
    bf16: bool,
    model: &mut Tensors,
    optim: &mut Tensors,
) -> Result<()> {
    let values = finite(p.name, "", backend.read(p.values)?, step)?;
    let put = |to: &mut Tensors, suffix: &str, data: &[f32], bf16: bool| {
        let shape = match p.pattern {
            Some(_) => vec![data.len()],
            None if p.shape[0] == 1 => vec![p.shape[1]],
            None => p.shape.to_vec(),
        };
        to.push((format!("{}{suffix}", p.name), floats(data, shape, bf16)));
    };
    match p.pattern {
        Some(pattern) => {
            put(model, ".values", &values, bf16);
            model.push((format!("{}.crow_indices", p.name), indices(pattern.row_offsets())));
            model.push((format!("{}.col_indices", p.name), indices(pattern.column_indices())));
        }
        None => put(model, "", &values, bf16),
    }
    if backend.len(p.m) != values.len() {
        return Ok(()); // a model that is not trained here has no moments
    }
    put(optim, ".m", &finite(p.name, ".m", backend.read(p.m)?, step)?, bf16);
    put(optim, ".v", &finite(p.name, ".v", backend.read(p.v)?, step)?, bf16);
    if let Some(ages) = &p.ages {
        put(optim, ".ages", &backend.read(ages)?, false);
    }
    Ok(())
}

fn write_tensors(path: &Path, tensors: &Tensors) -> Result<()> {
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    // The library makes its file readable by its owner alone.
    let permissions =
        files::create(path)?.metadata().map_err(Error::io("look at", path))?.permissions();
    let views = tensors.iter().map(|(n, t)| (n.as_str(), t));
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|e| match e {
        SafeTensorError::IoError(e) => Error::io("write", path)(e),
        other => Error::io("write", path)(std::io::Error::other(other)),
    })?;
    let file = std::fs::File::options().write(true).open(path).map_err(Error::io("open", path))?;
    file.set_permissions(permissions).map_err(Error::io("set the permissions of", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// The error of a full disk together with what is needed (0: not known yet) and what is free.
fn with_room(e: Error, dir: &Path, need: u64) -> Error {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match e {
        Error::Io { action, path, source }
            if need > 0 && matches!(source.kind(), StorageFull | QuotaExceeded) =>
        {
            let free = match files::free_space(dir) {
                Ok(Some(free)) => format!(", {:.1} MB are free", free as f64 / 1e6),
                _ => String::new(),
            };
            let text = format!("{source}; a checkpoint takes {:.1} MB{free}", need as f64 / 1e6);
            Error::Io { action, path, source: std::io::Error::new(source.kind(), text) }
        }
        other => other,
    }
}

/// Staging folder of this process for `step`.
fn staging(dir: &Path, step: u64) -> PathBuf {
    dir.join(format!(".{}.tmp-{}", name(step), std::process::id()))
}

/// Removes staging folders of processes that died. Only while holding the run's lock.
pub fn remove_stale_staging(run: &Path) -> Result<()> {
    let dir = run.join(CHECKPOINTS);
    if !dir.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
        let path = entry.map_err(Error::io("read", &dir))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.starts_with(".step-") && (file.contains(".tmp-") || file.ends_with(".old")) {
            std::fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Writes the checkpoint after `state.step` updates and prunes to the newest `keep`. Returns its
/// folder; one that exists already is left as it is.
///
/// Errors: [`Error::Diverged`] when a weight or moment is not finite, and those of writing; nothing is
/// left behind.
#[allow(clippy::too_many_arguments)]
pub fn save<B: Backend>(
    backend: &B,
    run: &Path,
    config: &Config,
    model: &mut Llama<B>,
    itop: &[(String, Itop)],
    state: &State,
    tokenizer: Option<&[u8]>,
    keep: usize,
) -> Result<PathBuf> {
    let dir = run.join(CHECKPOINTS);
    files::create_folder(&dir)?;
    let target = dir.join(name(state.step));
    if target.exists() {
        if super::Checkpoint::open(&target).is_ok() {
            return Ok(target);
        }
        // A damaged one of the same step makes way for the good one.
        let aside = dir.join(format!(".{}.old", name(state.step)));
        std::fs::rename(&target, &aside).map_err(Error::io("rename", &target))?;
        std::fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
    }
    let started = Instant::now();
    let stage = staging(&dir, state.step);
    let mut need = 0;
    let written = write_all(backend, &stage, config, model, itop, state, tokenizer, &mut need)
        .and_then(|()| std::fs::rename(&stage, &target).map_err(Error::io("rename", &target)));
    if let Err(e) = written {
        // What is half written helps nobody; the error that matters is the first.
        let _ = std::fs::remove_dir_all(&stage);
        return Err(with_room(e, &dir, need));
    }
    sync_parent(&target)?;
    tracing::debug!(
        "step {}: a checkpoint of {:.1} MB written and synced in {:.2} s",
        state.step,
        size(&target) as f64 / 1e6,
        started.elapsed().as_secs_f64()
    );
    prune(run, keep)?;
    Ok(target)
}

/// Bytes of the files in a folder, as far as they can be looked at.
fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum()
}

/// Writes the files of a checkpoint into `stage`; `need` becomes the bytes of its tensors.
#[allow(clippy::too_many_arguments)]
fn write_all<B: Backend>(
    backend: &B,
    stage: &Path,
    config: &Config,
    model: &mut Llama<B>,
    itop: &[(String, Itop)],
    state: &State,
    tokenizer: Option<&[u8]>,
    need: &mut u64,
) -> Result<()> {
    if stage.exists() {
        std::fs::remove_dir_all(stage).map_err(Error::io("remove", stage))?;
    }
    std::fs::create_dir(stage).map_err(Error::io("create", stage))?;
    let bf16 = state.precision == "bf16_pure";
    let (mut weights, mut optim) = (Vec::new(), Vec::new());
    model.visit(&mut |p| collect(backend, &p, state.step, bf16, &mut weights, &mut optim))?;
    for (name, itop) in itop {
        let bytes = itop.to_bytes();
        let tensor = Tensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes };
        optim.push((format!("{name}.ever_active"), tensor));
    }
    *need = weights.iter().chain(&optim).map(|(_, t)| t.bytes.len() as u64).sum();
    let mut files = vec!["model.safetensors", "optim.safetensors", "state.json", "config.toml"];
    write_tensors(&stage.join(files[0]), &weights)?;
    write_tensors(&stage.join(files[1]), &optim)?;
    let text = serde_json::to_string_pretty(state).expect("plain data");
    write_synced(&stage.join(files[2]), text.as_bytes())?;
    let text = toml::to_string(config).expect("plain data");
    write_synced(&stage.join(files[3]), text.as_bytes())?;
    if let Some(json) = tokenizer {
        files.push("tokenizer.json");
        write_synced(&stage.join("tokenizer.json"), json)?;
    }
    let mut manifest = Manifest {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").into(),
        step: state.step,
        ..Manifest::default()
    };
    for file in files {
        let (bytes, xxh3) = hash_file(&stage.join(file), u64::MAX)?;
        manifest.files.insert(file.into(), FileEntry { bytes, xxh3 });
    }
    manifest.checksum = Some(manifest.digest());
    let text = serde_json::to_string_pretty(&manifest).expect("plain data");
    write_synced(&stage.join(MANIFEST), text.as_bytes())?;
    files::sync_folder(stage)
}

/// Removes all but the newest `keep` checkpoints, renaming each away before deleting it.
fn prune(run: &Path, keep: usize) -> Result<()> {
    let found = list(run)?;
    let excess = found.len().saturating_sub(keep.max(1));
    for (step, path) in &found[..excess] {
        let aside = run.join(CHECKPOINTS).join(format!(".{}.old", name(*step)));
        std::fs::rename(path, &aside).map_err(Error::io("rename", path))?;
        std::fs::remove_dir_all(&aside).map_err(Error::io("remove", &aside))?;
    }
    Ok(())
}
