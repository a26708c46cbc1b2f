//! What a finished run says last.

use std::path::Path;

use serde_json::{Value, json};

use crate::backend::Activity;
use crate::cli::say;
use crate::config::Config;
use crate::error::Result;
use crate::files::write_atomic;
use crate::metrics::number;
use crate::train::{RunSummary, span};

/// File of the summary in the run folder.
pub const FILE: &str = "summary.json";

/// What the host's memory holds beside the model, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Scratch that operations have taken.
    pub scratch: u64,
    /// What writing a checkpoint takes for a moment, as planned.
    pub saving: u64,
    /// Mapped files, token shards and code; `None` where the system does not tell.
    pub mapped: Option<u64>,
}

/// Writes the summary as JSON into the run folder: what `sweep` makes its table of.
pub fn save(s: &RunSummary, host: Host, out: &Path) -> Result<()> {
    let bytes: serde_json::Map<String, Value> =
        s.bytes.classes().iter().map(|(name, b)| (name.to_string(), (*b).into())).collect();
    let seconds: serde_json::Map<String, Value> =
        Activity::ALL.iter().map(|a| (a.name().into(), number(s.times.of(*a)))).collect();
    let text = json!({
        "steps": s.steps,
        "own_steps": s.own_steps,
        "tokens": s.tokens,
        "seconds": number(s.elapsed.as_secs_f64()),
        "seconds_by_activity": seconds,
        "tokens_per_s": number(s.tokens_per_s),
        "parameters": s.parameters.json(s.dense_parameters),
        "bytes": bytes,
        "scratch_bytes": host.scratch,
        "saving_bytes": host.saving,
        "mapped_bytes": host.mapped,
        "peak_bytes": s.peak_memory,
        "device_bytes": s.device_memory,
        "ppl": s.evaluation.as_ref().map(|e| number(e.ppl())),
        "ppl_galore_compat": s.evaluation.as_ref().map(|e| number(e.ppl_galore_compat())),
        "bits_per_byte": s.evaluation.as_ref().and_then(|e| e.bits_per_byte()).map(number),
        "eval_tokens": s.evaluation.as_ref().map(|e| e.tokens),
    });
    let text = serde_json::to_string_pretty(&text).expect("plain data");
    write_atomic(&out.join(FILE), text.as_bytes())
}

/// Prints the summary.
pub fn print(s: &RunSummary, host: Host, config: &Config, out: &Path) -> Result<()> {
    let resumed = match s.steps - s.own_steps {
        0 => String::new(),
        first => format!(", the last {} after a resume at {first}", s.own_steps),
    };
    say(format!(
        "{} steps, {} target tokens{resumed} in {} ({:.0} tokens/s)",
        s.steps,
        s.tokens,
        span(s.elapsed),
        s.tokens_per_s
    ))?;
    say(format!("time: {}", split(s)))?;
    let n = &s.parameters;
    let total = n.total();
    say(format!(
        "parameters: {total} ({:.3} of the dense model's {}){}",
        total as f64 / s.dense_parameters as f64,
        s.dense_parameters,
        listed(&[
            ("links", n.links),
            ("low-rank", n.low_rank),
            ("dense projections", n.dense),
            ("embedding and head", n.ends),
            ("norms", n.norms),
        ])
    ))?;
    memory(s, host)?;
    if let Some(e) = &s.evaluation {
        let bits = e.bits_per_byte().map_or(String::new(), |b| format!(", {b:.4} bits per byte"));
        say(format!(
            "validation perplexity {:.3}{bits} over {} tokens (ppl_galore_compat {:.3}, {} \
             batches of {})",
            e.ppl(),
            e.tokens,
            e.ppl_galore_compat(),
            e.batches,
            config.train.micro_batch
        ))?;
    }
    say(format!("run folder: {}", out.display()))
}

/// Share of every activity that took time.
fn split(s: &RunSummary) -> String {
    let total = s.times.total().max(1e-9);
    let share = |a: &Activity| format!("{} {:.1} %", a.name(), 100.0 * s.times.of(*a) / total);
    let branches = [Activity::Sparse, Activity::LowRank];
    // Where they are one pass only their sum has been measured. Elsewhere hardly anything is divided.
    let fused = s.times.divided() > 0.5 * branches.map(|a| s.times.of(a)).iter().sum::<f64>();
    let mut parts = Vec::new();
    if fused {
        let both = branches.each_ref().map(share).join(" and ");
        parts.push(format!("{both} (fused, divided by multiply-adds)"));
    }
    let apart = |a: &&Activity| s.times.of(**a) > 0.0 && !(fused && branches.contains(a));
    parts.extend(Activity::ALL.iter().filter(apart).map(share));
    parts.join(", ")
}

/// ": a 1, b 2" of those that are not zero.
fn listed(parts: &[(&str, u64)]) -> String {
    let parts: Vec<String> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    format!(": {}", parts.join(", "))
}

/// What the model holds, and what the peak of the process is made of.
fn memory(s: &RunSummary, host: Host) -> Result<()> {
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let classes: Vec<String> =
        s.bytes.classes().iter().map(|(name, bytes)| format!("{name} {}", mb(*bytes))).collect();
    let (classes, total) = (classes.join(", "), s.bytes.total());
    if let Some(taken) = s.device_memory {
        say(format!("memory on the device: {classes}, in all {}; taken {}", mb(total), mb(taken)))?;
        return s.peak_memory.map_or(Ok(()), |b| say(format!("peak memory of the host {}", mb(b))));
    }
    say(format!("memory: {classes}, in all {}", mb(total)))?;
    let Some(peak) = s.peak_memory else { return Ok(()) };
    let mapped = host.mapped.unwrap_or(0);
    let rest = peak.saturating_sub(total + host.scratch + host.saving + mapped);
    say(format!(
        "peak memory {}: that, scratch {}, writing a checkpoint {}, mapped files (token shards, code) {}, \
         rest {}",
        mb(peak),
        mb(host.scratch),
        mb(host.saving),
        mb(mapped),
        mb(rest)
    ))
}
