//! Compiles the CUDA kernels where there is a usable nvcc, and records what was built. Without one the
//! build is a CPU build, which needs no CUDA at all.
//!
//! `CHTSL_CUDA=off` skips the search; `CHTSL_CUDA=require` makes a missing or unusable nvcc an error.
//! A kernel that a usable nvcc refuses is an error always: training quietly on the CPU of a machine
//! with a GPU would be the worse surprise.

#[cfg(feature = "bindgen")]
#[path = "build/bindings.rs"]
mod bindings;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/nvcc.rs"]
mod nvcc;

use std::env;
use std::path::{Path, PathBuf};
use std::process::exit;

use nvcc::{Decision, HOW_TO_GET, Places, Search, TARGETS_TEXT, Toolkit, Wish};

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    println!("cargo::rustc-check-cfg=cfg(chtsl_cuda)");
    watch(&root);
    #[cfg(feature = "bindgen")]
    bindings::generate(&root, &out);

    match decide(&root, &out) {
        Decision::Cuda(toolkit) => with_kernels(&toolkit, &root, &out),
        Decision::Cpu { reason, warn } => {
            if warn {
                println!(
                    "cargo::warning=CPU build: {reason} (README.md, \"CUDA\"; CHTSL_CUDA=off \
                     silences this)"
                );
            }
            println!("CPU build: {reason}; for one with kernels: {HOW_TO_GET}");
            record(&format!("CPU build for {}: {reason}", variable("TARGET")), None);
        }
        Decision::Fail(why) => fail(&why),
    }
}

fn decide(root: &Path, out: &Path) -> Decision {
    let wish = env::var("CHTSL_CUDA").ok();
    let wish = Wish::parse(wish.as_deref()).unwrap_or_else(|e| fail(&e));
    let gpu = ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"];
    let gpu = gpu.iter().any(|p| Path::new(p).exists());
    nvcc::decide(wish, gpu, || {
        let names = ["HOST", "TARGET", "CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ARCH"];
        let [host, target, os, arch] = names.map(variable);
        if let Some(why) = nvcc::not_here(&host, &target, &os, &arch) {
            return Search::NotHere(why);
        }
        nvcc::search(&Places::new(|name| env::var_os(name), root), out)
    })
}

fn with_kernels(toolkit: &Toolkit, root: &Path, out: &Path) {
    let jobs = variable("NUM_JOBS").parse().unwrap_or(1);
    let library = kernels::build(toolkit, root, out, jobs).unwrap_or_else(|e| {
        fail(&format!("{e}\n(CHTSL_CUDA=off cargo build makes a CPU build without the kernels)"))
    });
    for line in library.warnings.iter().take(20) {
        println!("cargo::warning={line}");
    }
    for path in &library.inputs {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    println!("cargo::rerun-if-changed={}", toolkit.nvcc.display());
    println!("cargo::rustc-cfg=chtsl_cuda");
    println!("cargo::rustc-link-search=native={}", library.dir.display());
    println!("cargo::rustc-link-search=native={}", toolkit.libraries.display());
    println!("cargo::rustc-link-lib=static=chtsl_kernels");
    println!("cargo::rustc-link-lib=static=cudart_static");
    for name in ["dl", "rt", "pthread", "stdc++"] {
        println!("cargo::rustc-link-lib=dylib={name}");
    }
    println!("cargo::rustc-env=CHTSL_PTXAS={}", library.ptxas.display());
    let (major, minor) = toolkit.version;
    let text = format!("CUDA {major}.{minor} ({TARGETS_TEXT}) for {}", variable("TARGET"));
    record(&text, Some(toolkit));
}

/// What the program says of itself. Set in every build, so that nothing comes from the environment.
fn record(build: &str, toolkit: Option<&Toolkit>) {
    let version = toolkit.map(|t| format!("{}.{}", t.version.0, t.version.1));
    let dir = toolkit.map(|t| t.dir.display().to_string());
    println!("cargo::rustc-env=CHTSL_BUILD={build}");
    println!("cargo::rustc-env=CHTSL_CUDA_VERSION={}", version.unwrap_or_default());
    println!("cargo::rustc-env=CHTSL_CUDA_DIR={}", dir.unwrap_or_default());
}

/// What makes this script run again, beside the kernels' own inputs. A new family of kernels comes
/// with a header, so a new file in `kernels/` needs no watch, and `kernels/emulation` gets none.
fn watch(root: &Path) {
    for path in ["build.rs", "build", "include", "kernels/common", "kernels/nvcc-requirements.txt"]
    {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    for source in kernels::sources(root).unwrap_or_else(|e| fail(&e)) {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    // Not PATH: it differs between shells and editors, and every difference would build the crate anew.
    let names = ["CHTSL_CUDA", "NVCC", "CUDA_HOME", "CUDA_PATH"];
    let of_nvcc = ["NVCC_CCBIN", "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"];
    for name in names.into_iter().chain(of_nvcc) {
        println!("cargo::rerun-if-env-changed={name}");
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo does not set {name}")))
}

fn fail(why: &str) -> ! {
    println!("cargo::error={why}");
    exit(1)
}
