//! `chtsl doctor`: what this machine can do, what is missing, and what to do about it.
//!
//! | file | what |
//! |---|---|
//! | `memory` | memory of the machine and of the control groups around this process |
//! | `cuda` | toolkit, driver, device, cuBLASLt |

mod cuda;
mod memory;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use self::memory::Memory;
use crate::backend::cpu::Level;
use crate::cli::disk;
use crate::cli::say;
use crate::config::{Config, layers};
use crate::error::Result;
use crate::files;
use crate::train::plan::{Home, Plan};

/// Bytes of the test write.
const TEST_WRITE: u64 = 32 << 20;

/// Check the machine: processor, memory, CUDA, disk, and which model sizes fit.
///
/// Example: chtsl doctor --preset 60m --out /data/runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Estimate the memory of this preset only [default: all of them].
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Set one configuration key of the estimate, for example train.micro_batch=8; repeatable.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Folder for runs, made or not; a file of 32 MB is written there, or in the nearest folder above
    /// that exists, and removed.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let mut advice = Vec::new();
    let memory = Memory::now();
    let mut report = json!({
        "machine": machine(&memory, &mut advice),
        "cuda": cuda::report(&mut advice),
        "disk": disk_report(&args.out, &mut advice)?,
    });
    report["presets"] = presets(&args, &report, &mut advice)?;
    report["advice"] = advice.into();
    if args.json { say(report) } else { print(&report) }
}

fn machine(memory: &Memory, advice: &mut Vec<String>) -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": "));
    let level = match Level::detect() {
        Ok(level) => format!("{level:?}").to_lowercase(),
        Err(e) => {
            advice.push(e.to_string());
            "unusable".into()
        }
    };
    if level == "portable" {
        advice.push(
            "this processor has neither AVX2 nor AVX-512 (or CHTSL_SIMD asks for the portable path): \
             training on it is several times slower"
                .into(),
        );
    }
    json!({
        "processor": model.map_or("unknown", |(_, name)| name),
        "cores": std::thread::available_parallelism().map_or(1, |n| n.get()),
        "simd": level,
        "memory_bytes": memory.total,
        "limit_bytes": memory.limit,
        "available_bytes": memory.available,
    })
}

/// The disk that a run in `out` would be on.
fn disk_report(out: &Path, advice: &mut Vec<String>) -> Result<Value> {
    let folder = disk::nearest(out);
    let in_the_way = out.ancestors().find(|f| f.exists()).filter(|f| !f.is_dir());
    if let Some(file) = in_the_way {
        advice.push(format!(
            "{} is not a folder, so a run cannot be made in {}: name another with --out",
            file.display(),
            out.display()
        ));
    }
    let name = format!(".chtsl-doctor-{}", std::process::id());
    let speed = match disk::test_write(folder, &name, TEST_WRITE) {
        Ok(speed) => Some(speed),
        Err(e) => {
            advice.push(format!(
                "{e}: a run needs a folder that can be written to; name one with --out"
            ));
            None
        }
    };
    Ok(json!({
        "out": out.display().to_string(),
        "folder": folder.display().to_string(),
        "free_bytes": files::free_space(folder)?,
        "write_bytes_per_s": speed,
    }))
}

/// A need of a run and what there is for it, in bytes.
struct Need {
    /// "memory", "device" or "disk".
    of: &'static str,
    bytes: u64,
    /// `None` where nobody tells, or where there is no device.
    there: Option<u64>,
}

impl Need {
    fn fits(&self) -> Option<bool> {
        self.there.map(|there| self.bytes <= there)
    }

    /// What to do when it does not fit.
    fn advice(&self, name: &str, config: &Config) -> String {
        let (what, change) = match self.of {
            "memory" => ("memory on the CPU", "train.micro_batch"),
            "device" => ("memory on the device", "train.micro_batch"),
            _ => ("disk for its checkpoints", "train.keep_checkpoints"),
        };
        let now = match self.of {
            "disk" => config.train.keep_checkpoints,
            _ => config.train.micro_batch,
        };
        let gb = |bytes: u64| bytes as f64 / 1e9;
        format!(
            "{name} needs {:.2} GB of {what} and {:.2} GB are free: free some, or lower {change} (now \
             {now})",
            gb(self.bytes),
            gb(self.there.unwrap_or(0))
        )
    }
}

/// What each preset needs, and whether there is that much.
fn presets(args: &Args, report: &Value, advice: &mut Vec<String>) -> Result<Value> {
    let names = match &args.preset {
        Some(name) => vec![name.clone()],
        None => layers::preset_names(),
    };
    let threads = report["machine"]["cores"].as_u64().unwrap_or(1) as usize;
    let device = &report["cuda"]["device"];
    let mut rows = Vec::new();
    for name in names {
        let config = layers::resolve(Some(&name), None, &args.set)?;
        let (cpu, cuda) = (Plan::new(&config, Home::Cpu)?, Plan::new(&config, Home::Cuda)?);
        let memory = Need {
            of: "memory",
            bytes: cpu.memory(threads),
            there: report["machine"]["available_bytes"].as_u64(),
        };
        let device = Need {
            of: "device",
            bytes: cuda.memory(threads),
            there: device["free_bytes"].as_u64().or(device["memory_bytes"].as_u64()),
        };
        let disk = Need {
            of: "disk",
            bytes: disk::of_checkpoints(&cpu, config.train.keep_checkpoints),
            there: report["disk"]["free_bytes"].as_u64(),
        };
        let needs = [&memory, &device, &disk];
        let short: Vec<&Need> =
            needs.into_iter().filter(|need| need.fits() == Some(false)).collect();
        if args.preset.is_some() {
            advice.extend(short.iter().map(|need| need.advice(&name, &config)));
        }
        rows.push(json!({
            "preset": name,
            "parameters": cpu.parameters.total(),
            "micro_batch": config.train.micro_batch,
            "cpu_bytes": memory.bytes,
            "cuda_bytes": device.bytes,
            "checkpoint_bytes": cpu.checkpoint,
            "disk_bytes": disk.bytes,
            "fits_in_memory": memory.fits(),
            "fits_on_device": device.fits(),
            "fits_on_disk": disk.fits(),
            "too_large_for": short.iter().map(|need| need.of).collect::<Vec<_>>(),
        }));
    }
    Ok(rows.into())
}

fn print(r: &Value) -> Result<()> {
    let gb = |v: &Value| match v.as_f64() {
        Some(b) if b < 1e8 => format!("{:.0} MB", b / 1e6),
        Some(b) => format!("{:.1} GB", b / 1e9),
        None => "unknown".into(),
    };
    let text = |v: &Value| v.as_str().unwrap_or("unknown").to_string();
    let m = &r["machine"];
    say(format!(
        "machine   {}, {} cores, SIMD {}",
        text(&m["processor"]),
        m["cores"],
        text(&m["simd"])
    ))?;
    let limit = match m["limit_bytes"].is_null() {
        true => String::new(),
        false => format!("; {} is the limit of this control group", gb(&m["limit_bytes"])),
    };
    let (total, available) = (gb(&m["memory_bytes"]), gb(&m["available_bytes"]));
    say(format!("memory    {total}, {available} available{limit}"))?;
    for (part, what) in cuda::lines(&r["cuda"]) {
        say(format!("{part:<10}{what}"))?;
    }
    let d = &r["disk"];
    let speed = d["write_bytes_per_s"].as_f64();
    say(format!(
        "disk      {}: {} free, test write {}",
        text(&d["folder"]),
        gb(&d["free_bytes"]),
        speed.map_or("failed".into(), |s| format!("{:.0} MB/s", s / 1e6))
    ))?;
    say(format!(
        "\n{:<7}{:>11}{:>12}{:>11}{:>12}{:>10}  fits",
        "preset", "parameters", "micro-batch", "CPU memory", "CUDA memory", "disk"
    ))?;
    for p in r["presets"].as_array().into_iter().flatten() {
        let short: Vec<String> =
            p["too_large_for"].as_array().into_iter().flatten().map(text).collect();
        say(format!(
            "{:<7}{:>9.1} M{:>12}{:>11}{:>12}{:>10}  {}",
            text(&p["preset"]),
            p["parameters"].as_f64().unwrap_or(f64::NAN) / 1e6,
            p["micro_batch"].to_string(),
            gb(&p["cpu_bytes"]),
            gb(&p["cuda_bytes"]),
            gb(&p["disk_bytes"]),
            if short.is_empty() { "yes".into() } else { format!("no: {}", short.join(", ")) }
        ))?;
    }
    say("disk: the checkpoints that a run keeps, and the one being written\n")?;
    let advice = r["advice"].as_array().map_or(&[][..], Vec::as_slice);
    for line in advice {
        say(format!("advice    {}", text(line)))?;
    }
    if advice.is_empty() {
        let what = if r["cuda"]["usable"] == true { "CUDA" } else { "the CPU" };
        say(format!("advice    none: nothing is missing for training on {what}"))?;
    }
    Ok(())
}
