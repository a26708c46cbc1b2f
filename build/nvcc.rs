//! Search for a usable nvcc, and what follows from its outcome. Knows nothing about cargo: the build
//! script, `doctor` and `tests/toolchain.rs` share this file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Oldest toolkit that is accepted: 12.x runs on the drivers (525 and newer) of many A100 clusters.
pub const OLDEST: (u32, u32) = (12, 4);

/// Machine code for the A100 and H100 families, and PTX that drivers translate for everything newer.
pub const TARGETS: [&str; 6] = [
    "-gencode",
    "arch=compute_80,code=sm_80",
    "-gencode",
    "arch=compute_90,code=sm_90",
    "-gencode",
    "arch=compute_80,code=compute_80",
];

/// The same in words, for `--version`.
pub const TARGETS_TEXT: &str = "sm_80, sm_90, PTX 8.0";

/// Where the README tells users to install the pinned wheels, relative to the repository.
pub const PROJECT: &str = ".cuda";

/// How a project-local toolchain is made.
pub const HOW_TO_GET: &str =
    "python3 -m venv .cuda && .cuda/bin/pip install -r kernels/nvcc-requirements.txt";

/// `CHTSL_CUDA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Kernels when there is a usable nvcc.
    Auto,
    /// No search.
    Off,
    /// Without a usable nvcc the build fails.
    Require,
}

impl Wish {
    /// Reads the variable; unset or empty is [`Wish::Auto`].
    pub fn parse(value: Option<&str>) -> Result<Wish, String> {
        match value {
            None | Some("") => Ok(Wish::Auto),
            Some("off") => Ok(Wish::Off),
            Some("require") => Ok(Wish::Require),
            Some(other) => {
                Err(format!("CHTSL_CUDA={other}: must be \"off\", \"require\" or unset"))
            }
        }
    }
}

/// Where to look.
pub struct Places {
    /// `NVCC`: a path or the name of a program in `PATH`.
    pub nvcc: Option<PathBuf>,
    /// `CUDA_HOME` and `CUDA_PATH`.
    pub homes: Vec<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// `/usr/local/cuda`.
    pub system: PathBuf,
    /// The project-local virtual environment.
    pub project: PathBuf,
}

impl Places {
    /// Those of a machine with environment `env` and the repository at `root`.
    pub fn new(env: impl Fn(&str) -> Option<OsString>, root: &Path) -> Self {
        let set = |name| env(name).filter(|v| !v.is_empty());
        Places {
            nvcc: set("NVCC").map(PathBuf::from),
            homes: ["CUDA_HOME", "CUDA_PATH"]
                .into_iter()
                .filter_map(set)
                .map(PathBuf::from)
                .collect(),
            path: set("PATH").map_or_else(Vec::new, |p| std::env::split_paths(&p).collect()),
            system: PathBuf::from("/usr/local/cuda"),
            project: root.join(PROJECT),
        }
    }

    /// Every nvcc there is, in the order in which they are tried.
    ///
    /// `NVCC` is an instruction: with it nothing else is considered.
    pub fn candidates(&self) -> Vec<PathBuf> {
        if let Some(nvcc) = &self.nvcc {
            let named = nvcc.components().count() == 1;
            let found = self.path.iter().map(|dir| dir.join(nvcc)).find(|p| named && p.is_file());
            return vec![found.unwrap_or_else(|| nvcc.clone())];
        }
        let homes = self.homes.iter().map(|home| home.join("bin/nvcc"));
        let path = self.path.iter().map(|dir| dir.join("nvcc"));
        let mut all: Vec<PathBuf> =
            homes.chain(path).chain([self.system.join("bin/nvcc")]).collect();
        all.extend(self.wheels());
        all.retain(|p| p.is_file());
        all.dedup();
        all
    }

    /// nvcc as the wheels lay it out: `lib/pythonX.Y/site-packages/nvidia/cuNN/bin`.
    fn wheels(&self) -> Vec<PathBuf> {
        let children = |dir: &Path, prefix: &str| -> Vec<PathBuf> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
            let mut found: Vec<PathBuf> = named.map(|e| e.path()).collect();
            found.sort();
            found
        };
        children(&self.project.join("lib"), "python")
            .iter()
            .flat_map(|python| children(&python.join("site-packages/nvidia"), "cu"))
            .map(|toolkit| toolkit.join("bin/nvcc"))
            .collect()
    }
}

/// A compiler that works.
#[derive(Clone, Debug)]
pub struct Toolkit {
    /// The compiler.
    pub nvcc: PathBuf,
    /// Its version.
    pub version: (u32, u32),
    /// The folder that `bin`, `include` and the libraries are in.
    pub dir: PathBuf,
    /// The folder of `libcudart_static.a`.
    pub libraries: PathBuf,
}

/// What the search ended with.
#[derive(Debug)]
pub enum Search {
    /// The first candidate that is usable.
    Found(Toolkit),
    /// There is no nvcc.
    Missing,
    /// There was no search, because kernels are not built here: a sentence.
    NotHere(String),
    /// The first candidate, and why it is not usable; no later one was either.
    Unusable(PathBuf, String),
}

/// Why kernels are not built on `host` for `target` (with the operating system `os` on the processor
/// `arch`), if they are not: nvcc compiles the host's side for the machine it runs on, and NVIDIA has it
/// for these two.
pub fn not_here(host: &str, target: &str, os: &str, arch: &str) -> Option<String> {
    let supported = os == "linux" && (arch == "x86_64" || arch == "aarch64");
    if host == target && supported {
        return None;
    }
    let this = match host == target {
        true => format!("this is {host}"),
        false => format!("this build is on {host} for {target}"),
    };
    Some(format!(
        "kernels are built for Linux x86_64 or aarch64 hosts building for themselves, and {this}"
    ))
}

/// Takes the first usable candidate. `scratch` is a folder for a test kernel.
pub fn search(places: &Places, scratch: &Path) -> Search {
    let mut first = None;
    for nvcc in places.candidates() {
        match usable(&nvcc, scratch) {
            Ok(toolkit) => return Search::Found(toolkit),
            Err(why) => first = first.or(Some(Search::Unusable(nvcc, why))),
        }
    }
    first.unwrap_or(Search::Missing)
}

/// Version, folder and libraries of a compiler that translates a kernel for every target.
fn usable(nvcc: &Path, scratch: &Path) -> Result<Toolkit, String> {
    let run = |args: &[&str]| {
        let out = Command::new(nvcc).args(args).current_dir(scratch).output();
        out.map_err(|e| format!("it cannot be started: {e}"))
    };
    let out = run(&["--version"])?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = parse_version(&text).ok_or_else(|| {
        let said = format!("{}\n{text}", String::from_utf8_lossy(&out.stderr));
        format!("it does not tell its version: {}", reason(&said))
    })?;
    if version < OLDEST {
        let ((a, b), (x, y)) = (version, OLDEST);
        return Err(format!("its version is {a}.{b}, {x}.{y} or newer is needed"));
    }
    let source = scratch.join("usable.cu");
    // The header is one that the kernels need and that an incomplete installation lacks.
    let kernel = "#include <cuda_bf16.h>\n__global__ void usable(float* x) { *x = 1; }\n";
    std::fs::write(&source, kernel).map_err(|e| format!("{}: {e}", source.display()))?;
    let mut args = TARGETS.to_vec();
    args.extend(["-std=c++17", "-c", "usable.cu", "-o", "usable.o"]);
    let out = run(&args)?;
    if !out.status.success() {
        let said = format!(
            "{}\n{}",
            String::from_utf8_lossy(&out.stderr),
            String::from_utf8_lossy(&out.stdout)
        );
        return Err(format!("it does not compile a test kernel: {}", reason(&said)));
    }
    let plan = run(&["--dryrun", "-c", "usable.cu", "-o", "usable.o"])?;
    let dir = toolkit_dir(nvcc, &String::from_utf8_lossy(&plan.stderr));
    let libraries = library_dirs(&dir)
        .into_iter()
        .find(|d| d.join("libcudart_static.a").is_file())
        .ok_or_else(|| {
            format!("libcudart_static.a is missing in {} (package cuda-cudart)", dir.display())
        })?;
    Ok(Toolkit { nvcc: nvcc.to_path_buf(), version, dir, libraries })
}

/// `release 13.0` in the output of `nvcc --version`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split("release ").nth(1)?;
    let (major, rest) = rest.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.trim().parse().ok()?, minor.parse().ok()?))
}

/// The line of a compiler's output that says what is wrong.
pub fn reason(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|l| !l.is_empty());
    let telling = |l: &&str| l.contains("error") || l.contains("fatal") || l.contains("not found");
    let line = lines().find(telling).or_else(|| lines().next()).unwrap_or("it says nothing");
    line.chars().take(300).collect()
}

/// The toolkit's folder: what the compiler itself calls TOP (nvcc may be a link or a script far from
/// it), else the parent of its folder.
fn toolkit_dir(nvcc: &Path, plan: &str) -> PathBuf {
    let top = plan.lines().find_map(|l| l.strip_prefix("#$ TOP="));
    let real = nvcc.canonicalize().unwrap_or_else(|_| nvcc.to_path_buf());
    let dir = top.map(PathBuf::from).or_else(|| Some(real.parent()?.parent()?.to_path_buf()));
    let dir = dir.unwrap_or_else(|| nvcc.to_path_buf());
    dir.canonicalize().unwrap_or(dir)
}

/// Where a toolkit keeps its libraries: NVIDIA's installers, wheels and conda, Debian.
fn library_dirs(dir: &Path) -> Vec<PathBuf> {
    let arch = std::env::consts::ARCH;
    let target = if arch == "aarch64" { "sbsa-linux" } else { "x86_64-linux" };
    let mut all =
        vec![dir.join("lib64"), dir.join("lib"), dir.join("targets").join(target).join("lib")];
    all.push(dir.join(format!("lib/{arch}-linux-gnu")));
    all.push(PathBuf::from(format!("/usr/lib/{arch}-linux-gnu")));
    all
}

/// What to build.
#[derive(Debug)]
pub enum Decision {
    /// With kernels.
    Cuda(Toolkit),
    /// Without, and why; `warn` when the user should hear of it during the build.
    Cpu {
        /// One line.
        reason: String,
        /// Whether it is a warning.
        warn: bool,
    },
    /// Nothing: a sentence.
    Fail(String),
}

/// From the wish and the search to the build. `gpu` tells that the machine has an NVIDIA device: only
/// there the absence of nvcc is news; anywhere else a CPU build is what is expected.
pub fn decide(wish: Wish, gpu: bool, search: impl FnOnce() -> Search) -> Decision {
    if wish == Wish::Off {
        return Decision::Cpu { reason: "CHTSL_CUDA=off".into(), warn: false };
    }
    let required = wish == Wish::Require;
    match search() {
        Search::Found(toolkit) => Decision::Cuda(toolkit),
        Search::Missing if required => Decision::Fail(format!(
            "CHTSL_CUDA=require, but there is no nvcc in NVCC, CUDA_HOME, CUDA_PATH, PATH, \
             /usr/local/cuda or {PROJECT}; install the CUDA toolkit 12.4 or newer, or: {HOW_TO_GET}"
        )),
        Search::Missing => Decision::Cpu { reason: "no nvcc found".into(), warn: gpu },
        Search::NotHere(why) if required => Decision::Fail(format!(
            "CHTSL_CUDA=require, but {why}: build on the machine that is to run it, or a CPU build with \
             CHTSL_CUDA=off"
        )),
        Search::NotHere(reason) => Decision::Cpu { reason, warn: gpu },
        Search::Unusable(nvcc, why) => {
            let reason = format!("{} is not usable: {why}", nvcc.display());
            match required {
                true => Decision::Fail(format!("CHTSL_CUDA=require, but {reason}")),
                false => Decision::Cpu { reason, warn: true },
            }
        }
    }
}
