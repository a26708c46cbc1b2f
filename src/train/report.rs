//! What a run says: log lines, metrics rows, the diagnosis of a divergence, the closing summary.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::backend::Backend;
use crate::config::PROJECTIONS;
use crate::error::{Error, Result};
use crate::eval::Evaluation;
use crate::layer::{BranchStats, ParamKind};
use crate::metrics::{number, start};
use crate::train::{Gradients, Trainer};

/// Time since the last metrics row, without evaluation and saving.
pub(super) struct Clock {
    since: Instant,
    paused: Duration,
    started: Instant,
    pub(super) updates: u64,
    pub(super) tokens: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Clock { since: now, paused: Duration::ZERO, started: now, updates: 0, tokens: 0 }
    }

    /// Leaves out the time since `from`.
    pub(super) fn pause(&mut self, from: Instant) {
        self.paused += from.elapsed();
    }

    /// Milliseconds per update and tokens per second since the last call.
    fn lap(&mut self) -> (f64, f64) {
        let seconds = self.since.elapsed().saturating_sub(self.paused).as_secs_f64();
        let lap =
            (1e3 * seconds / self.updates.max(1) as f64, self.tokens as f64 / seconds.max(1e-9));
        (self.since, self.paused) = (Instant::now(), Duration::ZERO);
        (self.updates, self.tokens) = (0, 0);
        lap
    }
}

/// What a finished run reports.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// Updates done.
    pub steps: u64,
    /// Target tokens seen.
    pub tokens: u64,
    /// Last evaluation; `None` without validation data.
    pub evaluation: Option<Evaluation>,
    /// Wall-clock time of this process's part.
    pub elapsed: Duration,
    /// Trained numbers: links count once, indices not at all.
    pub parameters: u64,
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
    pub(super) fn log(&mut self, t: u64, lr: f64, g: &Gradients) {
        let (step_ms, tokens_per_s) = self.clock.lap();
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
        row.insert("time".into(), json!({"step_ms": step_ms, "tokens_per_s": tokens_per_s}));
        let qk: Vec<f64> = g
            .stats
            .iter()
            .flat_map(|s| &s[..2])
            .filter(|s| s.elements > 0.0)
            .map(BranchStats::ocr)
            .collect();
        let mut line = format!("step {t}/{}  loss {:.4}", self.config.train.steps, g.loss);
        if !qk.is_empty() {
            line += &format!("  align {align:.3e}");
            line += &format!("  ocr(q,k) {:.3}", qk.iter().sum::<f64>() / qk.len() as f64);
        }
        if let Some(norm) = g.norm {
            line += &format!("  grad {norm:.3}");
        }
        tracing::info!("{line}  lr {lr:.2e}  {tokens_per_s:.0} tok/s  {step_ms:.0} ms");
        if let Some(m) = &mut self.metrics {
            m.row(row);
        }
        self.watch_low_rank(t, &g.stats);
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
        if let Some(m) = &mut self.metrics {
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

    pub(super) fn summary(&mut self, evaluation: Option<Evaluation>) -> RunSummary {
        let (projections, ends, norms) = self.config.model.dense_parameters();
        RunSummary {
            steps: self.state.step,
            tokens: self.state.tokens,
            evaluation,
            elapsed: self.clock.started.elapsed(),
            parameters: self.parameters(),
            dense_parameters: (projections + ends + norms) as u64,
        }
    }

    /// Trained numbers of the model.
    pub fn parameters(&mut self) -> u64 {
        let mut count = 0;
        let visited = self.model.visit(&mut |p| {
            count += match (p.kind, p.pattern) {
                (ParamKind::Sparse, Some(pattern)) => pattern.nnz(),
                _ => p.shape[0] * p.shape[1],
            } as u64;
            Ok(())
        });
        debug_assert!(visited.is_ok());
        count
    }
}
