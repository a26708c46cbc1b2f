//! `chtsl doctor`: what this machine can do, what is missing, and what to do about it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::backend::cpu::Level;
use crate::backend::cuda::driver;
use crate::cli::disk;
use crate::cli::say;
use crate::config::layers;
use crate::error::Result;
use crate::train::plan::{Home, Plan};

/// Bytes of the test write.
const TEST_WRITE: usize = 32 << 20;

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
    /// Folder whose disk is looked at; a file of 32 MB is written there and removed.
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
    let report = json!({
        "machine": machine(&memory, &mut advice),
        "cuda": cuda(&mut advice),
        "disk": disk_report(&args.out, &mut advice)?,
        "presets": presets(&args, &memory, &mut advice)?,
        "advice": advice,
    });
    if args.json { say(report) } else { print(&report) }
}

/// Bytes of memory in all and free for new work; `None` where the system does not tell.
struct Memory {
    total: Option<u64>,
    available: Option<u64>,
}

impl Memory {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
        };
        Memory { total: field("MemTotal:"), available: field("MemAvailable:") }
    }
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
        "available_bytes": memory.available,
    })
}

fn cuda(advice: &mut Vec<String>) -> Value {
    let device = match driver::open() {
        Ok(driver) => driver.describe(),
        Err(why) => {
            // In a CPU build without a GPU that is as it should be.
            if cfg!(chtsl_cuda) || driver::present() {
                advice.push(why.to_string());
            }
            format!("none: {why}")
        }
    };
    json!({ "build": env!("CHTSL_BUILD"), "device": device })
}

fn disk_report(folder: &Path, advice: &mut Vec<String>) -> Result<Value> {
    let (free, started) = (disk::free(folder)?, Instant::now());
    let path = folder.join(format!(".chtsl-doctor-{}", std::process::id()));
    let block = vec![0x5au8; 1 << 20];
    let written = std::fs::File::create(&path).and_then(|mut file| {
        (0..TEST_WRITE / block.len()).try_for_each(|_| file.write_all(&block))?;
        file.sync_all()
    });
    let seconds = started.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(&path);
    let speed = match written {
        Ok(()) => Some(TEST_WRITE as f64 / seconds),
        Err(e) => {
            advice.push(format!("{} cannot be written to: {e}", folder.display()));
            None
        }
    };
    Ok(json!({
        "folder": folder.display().to_string(),
        "free_bytes": free,
        "write_bytes_per_s": speed,
    }))
}

fn presets(args: &Args, memory: &Memory, advice: &mut Vec<String>) -> Result<Value> {
    let names = match &args.preset {
        Some(name) => vec![name.clone()],
        None => layers::preset_names(),
    };
    let mut rows = Vec::new();
    for name in names {
        let config = layers::resolve(Some(&name), None, &args.set)?;
        let (cpu, cuda) = (Plan::new(&config, Home::Cpu)?, Plan::new(&config, Home::Cuda)?);
        let fits = memory.available.map(|free| cpu.memory() <= free);
        if fits == Some(false) && args.preset.is_some() {
            advice.push(format!(
                "{name} needs {:.1} GB on the CPU and {:.1} GB are free: lower train.micro_batch \
                 (now {})",
                cpu.memory() as f64 / 1e9,
                memory.available.unwrap_or(0) as f64 / 1e9,
                config.train.micro_batch
            ));
        }
        rows.push(json!({
            "preset": name,
            "parameters": cpu.parameters.total(),
            "micro_batch": config.train.micro_batch,
            "cpu_bytes": cpu.memory(),
            "cuda_bytes": cuda.memory(),
            "checkpoint_bytes": cpu.checkpoint,
            "fits_in_memory": fits,
        }));
    }
    Ok(rows.into())
}

fn print(r: &Value) -> Result<()> {
    let gb = |v: &Value| v.as_f64().map_or("unknown".into(), |b| format!("{:.1} GB", b / 1e9));
    let text = |v: &Value| v.as_str().unwrap_or("unknown").to_string();
    let m = &r["machine"];
    say(format!(
        "machine   {}, {} cores, SIMD {}; memory {}, {} available",
        text(&m["processor"]),
        m["cores"],
        text(&m["simd"]),
        gb(&m["memory_bytes"]),
        gb(&m["available_bytes"])
    ))?;
    say(format!("build     {}", text(&r["cuda"]["build"])))?;
    say(format!("device    {}", text(&r["cuda"]["device"])))?;
    let d = &r["disk"];
    let speed = d["write_bytes_per_s"].as_f64();
    say(format!(
        "disk      {}: {} free, test write {}",
        text(&d["folder"]),
        gb(&d["free_bytes"]),
        speed.map_or("failed".into(), |s| format!("{:.0} MB/s", s / 1e6))
    ))?;
    say(format!(
        "{:<10}{:>12}{:>13}{:>14}{:>14}{:>14}",
        "preset", "parameters", "micro-batch", "CPU memory", "CUDA memory", "checkpoint"
    ))?;
    for p in r["presets"].as_array().into_iter().flatten() {
        let fits = match p["fits_in_memory"].as_bool() {
            Some(false) => "  does not fit this machine's memory",
            _ => "",
        };
        say(format!(
            "{:<10}{:>10.1} M{:>13}{:>14}{:>14}{:>14}{fits}",
            text(&p["preset"]),
            p["parameters"].as_f64().unwrap_or(f64::NAN) / 1e6,
            p["micro_batch"].to_string(),
            gb(&p["cpu_bytes"]),
            gb(&p["cuda_bytes"]),
            gb(&p["checkpoint_bytes"])
        ))?;
    }
    let advice = r["advice"].as_array().map_or(&[][..], Vec::as_slice);
    for line in advice {
        say(format!("advice    {}", text(line)))?;
    }
    if advice.is_empty() {
        say("advice    nothing is missing")?;
    }
    Ok(())
}
