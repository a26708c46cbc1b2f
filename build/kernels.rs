//! Compiles `kernels/*.cu` into one static library, only what changed, several files at a time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::nvcc::{TARGETS, Toolkit, reason};

/// Flags of single files. Topology draws the same links as the CPU, bit for bit, so its products and
/// sums are rounded one by one.
const FILE_FLAGS: [(&str, &str); 1] = [("topology.cu", "-fmad=false")];

/// What came out.
pub struct Library {
    /// The folder of `libchtsl_kernels.a`.
    pub dir: PathBuf,
    /// What `ptxas -v` says of every kernel, file by file.
    pub ptxas: PathBuf,
    /// Every file of ours that went in.
    pub inputs: Vec<PathBuf>,
    /// Lines of the compiler that the user should see.
    pub warnings: Vec<String>,
}

struct Unit {
    source: PathBuf,
    object: PathBuf,
    args: Vec<String>,
}

/// Compiles and archives. `root` is the repository, `out` cargo's folder for results.
///
/// Errors: the first error line of the first file that does not compile.
pub fn build(toolkit: &Toolkit, root: &Path, out: &Path, jobs: usize) -> Result<Library, String> {
    let dir = out.join("kernels");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let units: Vec<Unit> =
        sources(root)?.into_iter().map(|source| unit(root, &dir, source)).collect();
    let warnings = compile_all(toolkit, &units, jobs)?;
    archive(toolkit, &units, &dir)?;
    let ptxas = out.join("ptxas.txt");
    let text: String = units.iter().map(|u| read(&u.log())).collect();
    std::fs::write(&ptxas, text).map_err(|e| format!("{}: {e}", ptxas.display()))?;
    let mut inputs: Vec<PathBuf> =
        units.iter().flat_map(|u| u.inputs()).filter(|p| p.starts_with(root)).collect();
    inputs.sort();
    inputs.dedup();
    Ok(Library { dir, ptxas, inputs, warnings })
}

/// `kernels/*.cu` in order of names.
pub fn sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let dir = root.join("kernels");
    let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "cu"));
    found.sort();
    Ok(found)
}

fn unit(root: &Path, dir: &Path, source: PathBuf) -> Unit {
    let name = source.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let object = dir.join(format!("{name}.o"));
    let mut args: Vec<String> = TARGETS.iter().map(|a| a.to_string()).collect();
    // Position-independent, because Rust links programs that way.
    let fixed = ["-std=c++17", "-O3", "-lineinfo", "-Xcompiler", "-fPIC", "-Xptxas", "-v"];
    args.extend(fixed.map(String::from));
    for folder in ["kernels", "include"] {
        args.extend(["-I".into(), root.join(folder).display().to_string()]);
    }
    let own = FILE_FLAGS.iter().filter(|(file, _)| *file == name);
    args.extend(own.map(|(_, flag)| flag.to_string()));
    let depfile = object.with_extension("d").display().to_string();
    // The PTX is kept for the launch bounds in it, which ptxas does not repeat.
    args.extend(["--keep".into(), "--keep-dir".into()]);
    args.push(object.with_extension("keep").display().to_string());
    args.extend(["-MMD".into(), "-MF".into(), depfile, "-c".into()]);
    args.extend([source.display().to_string(), "-o".into(), object.display().to_string()]);
    Unit { source, object, args }
}

impl Unit {
    /// What ptxas said.
    fn log(&self) -> PathBuf {
        self.object.with_extension("log")
    }

    /// Intermediate files, while it is compiled.
    fn keep(&self) -> PathBuf {
        self.object.with_extension("keep")
    }

    /// The command that made the object.
    fn stamp(&self) -> PathBuf {
        self.object.with_extension("command")
    }

    /// Files that the object was made from, as the compiler listed them.
    fn inputs(&self) -> Vec<PathBuf> {
        parse_depfile(&read(&self.object.with_extension("d")))
    }

    /// Whether the object is as a new compilation would make it.
    fn fresh(&self, command: &str) -> bool {
        let time = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
        let Some(made) = time(&self.object) else { return false };
        let inputs = self.inputs();
        let older = |p: &PathBuf| time(p).is_some_and(|t: SystemTime| t < made);
        read(&self.stamp()) == command && !inputs.is_empty() && inputs.iter().all(older)
    }
}

/// The prerequisites in a makefile rule: backslashes continue lines and keep blanks in names.
pub fn parse_depfile(text: &str) -> Vec<PathBuf> {
    let text = text.replace("\\\n", " ");
    let Some((_, rest)) = text.split_once(" : ").or_else(|| text.split_once(": ")) else {
        return Vec::new();
    };
    let rest = rest.replace("\\ ", "\0");
    rest.split_whitespace().map(|p| PathBuf::from(p.replace('\0', " "))).collect()
}

fn compile_all(toolkit: &Toolkit, units: &[Unit], jobs: usize) -> Result<Vec<String>, String> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, units.len().max(1)) {
            scope.spawn(|| {
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = compile(toolkit, unit);
                    results.lock().expect("no panics").push((unit.source.clone(), result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panics");
    results.sort_by(|a, b| a.0.cmp(&b.0));
    let results: Result<Vec<_>, String> = results.into_iter().map(|(_, r)| r).collect();
    Ok(results?.concat())
}

/// Compiles one file unless its object is fresh; gives the warnings.
fn compile(toolkit: &Toolkit, unit: &Unit) -> Result<Vec<String>, String> {
    // A compiler that was replaced in its place shows by its version.
    let (nvcc, version) = (toolkit.nvcc.display(), toolkit.version);
    let command = format!("{nvcc} {version:?}\n{}\n", unit.args.join("\n"));
    if unit.fresh(&command) {
        return Ok(Vec::new());
    }
    let _ = std::fs::remove_file(unit.stamp());
    let keep = unit.keep();
    std::fs::create_dir_all(&keep).map_err(|e| format!("{}: {e}", keep.display()))?;
    let out = Command::new(&toolkit.nvcc)
        .args(&unit.args)
        .output()
        .map_err(|e| format!("{}: {e}", toolkit.nvcc.display()))?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if !out.status.success() {
        // All of it for those who look (cargo shows it with the failure), one line for the summary.
        eprintln!("{said}");
        return Err(format!("{}: {}", unit.source.display(), reason(&said)));
    }
    let name = unit.source.file_name().unwrap_or_default().to_string_lossy();
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    let bounds = launch_bounds(&keep);
    let _ = std::fs::remove_dir_all(&keep);
    write(unit.log(), &format!("== {name}\n{said}{bounds}"))?;
    write(unit.stamp(), &command)?;
    Ok(said.lines().filter(|l| l.contains("warning")).map(String::from).collect())
}

/// `launch bounds : KERNEL THREADS BLOCKS` for each kernel in the kept PTX: most threads of a block and
/// least blocks on a multiprocessor, 0 where the source does not say.
fn launch_bounds(keep: &Path) -> String {
    let mut text = String::new();
    for file in std::fs::read_dir(keep).into_iter().flatten().flatten().map(|e| e.path()) {
        if file.extension().is_some_and(|e| e == "ptx") && file.to_string_lossy().contains("80") {
            text.push_str(&bounds_in_ptx(&read(&file)));
        }
    }
    text
}

/// The same for the text of one PTX file.
pub fn bounds_in_ptx(ptx: &str) -> String {
    let number = |directive: &str, head: &str| -> u64 {
        let Some((_, rest)) = head.split_once(directive) else { return 0 };
        let line = rest.lines().next().unwrap_or_default();
        line.split(',').filter_map(|n| n.trim().parse::<u64>().ok()).product()
    };
    let mut text = String::new();
    for entry in ptx.split(".entry ").skip(1) {
        let head = entry.split('{').next().unwrap_or_default();
        let name = head.split('(').next().unwrap_or_default().trim();
        let (threads, blocks) = (number(".maxntid", head), number(".minnctapersm", head));
        text.push_str(&format!("launch bounds : {name} {threads} {blocks}\n"));
    }
    text
}

fn archive(toolkit: &Toolkit, units: &[Unit], dir: &Path) -> Result<(), String> {
    let library = dir.join("libchtsl_kernels.a");
    // Made anew: an old archive would keep the object of a file that is gone.
    let _ = std::fs::remove_file(&library);
    let out = Command::new(&toolkit.nvcc)
        .arg("--lib")
        .args(units.iter().map(|u| &u.object))
        .arg("-o")
        .arg(&library)
        .output()
        .map_err(|e| format!("{}: {e}", toolkit.nvcc.display()))?;
    match out.status.success() && library.is_file() {
        true => Ok(()),
        false => Err(format!("nvcc --lib: {}", reason(&String::from_utf8_lossy(&out.stderr)))),
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
