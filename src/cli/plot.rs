//! `chtsl plot`: curves of one or more runs.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::cli::say;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::plot::{Run, figures, page};

/// Draw loss, perplexity, overlap, link turnover and speed of runs: SVG files and one HTML page.
///
/// Example: chtsl plot runs/60m-dense-seed1 runs/60m-chtsl-seed1 --out plots
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Folder to write.
    #[arg(long, value_name = "DIR", default_value = "plots")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let mut runs = args.runs.iter().map(|dir| Run::load(dir)).collect::<Result<Vec<_>>>()?;
    // Folders of the same name are told apart by their number.
    let mut seen = HashSet::new();
    for (i, run) in runs.iter_mut().enumerate() {
        if !seen.insert(run.name.clone()) {
            run.name += &format!(" ({})", i + 1);
        }
    }
    std::fs::create_dir_all(&args.out).map_err(Error::io("create", &args.out))?;
    let figures = figures(&runs)?;
    for figure in &figures {
        let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let file = format!("{}.svg", figure.name.chars().map(safe).collect::<String>());
        write_atomic(&args.out.join(file), figure.svg.as_bytes())?;
    }
    let html = args.out.join("report.html");
    write_atomic(&html, page(&runs, &figures).as_bytes())?;
    say(format!(
        "{} figures in {}, all of them in {}",
        figures.len(),
        args.out.display(),
        html.display()
    ))
}
