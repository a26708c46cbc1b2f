//! Toolkit, driver, device and cuBLASLt, each looked for by itself, and whether this build can use them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::backend::cuda::driver::{self, CudaVersion, Toolkit};

// The build script's search for nvcc: what is found here is what a build would try.
#[allow(dead_code)]
#[path = "../../../build/nvcc.rs"]
mod nvcc;

/// Signs of NVIDIA's kernel driver, which a machine or container may have without its libraries.
const KERNEL_DRIVER: [&str; 3] = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];

/// How kernels get into the program.
const BUILD: &str = "build with CHTSL_CUDA=require cargo build --release";

/// A compiler and what it says of itself.
struct Compiler {
    nvcc: PathBuf,
    version: CudaVersion,
}

impl Compiler {
    /// The first one that answers.
    ///
    /// Errors: where nothing was found, or what did not answer.
    fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut refused = Vec::new();
        for nvcc in nvcc::Places::new(|name| std::env::var_os(name), root).candidates() {
            let said = Command::new(&nvcc).arg("--version").stdin(Stdio::null()).output();
            let version =
                said.map(|out| nvcc::parse_version(&String::from_utf8_lossy(&out.stdout)));
            match version {
                Ok(Some((major, minor))) => {
                    return Ok(Compiler { nvcc, version: CudaVersion { major, minor } });
                }
                Ok(None) => refused.push(format!("{} does not tell its version", nvcc.display())),
                Err(e) => refused.push(format!("{} cannot be started: {e}", nvcc.display())),
            }
        }
        Err(match refused.is_empty() {
            true => {
                let project = nvcc::PROJECT;
                format!("no nvcc in NVCC, CUDA_HOME, CUDA_PATH, PATH, /usr/local/cuda or {project}")
            }
            false => refused.join("; "),
        })
    }

    fn new_enough(&self) -> bool {
        (self.version.major, self.version.minor) >= nvcc::OLDEST
    }

    /// Its toolkit, whose folders may hold cuBLASLt.
    fn toolkit(&self) -> Option<Toolkit> {
        let real = self.nvcc.canonicalize().ok()?;
        Some(Toolkit { version: self.version, dir: real.parent()?.parent()?.to_path_buf() })
    }
}

/// Every part as an object of its own, with `missing` where it is not there.
pub fn report(advice: &mut Vec<String>) -> Value {
    let compiler = Compiler::find();
    let found_with = compiler.as_ref().ok().and_then(Compiler::toolkit);
    let toolkit = Toolkit::of_this_build().or(found_with);
    let found = driver::survey(toolkit.as_ref());
    let opened = driver::open();
    let kernel_driver = KERNEL_DRIVER.into_iter().find(|p| Path::new(p).exists());
    let missing = |why: &String| json!({ "missing": why });
    if let Err(why) = &opened {
        if cfg!(chtsl_cuda) {
            advice.push(why.to_string());
        } else if found.driver.is_ok() || kernel_driver.is_some() {
            // Without a GPU a CPU build lacks nothing.
            let install = match &compiler {
                Ok(c) if c.new_enough() => String::new(),
                _ => "install a CUDA toolkit 12.4 or newer (README.md, \"CUDA\") and ".into(),
            };
            advice.push(format!("this build cannot use the NVIDIA GPU here: {install}{BUILD}"));
        }
    }
    if let (Err(why), Some(sign)) = (&found.driver, kernel_driver) {
        advice.push(format!(
            "{sign} shows NVIDIA's kernel driver, but its library cannot be loaded ({why}): install it, \
             or start the container with --gpus all"
        ));
    }
    json!({
        "build": env!("CHTSL_BUILD"),
        "kernels": cfg!(chtsl_cuda),
        "usable": opened.is_ok(),
        "toolkit": match &compiler {
            Ok(c) => json!({
                "version": c.version.to_string(),
                "nvcc": c.nvcc.display().to_string(),
                "new_enough": c.new_enough(),
            }),
            Err(why) => missing(why),
        },
        "driver": match &found.driver {
            Ok(version) => json!({ "supports": version.to_string() }),
            Err(why) => missing(why),
        },
        "device": match &found.device {
            Ok(d) => json!({
                "name": d.name,
                "compute_capability": format!("{}.{}", d.capability.0, d.capability.1),
                "devices": d.count,
                "memory_bytes": d.memory,
                "free_bytes": opened.as_ref().ok().map(|d| d.free),
            }),
            Err(why) => missing(why),
        },
        "cublaslt": match &found.dense {
            Ok(library) => json!({ "library": library.to_string() }),
            Err(why) => missing(why),
        },
    })
}

/// Lines of the report: the part and what there is of it.
pub fn lines(cuda: &Value) -> [(&'static str, String); 5] {
    let text = |v: &Value| v.as_str().unwrap_or("unknown").to_string();
    let or_missing = |part: &Value, there: &dyn Fn() -> String| match part["missing"].as_str() {
        Some(why) => format!("none ({why})"),
        None => there(),
    };
    let (t, d) = (&cuda["toolkit"], &cuda["device"]);
    let device = || {
        let gib = |v: &Value| v.as_f64().map(|b| format!("{:.1} GiB", b / (1u64 << 30) as f64));
        let mut facts = vec![format!("compute capability {}", text(&d["compute_capability"]))];
        facts.extend(gib(&d["memory_bytes"]));
        facts.extend(gib(&d["free_bytes"]).map(|free| format!("{free} free")));
        let more = d["devices"].as_u64().filter(|n| *n > 1);
        facts.extend(more.map(|n| format!("the first of {n}")));
        format!("{} ({})", text(&d["name"]), facts.join(", "))
    };
    [
        ("build", text(&cuda["build"])),
        (
            "toolkit",
            or_missing(t, &|| {
                let old = if t["new_enough"] == false {
                    ", too old: 12.4 or newer is needed"
                } else {
                    ""
                };
                format!("{} ({}){old}", text(&t["version"]), text(&t["nvcc"]))
            }),
        ),
        (
            "driver",
            or_missing(&cuda["driver"], &|| {
                format!("supports {}", text(&cuda["driver"]["supports"]))
            }),
        ),
        ("device", or_missing(d, &device)),
        ("cuBLASLt", or_missing(&cuda["cublaslt"], &|| text(&cuda["cublaslt"]["library"]))),
    ]
}
