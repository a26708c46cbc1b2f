//! `chtsl sweep`: many runs from one file, one process each, and a table of what came out.

mod plan;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::logging::Log;
use crate::cli::progress::SweepBar;
use crate::cli::{say, summary};
use crate::error::{Error, Result};
use crate::files::{self, FileKind, write_atomic};
use crate::train::span;
use plan::{Prepared, Sweep, Trial};

/// Train every run of a file, one process per run, and tabulate the results; run it again to go on.
///
/// Example: chtsl sweep configs/sweeps/real-text.toml --out sweeps/real-text
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TOML file with what to prepare, what runs have in common, and the runs.
    file: PathBuf,
    /// Folder of the sweep: data, runs, table.md and table.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only runs whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the commands and stop.
    #[arg(long)]
    dry_run: bool,
}

/// How long a child is waited for between looks at the signal.
const LOOK: Duration = Duration::from_millis(100);

/// A sweep at work.
struct Work<'a> {
    sweep: &'a Sweep,
    out: &'a Path,
    /// -v or -q, passed on to every process.
    flags: &'a [&'a str],
    stop: &'a AtomicBool,
    bar: SweepBar<'a>,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool, log: &Log) -> Result<()> {
    let sweep = &Sweep::load(&args.file)?;
    let wanted = |t: &&Trial| args.only.as_ref().is_none_or(|part| t.name.contains(part));
    let trials: Vec<&Trial> = sweep.runs.iter().filter(wanted).collect();
    if trials.is_empty() {
        return Err(Error::Config(format!("{}: no run to make", args.file.display())));
    }
    let (out, flags) = (args.out.as_path(), log.flags());
    if args.dry_run {
        let all = sweep.prepare.iter().map(|p| p.arguments(out));
        let all = all.chain(trials.iter().map(|t| t.arguments(sweep, out)));
        return all.into_iter().try_for_each(|mut words| {
            words.extend(flags.iter().map(|f| f.to_string()));
            say(format!("chtsl {}", words.join(" ")))
        });
    }
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let work = Work { sweep, out, flags, stop, bar: SweepBar::new(log, trials.len()) };
    for data in &sweep.prepare {
        work.prepare(data)?;
    }
    let mut failures = 0;
    for (number, trial) in (1..).zip(&trials) {
        failures += u32::from(!work.train(trial, number)?);
        // After every run: a sweep that is stopped has its table all the same.
        write_table(sweep, out)?;
    }
    drop(work);
    say(write_table(sweep, out)?)?;
    match failures {
        0 => Ok(()),
        n => Err(Error::Config(format!(
            "{n} of {} runs failed; their stderr.txt in {} says why, and the next sweep tries them \
             again",
            trials.len(),
            out.join("runs").display()
        ))),
    }
}

impl Work<'_> {
    /// Runs the program with these arguments; its messages go to `log`. `Ok(None)` = it failed.
    fn child(&self, words: &[String], log: &Path) -> Result<Option<String>> {
        let program = std::env::current_exe().map_err(Error::io("find", "the running program"))?;
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let file = file.map_err(Error::io("open", log))?;
        let mut child = Command::new(&program)
            .args(words)
            .args(self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .map_err(Error::io("start", &program))?;
        // Read on a thread of its own: a full pipe would stop the child.
        let mut stdout = child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
        });
        let mut told = false;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(Error::io("wait for", &program))? {
                break status;
            }
            if self.stop.load(Ordering::Relaxed) && !told {
                // The child saves its last finished update and ends; a terminal has told it already.
                interrupt(child.id());
                told = true;
            }
            self.bar.tick();
            std::thread::sleep(LOOK);
        };
        let text = reader.join().ok().and_then(|r| r.ok()).unwrap_or_default();
        if self.stop.load(Ordering::Relaxed) {
            let what = "stopped by a signal; run the same sweep to go on";
            return Err(Error::Interrupted(what.into()));
        }
        Ok(status.success().then_some(text))
    }

    /// Prepares data, and notes how long that took the first time.
    fn prepare(&self, data: &Prepared) -> Result<()> {
        let folder = data.folder(self.out);
        let note = folder.with_extension("json");
        if note.exists() {
            return Ok(());
        }
        self.bar.begin(format!("preparing {}", data.name));
        let log = self.out.join("prepare.log");
        let started = Instant::now();
        let Some(text) = self.child(&data.arguments(self.out), &log)? else {
            let last = std::fs::read_to_string(&log).unwrap_or_default();
            let last = last.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return Err(Error::data(&folder, format!("could not be prepared: {last}")));
        };
        let seconds = started.elapsed().as_secs_f64();
        let said = json!({ "seconds": seconds, "said": text.lines().collect::<Vec<_>>() });
        write_atomic(&note, serde_json::to_string_pretty(&said).expect("plain data").as_bytes())
    }

    /// Trains and evaluates run `number`, unless that has been done; `false` when it failed.
    fn train(&self, trial: &Trial, number: u64) -> Result<bool> {
        let (sweep, out) = (self.sweep, self.out);
        let (name, place) = (&trial.name, self.bar.place(number));
        let folder = out.join("runs").join(name);
        let log = folder.join("stderr.txt");
        let started = Instant::now();
        let mut idle = true;
        if !folder.join(summary::FILE).exists() {
            idle = false;
            std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
            self.bar.begin(format!("training {name} ({place})"));
            if self.child(&trial.arguments(sweep, out), &log)?.is_none() {
                tracing::warn!("{name} failed; see {}", log.display());
                self.bar.pass(number);
                return Ok(false);
            }
        }
        for (set, data) in &sweep.evaluate {
            let result = folder.join(format!("eval-{set}.json"));
            if result.exists() {
                continue;
            }
            idle = false;
            self.bar.begin(format!("evaluating {name} on {set} ({place})"));
            let data = plan::data_folder(data, sweep, out);
            let paths = [&folder, &data].map(|p| p.to_string_lossy());
            let words = ["eval", "--checkpoint", &paths[0], "--data", &paths[1], "--json"];
            let words: Vec<String> = words.iter().map(|w| w.to_string()).collect();
            match self.child(&words, &log)? {
                Some(text) => write_atomic(&result, text.as_bytes())?,
                None => {
                    tracing::warn!("{name} could not be evaluated on {set}; see {}", log.display());
                    self.bar.pass(number);
                    return Ok(false);
                }
            }
        }
        match idle {
            true => self.bar.pass(number),
            false => self.bar.done(number, &format!("{name} done in {}", span(started.elapsed()))),
        }
        Ok(true)
    }
}

#[cfg(unix)]
fn interrupt(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn interrupt(_: u32) {}

fn read_json(path: &Path) -> Value {
    let text = files::read_small(path, FileKind::Data).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Writes `table.json` and `table.md` from what is there; returns the latter.
fn write_table(sweep: &Sweep, out: &Path) -> Result<String> {
    let mut rows = Vec::new();
    for trial in &sweep.runs {
        let folder = out.join("runs").join(&trial.name);
        let evaluations: serde_json::Map<String, Value> = sweep
            .evaluate
            .keys()
            .map(|name| (name.clone(), read_json(&folder.join(format!("eval-{name}.json")))))
            .collect();
        rows.push(json!({
            "name": trial.name,
            "group": trial.group,
            "set": trial.settings(sweep),
            "summary": read_json(&folder.join(summary::FILE)),
            "evaluations": evaluations,
        }));
    }
    let prepared: serde_json::Map<String, Value> = sweep
        .prepare
        .iter()
        .map(|p| (p.name.clone(), read_json(&p.folder(out).with_extension("json"))))
        .collect();
    let all = json!({ "prepared": prepared, "runs": rows });
    let text = serde_json::to_string_pretty(&all).expect("plain data");
    write_atomic(&out.join("table.json"), text.as_bytes())?;
    let table = table::markdown(&all, &sweep.evaluate.keys().cloned().collect::<Vec<_>>());
    write_atomic(&out.join("table.md"), table.as_bytes())?;
    Ok(table)
}
