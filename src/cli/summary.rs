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

/// Writes the summary as JSON into the run folder: what `sweep` makes its table of.
pub fn save(s: &RunSummary, out: &Path) -> Result<()> {
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
pub fn print(s: &RunSummary, config: &Config, out: &Path) -> Result<()> {
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
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let classes: Vec<String> =
        s.bytes.classes().iter().map(|(name, bytes)| format!("{name} {}", mb(*bytes))).collect();
    let peak = s.peak_memory.map_or(String::new(), |b| format!("; peak memory {}", mb(b)));
    let device = s.device_memory.map_or(String::new(), |b| format!(", on the device {}", mb(b)));
    say(format!("memory: {}, in all {}{peak}{device}", classes.join(", "), mb(s.bytes.total())))?;
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
