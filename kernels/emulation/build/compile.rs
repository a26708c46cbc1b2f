//! Compiles what has changed, on all cores. Kernels are edited all day and a full build takes minutes, so an object is
//! kept while its command and every file it was made from are the same.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// One source file of one library.
pub struct Unit {
    /// Relative to the root.
    source: String,
    pub library: &'static str,
    /// Compiler and flags.
    command: Vec<String>,
}

impl Unit {
    pub fn new(source: &str, library: &'static str, command: Vec<String>) -> Unit {
        Unit { source: source.to_string(), library, command }
    }

    fn stem(&self) -> String {
        let stem = Path::new(&self.source).file_stem().unwrap().to_string_lossy();
        format!("{}.{stem}", self.library)
    }

    /// `<library>.<stem>.o`; beside it `.args`, one word of the command a line, which mutants are compiled by.
    pub fn object(&self, out: &Path) -> PathBuf {
        out.join(self.stem() + ".o")
    }

    fn arguments(&self, out: &Path) -> Vec<String> {
        let object = self.object(out);
        let depfile = object.with_extension("d");
        let mut all = self.command.clone();
        all.extend(["-MMD".into(), "-MF".into(), depfile.display().to_string()]);
        all.extend(["-c".into(), self.source.clone(), "-o".into(), object.display().to_string()]);
        all
    }
}

/// Returns the compilers' warnings; the first error as text otherwise.
pub fn compile_all(root: &Path, out: &Path, units: &[Unit]) -> Result<Vec<String>, String> {
    let stale: Vec<&Unit> = units.iter().filter(|unit| !fresh(root, out, unit)).collect();
    let (next, warnings, failure) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(stale.len());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(unit) = stale.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match compile(root, out, unit) {
                        Ok(lines) => warnings.lock().unwrap().extend(lines),
                        Err(text) => {
                            failure.lock().unwrap().get_or_insert(text);
                            next.store(stale.len(), Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    match failure.into_inner().unwrap() {
        Some(text) => Err(text),
        None => Ok(warnings.into_inner().unwrap()),
    }
}

fn compile(root: &Path, out: &Path, unit: &Unit) -> Result<Vec<String>, String> {
    let arguments = unit.arguments(out);
    let stamp = unit.object(out).with_extension("stamp");
    let _ = fs::remove_file(&stamp);
    let started = nanoseconds(SystemTime::now());
    let done = Command::new(&arguments[0])
        .args(&arguments[1..])
        .current_dir(root)
        .output()
        .map_err(|e| format!("{}: {e}", arguments[0]))?;
    let text = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(text.into_owned());
    }
    if unit.source.ends_with(".cu") {
        announce_copies(&unit.object(out))?;
    }
    fs::write(unit.object(out).with_extension("args"), arguments.join("\n"))
        .map_err(|e| e.to_string())?;
    // A file saved while the compiler ran may or may not be in the object: without a stamp it is made again.
    if let Some((state, newest)) = state(root, out, unit)
        && newest < started
    {
        fs::write(stamp, state).map_err(|e| e.to_string())?;
    }
    Ok(text.lines().map(String::from).collect())
}

/// Neither compiler announces what memcpy and its like touch: both count on a sanitizer that replaces the C library's
/// functions. In a kernel's object the calls are renamed to the emulator's hooks instead.
fn announce_copies(object: &Path) -> Result<(), String> {
    let mut objcopy = Command::new(std::env::var_os("OBJCOPY").unwrap_or("objcopy".into()));
    for name in ["memcpy", "memmove", "memset"] {
        objcopy.arg("--redefine-sym").arg(format!("{name}=__tsan_{name}"));
    }
    match objcopy.arg(object).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("objcopy: {status}")),
        Err(error) => Err(format!("objcopy, of binutils: {error}")),
    }
}

fn fresh(root: &Path, out: &Path, unit: &Unit) -> bool {
    let object = unit.object(out);
    let known = fs::read_to_string(object.with_extension("stamp"));
    object.exists()
        && state(root, out, unit).is_some_and(|(now, _)| known.is_ok_and(|then| then == now))
}

/// What the object depends on, as one string, and the newest time of change among it; None when a file is gone.
fn state(root: &Path, out: &Path, unit: &Unit) -> Option<(String, u128)> {
    let depfile = fs::read_to_string(unit.object(out).with_extension("d")).ok()?;
    let (_, files) = depfile.split_once(": ")?;
    let mut hash = DefaultHasher::new();
    unit.arguments(out).hash(&mut hash);
    let mut newest = 0;
    let compiler = Path::new(&unit.command[0]);
    for file in files.replace("\\\n", " ").split_whitespace().map(Path::new).chain([compiler]) {
        // A compiler named without a folder is found through PATH, and its version is not followed.
        let Ok(about) = root.join(file).metadata() else {
            if file == compiler { continue } else { return None }
        };
        let changed = nanoseconds(about.modified().ok()?);
        (file, changed, about.len()).hash(&mut hash);
        newest = newest.max(changed);
    }
    Some((format!("{:016x}", hash.finish()), newest))
}

fn nanoseconds(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos())
}
