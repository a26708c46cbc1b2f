//! What a configuration costs: parameters, densities, bytes and FLOPs, from its shapes alone.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::device::{Device, DeviceArgs, Opened};
use crate::cli::{disk, say};
use crate::config::{Config, layers};
use crate::error::Result;
use crate::train::estimate;
use crate::train::plan::{Home, Plan};
use crate::train::span;

/// One line: method, size, densities.
pub fn headline(config: &Config) -> Result<String> {
    let (p, b, m) = (Plan::new(config, Home::Cpu)?, config.budget()?, &config.model);
    let n = &p.parameters;
    let branches = if config.method.dense {
        "full matrices".to_string()
    } else {
        format!(
            "link density {:.4}, rank {}, total sparsity {:.4}",
            b.d_connectivity,
            b.rank,
            1.0 - (n.links + n.low_rank) as f64 / p.dense_projections as f64
        )
    };
    Ok(format!(
        "{}: {} layers x {} ({} parameters; {branches})",
        config.method.name,
        m.layers,
        m.hidden,
        n.total()
    ))
}

/// Prints one line per preset.
pub fn presets() -> Result<()> {
    say(format!(
        "{:<8}{:>7}{:>8}{:>14}{:>8}{:>7}{:>9}{:>9}{:>9}",
        "preset",
        "layers",
        "hidden",
        "intermediate",
        "heads",
        "vocab",
        "updates",
        "batch",
        "tokens"
    ))?;
    for name in layers::preset_names() {
        let c = layers::resolve(Some(&name), None, &[])?;
        let (m, t) = (&c.model, &c.train);
        say(format!(
            "{name:<8}{:>7}{:>8}{:>14}{:>8}{:>7}{:>9}{:>9}{:>7.0} M",
            m.layers,
            m.hidden,
            m.intermediate,
            m.heads,
            m.vocab,
            t.steps,
            t.batch,
            (t.steps * (t.batch * m.seq_len) as u64) as f64 / 1e6
        ))?;
    }
    Ok(())
}

/// Seconds per update where a moment's measurement can tell: on this CPU, for a model of which a part
/// can be made.
fn seconds_per_update(config: &Config, device: &DeviceArgs) -> Option<f64> {
    if device.device == Device::Cuda {
        return None;
    }
    match device.open(config.train.precision) {
        // What keeps the sample from running will be an error of the run; the account stands without.
        Ok(Opened::Cpu(cpu)) => estimate::seconds_per_update(&*cpu, config, cpu.threads()).ok()?,
        _ => None,
    }
}

/// The whole account as one JSON object.
fn account(config: &Config, device: &DeviceArgs) -> Result<Value> {
    let (budget, t, threads) = (config.budget()?, &config.train, device.threads());
    let homes = [("cpu", Home::Cpu), ("cuda", Home::Cuda)];
    let plan = Plan::new(config, Home::Cpu)?;
    let n = &plan.parameters;
    let mut parameters = n.json(plan.dense_total);
    parameters["projections_if_dense"] = plan.dense_projections.into();
    let mut memory = serde_json::Map::new();
    for (name, home) in homes {
        let plan = Plan::new(config, home)?;
        let mut classes: serde_json::Map<String, Value> =
            plan.bytes.classes().iter().map(|(name, b)| (name.to_string(), (*b).into())).collect();
        let scratch = plan.scratch + threads as u64 * plan.scratch_per_thread;
        classes.insert("scratch".into(), scratch.into());
        classes.insert("saving".into(), plan.saving.into());
        classes.insert("program".into(), plan.program.into());
        classes.insert("total".into(), plan.memory(threads).into());
        memory.insert(name.into(), classes.into());
    }
    let projections = (n.links + n.low_rank + n.dense) as f64 / plan.dense_projections as f64;
    // A dense model has none of the branches that the budget speaks of.
    let branch = |share: f64| if config.method.dense { Value::Null } else { share.into() };
    let tokens = t.steps * (t.batch * config.model.seq_len) as u64;
    let update_tokens = t.batch * config.model.seq_len;
    let estimate = seconds_per_update(config, device).map(
        |s| json!({ "seconds": s * t.steps as f64, "tokens_per_s": update_tokens as f64 / s }),
    );
    Ok(json!({
        "parameters": parameters,
        "density": {
            "links": branch(budget.d_connectivity),
            "low_rank": branch(budget.d_spectral),
            "rank": if config.method.dense { 0 } else { budget.rank },
            "projections": projections,
            "model": n.total() as f64 / plan.dense_total as f64,
        },
        "threads": threads,
        "bytes": memory,
        "checkpoint_bytes": plan.checkpoint,
        "checkpoints": t.keep_checkpoints,
        "disk_bytes": disk::of_checkpoints(&plan, t.keep_checkpoints),
        "flops_per_token": { "effective": plan.flops, "dense_equivalent": plan.dense_flops },
        "updates": t.steps,
        "tokens_per_update": update_tokens,
        "tokens": tokens,
        "flops": tokens as f64 * plan.flops as f64,
        "estimate": estimate,
    }))
}

/// Prints the whole account, with memory and time of `device`.
pub fn print(config: &Config, device: &DeviceArgs, as_json: bool) -> Result<()> {
    let a = account(config, device)?;
    if as_json {
        return say(a);
    }
    say(headline(config)?)?;
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    let p = &a["parameters"];
    let mut first = "parameters";
    for (name, key) in [
        ("links", "links"),
        ("low-rank", "low_rank"),
        ("dense projections", "dense_projections"),
        ("embedding and head", "embedding_and_head"),
        ("norms", "norms"),
        ("total", "total"),
        ("projections if dense", "projections_if_dense"),
        ("total if dense", "total_if_dense"),
    ] {
        if number(&p[key]) > 0.0 {
            say(format!("{first:<12}{name:<22}{:>12.3} M", number(&p[key]) / 1e6))?;
            first = "";
        }
    }
    let d = &a["density"];
    let branches = match config.method.dense {
        true => String::new(),
        false => format!(
            "links {:.4}, low-rank {:.4} (rank {}), ",
            number(&d["links"]),
            number(&d["low_rank"]),
            d["rank"]
        ),
    };
    say(format!(
        "density     {branches}projections {:.4}, model {:.4}",
        number(&d["projections"]),
        number(&d["model"])
    ))?;
    let (cpu, cuda) = (&a["bytes"]["cpu"], &a["bytes"]["cuda"]);
    let heading = format!("memory, {} threads", a["threads"]);
    say(format!("{heading:<34}{:>12}   {:>12}", "CPU", "CUDA"))?;
    for (name, bytes) in cpu.as_object().into_iter().flatten() {
        let mb = |v: &Value| match number(v) {
            0.0 => "-".into(),
            b => format!("{:.1} MB", b / 1e6),
        };
        say(format!("            {name:<22}{:>12}   {:>12}", mb(bytes), mb(&cuda[name])))?;
    }
    say("            saving: for a moment, while a checkpoint is written; program: code,")?;
    say("            tokenizer. Not in it are the token shards: they are mapped, and stay")?;
    say("            in memory as long as nothing else needs it")?;
    say(format!(
        "checkpoint  {:.1} MB each; {:.1} MB with {} kept and one being written",
        number(&a["checkpoint_bytes"]) / 1e6,
        number(&a["disk_bytes"]) / 1e6,
        a["checkpoints"]
    ))?;
    let f = &a["flops_per_token"];
    say(format!(
        "compute     {:.4} GFLOP per token (dense equivalent {:.4})",
        number(&f["effective"]) / 1e9,
        number(&f["dense_equivalent"]) / 1e9
    ))?;
    let (m, t) = (&config.model, &config.train);
    say(format!(
        "updates     {} of {} x {} tokens in micro-batches of {}\n            {:.1} M tokens, {:.2e} \
         FLOP in all",
        t.steps,
        t.batch,
        m.seq_len,
        t.micro_batch,
        number(&a["tokens"]) / 1e6,
        number(&a["flops"])
    ))?;
    let e = &a["estimate"];
    match e["seconds"].as_f64() {
        Some(seconds) => say(format!(
            "time        about {} at the CPU's present speed ({:.0} tokens/s in a sample);\n            \
             evaluations, topology events and checkpoints come on top",
            span(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
            number(&e["tokens_per_s"])
        )),
        None => {
            say("time        not estimated: no CPU run, or too large a model to try a part of it")
        }
    }
}
