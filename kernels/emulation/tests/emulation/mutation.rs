//! Breaks kernels on purpose and demands that tests notice: whoever changes a test learns what it no longer sees.
//!
//! `kernels/mutants.txt` lists the breakages. One source is compiled anew, linked with the objects of this build into a
//! library, and a test program is run with `CHTSL_EMULATION_LIBRARY` naming it.

use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Longer than any sound run; a mutant that hangs counts as noticed.
const PATIENCE: Duration = Duration::from_secs(600);

/// A line of the list: `family | sed expression | what it breaks | tests that notice`.
#[derive(Clone, Debug)]
struct Mutant {
    /// `spmm` for kernels/spmm.cu, `low_rank/mma.cuh` for a header that kernels/low_rank.cu alone includes,
    /// `spmm:common/eight.cuh` for a header as it is compiled into kernels/spmm.cu.
    family: String,
    change: String,
    what: String,
    /// Full names, separated by spaces.
    tests: String,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// With the test's own words.
    Caught(String),
    Survived,
    /// The expression changes nothing.
    Stale,
    DoesNotBuild(String),
}

fn parse(list: &str) -> Vec<Mutant> {
    let lines = list.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split(" | ").map(str::trim).collect::<Vec<_>>()[..] {
            [family, change, what, tests] => Mutant {
                family: family.into(),
                change: change.into(),
                what: what.into(),
                tests: tests.into(),
            },
            _ => panic!(
                "mutants: expected `family | sed expression | what it breaks | tests`, got: {line}"
            ),
        })
        .collect()
}

/// A source file in another wording.
pub struct Change {
    /// The file that is compiled, relative to the root.
    unit: String,
    /// The file that is changed: the same, or a header of its own.
    file: String,
    text: Vec<u8>,
}

impl Mutant {
    /// Whether it breaks kernels/<family>.cu or a header of it.
    fn is_of(&self, family: &str) -> bool {
        self.family.split([':', '/']).next() == Some(family) || self.family == family
    }

    /// The breakage; None when the expression no longer fits.
    fn change(&self) -> Option<Change> {
        // `planted/` names the kernels of these tests.
        let (folder, name) = match self.family.strip_prefix("planted/") {
            Some(name) => ("kernels/emulation/tests/planted", name),
            None => ("kernels", self.family.as_str()),
        };
        let header = name.split_once(':').map_or(name, |(_, header)| header);
        let unit = format!("{folder}/{}.cu", name.split([':', '/']).next().unwrap());
        let file = if header.contains('.') { format!("{folder}/{header}") } else { unit.clone() };
        let source = Path::new(ROOT).join(&file);
        let before = fs::read(&source).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
        let sed = Command::new("sed").arg(&self.change).arg(&source).output().expect("sed");
        assert!(sed.status.success(), "{}: {}", self.change, String::from_utf8_lossy(&sed.stderr));
        (sed.stdout != before).then_some(Change { unit, file, text: sed.stdout })
    }
}

/// Links a library of this build's objects at `library`, with one of them made from a changed source.
pub fn link(folder: &Path, library: &Path, change: Option<&Change>) -> Result<(), String> {
    let listed = fs::read_to_string(concat!(env!("OUT_DIR"), "/objects")).unwrap();
    let mut objects: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
    let words = |object: &Path| -> Vec<String> {
        fs::read_to_string(object.with_extension("args"))
            .unwrap()
            .lines()
            .map(String::from)
            .collect()
    };
    let compiler = words(&objects[0])[0].clone();
    if let Some(Change { unit, file, text }) = change {
        // Both files move, in their places to each other, and the copies' folder is searched first.
        let copy = |file: &str| folder.join(file);
        for (file, text) in [(unit, &fs::read(Path::new(ROOT).join(unit)).unwrap()), (file, text)] {
            fs::create_dir_all(copy(file).parent().unwrap()).unwrap();
            fs::write(copy(file), text).unwrap();
        }
        let place = objects.iter_mut().find(|o| words(o).contains(unit)).unwrap();
        let (arguments, source) = (words(place), copy(unit));
        let copies = source.parent().unwrap();
        let object = source.with_extension("o");
        let arguments = arguments[1..].iter().map(|word| match word.as_str() {
            "-O2" => "-O1".into(),
            "-Wall" | "-Wextra" => "-w".into(),
            word if word == unit => source.clone().into_os_string(),
            word if Path::new(word) == *place => object.clone().into_os_string(),
            word if Path::new(word) == place.with_extension("d") => {
                source.with_extension("d").into()
            }
            word => word.into(),
        });
        // Other headers beside the source are found from its copy, too.
        let beside = Path::new(unit).parent().unwrap();
        let mut command = Command::new(&compiler);
        command.arg("-iquote").arg(copies).args(arguments).arg("-I").arg(beside);
        run(command.current_dir(ROOT))?;
        let renamed = ["memcpy", "memmove", "memset"]
            .map(|name| format!("--redefine-sym={name}=__tsan_{name}"));
        run(Command::new("objcopy").args(renamed).arg(&object))?;
        *place = object;
    }
    run(Command::new(&compiler).args(["-shared", "-pthread", "-o"]).arg(library).args(&objects))
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if done.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

/// Runs tests on a library: whether they passed, and their output.
pub fn run_tests(tests: &Path, filter: &str, library: &Path) -> (bool, String) {
    let mut out = tempfile::tempfile().unwrap();
    let mut child = Command::new(tests)
        .args(filter.split_whitespace())
        .env("CHTSL_EMULATION_LIBRARY", library)
        .env("RUST_BACKTRACE", "0")
        .stdout(out.try_clone().unwrap())
        .stderr(out.try_clone().unwrap())
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", tests.display()));
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if start.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let mut text = vec![];
    out.rewind().unwrap();
    out.read_to_end(&mut text).unwrap();
    let mut text = String::from_utf8_lossy(&text).into_owned();
    match status {
        None => text += "\nit hangs\n",
        Some(status) if status.code().is_none() => text += &format!("\n{status}\n"),
        Some(_) => {}
    }
    (status.is_some_and(|s| s.success()), text)
}

/// The line of a failed run that says most: a fault of the emulator, else what a test panicked with.
fn evidence(output: &str) -> String {
    let mut lines = output.lines();
    let line = output.lines().find(|l| l.contains(" in kernel ")).or_else(|| {
        lines.find(|l| l.contains("panicked at"))?;
        lines.next()
    });
    line.or(output.lines().last()).unwrap_or("").chars().take(300).collect()
}

fn judge(tests: &Path, mutant: &Mutant) -> Outcome {
    let Some(change) = mutant.change() else { return Outcome::Stale };
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libmutant.so");
    if let Err(reason) = link(folder.path(), &library, Some(&change)) {
        return Outcome::DoesNotBuild(reason);
    }
    match run_tests(tests, &exactly(&mutant.tests), &library) {
        (true, _) => Outcome::Survived,
        (false, output) => Outcome::Caught(evidence(&output)),
    }
}

/// The filter that selects these tests alone.
fn exactly(tests: &str) -> String {
    format!("{tests} --exact")
}

/// The tests must exist and pass on the kernels as they are, or a failure would prove nothing.
fn demand_sound(tests: &Path, mutants: &[Mutant]) {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libsound.so");
    link(folder.path(), &library, None).unwrap();
    let mut names: Vec<&str> = mutants.iter().flat_map(|m| m.tests.split(' ')).collect();
    names.sort();
    names.dedup();
    let complaints = on_all_cores(&names, |name| {
        let (passed, output) = run_tests(tests, &exactly(name), &library);
        if !passed {
            Some(format!("{name} fails on sound kernels:\n{output}"))
        } else if !output.contains("ok. 1 passed") {
            Some(format!("there is no test {name}"))
        } else {
            None
        }
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// What `f` has to say, item by item, on all cores.
fn on_all_cores<T: Sync>(items: &[T], f: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let (next, said) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let words = f(item); // before the lock
                    said.lock().unwrap_or_else(PoisonError::into_inner).extend(words);
                }
            });
        }
    });
    said.into_inner().unwrap()
}

/// Judges all and prints a line for each; returns those that were not caught.
fn judge_all(tests: &Path, mutants: &[Mutant]) -> Vec<String> {
    demand_sound(tests, mutants);
    on_all_cores(mutants, |mutant| {
        let (name, start) = (format!("{}, {}", mutant.family, mutant.what), Instant::now());
        let outcome = judge(tests, mutant);
        let seconds = start.elapsed().as_secs();
        match outcome {
            Outcome::Caught(words) => {
                println!("caught {name} ({seconds} s): {words}");
                None
            }
            other => {
                println!("  FAIL {name} ({seconds} s): {other:?}");
                Some(name)
            }
        }
    })
}

fn listed() -> Vec<Mutant> {
    parse(&fs::read_to_string(format!("{ROOT}/kernels/mutants.txt")).unwrap())
}

#[test]
fn every_listed_mutant_still_fits() {
    let stale: Vec<String> = listed()
        .iter()
        .filter(|m| m.change().is_none())
        .map(|m| format!("{}: {}", m.family, m.change))
        .collect();
    assert!(stale.is_empty(), "these change nothing any more:\n{}", stale.join("\n"));
}

#[test]
#[ignore = "runs for 5 minutes: kernels/emulation/mutants.sh"]
fn every_listed_mutant_is_caught() {
    let tests = std::env::var_os("CHTSL_MUTANT_TESTS")
        .expect("CHTSL_MUTANT_TESTS names the test program to run");
    let only = std::env::var("CHTSL_MUTANT_FAMILY").unwrap_or_default();
    let mutants: Vec<Mutant> =
        listed().into_iter().filter(|m| only.is_empty() || m.is_of(&only)).collect();
    assert!(!mutants.is_empty(), "no mutants of {only}");
    let missed = judge_all(Path::new(&tests), &mutants);
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
}

/// The mechanism on kernels of this crate, one mutant of every outcome.
#[test]
fn mutants_are_told_apart() {
    let tests = std::env::current_exe().unwrap();
    let of = |change: &str| Mutant {
        family: "planted/sound".into(),
        change: change.into(),
        what: String::new(),
        tests: "sound::sound_kernels_pass".into(),
    };
    let race = of("/^    __syncwarp();$/d");
    demand_sound(&tests, std::slice::from_ref(&race));
    let Outcome::Caught(words) = judge(&tests, &race) else { panic!("{race:?}") };
    assert!(words.contains("in kernel synchronisation") && words.contains("sound.cu:"), "{words}");
    let wrong = of("s/ok &= tile\\[t - 32\\] == 5/ok \\&= tile[t - 32] == 6/");
    let Outcome::Caught(words) = judge(&tests, &wrong) else { panic!("{wrong:?}") };
    assert!(words.contains("wrong at"), "{words}");
    assert_eq!(judge(&tests, &of("s/tile\\[t\\] = 5/tile[t] = 2 + 3/")), Outcome::Survived);
    assert_eq!(judge(&tests, &of("s/no such text/x/")), Outcome::Stale);
    let broken = judge(&tests, &of("s/tile\\[t\\] = 5/tile[t] = five/"));
    assert!(
        matches!(&broken, Outcome::DoesNotBuild(reason) if reason.contains("five")),
        "{broken:?}"
    );
}
