//! What a run says: log lines, metrics rows, the diagnosis of a divergence, the closing summary.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::backend::{Activity, Backend, Times};
use crate::config::PROJECTIONS;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::layer::BranchStats;
use crate::metrics::{number, start};
use crate::train::account::{self, Bytes, Parameters};
use crate::train::clock::{Lap, span};
use crate::train::{Gradients, Trainer, Update};

/// Target of the lines about single updates, which a progress bar replaces.
pub const STEPS: &str = "chtsl::steps";

/// What a finished run reports.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Updates done.
    pub steps: u64,
    /// Those that this process did: fewer after a resume.
    pub own_steps: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Last evaluation; `None` without validation data.
    pub evaluation: Option<Evaluation>,
    /// Wall-clock time of this process's part.
    pub elapsed: Duration,
    /// Where it went.
    pub times: Times,
    /// Target tokens per second of this process, evaluations and checkpoints left out.
    pub tokens_per_s: f64,
    /// Trained numbers by class.
    pub parameters: Parameters,
    /// Bytes by class.
    pub bytes: Bytes,
    /// The most memory that this process has held.
    pub peak_memory: Option<u64>,
    /// Bytes taken on the device, where it has its own memory.
    pub device_memory: Option<u64>,
    /// The same model with full matrices.
    pub dense_parameters: u64,
}

impl<B: Backend> Trainer<'_, B> {
    pub(super) fn report_start(&self) {
        let mut unlinked = Vec::new();
        for (block, b) in self.model.blocks.iter().enumerate() {
            for (i, p) in b.projections.iter().enumerate() {
                let Some(s) = p.links() else { continue };
                let (rows, cols) = s.csr.pattern.unlinked();
                if rows + cols > 0 {
                    let name = PROJECTIONS[i];
                    unlinked.push(format!("{block}.{name}: {rows} outputs, {cols} inputs"));
                }
            }
        }
        if let Some(first) = unlinked.first() {
            tracing::warn!(
                "{} matrices start with neurons that have no link ({first})",
                unlinked.len()
            );
        }
    }

    /// One log line and one metrics row.
    pub(super) fn log(&mut self, t: u64, lr: f64, g: &Gradients) -> Result<()> {
        let Lap { step_ms, tokens_per_s, times } = self.clock.lap(self.backend.times()?);
        let align: f64 = g.stats.iter().flatten().map(|s| s.align).sum();
        let mut row = start("train", t);
        row.insert("tokens".into(), self.state.tokens.into());
        row.insert("loss".into(), number(g.loss));
        row.insert("loss_align".into(), number(align));
        row.insert("lr".into(), number(lr));
        row.insert("grad_norm".into(), g.norm.map_or(Value::Null, number));
        let by = |f: &dyn Fn(&BranchStats) -> f64| -> Value {
            let mut map = Map::new();
            for (block, stats) in g.stats.iter().enumerate() {
                for (i, s) in stats.iter().enumerate().filter(|(_, s)| s.elements > 0.0) {
                    map.insert(format!("{block}.{}", PROJECTIONS[i]), number(f(s)));
                }
            }
            Value::Object(map)
        };
        row.insert("ocr".into(), by(&BranchStats::ocr));
        row.insert("rms_s".into(), by(&BranchStats::rms_sparse));
        row.insert("rms_l".into(), by(&BranchStats::rms_low_rank));
        let split: Map<String, Value> = Activity::ALL
            .iter()
            .filter(|a| times.of(**a) > 0.0)
            .map(|a| (a.name().into(), number(1e3 * times.of(*a))))
            .collect();
        row.insert(
            "time".into(),
            json!({"step_ms": step_ms, "tokens_per_s": tokens_per_s, "split_ms": split}),
        );
        let qk: Vec<f64> = g
            .stats
            .iter()
            .flat_map(|s| &s[..2])
            .filter(|s| s.elements > 0.0)
            .map(BranchStats::ocr)
            .collect();
        let qk = (!qk.is_empty()).then(|| qk.iter().sum::<f64>() / qk.len() as f64);
        self.last_stats = (self.alignment.is_some().then_some(align), qk);
        let steps = self.config.train.steps;
        let mut line = format!("step {t}/{steps}  loss {:.4}  ppl {:.2}", g.loss, g.loss.exp());
        if let Some(align) = self.last_stats.0 {
            line += &format!("  align {align:.3e}");
        }
        if let Some(qk) = qk {
            line += &format!("  ocr(q,k) {qk:.3}");
        }
        if let Some(norm) = g.norm {
            line += &format!("  grad {norm:.3}");
        }
        let left = span(self.clock.remaining(steps - t));
        tracing::info!(
            target: STEPS,
            "{line}  lr {lr:.2e}  {tokens_per_s:.0} tok/s  {step_ms:.0} ms  eta {left}"
        );
        if let Some(m) = &mut self.metrics {
            m.row(row);
        }
        self.watch_low_rank(t, &g.stats);
        Ok(())
    }

    /// Tells whoever watches; `logged` says that the log has a line about this update.
    pub(super) fn tell(&self, g: &Gradients, logged: bool) {
        let Some(watch) = self.options.watch else { return };
        let (step, steps) = (self.state.step, self.config.train.steps);
        watch.updated(&Update {
            step,
            steps,
            loss: g.loss,
            align: self.last_stats.0,
            ocr_qk: self.last_stats.1,
            tokens_per_s: self.clock.speed(),
            remaining: self.clock.remaining(steps - step),
            logged,
        });
    }

    /// Warns when L grows tenfold within the warm-up: the blow-up that a large learning rate causes.
    fn watch_low_rank(&mut self, t: u64, stats: &[[BranchStats; 7]]) {
        let now: Vec<f64> = stats.iter().flatten().map(BranchStats::rms_low_rank).collect();
        if self.state.first_rms_l.is_empty() {
            self.state.first_rms_l = now;
            return;
        }
        if t > self.config.train.warmup || self.warned {
            return;
        }
        let grown = now
            .iter()
            .zip(&self.state.first_rms_l)
            .position(|(now, first)| *first > 0.0 && *now > 10.0 * first);
        if let Some(i) = grown {
            let text = format!(
                "the low-rank branch of {}.{} has grown tenfold to rms {:.3} within the warm-up; a \
                 lower train.lr or train.low_rank_lr_scale may save the run",
                i / 7,
                PROJECTIONS[i % 7],
                now[i]
            );
            tracing::warn!("{text}");
            self.warned = true;
            if let Some(m) = &mut self.metrics {
                m.note(t, &text);
            }
        }
    }

    pub(super) fn log_evaluation(&mut self, e: &Evaluation, elapsed: Duration) {
        let bits = e.bits_per_byte();
        let mut row = start("eval", self.state.step);
        row.insert("ppl".into(), number(e.ppl()));
        row.insert("ppl_galore_compat".into(), number(e.ppl_galore_compat()));
        row.insert("bits_per_byte".into(), bits.map_or(Value::Null, number));
        row.insert("loss".into(), number(e.loss));
        row.insert("tokens".into(), e.tokens.into());
        row.insert("batches".into(), e.batches.into());
        row.insert("precision".into(), self.state.precision.clone().into());
        row.insert("time".into(), json!({"eval_s": elapsed.as_secs_f64()}));
        let bits = bits.map_or(String::new(), |b| format!("  {b:.4} bits/byte"));
        tracing::info!(
            "step {}  validation perplexity {:.3} ({}){bits}  over {} tokens",
            self.state.step,
            e.ppl(),
            self.state.precision,
            e.tokens
        );
        // A run that died after its last checkpoint is evaluated once more, not told of twice.
        if let Some(m) = self.metrics.as_mut().filter(|m| !m.has_evaluation(self.state.step)) {
            m.row(row);
        }
    }

    /// Writes `diverged-step-N.json`: which samples, which tensors hold what.
    pub(super) fn diagnose(&mut self, t: u64, g: &Gradients) -> Result<()> {
        let Some(dir) = self.options.out.clone() else { return Ok(()) };
        let mut tensors = Map::new();
        let backend = self.backend;
        self.model.visit(&mut |p| {
            let describe = |data: Vec<f32>| {
                let bad = data.iter().filter(|x| !x.is_finite()).count();
                let largest =
                    data.iter().filter(|x| x.is_finite()).fold(0f32, |a, x| a.max(x.abs()));
                json!({"non_finite": bad, "largest": largest})
            };
            let entry = json!({
                "weight": describe(backend.read(p.values)?),
                "gradient": describe(backend.read(p.grad)?),
            });
            tensors.insert(p.name.to_string(), entry);
            Ok(())
        })?;
        let report = json!({
            "step": t,
            "samples": [self.state.samples, self.state.samples + self.config.train.batch as u64],
            "loss": number(g.loss),
            "gradient_norm": g.norm.map_or(Value::Null, number),
            "tensors": tensors,
        });
        let path = dir.join(format!("diverged-step-{t}.json"));
        let text = serde_json::to_string_pretty(&report).expect("plain data");
        std::fs::write(&path, text).map_err(Error::io("write", &path))
    }

    pub(super) fn summary(&mut self, evaluation: Option<Evaluation>) -> Result<RunSummary> {
        let (projections, ends, norms) = self.config.model.dense_parameters();
        let (parameters, bytes) = account::count(self.backend, &mut self.model, &mut self.acts)?;
        self.clock.settle(self.backend.times()?, None);
        Ok(RunSummary {
            steps: self.state.step,
            own_steps: self.clock.own_updates(),
            tokens: self.state.tokens,
            evaluation,
            elapsed: self.clock.elapsed(),
            times: *self.clock.times(),
            tokens_per_s: self.clock.mean_speed(),
            parameters,
            bytes,
            peak_memory: account::peak_memory(),
            device_memory: self.backend.device_memory().map(|(taken, _)| taken as u64),
            dense_parameters: (projections + ends + norms) as u64,
        })
    }
}
