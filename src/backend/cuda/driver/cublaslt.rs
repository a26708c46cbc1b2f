//! Search for cuBLASLt: `CHTSL_CUDA_LIB`, the loader's path, the toolkit that the kernels were built
//! with, a wheel beside it.
//!
//! The major version of CUDA is part of a file's name. A driver runs libraries of its own major version and
//! of older ones, so these names are tried, newest first; what a library says of itself decides.

use std::path::{Path, PathBuf};

use super::libcublaslt::LibCublasLt;
use super::{CudaVersion, Toolkit, library};

/// Oldest major version of CUDA whose cuBLASLt will do.
const OLDEST: u32 = 12;

/// The library that was found.
#[derive(Clone, Debug)]
pub struct DenseLibrary {
    /// Its version, 10000·major + 100·minor + patch.
    pub version: usize,
    /// The file, or what led to it.
    pub from: String,
    pub(in crate::backend::cuda) functions: LibCublasLt,
}

impl std::fmt::Display for DenseLibrary {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let (major, minor) = (self.version / 10000, self.version % 10000 / 100);
        write!(f, "cuBLASLt {major}.{minor} from {}", self.from)
    }
}

/// Opens the first library that fits the driver. `toolkit`: whose folders are searched behind the
/// loader's path.
///
/// Errors: what was found or searched, and what to install.
pub fn open(
    toolkit: Option<&Toolkit>,
    driver: CudaVersion,
) -> Result<DenseLibrary, (String, String)> {
    let asked = std::env::var_os("CHTSL_CUDA_LIB").filter(|v| !v.is_empty()).map(PathBuf::from);
    let dirs = toolkit.map_or(vec![], dirs_of);
    let places = match &asked {
        Some(path) => vec![Place::Path(path.clone())],
        None => {
            let dirs = dirs.iter().cloned().map(Place::Path);
            [Place::Loader].into_iter().chain(dirs).collect()
        }
    };
    let fitting = names_for(driver);
    let mut search = Search { driver, seen: vec![], refused: vec![] };
    // The second round finds what cannot fit by its name, for the message.
    for names in [&fitting, &other_names(driver)] {
        for place in &places {
            if let Some(found) = search.look(place, names) {
                return Ok(found);
            }
        }
    }
    let (refused, names) = (search.refused.join("; "), fitting.join(", "));
    if let Some(path) = asked {
        let what = format!("CHTSL_CUDA_LIB={}", path.display());
        let what = match refused.is_empty() {
            true => format!("{what} names no file {names}"),
            false => format!("{what} does not fit, because {refused}"),
        };
        return Err((what, "name another".into()));
    }
    if !refused.is_empty() {
        let version = driver.major;
        let advice =
            format!("install the one of CUDA {version} and name its folder with CHTSL_CUDA_LIB");
        return Err((format!("no cuBLASLt fits: {refused}"), advice));
    }
    let places = ["LD_LIBRARY_PATH".to_string(), "the system's folders".into()];
    let dirs = dirs.iter().map(|d| d.display().to_string());
    let searched: Vec<String> = places.into_iter().chain(dirs).collect();
    Err((
        format!("there is no cuBLASLt: {names} was not found in {}", searched.join(", ")),
        "install it (pip install nvidia-cublas, or the toolkit's libcublas package) and name its folder \
         with CHTSL_CUDA_LIB"
            .into(),
    ))
}

/// Where a library may be.
enum Place {
    /// Wherever the loader finds a name.
    Loader,
    /// In a folder, or this very file.
    Path(PathBuf),
}

struct Search {
    driver: CudaVersion,
    /// Where libraries were loaded that do not fit: one may be found under several names.
    seen: Vec<usize>,
    /// Why each does not fit.
    refused: Vec<String>,
}

impl Search {
    fn look(&mut self, place: &Place, names: &[String]) -> Option<DenseLibrary> {
        let files = match place {
            Place::Loader => {
                return names.iter().find_map(|name| {
                    self.load(name.as_ref(), &format!("{name} in the loader's path"))
                });
            }
            // Without a slash it would be a name to search for.
            Place::Path(path) if path.is_file() => {
                vec![std::path::absolute(path).unwrap_or_else(|_| path.clone())]
            }
            Place::Path(dir) => names.iter().map(|n| dir.join(n)).filter(|p| p.is_file()).collect(),
        };
        files.iter().find_map(|file| self.load(file, &file.display().to_string()))
    }

    /// The library if it fits; otherwise notes why it does not.
    fn load(&mut self, name: &Path, from: &str) -> Option<DenseLibrary> {
        match self.open(name) {
            Ok(functions) => {
                let functions = functions?;
                // SAFETY: no arguments.
                let version = unsafe { (functions.cublasLtGetVersion)() };
                Some(DenseLibrary { version, from: from.into(), functions })
            }
            Err(why) => {
                let refusal = format!("{from} {why}");
                if !self.refused.contains(&refusal) {
                    self.refused.push(refusal);
                }
                None
            }
        }
    }

    /// The functions of a library that fits; none when it is not there, or has been refused before.
    ///
    /// Errors: why it does not fit.
    fn open(&mut self, name: &Path) -> Result<Option<LibCublasLt>, String> {
        let library = match library::open(name) {
            Ok(library) => library,
            // The loader says which file is missing: this one, or one that it needs.
            Err(why)
                if why.starts_with(&*name.to_string_lossy()) && why.contains("No such file") =>
            {
                return Ok(None);
            }
            Err(why) => return Err(format!("cannot be loaded ({why})")),
        };
        let functions = LibCublasLt::new(library).map_err(|name| {
            format!("has no function {name}: it is too old, damaged or not NVIDIA's")
        })?;
        let address = functions.cublasLtCreate as usize;
        if self.seen.contains(&address) {
            return Ok(None);
        }
        self.seen.push(address);
        fits(&functions, self.driver).map(|()| Some(functions))
    }
}

/// Whether the driver can run a library. Errors: why not.
fn fits(functions: &LibCublasLt, driver: CudaVersion) -> Result<(), String> {
    // SAFETY: no arguments.
    let number = unsafe { (functions.cublasLtGetCudartVersion)() };
    let made_for = CudaVersion::from_number(number.min(i32::MAX as usize) as i32);
    if made_for.major > driver.major {
        return Err(format!("belongs to {made_for}, which is too new for this driver"));
    }
    if made_for.major < OLDEST {
        return Err(format!(
            "belongs to {made_for}, which is too old: CUDA {OLDEST} or newer is needed"
        ));
    }
    Ok(())
}

/// Names of libraries that a driver can run, newest first. The plain one may lead to any version.
fn names_for(driver: CudaVersion) -> Vec<String> {
    let of_versions = (OLDEST..=driver.major).rev().map(versioned);
    of_versions.chain(["libcublasLt.so".to_string()]).collect()
}

/// Names of libraries that are too new or too old.
fn other_names(driver: CudaVersion) -> Vec<String> {
    (driver.major + 1..=driver.major + 3).chain([OLDEST - 1]).map(versioned).collect()
}

fn versioned(major: u32) -> String {
    format!("libcublasLt.so.{major}")
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
