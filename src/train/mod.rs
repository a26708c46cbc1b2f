//! The training loop: batch, forward, backward, clip, optimizer, topology, metrics.
//!
//! One update is a pure function of the configuration, the data and the state of the update before
//! it, so a run that was stopped anywhere and resumed equals one that was not. Files are written
//! between updates only.

pub mod account;
mod clock;
pub mod estimate;
mod events;
pub mod plan;
mod report;
mod resume;
pub mod spikes;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::backend::{Activity, Backend, LossSum};
use crate::checkpoint::{self, State};
use crate::config::{Config, LossScaling, OnNonfinite};
use crate::data::{Batch, Dataset, Order};
use crate::error::{Error, Result};
use crate::eval::{Evaluation, Scoring, evaluate};
use crate::layer::{Alignment, BranchStats, MicroBatch};
use crate::metrics::{Extras, Metrics};
use crate::model::{Activations, ForwardOptions, Llama, RandomInit};
use crate::optim;
use crate::topology::Itop;

pub use clock::span;
pub use report::{RunSummary, STEPS};
pub use resume::{changes_on_resume, load_model};
pub use watch::{Part, Update, Watch};

// Both rooms define the marker; they must mean the same.
const _: () = assert!(crate::data::NO_TARGET == crate::backend::NO_TARGET);

/// What belongs to a run but not to its configuration.
pub struct RunOptions<'a> {
    /// Run folder; `None` writes nothing (tests, benchmarks).
    pub out: Option<PathBuf>,
    /// Repeat the first batch for ever: a healthy model drives its loss to zero.
    pub overfit_batch: bool,
    /// Set by a signal; looked at before every micro-batch.
    pub stop: &'a AtomicBool,
    /// Set by a signal: save after the current update and go on.
    pub save: Option<&'a AtomicBool>,
    /// End (as if by a signal) after this many updates of this process; for tests.
    pub stop_after: Option<u64>,
    /// Where the data is, for checkpoints to tell; `None`: they keep what they told.
    pub data_folder: Option<String>,
    /// Content of the tokenizer that goes into checkpoints.
    pub tokenizer: Option<Vec<u8>>,
    /// Hash of the tokenizer.
    pub tokenizer_hash: Option<u64>,
    /// What is written beside the metrics.
    pub extras: Extras,
    /// Is told of every update, evaluation and batch.
    pub watch: Option<&'a dyn Watch>,
}

impl<'a> RunOptions<'a> {
    /// A run that writes nothing and stops when `stop` is set.
    pub fn new(stop: &'a AtomicBool) -> Self {
        RunOptions {
            out: None,
            overfit_batch: false,
            stop,
            save: None,
            stop_after: None,
            data_folder: None,
            tokenizer: None,
            tokenizer_hash: None,
            extras: Extras::default(),
            watch: None,
        }
    }
}

/// A run in progress.
pub struct Trainer<'a, B: Backend> {
    backend: &'a B,
    config: Config,
    /// The model being trained.
    pub model: Llama<B>,
    acts: Activations<B>,
    data: &'a Dataset,
    validation: Option<&'a Dataset>,
    alignment: Option<Alignment>,
    itop: Vec<(String, Itop)>,
    /// Position after the last finished update.
    pub state: State,
    options: RunOptions<'a>,
    metrics: Option<Metrics>,
    batch: Batch,
    save_failures: u32,
    /// The growth of a low-rank branch has been warned of.
    warned: bool,
    clock: clock::Clock,
    /// Alignment and mean overlap of q and k at the last logged update.
    last_stats: (Option<f64>, Option<f64>),
}

/// Result of the gradient part of one update.
struct Gradients {
    loss: f64,
    stats: Vec<[BranchStats; 7]>,
    targets: u64,
    norm: Option<f64>,
}

/// The alignment term of a configuration; it needs both branches, elsewhere there is nothing to align.
fn alignment(config: &Config) -> Result<Option<Alignment>> {
    let projections = config.method.aligned()?;
    let both = config.method.sparse && config.method.low_rank && !config.method.dense;
    Ok((both && projections.contains(&true)).then(|| Alignment {
        reduction: config.method.align,
        lambda: config.lambda(),
        projections,
    }))
}

impl<'a, B: Backend> Trainer<'a, B> {
    /// A new run with random initial parameters.
    pub fn new(
        backend: &'a B,
        config: &Config,
        data: &'a Dataset,
        validation: Option<&'a Dataset>,
        options: RunOptions<'a>,
    ) -> Result<Self> {
        let model = Llama::new(backend, config, &mut RandomInit::new(config), true)?;
        let state = State {
            format: checkpoint::state::FORMAT,
            program: env!("CARGO_PKG_VERSION").into(),
            dataset_fingerprint: data.fingerprint(),
            data_folder: options.data_folder.clone(),
            tokenizer_hash: options.tokenizer_hash,
            precision: backend.precision().to_string(),
            ..State::default()
        };
        let mut trainer = Self::assemble(backend, config, model, data, validation, state, options)?;
        for (block, b) in trainer.model.blocks.iter().enumerate() {
            for p in &b.projections {
                if let Some(s) = p.links() {
                    let mut itop = Itop::new(p.rows, p.cols);
                    itop.update(&s.csr.pattern)?;
                    let short = p.name.rsplit('.').next().unwrap_or_default();
                    trainer.itop.push((format!("{block}.{short}"), itop));
                }
            }
        }
        trainer.report_start();
        Ok(trainer)
    }

    fn assemble(
        backend: &'a B,
        config: &Config,
        model: Llama<B>,
        data: &'a Dataset,
        validation: Option<&'a Dataset>,
        state: State,
        options: RunOptions<'a>,
    ) -> Result<Self> {
        let tokens = config.train.micro_batch * config.model.seq_len;
        let acts = Activations::new(backend, &model, tokens, true)?;
        let alignment = alignment(config)?;
        let metrics = match &options.out {
            Some(dir) => Some(Metrics::open(dir, state.step, options.extras)?),
            None => None,
        };
        Ok(Trainer {
            backend,
            config: config.clone(),
            model,
            acts,
            data,
            validation,
            alignment,
            itop: Vec::new(),
            state,
            options,
            metrics,
            batch: data.batch(config.train.micro_batch),
            save_failures: 0,
            warned: false,
            clock: clock::Clock::new(backend.times()?),
            last_stats: (None, None),
        })
    }

    /// Trains to the last step, evaluating and saving on the way.
    ///
    /// Errors: [`Error::Stopped`] after a signal (the last finished update is saved),
    /// [`Error::Diverged`] before a non-finite update, and everything that files can do.
    pub fn run(&mut self) -> Result<RunSummary> {
        let steps = self.config.train.steps;
        let first = self.state.step;
        while self.state.step < steps {
            let enough = self.options.stop_after.is_some_and(|n| self.state.step - first >= n);
            let finished = if enough { false } else { self.update()? };
            if !finished {
                self.save()?;
                return Err(Error::Stopped { step: self.state.step });
            }
            let t = self.state.step;
            let asked = self.options.save.is_some_and(|save| save.swap(false, Ordering::Relaxed));
            let due = |interval: u64| interval > 0 && t.is_multiple_of(interval) && t < steps;
            if due(self.config.train.eval_interval)
                && let Err(e) = self.evaluate()
            {
                return self.interrupted(e);
            }
            if due(self.config.train.checkpoint_interval) || asked {
                self.save_or_warn()?;
            }
        }
        let evaluation = match self.evaluate() {
            Ok(e) => e,
            Err(e) => return self.interrupted(e),
        };
        self.save()?;
        if let Some(metrics) = self.metrics.take() {
            metrics.finish()?;
        }
        self.summary(evaluation)
    }

    /// A signal during evaluation: the update before it is finished and worth saving.
    fn interrupted<T>(&mut self, e: Error) -> Result<T> {
        if matches!(e, Error::Interrupted(_)) {
            self.save()?;
            return Err(Error::Stopped { step: self.state.step });
        }
        Err(e)
    }

    /// One update; `false` when a signal came first and nothing has changed.
    fn update(&mut self) -> Result<bool> {
        let t = self.state.step + 1;
        let (topology, train) = (&self.config.topology, &self.config.train);
        let event = topology.is_event(t, train.steps) && self.config.method.sparse;
        let replaced = event && topology.event_replaces_step;
        let lr = train.lr * optim::schedule::factor(t - 1, train, topology);
        let logged = t == 1 || t.is_multiple_of(train.log_interval.max(1)) || t == train.steps;
        // No removal or regrowth rule reads a gradient, so a replaced update is forward only.
        let Some(g) = self.gradients(logged, !replaced)? else { return Ok(false) };
        let finite = g.loss.is_finite() && g.norm.is_none_or(f64::is_finite);
        let spike = finite && !replaced && self.spike(t, &g);
        if finite && !replaced && !spike {
            let clip = optim::clip_factor(g.norm.unwrap_or(0.0), self.config.train.clip);
            let step = self.state.optimizer_steps + 1;
            let t = &self.config.train;
            optim::update(self.backend, &mut self.model, t, lr, step, clip)?;
            self.state.optimizer_steps = step;
        }
        if !finite {
            self.refuse(t, &g)?;
        } else {
            self.state.skipped_in_a_row = 0;
        }
        self.state.step = t;
        self.state.samples += self.config.train.batch as u64;
        self.state.tokens += g.targets;
        if event && finite {
            self.evolve(t)?;
        }
        self.clock.updated(g.targets);
        if logged {
            self.log(t, lr, &g)?;
        }
        self.tell(&g, logged);
        Ok(true)
    }

    /// Loss, and gradients if `backward`, over all micro-batches of the next update; `None` when a
    /// signal came.
    fn gradients(&mut self, stats: bool, backward: bool) -> Result<Option<Gradients>> {
        let t = &self.config.train;
        let order = Order::Shuffled { seed: t.seed };
        let first = if self.options.overfit_batch { 0 } else { self.state.samples };
        let last = first + t.batch as u64;
        let micro_batches = t.batch / t.micro_batch;
        let total = self.data.count_targets(order, first..last)?;
        let per_micro_batch = t.loss_scaling == LossScaling::PerMicroBatch;
        let mut sums = vec![[BranchStats::default(); 7]; self.model.blocks.len()];
        let mut loss = 0.0;
        if backward {
            self.model.zero_gradients(self.backend)?;
        }
        for i in 0..micro_batches {
            if self.options.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let from = first + (i * t.micro_batch) as u64;
            self.backend.mark(Activity::Data.into());
            self.data.fill(order, from..from + t.micro_batch as u64, &mut self.batch)?;
            let b = &self.batch;
            let target_divisor = if per_micro_batch {
                (b.target_tokens * micro_batches) as f64
            } else {
                total as f64
            };
            let micro = MicroBatch {
                targets: &b.targets,
                sequences: b.sequences,
                seq_len: b.seq_len,
                target_divisor: target_divisor.max(1.0),
                micro_batches,
                starts: b.starts.as_deref(),
            };
            let alignment = self.alignment.as_ref();
            let options = ForwardOptions { alignment, stats, all_positions: false };
            let acts = &mut self.acts;
            let part = self.model.forward(self.backend, &b.ids, &micro, options, acts)?;
            let sum: LossSum = if backward {
                let aligned = self.alignment.is_some();
                self.model.loss_and_backward(self.backend, &b.ids, &micro, aligned, acts)?
            } else {
                self.model.loss(self.backend, &micro, acts)?
            };
            loss += sum.loss / micro.target_divisor;
            for (to, from) in sums.iter_mut().flatten().zip(part.iter().flatten()) {
                to.add(from);
            }
            if let Some(watch) = self.options.watch {
                watch.progressed(Part::Update, i as u64 + 1, micro_batches as u64);
            }
        }
        let norm = match backward {
            true => Some(optim::gradient_norm(self.backend, &mut self.model)?),
            false => None,
        };
        Ok(Some(Gradients { loss, stats: sums, targets: total, norm }))
    }

    /// Whether this update stands out so far that it is skipped: weights and moments stay as they are.
    fn spike(&mut self, t: u64, g: &Gradients) -> bool {
        let most = self.config.train.skip_z;
        if most <= 0.0 {
            return false;
        }
        let norm = g.norm.unwrap_or(0.0);
        let mut worst: Option<(&str, f64, f64)> = None;
        let state = &mut self.state;
        for (what, x, window) in [
            ("loss", g.loss, &mut state.recent_losses),
            ("gradient norm", norm, &mut state.recent_norms),
        ] {
            let z = spikes::z_score(window, x).filter(|z| *z > most);
            if let Some(z) = z
                && worst.is_none_or(|(_, _, other)| z > other)
            {
                worst = Some((what, x, z));
            }
            spikes::remember(window, x);
        }
        let Some((what, x, z)) = worst else { return false };
        let text = format!(
            "{what} {x:.4} is {z:.1} standard deviations above the last {}",
            spikes::WINDOW
        );
        tracing::warn!("step {t}: {text}; this update is skipped");
        if let Some(m) = &mut self.metrics {
            m.note(t, &format!("skipped: {text}"));
        }
        true
    }

    /// Non-finite loss or gradient: weights, moments and links stay as they are.
    fn refuse(&mut self, t: u64, g: &Gradients) -> Result<()> {
        let norm = g.norm.unwrap_or(f64::NAN);
        let text = format!("loss {} and gradient norm {norm}", g.loss);
        self.state.skipped_in_a_row += 1;
        let skip = self.config.train.on_nonfinite == OnNonfinite::Skip
            && self.state.skipped_in_a_row <= self.config.train.max_skips;
        if skip {
            self.acts.clear(self.backend)?;
            tracing::warn!("step {t}: {text}; this update is skipped");
            if let Some(m) = &mut self.metrics {
                m.note(t, &format!("skipped: {text}"));
            }
            return Ok(());
        }
        self.diagnose(t, g)?;
        Err(Error::Diverged {
            step: t,
            message: format!(
                "{text}; weights are those of step {}. Lower train.lr or method.lambda_align, set \
                 train.clip, or try train.on_nonfinite=skip",
                t - 1
            ),
        })
    }

    /// Validation loss now, written to the metrics.
    pub fn evaluate(&mut self) -> Result<Option<Evaluation>> {
        let Some(data) = self.validation else { return Ok(None) };
        self.clock.settle(self.backend.times()?, None);
        let started = Instant::now();
        let watch = self.options.watch;
        let scoring = Scoring {
            sequences: self.config.train.micro_batch,
            max_tokens: self.config.data.eval_tokens,
            stop: self.options.stop,
            told: &|done, all| {
                if let Some(watch) = watch {
                    watch.progressed(Part::Evaluation, done, all);
                }
            },
        };
        let e = evaluate(self.backend, &self.model, data, &mut self.acts, &scoring)?;
        if !e.loss.is_finite() {
            self.acts.clear(self.backend)?;
        }
        self.clock.pause(started);
        self.clock.settle(self.backend.times()?, Some(Activity::Evaluation));
        self.log_evaluation(&e, started.elapsed());
        if let Some(watch) = watch {
            watch.evaluated(self.state.step, &e);
        }
        Ok(Some(e))
    }

    /// Saves a checkpoint, if the run has a folder.
    pub fn save(&mut self) -> Result<Option<PathBuf>> {
        let Some(dir) = self.options.out.clone() else { return Ok(None) };
        self.clock.settle(self.backend.times()?, None);
        let started = Instant::now();
        if let Some(m) = &mut self.metrics {
            m.sync();
        }
        let path = checkpoint::save(
            self.backend,
            &dir,
            &self.config,
            &mut self.model,
            &self.itop,
            &self.state,
            self.options.tokenizer.as_deref(),
            self.config.train.keep_checkpoints,
        )?;
        self.clock.pause(started);
        self.clock.settle(self.backend.times()?, Some(Activity::Saving));
        Ok(Some(path))
    }

    /// Saves; a failure is warned of and tried again at the next interval, the third one in a row
    /// ends the run.
    fn save_or_warn(&mut self) -> Result<()> {
        match self.save() {
            Ok(_) => self.save_failures = 0,
            // Nothing that more training would heal.
            Err(e @ Error::Diverged { .. }) => return Err(e),
            Err(e) => {
                self.save_failures += 1;
                if self.save_failures >= 3 {
                    return Err(e);
                }
                tracing::warn!("{e}; training goes on and the next checkpoint is tried again");
            }
        }
        Ok(())
    }

    /// Run folder, if any.
    pub fn out(&self) -> Option<&Path> {
        self.options.out.as_deref()
    }
}
