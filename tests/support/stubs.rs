//! A machine with stand-ins for libcuda and cuBLASLt, made with `cc` in a folder of its own. The loader
//! reads `LD_LIBRARY_PATH` when a process starts, so whatever uses them is a process of its own.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder.
pub struct Stubs {
    dir: tempfile::TempDir,
}

impl Stubs {
    /// A machine with a good driver and a cuBLASLt of CUDA 13 in the loader's path.
    pub fn new() -> Self {
        let stubs = Stubs::without_libraries();
        stubs.driver(&[]);
        stubs.dense("loader", "libcublasLt.so.13", &["-DCUBLASLT=13"]);
        stubs
    }

    /// A machine without any.
    pub fn without_libraries() -> Self {
        let stubs = Stubs { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(stubs.at("loader")).unwrap();
        stubs
    }

    /// A file or folder of this machine.
    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the driver's library in the loader's path.
    pub fn driver(&self, flags: &[&str]) {
        let made = self.compile("stub_cuda.c", "loader", "libcuda.so.1", flags, &[]);
        // The plain name too, so that no real library of this machine is found under it.
        link(&made, "libcuda.so");
    }

    /// Makes a cuBLASLt called `name` in `folder`, with the plain name for it as installers do.
    pub fn dense(&self, folder: &str, name: &str, flags: &[&str]) -> PathBuf {
        let made = self.dense_file(folder, name, flags);
        link(&made, "libcublasLt.so");
        made
    }

    /// Makes a cuBLASLt called `name` in `folder`. It works on the memory of the driver's stand-in.
    pub fn dense_file(&self, folder: &str, name: &str, flags: &[&str]) -> PathBuf {
        let driver = self.at("loader/libcuda.so.1");
        self.compile("stub_cublaslt.c", folder, name, flags, &[&driver])
    }

    fn compile(
        &self,
        source: &str,
        folder: &str,
        name: &str,
        flags: &[&str],
        with: &[&Path],
    ) -> PathBuf {
        let dir = self.at(folder);
        std::fs::create_dir_all(&dir).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(source);
        // The loader takes a library that is loaded already for any other of the same name.
        let soname = format!("-Wl,-soname,{name}");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-pthread", &soname, "-o"])
            .args([dir.join(name), source])
            .args(with)
            .args(flags)
            .status()
            .expect("a C compiler");
        assert!(status.success());
        dir.join(name)
    }

    /// Runs a command on this machine.
    pub fn output(&self, mut command: Command, env: &[(&str, &str)]) -> Output {
        command.env_remove("CHTSL_CUDA_LIB").env("LD_LIBRARY_PATH", self.at("loader"));
        command.envs(env.iter().copied()).output().unwrap()
    }
}

/// A link called `plain` beside `file`.
fn link(file: &Path, plain: &str) {
    let plain = file.with_file_name(plain);
    let _ = std::fs::remove_file(&plain);
    std::os::unix::fs::symlink(file.file_name().unwrap(), plain).unwrap();
}
