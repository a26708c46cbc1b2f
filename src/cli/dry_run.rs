//! What a configuration costs: parameters, densities, bytes and FLOPs, from its shapes alone.

use crate::cli::say;
use crate::config::Config;
use crate::error::Result;
use crate::sparse::budget::{links, projection_shapes};

/// Numbers of a configuration.
struct Costs {
    links: usize,
    low_rank: usize,
    dense_projections: usize,
    ends: usize,
    norms: usize,
}

fn costs(config: &Config) -> Result<Costs> {
    let budget = config.budget()?;
    let m = &config.model;
    let (dense_projections, ends, norms) = m.dense_parameters();
    let shapes = projection_shapes(m.hidden, m.intermediate);
    let (mut in_links, mut low_rank) = (0, 0);
    for (rows, cols) in shapes {
        if config.method.dense {
            in_links += rows * cols;
        } else if config.method.sparse {
            in_links += links(rows, cols, budget.connectivity_sparsity);
        }
        if config.method.low_rank && !config.method.dense {
            low_rank += budget.rank * (rows + cols);
        }
    }
    Ok(Costs {
        links: in_links * m.layers,
        low_rank: low_rank * m.layers,
        dense_projections,
        ends,
        norms,
    })
}

/// One line: method, size, densities.
pub fn headline(config: &Config) -> Result<String> {
    let (c, b, m) = (costs(config)?, config.budget()?, &config.model);
    let total = c.links + c.low_rank + c.ends + c.norms;
    let branches = if config.method.dense {
        "full matrices".to_string()
    } else {
        format!(
            "link density {:.4}, rank {}, total sparsity {:.4}",
            b.d_connectivity,
            b.rank,
            1.0 - (c.links + c.low_rank) as f64 / c.dense_projections as f64
        )
    };
    Ok(format!(
        "{}: {} layers x {} ({} parameters; {branches})",
        config.method.name, m.layers, m.hidden, total
    ))
}

/// Prints the whole account.
pub fn print(config: &Config) -> Result<()> {
    let (c, m, t) = (costs(config)?, &config.model, &config.train);
    say(headline(config)?)?;
    let millions = |n: usize| format!("{:>10.3} M", n as f64 / 1e6);
    say(format!("parameters  links          {}", millions(c.links)))?;
    say(format!("            low-rank       {}", millions(c.low_rank)))?;
    say(format!("            embedding+head {}", millions(c.ends)))?;
    say(format!("            norms          {}", millions(c.norms)))?;
    say(format!(
        "            projections if dense {}, all if dense {}",
        millions(c.dense_projections).trim(),
        millions(c.dense_projections + c.ends + c.norms).trim()
    ))?;
    // f32 weights, gradients and two moments; links also carry an age, two index arrays and
    // two packed copies of the values.
    let dense_numbers =
        c.low_rank + c.ends + c.norms + if config.method.dense { c.links } else { 0 };
    let sparse_links = if config.method.dense { 0 } else { c.links };
    let megabytes = |bytes: usize| format!("{:>10.1} MB", bytes as f64 / 1e6);
    say(format!("bytes       weights        {}", megabytes(4 * (dense_numbers + sparse_links))))?;
    say(format!("            gradients      {}", megabytes(4 * (dense_numbers + sparse_links))))?;
    say(format!("            moments        {}", megabytes(8 * (dense_numbers + sparse_links))))?;
    say(format!("            ages, indices  {}", megabytes((4 + 8 + 16 + 8) * sparse_links)))?;
    say(format!("            activations    {}", megabytes(activation_bytes(config)?)))?;
    // Forward 2, backward 4 per weight; attention 12·h·T/2 per token and layer (causal).
    let attention = 6 * m.layers * m.hidden * m.seq_len;
    let head = 6 * m.vocab * m.hidden;
    let flops = |n: usize| 6 * n + head + attention;
    say(format!(
        "FLOPs per token {:.4} GFLOP (dense equivalent {:.4})",
        flops(c.links + c.low_rank) as f64 / 1e9,
        flops(c.dense_projections) as f64 / 1e9
    ))?;
    say(format!(
        "updates     {} of {} x {} tokens in micro-batches of {}; {:.1} M tokens in all",
        t.steps,
        t.batch,
        m.seq_len,
        t.micro_batch,
        (t.steps * (t.batch * m.seq_len) as u64) as f64 / 1e6
    ))
}

/// Planned activations of one micro-batch.
fn activation_bytes(config: &Config) -> Result<usize> {
    let (m, budget) = (&config.model, config.budget()?);
    let tokens = (config.train.micro_batch * m.seq_len).next_multiple_of(64);
    let aligned = config.method.aligned()?;
    let (h, f) = (m.hidden, m.intermediate);
    let kept = usize::from(aligned[3]) * h + usize::from(aligned[6]) * h;
    let block = 3 * h + 3 * h + 2 * f + kept + 7 * budget.rank + m.heads + 2;
    let shared = (2 * h + f) + (6 * h + 3 * f) + 4 * h;
    Ok(4 * tokens * (m.layers * block + shared))
}
