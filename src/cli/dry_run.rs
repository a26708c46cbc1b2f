//! What a configuration costs: parameters, densities, bytes and FLOPs, from its shapes alone.

use serde_json::{Value, json};

use crate::cli::say;
use crate::config::{Config, layers};
use crate::error::Result;
use crate::train::plan::{Home, Plan};

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

/// The whole account as one JSON object.
fn account(config: &Config) -> Result<Value> {
    let (budget, t) = (config.budget()?, &config.train);
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
        classes.insert("scratch".into(), plan.scratch.into());
        classes.insert("total".into(), plan.memory().into());
        memory.insert(name.into(), classes.into());
    }
    Ok(json!({
        "parameters": parameters,
        "density": {
            "links": budget.d_connectivity,
            "low_rank": budget.d_spectral,
            "rank": budget.rank,
            "projections": (n.links + n.low_rank + n.dense) as f64 / plan.dense_projections as f64,
            "model": n.total() as f64 / plan.dense_total as f64,
        },
        "bytes": memory,
        "checkpoint_bytes": plan.checkpoint,
        "flops_per_token": { "effective": plan.flops, "dense_equivalent": plan.dense_flops },
        "updates": t.steps,
        "tokens_per_update": t.batch * config.model.seq_len,
        "tokens": t.steps * (t.batch * config.model.seq_len) as u64,
    }))
}

/// Prints the whole account.
pub fn print(config: &Config, as_json: bool) -> Result<()> {
    let a = account(config)?;
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
    say(format!(
        "density     links {:.4}, low-rank {:.4} (rank {}), projections {:.4}, model {:.4}",
        number(&d["links"]),
        number(&d["low_rank"]),
        d["rank"],
        number(&d["projections"]),
        number(&d["model"])
    ))?;
    let (cpu, cuda) = (&a["bytes"]["cpu"], &a["bytes"]["cuda"]);
    say(format!("{:<34}{:>12}   {:>12}", "memory", "CPU", "CUDA"))?;
    for (name, bytes) in cpu.as_object().into_iter().flatten() {
        let mb = |v: &Value| format!("{:.1} MB", number(v) / 1e6);
        say(format!("            {name:<22}{:>12}   {:>12}", mb(bytes), mb(&cuda[name])))?;
    }
    say(format!("checkpoint  {:.1} MB each", number(&a["checkpoint_bytes"]) / 1e6))?;
    let f = &a["flops_per_token"];
    say(format!(
        "compute     {:.4} GFLOP per token (dense equivalent {:.4})",
        number(&f["effective"]) / 1e9,
        number(&f["dense_equivalent"]) / 1e9
    ))?;
    let (m, t) = (&config.model, &config.train);
    say(format!(
        "updates     {} of {} x {} tokens in micro-batches of {}; {:.1} M tokens in all",
        t.steps,
        t.batch,
        m.seq_len,
        t.micro_batch,
        number(&a["tokens"]) / 1e6
    ))
}
