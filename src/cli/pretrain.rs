//! `chtsl pretrain`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use toml::Table;

use crate::backend::Backend;
use crate::checkpoint::{self, Checkpoint};
use crate::cli::demo::Demo;
use crate::cli::device::{DeviceArgs, on_backend};
use crate::cli::logging::Log;
use crate::cli::progress::RunBar;
use crate::cli::run_folder::{self, Source};
use crate::cli::{disk, dry_run, summary};
use crate::config::{Config, layers};
use crate::data::{Dataset, DatasetOptions, Split};
use crate::error::{Error, Result};
use crate::files;
use crate::metrics::Extras;
use crate::train::account;
use crate::train::plan::{Home, Plan};
use crate::train::{RunOptions, RunSummary, Trainer, changes_on_resume};

/// Preset that runs when nothing is asked for.
const DEFAULT_PRESET: &str = "tiny";

/// Pre-train a model; with no argument, a tiny CHTsL model on a small corpus made here.
///
/// Example: chtsl pretrain --preset 60m --data data/c4 --set method.total_sparsity=0.9
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model size: tiny, small, 9m, 60m, 130m, 350m or 1b; "list" shows them.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// TOML file with the sections model, method, topology, train and data.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder made by `chtsl prepare` (or one with llm.c shards) [default: what the resumed run is
    /// trained on; for a new one, a corpus made here].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Run folder [default: runs/PRESET-METHOD-seedN].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Continue: "auto" takes the newest whole checkpoint of the run folder (none: starts), a path
    /// names a checkpoint or a run.
    #[arg(long, value_name = "auto|PATH")]
    resume: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Set one configuration key, for example train.lr=1e-3; repeatable.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Let a resumed run change this key, for example train.steps; repeatable.
    #[arg(long, value_name = "KEY")]
    allow_change: Vec<String>,
    /// Print parameters, densities, memory, disk, FLOPs and a rough time on the CPU, and stop.
    #[arg(long)]
    dry_run: bool,
    /// With --dry-run: print one JSON object.
    #[arg(long, requires = "dry_run")]
    json: bool,
    /// Write metrics.csv beside metrics.jsonl; a resumed run goes on with one that it has.
    #[arg(long)]
    csv: bool,
    /// Write TensorBoard event files into the run folder; a resumed run goes on with them.
    #[arg(long)]
    tensorboard: bool,
    /// Repeat the first batch for ever, to see whether the model can learn at all.
    #[arg(long)]
    overfit_batch: bool,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool, save: &AtomicBool, log: &Log) -> Result<()> {
    if args.preset.as_deref() == Some("list") {
        return dry_run::presets();
    }
    let out = run_folder(&args)?;
    let checkpoint = find_checkpoint(&args, &out)?;
    let config = configuration(&args, checkpoint.as_ref())?;
    if args.dry_run {
        return dry_run::print(&config, &args.device, args.json);
    }
    let backend = args.device.open(config.train.precision)?;
    files::create_folder(&out)?;
    let _lock = run_folder::lock(&out)?;
    if checkpoint.is_none() && args.resume.is_none() && !checkpoint::list(&out)?.is_empty() {
        return Err(Error::Config(format!(
            "{} holds a run already: continue it with --resume auto or give another --out",
            out.display()
        )));
    }
    let source = match &args.data {
        Some(folder) => Source::Folder(folder.clone()),
        None if args.resume.is_some() => run_folder::source_of_resumed(checkpoint.as_ref(), &out)?,
        None => Source::Demo,
    };
    let plan = Plan::new(&config, Home::Cpu)?;
    checkpoint::save::remove_stale_staging(&out)?;
    disk::check_space(&out, &plan, config.train.keep_checkpoints)?;
    disk::probe(&out, &plan)?;
    log.to_file(&out)?;
    let (folder, demo) = match source {
        Source::Folder(folder) => (folder, None),
        Source::Demo => {
            let demo = Demo::make(&out, &config, stop, log)?;
            (Demo::folder(&out), Some(demo))
        }
    };
    let recorded = if demo.is_none() { run_folder::recorded_name(&folder)? } else { None };
    on_backend!(backend, |backend| {
        let data = (folder.as_path(), recorded.clone());
        let summary = train(&args, backend, &config, &out, data, checkpoint, (stop, save), log)?;
        let host = summary::Host {
            scratch: backend.scratch_bytes() as u64,
            saving: plan.saving,
            mapped: account::mapped_memory(),
        };
        summary::save(&summary, host, &out)?;
        summary::print(&summary, host, &config, &out)?;
        match demo {
            Some(demo) => demo.report(backend, &out, &config, &summary, stop),
            None => Ok(()),
        }
    })
}

#[allow(clippy::too_many_arguments)]
fn train<B: Backend>(
    args: &Args,
    backend: &B,
    config: &Config,
    out: &Path,
    (folder, recorded): (&Path, Option<String>),
    checkpoint: Option<Checkpoint>,
    (stop, save): (&AtomicBool, &AtomicBool),
    log: &Log,
) -> Result<RunSummary> {
    let options = DatasetOptions::from_config(config);
    let paths = [folder.to_path_buf()];
    let data = Dataset::open(&paths, Split::Train, &options)?;
    let validation = match data.manifest() {
        Some(m) if m.split(Split::Val).is_none() => None,
        Some(_) => Some(Dataset::open(&paths, Split::Val, &options)?),
        None => Dataset::open(&paths, Split::Val, &options).ok(),
    };
    if validation.is_none() {
        tracing::warn!("{} has no validation split: nothing is evaluated", folder.display());
    }
    let tokenizer = data.tokenizer()?;
    let first = checkpoint.as_ref().map_or(0, |c| c.state.step);
    let bar = RunBar::new(log, first, config.train.steps);
    let run = RunOptions {
        out: Some(out.to_path_buf()),
        overfit_batch: args.overfit_batch,
        data_folder: recorded,
        tokenizer_hash: tokenizer.as_ref().map(|t| t.hash()),
        tokenizer: tokenizer.as_ref().map(|t| t.json().to_vec()),
        extras: Extras { csv: args.csv, tensorboard: args.tensorboard },
        save: Some(save),
        watch: Some(&bar),
        ..RunOptions::new(stop)
    };
    tracing::info!("{}  ({})", dry_run::headline(config)?, backend.describe());
    tracing::info!(
        "{} training tokens in {}, {} rows of {}; run folder {}",
        data.tokens(),
        folder.display(),
        data.rows(),
        config.model.seq_len,
        out.display()
    );
    let text = toml::to_string(config).expect("plain data");
    files::write_atomic(&out.join("config.toml"), text.as_bytes())?;
    let validation = validation.as_ref();
    let mut trainer = match &checkpoint {
        Some(c) => {
            tracing::info!("resuming {} after step {}", c.path.display(), c.state.step);
            Trainer::resume(backend, config, c, &data, validation, run)?
        }
        None => Trainer::new(backend, config, &data, validation, run)?,
    };
    trainer.run()
}

/// The configuration: layers of presets, file and settings, or the checkpoint's own with settings.
fn configuration(args: &Args, checkpoint: Option<&Checkpoint>) -> Result<Config> {
    let asked = args.preset.is_some() || args.config.is_some();
    let Some(c) = checkpoint else {
        let preset = args.preset.as_deref();
        let preset = if asked { preset } else { Some(DEFAULT_PRESET) };
        return layers::resolve(preset, args.config.as_deref(), &args.set);
    };
    let config = if asked {
        layers::resolve(args.preset.as_deref(), args.config.as_deref(), &args.set)?
    } else {
        let table = Table::try_from(&c.config).expect("plain data");
        let sets = args.set.iter().map(|s| layers::parse_set(s)).collect::<Result<Vec<_>>>()?;
        let config = layers::parse(layers::overlay(table, &sets))?;
        config.validate()?;
        config
    };
    for change in changes_on_resume(&c.config, &config, &args.allow_change)? {
        tracing::info!("changed at this resume: {change}");
    }
    Ok(config)
}

/// The run folder: `--out`, the run of the checkpoint to resume, or a name made from the settings.
fn run_folder(args: &Args) -> Result<PathBuf> {
    if let Some(out) = &args.out {
        return Ok(out.clone());
    }
    if let Some(path) = args.resume.as_deref().filter(|r| *r != "auto") {
        let path = Path::new(path);
        return Ok(run_folder::of_checkpoint(path).unwrap_or(path).to_path_buf());
    }
    let asked = args.preset.is_some() || args.config.is_some();
    let preset = args.preset.as_deref().or((!asked).then_some(DEFAULT_PRESET));
    let config = layers::resolve(preset, args.config.as_deref(), &args.set)?;
    let stem = args.config.as_deref().and_then(Path::file_stem);
    let size = preset.map(str::to_string).or(stem.map(|s| s.to_string_lossy().into_owned()));
    let name = format!(
        "{}-{}-seed{}",
        size.unwrap_or_else(|| "run".into()),
        config.method.name,
        config.train.seed
    );
    let base = Path::new("runs").join(&name);
    if args.resume.is_some() || args.dry_run {
        return Ok(base);
    }
    // A new run never continues an old one by accident: the next free number.
    let free = |p: &Path| checkpoint::list(p).map(|l| l.is_empty());
    let mut candidate = base.clone();
    for n in 2.. {
        if free(&candidate)? {
            break;
        }
        candidate = Path::new("runs").join(format!("{name}-{n}"));
    }
    Ok(candidate)
}

fn find_checkpoint(args: &Args, out: &Path) -> Result<Option<Checkpoint>> {
    match args.resume.as_deref() {
        None => Ok(None),
        Some("auto") => checkpoint::latest(out),
        Some(path) => checkpoint::find(Path::new(path)).map(Some),
    }
}
