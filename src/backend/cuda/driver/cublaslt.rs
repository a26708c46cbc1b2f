//! Search for cuBLASLt, the dense library: `CHTSL_CUDA_LIB`, the loader's own path, the toolkit that the
//! kernels were built with, a wheel beside it.

use std::ffi::{c_char, c_void};
use std::path::{Path, PathBuf};

use cudarc::cublaslt::sys;
use libloading::Library;

use super::libcuda::missing;
use super::{CudaVersion, Toolkit};

/// Names a library may have, newest first: the major version is part of the name.
const NAMES: [&str; 3] = ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"];

/// What the backend calls through cudarc, which panics when one is missing.
const USED: [&str; 14] = [
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtGetCudartVersion",
    "cublasLtGetVersion",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
];

/// The library that was found.
#[derive(Clone, Debug)]
pub struct DenseLibrary {
    /// Its version, 10000·major + 100·minor + patch.
    pub version: usize,
    /// The file, or what led to it.
    pub from: String,
}

impl std::fmt::Display for DenseLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (major, minor) = (self.version / 10000, self.version % 10000 / 100);
        write!(f, "cuBLASLt {major}.{minor} from {}", self.from)
    }
}

/// Opens the library so that cudarc's own search, which goes by name, ends at it.
///
/// Errors: the start of a sentence that names what was searched and what to install.
pub fn open(toolkit: &Toolkit, driver: CudaVersion) -> Result<DenseLibrary, String> {
    let (from, chosen) = find(toolkit)?;
    // SAFETY: as above; `culib` panics without a library, so it comes second.
    if !unsafe { sys::is_culib_present() } {
        return Err(format!("{from} is not a cuBLASLt of CUDA 12 or 13: install one of these"));
    }
    // SAFETY: present.
    let library = unsafe { sys::culib() };
    for name in USED {
        // SAFETY: only looked up.
        if unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err() {
            return Err(format!("{} ({from})", missing("cuBLASLt", name)));
        }
    }
    if let Some(chosen) = chosen
        && address(&chosen) != address(library)
    {
        return Err(format!(
            "another cuBLASLt comes before {from}: take its folder out of LD_LIBRARY_PATH"
        ));
    }
    // SAFETY: looked up above, types of cublasLt.h: no arguments, a size_t.
    let (version, cudart) = unsafe {
        let ask =
            |name: &[u8]| library.get::<unsafe extern "C" fn() -> usize>(name).map_or(0, |f| f());
        (ask(b"cublasLtGetVersion"), ask(b"cublasLtGetCudartVersion"))
    };
    let made_for = CudaVersion::from_number(cudart.min(i32::MAX as usize) as i32);
    if made_for.major > driver.major {
        return Err(format!(
            "cuBLASLt ({from}) belongs to {made_for}, which is too new for this driver: install the \
             one of CUDA {} and name it with CHTSL_CUDA_LIB=/folder",
            driver.major
        ));
    }
    Ok(DenseLibrary { version, from })
}

/// Where the library is, and its handle when it was opened by path.
fn find(toolkit: &Toolkit) -> Result<(String, Option<Library>), String> {
    let asked = std::env::var_os("CHTSL_CUDA_LIB").filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(path) = asked {
        let files = files_in(&path);
        let what = format!("CHTSL_CUDA_LIB={}", path.display());
        let Some(file) = files.first() else {
            return Err(format!("{what} names no file {}", NAMES.join(", ")));
        };
        return match open_file(file) {
            Ok(library) => Ok((file.display().to_string(), Some(library))),
            Err(e) => Err(format!("{what} cannot be loaded ({e}): name another")),
        };
    }
    // SAFETY: loading runs the library's initialisers, which are harmless.
    if unsafe { sys::is_culib_present() } {
        return Ok(("the loader's path".into(), None));
    }
    let dirs = dirs_of(toolkit);
    let mut refused = String::new();
    for file in dirs.iter().flat_map(|dir| files_in(dir)) {
        match open_file(&file) {
            Ok(library) => return Ok((file.display().to_string(), Some(library))),
            Err(e) => refused = format!("; {e}"),
        }
    }
    let searched: Vec<String> = dirs.iter().map(|d| d.display().to_string()).collect();
    Err(format!(
        "there is no cuBLASLt: {} was not found in LD_LIBRARY_PATH and the system's folders, nor in \
         {}{refused}; install it (pip install nvidia-cublas, or the toolkit's libcublas package) and \
         name its folder with CHTSL_CUDA_LIB",
        NAMES.join(", "),
        searched.join(", ")
    ))
}

/// Folders in and beside the toolkit: installers, wheels of CUDA 13 (all in one folder) and of CUDA 12
/// (one folder per library).
fn dirs_of(toolkit: &Toolkit) -> Vec<PathBuf> {
    let dir = &toolkit.dir;
    let target = if cfg!(target_arch = "aarch64") { "sbsa-linux" } else { "x86_64-linux" };
    let mut all: Vec<PathBuf> = ["lib64", "lib"].map(|l| dir.join(l)).into();
    all.push(dir.join("targets").join(target).join("lib"));
    if let Some(parent) = dir.parent() {
        all.push(parent.join(format!("cu{}/lib", toolkit.version.major)));
        all.push(parent.join("cublas/lib"));
    }
    all.dedup();
    all
}

/// The library's files in a folder, or the file itself.
fn files_in(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    NAMES.iter().map(|n| path.join(n)).filter(|p| p.is_file()).collect()
}

/// Opens a file for the whole process and for its life: from then on the loader finds it by name.
#[cfg(unix)]
fn open_file(path: &Path) -> Result<Library, String> {
    use libloading::os::unix;
    let flags = unix::RTLD_LAZY | unix::RTLD_GLOBAL;
    // SAFETY: loading runs the library's initialisers, which are harmless. Opened twice, the first
    // handle never closed, so that pointers into it stay valid.
    let open = || unsafe { unix::Library::open(Some(path), flags) }.map(Library::from);
    let library = open().map_err(|e| loader_text(&e))?;
    std::mem::forget(open());
    Ok(library)
}

#[cfg(not(unix))]
fn open_file(path: &Path) -> Result<Library, String> {
    Err(format!("{}: CUDA is supported on Linux only", path.display()))
}

/// The loader's words, such as "libcuda.so.1: cannot open shared object file: No such file or directory".
pub fn loader_text(e: &libloading::Error) -> String {
    use std::error::Error;
    e.source().map_or_else(|| e.to_string(), |s| s.to_string())
}

/// Tells two libraries apart.
fn address(library: &Library) -> Option<usize> {
    // SAFETY: only looked up.
    unsafe { library.get::<*const c_char>(b"cublasLtCreate").ok().map(|f| *f as usize) }
}
