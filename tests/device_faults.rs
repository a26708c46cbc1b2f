//! Everything that can be missing between the program and a device, without a device: a driver library
//! made with `cc` takes the place of NVIDIA's. Each fault ends in one sentence that names both versions
//! and what to do, never in a panic.
//!
//! The loader reads `LD_LIBRARY_PATH` when a process starts, so each case is a process: this test
//! program again (test `child`) or `chtsl` itself.
#![cfg(target_os = "linux")]

#[path = "support/stubs.rs"]
mod stubs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use assert_cmd::cargo::CommandCargoExt;
use chtsl::backend::cuda::driver::{self, CudaVersion, Toolkit};
use chtsl::error::Error;
use stubs::Stubs;

/// Opens a device for the toolkit that the environment describes and tells how it went.
#[test]
#[ignore = "one case, started by the others"]
fn child() {
    let version = std::env::var("CHILD_TOOLKIT").expect("started by the other tests");
    let dir = PathBuf::from(std::env::var_os("CHILD_DIR").unwrap_or_default());
    let toolkit = Toolkit { version: CudaVersion::parse(&version).unwrap(), dir };
    if let Some(dir) = std::env::var_os("CHILD_CURRENT_DIR") {
        std::env::set_current_dir(dir).unwrap();
    }
    match driver::open_for(&toolkit) {
        Ok(d) => println!("\nopened: {}", d.describe()),
        Err(Error::Device(why)) => println!("\nrefused: {why}"),
        Err(e) => panic!("not a device's error: {e:?}"),
    }
}

/// What a machine says of its device.
trait Told {
    fn child(&self, toolkit: &str, env: &[(&str, &str)]) -> String;
    fn refused(&self, toolkit: &str, env: &[(&str, &str)], parts: &[&str]);
}

impl Told for Stubs {
    fn child(&self, toolkit: &str, env: &[(&str, &str)]) -> String {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        command.env("CHILD_TOOLKIT", toolkit).env("CHILD_DIR", self.at("toolkit/nvidia/cu13"));
        let out = self.output(command, env);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let told = text.lines().find(|l| l.starts_with("opened: ") || l.starts_with("refused: "));
        let told = told.unwrap_or_else(|| {
            panic!("{text}{}", String::from_utf8_lossy(&out.stderr));
        });
        assert!(out.status.success(), "{text}");
        told.to_string()
    }

    /// One sentence with all of `parts`, both versions among them.
    fn refused(&self, toolkit: &str, env: &[(&str, &str)], parts: &[&str]) {
        let told = self.child(toolkit, env);
        assert!(told.starts_with("refused: "), "{told}");
        assert!(told.contains(&format!("the kernels were built with CUDA {toolkit}")), "{told}");
        for part in parts {
            assert!(told.contains(part), "{part:?} in {told}");
        }
    }
}

/// Whether the loader's own folders have a library, which no test can hide.
fn machine_has(name: &str) -> bool {
    let folders =
        ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let cache = std::fs::read("/etc/ld.so.cache").unwrap_or_default();
    folders.iter().any(|d| Path::new(d).join(name).exists())
        || cache.windows(name.len()).any(|w| w == name.as_bytes())
}

#[test]
fn a_good_device_is_described() {
    let told = Stubs::new().child("13.0", &[]);
    assert_eq!(
        told,
        "opened: Stub A100 (compute capability 8.0, 108 multiprocessors, 39.0 of 40.0 GiB free); driver \
         CUDA 13.0, kernels CUDA 13.0, cuBLASLt 13.3 from libcublasLt.so.13 in the \
         loader's path"
    );
}

#[test]
fn no_driver() {
    if machine_has("libcuda.so") {
        eprintln!("skipped: this machine has an NVIDIA driver");
        return;
    }
    let told = ["there is no NVIDIA driver (libcuda.so.1: cannot open", "driver 580 or newer"];
    Stubs::without_libraries().refused("13.0", &[], &told);
    let stubs = Stubs::without_libraries();
    std::fs::write(stubs.at("loader/libcuda.so.1"), "not a library").unwrap();
    stubs.refused("12.4", &[], &["file too short", "driver 525 or newer", "--device cpu"]);
}

#[test]
fn driver_too_old_for_the_toolkit() {
    let stubs = Stubs::new();
    let old = ("STUB_DRIVER", "12040");
    let told = ["the driver supports CUDA 12.4", "needs driver 580 or newer", "a CUDA 12 toolkit"];
    stubs.refused("13.0", &[old], &told);
    // The version is told even when the driver would not start.
    stubs.refused("13.0", &[old, ("STUB_INIT", "803")], &told);
    // Within a major version any driver will do for machine code, but not for PTX.
    stubs.dense("loader", "libcublasLt.so.13", &["-DCUBLASLT=12"]);
    assert!(stubs.child("12.8", &[old]).starts_with("opened: "));
    let told = ["compute capability 10.0", "supports CUDA 12.4 only", "update the driver"];
    stubs.refused("12.8", &[old, ("STUB_CAPABILITY", "100")], &told);
    assert!(stubs.child("12.4", &[old, ("STUB_CAPABILITY", "100")]).starts_with("opened: "));
    assert!(stubs.child("12.4", &[("STUB_DRIVER", "13010")]).starts_with("opened: "));
}

#[test]
fn driver_that_does_not_start() {
    let stubs = Stubs::new();
    let both = "the driver supports CUDA 13.0";
    for (code, parts) in [
        (
            "100",
            ["the driver sees no device: error 100 (CUDA_ERROR_NO_DEVICE)", "CUDA_VISIBLE_DEVICES"],
        ),
        ("34", ["cuInit: error 34", "out of LD_LIBRARY_PATH"]),
        ("803", ["cuInit: error 803", "reboot after the driver's update"]),
        ("804", ["cuInit: error 804", "newer driver"]),
        ("999", ["cuInit: error 999 (unknown)", "nvidia-smi"]),
        // A code that no header has yet.
        ("4242", ["cuInit: error 4242 (unknown)", "nvidia-smi"]),
    ] {
        stubs.refused("13.0", &[("STUB_INIT", code)], &[parts[0], parts[1], both]);
    }
    // NVIDIA's stub for linkers answers everything like this.
    let told = ["the driver does not tell its version: error 34", "out of LD_LIBRARY_PATH"];
    stubs.refused("13.0", &[("STUB_VERSION", "34")], &told);
    stubs.refused("13.0", &[("STUB_DEVICES", "0")], &["the driver sees no device", both]);
}

#[test]
fn device_that_cannot_be_used() {
    let stubs = Stubs::new();
    let told = ["Stub A100 has compute capability 7.5, and the kernels need 8.0 or higher"];
    stubs.refused("13.0", &[("STUB_CAPABILITY", "75")], &told);
    let told =
        ["out of memory: error 2 (CUDA_ERROR_OUT_OF_MEMORY, out of memory)", "nvidia-smi lists"];
    stubs.refused("13.0", &[("STUB_RETAIN", "2")], &told);
    stubs.refused("13.0", &[("STUB_MEMORY", "2")], &told);
    stubs.refused("13.0", &[("STUB_RETAIN", "46")], &["another process has the device to itself"]);
    stubs.refused("13.0", &[("STUB_RETAIN", "214")], &["the device's memory is damaged"]);
}

#[test]
fn driver_without_an_entry_point() {
    let stubs = Stubs::new();
    for (flag, name) in
        [("-DWITHOUT_MEMORY", "cuMemGetInfo_v2"), ("-DWITHOUT_STREAMS", "cuStreamCreate")]
    {
        stubs.driver(&[flag]);
        let told = [&format!("libcuda has no function {name}") as &str, "reinstall driver 580"];
        stubs.refused("13.0", &[], &told);
    }
}

#[test]
fn cublaslt_is_searched_in_order() {
    let stubs = Stubs::new();
    let opened = |env: &[(&str, &str)], from: &Path| {
        let told = stubs.child("13.0", env);
        assert!(told.ends_with(&format!(" from {}", from.display())), "{told}");
    };
    let lib = |folder: &str| stubs.dense(folder, "libcublasLt.so.13", &["-DCUBLASLT=13"]);

    // The loader's path was tested above; without it, what lies in and beside the toolkit.
    for name in ["libcublasLt.so.13", "libcublasLt.so"] {
        std::fs::remove_file(stubs.at("loader").join(name)).unwrap();
    }
    if machine_has("libcublasLt.so") {
        eprintln!("skipped: this machine has cuBLASLt");
        return;
    }
    let told = [
        "there is no cuBLASLt: libcublasLt.so.13, libcublasLt.so.12, libcublasLt.so was not found",
        "toolkit/nvidia/cu13/lib64",
        "pip install nvidia-cublas",
        "CHTSL_CUDA_LIB",
        "--device cpu",
    ];
    stubs.refused("13.0", &[], &told);
    let beside = lib("toolkit/nvidia/cublas/lib");
    opened(&[], &beside);
    let wheel = lib("toolkit/nvidia/cu13/lib");
    opened(&[], &wheel);
    let installed = lib("toolkit/nvidia/cu13/lib64");
    opened(&[], &installed);
    let named = lib("elsewhere");
    opened(&[("CHTSL_CUDA_LIB", stubs.at("elsewhere").to_str().unwrap())], &named);
    opened(&[("CHTSL_CUDA_LIB", named.to_str().unwrap())], &named);
}

/// What is named is taken, whatever an installer has put into the loader's path under the plain name.
#[test]
fn cublaslt_that_is_named_beats_the_loaders_path() {
    let stubs = Stubs::new();
    let other = stubs.dense("other", "libcublasLt.so.12", &["-DCUBLASLT=12"]);
    for name in [other.to_str().unwrap(), stubs.at("other").to_str().unwrap()] {
        let told = stubs.child("12.4", &[("CHTSL_CUDA_LIB", name)]);
        assert!(told.ends_with(&format!("cuBLASLt 12.3 from {}", other.display())), "{told}");
    }
    // A file's name alone is a file in the current folder, and not a name for the loader.
    let ours = stubs.dense("current", "libcublasLt.so.13", &["-DCUBLASLT=12"]);
    let current = stubs.at("current");
    let env =
        [("CHTSL_CUDA_LIB", "libcublasLt.so.13"), ("CHILD_CURRENT_DIR", current.to_str().unwrap())];
    let told = stubs.child("12.4", &env);
    assert!(told.ends_with(&format!("cuBLASLt 12.3 from {}", ours.display())), "{told}");
}

/// With several major versions side by side it is the newest that the driver can run.
#[test]
fn cublaslt_of_the_drivers_major_version_is_taken() {
    let opened = |stubs: &Stubs, env: &[(&str, &str)], end: &str| {
        let told = stubs.child("12.4", env);
        assert!(told.starts_with("opened: ") && told.ends_with(end), "{end:?} in {told}");
    };
    let old_driver = ("STUB_DRIVER", "12040");
    let both = |stubs: &Stubs, folder: &str| {
        stubs.dense(folder, "libcublasLt.so.12", &["-DCUBLASLT=12"]);
        // The plain name leads to the newer one.
        stubs.dense(folder, "libcublasLt.so.13", &["-DCUBLASLT=13"]);
    };

    let stubs = Stubs::new();
    both(&stubs, "loader");
    opened(&stubs, &[old_driver], "cuBLASLt 12.3 from libcublasLt.so.12 in the loader's path");
    opened(&stubs, &[], "cuBLASLt 13.3 from libcublasLt.so.13 in the loader's path");

    both(&stubs, "named");
    let from = |name: &str| format!(" from {}", stubs.at("named").join(name).display());
    let named = stubs.at("named");
    let named = ("CHTSL_CUDA_LIB", named.to_str().unwrap());
    opened(&stubs, &[named, old_driver], &from("libcublasLt.so.12"));
    opened(&stubs, &[named], &from("libcublasLt.so.13"));

    // One that does not fit is passed by, wherever the next one lies.
    let stubs = Stubs::new();
    both(&stubs, "toolkit/nvidia/cu13/lib64");
    let beside = stubs.at("toolkit/nvidia/cu13/lib64/libcublasLt.so.12");
    if !machine_has("libcublasLt.so") {
        opened(&stubs, &[old_driver], &format!(" from {}", beside.display()));
    }
}

#[test]
fn cublaslt_that_cannot_be_used() {
    let stubs = Stubs::new();
    let refused = |path: &Path, parts: &[&str]| {
        stubs.refused("13.0", &[("CHTSL_CUDA_LIB", path.to_str().unwrap())], parts);
    };
    refused(Path::new("/nowhere"), &["CHTSL_CUDA_LIB=/nowhere names no file libcublasLt.so.13"]);
    std::fs::write(stubs.at("libcublasLt.so.13"), "not a library").unwrap();
    refused(
        &stubs.at(""),
        &["CHTSL_CUDA_LIB=", "cannot be loaded (", "file too short", "name another"],
    );
    let told =
        stubs.child("13.0", &[("CHTSL_CUDA_LIB", stubs.at("libcublasLt.so.13").to_str().unwrap())]);
    assert_eq!(told.matches("file too short").count(), 1, "{told}");
    // An instruction: the good one in the loader's path does not take its place.
    let old = stubs.dense("old", "libcublasLt.so.11", &["-DCUBLASLT=11"]);
    refused(
        &old,
        &["libcublasLt.so.11 belongs to CUDA 11.0, which is too old: CUDA 12 or newer is needed"],
    );
    refused(&stubs.at("old"), &["libcublasLt.so belongs to CUDA 11.0", "name another"]);

    if machine_has("libcublasLt.so") {
        eprintln!("skipped: this machine has cuBLASLt");
        return;
    }
    stubs.dense("loader", "libcublasLt.so.13", &["-DCUBLASLT=13", "-DWITHOUT_MATMUL"]);
    let told =
        "no cuBLASLt fits: libcublasLt.so.13 in the loader's path has no function cublasLtMatmul";
    stubs.refused("13.0", &[], &[told, "install the one of CUDA 13", "CHTSL_CUDA_LIB"]);
    stubs.dense("loader", "libcublasLt.so.13", &["-DCUBLASLT=14"]);
    let told = [
        "libcublasLt.so.13 in the loader's path belongs to CUDA 14.0, which is too new for this driver",
    ];
    stubs.refused("13.0", &[], &told);

    // Names that are not searched, because they cannot fit, are named all the same.
    let stubs = Stubs::without_libraries();
    stubs.driver(&[]);
    stubs.dense_file("loader", "libcublasLt.so.13", &["-DCUBLASLT=13"]);
    let beside =
        stubs.dense_file("toolkit/nvidia/cublas/lib", "libcublasLt.so.11", &["-DCUBLASLT=11"]);
    let told = [
        "no cuBLASLt fits: libcublasLt.so.13 in the loader's path belongs to CUDA 13.0, which is too new for \
         this driver; ",
        &format!("; {} belongs to CUDA 11.0, which is too old", beside.display()),
        "install the one of CUDA 12 and name its folder with CHTSL_CUDA_LIB",
        "the driver supports CUDA 12.4",
    ];
    stubs.refused("12.4", &[("STUB_DRIVER", "12040")], &told);
}

/// `chtsl pretrain` on a few steps of a small corpus; the device is opened before anything is written.
fn pretrain(stubs: &Stubs, device: &str, env: &[(&str, &str)]) -> Output {
    let small = "train.steps=1 model.hidden=32 model.intermediate=48 model.layers=1 model.heads=2 \
                 model.vocab=300 model.seq_len=16 train.batch=4 train.micro_batch=2 train.warmup=0";
    let mut command = Command::cargo_bin("chtsl").unwrap();
    command.args(["pretrain", "--device", device, "--threads", "1", "--out"]);
    command.arg(stubs.at("run")).arg("--data").arg(stubs.at("data"));
    for set in small.split_whitespace() {
        command.args(["--set", set]);
    }
    stubs.output(command, env)
}

fn prepare(stubs: &Stubs) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny.jsonl");
    let mut command = Command::cargo_bin("chtsl").unwrap();
    command.args(["prepare", "--train-tokenizer", "300", "--val-fraction", "0.3", "--input"]);
    let out = command.arg(corpus).arg("--out").arg(stubs.at("data")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn cuda_that_is_asked_for_ends_with_code_8() {
    let stubs = Stubs::new();
    let out = pretrain(&stubs, "cuda", &[("STUB_INIT", "100")]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(8), "{said}");
    assert!(said.starts_with("error: --device cuda: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    if cfg!(chtsl_cuda) {
        assert!(said.contains("the driver sees no device"), "{said}");
    } else {
        assert!(said.contains("this build has no CUDA kernels (CPU build for "), "{said}");
        assert!(said.contains("CHTSL_CUDA=require cargo build --release"), "{said}");
    }
    assert!(!stubs.at("run").exists(), "nothing is made for a run that cannot start");
}

#[test]
fn auto_takes_the_cpu_and_says_why() {
    let stubs = Stubs::new();
    prepare(&stubs);
    let out = pretrain(&stubs, "auto", &[("STUB_INIT", "100")]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let all = format!("{said}{}", String::from_utf8_lossy(&out.stdout));
    assert!(out.status.success(), "{all}");
    // The stub is a driver, so that even a CPU build has something to say.
    let reason = match cfg!(chtsl_cuda) {
        true => "the driver sees no device",
        false => "this build has no CUDA kernels",
    };
    let lines: Vec<&str> = all.lines().filter(|l| l.contains("computing on the CPU: ")).collect();
    assert_eq!(lines.len(), 1, "{all}");
    assert!(lines[0].contains(reason), "{all}");
}

/// `chtsl doctor` on this machine.
fn doctor(stubs: &Stubs, env: &[(&str, &str)]) -> serde_json::Value {
    let mut command = Command::cargo_bin("chtsl").unwrap();
    command.args(["doctor", "--preset", "tiny", "--json", "--out"]).arg(stubs.at(""));
    let out = stubs.output(command, env);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Every part is told of by itself, whatever the build can use and whichever other part is missing.
#[test]
fn doctor_finds_each_part_by_itself() {
    use std::os::unix::fs::PermissionsExt;
    let stubs = Stubs::new();
    let nvcc = stubs.at("nvcc");
    std::fs::write(&nvcc, "#!/bin/sh\necho 'Cuda compilation tools, release 12.0, V12.0.1'\n")
        .unwrap();
    std::fs::set_permissions(&nvcc, std::fs::Permissions::from_mode(0o755)).unwrap();
    let v = doctor(&stubs, &[("NVCC", nvcc.to_str().unwrap())]);
    let cuda = &v["cuda"];
    assert_eq!(cuda["toolkit"]["version"], "CUDA 12.0");
    assert_eq!(cuda["toolkit"]["new_enough"], false);
    assert_eq!(cuda["driver"]["supports"], "CUDA 13.0");
    assert_eq!(cuda["device"]["name"], "Stub A100");
    assert_eq!(cuda["device"]["memory_bytes"], 40u64 << 30);
    assert!(cuda["cublaslt"]["library"].as_str().unwrap().contains("libcublasLt.so.13"), "{cuda}");
    let row = &v["presets"][0];
    assert_eq!(row["fits_on_device"], true, "{row}");
    assert_eq!(cuda["usable"], cfg!(chtsl_cuda));
    if !cfg!(chtsl_cuda) {
        let advice = v["advice"].to_string();
        assert!(advice.contains("install a CUDA toolkit") && advice.contains("CHTSL_CUDA=require"));
    }

    let v = doctor(&stubs, &[("STUB_INIT", "100"), ("NVCC", "/nowhere/nvcc")]);
    let cuda = &v["cuda"];
    assert!(cuda["toolkit"]["missing"].as_str().unwrap().contains("/nowhere/nvcc"), "{cuda}");
    assert_eq!(cuda["driver"]["supports"], "CUDA 13.0");
    assert!(cuda["device"]["missing"].as_str().unwrap().contains("error 100"), "{cuda}");
    assert!(cuda["cublaslt"]["library"].is_string(), "{cuda}");
    assert!(v["presets"][0]["fits_on_device"].is_null());

    if machine_has("libcuda.so") {
        eprintln!("skipped: this machine has an NVIDIA driver");
        return;
    }
    let cuda = &doctor(&Stubs::without_libraries(), &[])["cuda"];
    assert!(cuda["driver"]["missing"].as_str().unwrap().contains("libcuda.so.1"), "{cuda}");
    assert!(cuda["device"]["missing"].is_string() && cuda["usable"] == false, "{cuda}");
}
