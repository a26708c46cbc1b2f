//! Compiles the kernels for the CPU: every `kernels/*.cu` instrumented, the emulator's runtime not, and the
//! kernels with planted mistakes that this crate's own tests use.

mod compile;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use compile::{Unit, compile_all};

const NEEDED: &str = "tests run the CUDA kernels on the CPU and need a C++17 compiler for that, GCC 10 or \
     Clang 12 and newer, on Linux x86-64 or aarch64 (Debian, Ubuntu: apt-get install g++). CXX chooses another one. \
     Building and running chtsl itself needs none";

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap())
        .join("../..")
        .canonicalize()
        .unwrap();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    for watched in ["kernels", "include"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }

    let tool = match cc::Build::new().cpp(true).try_get_compiler() {
        Ok(tool) if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") => tool,
        _ => fail("no C++ compiler was found"),
    };
    // DWARF 4: addr2line loses the inlined frames of clang's DWARF 5, and reports name them.
    let mut common: Vec<String> = vec![tool.path().display().to_string()];
    common.extend(words(
        "-std=c++17 -O2 -gdwarf-4 -fPIC -fvisibility=hidden -pthread -Wall -Wextra -Wno-unknown-pragmas",
    ));
    // Kernels read bf16 arrays as words, as nvcc allows; products and sums must round separately.
    let mut kernel = words(
        "-x c++ -fsanitize=thread,alignment -fno-strict-aliasing -ffp-contract=off -fno-optimize-sibling-calls \
         -fno-builtin-memcpy -fno-builtin-memmove -fno-builtin-memset -DCHTSL_EMULATED \
         -Ikernels -Iinclude -Ikernels/emulation/include",
    );
    if tool.is_like_clang() {
        // Otherwise clang omits a read that a write to the same place follows, and with it a sum over nothing.
        kernel.extend(words("-fsanitize=bounds -mllvm -tsan-instrument-read-before-write=1"));
    } else {
        // Strict: the last array of a struct has an end, too. Entry and exit hooks are of no use here; unique symbols would tie a mutant's library to the program's.
        kernel.extend(words(
            "-fsanitize=bounds-strict --param tsan-instrument-func-entry-exit=0 -fno-gnu-unique",
        ));
    }
    probe(&root, &out, &common, &kernel);

    let planted = "kernels/emulation/tests/planted";
    let parts = [
        ("chtsl_emulated_kernels", sources(&root, "kernels", "cu"), kernel.clone()),
        ("chtsl_emulated_planted", sources(&root, planted, "cu"), knowing(&kernel)),
        (
            "chtsl_emulation_runtime",
            sources(&root, "kernels/emulation/runtime", "cpp"),
            words("-Ikernels/emulation/include"),
        ),
    ];
    let units: Vec<Unit> = parts
        .iter()
        .flat_map(|(library, sources, flags)| {
            let command = [common.as_slice(), flags.as_slice()].concat();
            sources.iter().map(move |source| Unit::new(source, library, command.clone()))
        })
        .collect();
    match compile_all(&root, &out, &units) {
        Ok(warnings) => warnings.iter().for_each(|line| println!("cargo:warning={line}")),
        Err(text) => fail(&text),
    }
    let objects: Vec<String> = units.iter().map(|u| u.object(&out).display().to_string()).collect();
    fs::write(out.join("objects"), objects.join("\n")).unwrap();
    for (library, ..) in &parts {
        let objects: Vec<PathBuf> =
            units.iter().filter(|u| u.library == *library).map(|u| u.object(&out)).collect();
        archive(&out, library, &objects);
        println!("cargo:rustc-link-lib=static={library}");
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=stdc++");
}

/// The compiler must know the flags that carry every check.
fn probe(root: &Path, out: &Path, common: &[String], kernel: &[String]) {
    let (version, source) = (out.join("probe.passed"), out.join("probe.cu"));
    let args = [common, kernel].concat().join("\n");
    if fs::read_to_string(&version).is_ok_and(|known| known == args) {
        return;
    }
    fs::write(&source, "static thread_local float a[4]; float f(int i) { return a[i]; }\n")
        .unwrap();
    let run = Command::new(&common[0])
        .args(&common[1..])
        .args(kernel)
        .args(["-c".as_ref(), source.as_os_str(), "-o".as_ref(), out.join("probe.o").as_os_str()])
        .current_dir(root)
        .output();
    match run {
        Ok(done) if done.status.success() => fs::write(&version, args).unwrap(),
        Ok(done) => fail(&format!(
            "{} refuses the flags: {}",
            common[0],
            String::from_utf8_lossy(&done.stderr)
        )),
        Err(error) => fail(&format!("{}: {error}", common[0])),
    }
}

/// Files of a folder with an extension, sorted, relative to the root: paths in messages stay short.
fn sources(root: &Path, folder: &str, extension: &str) -> Vec<String> {
    let entries =
        fs::read_dir(root.join(folder)).unwrap_or_else(|e| fail(&format!("{folder}: {e}")));
    let mut found: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|e| e == extension))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    found.sort();
    found
}

fn archive(out: &Path, library: &str, objects: &[PathBuf]) {
    let path = out.join(format!("lib{library}.a"));
    let _ = fs::remove_file(&path);
    let done = cc::Build::new().get_archiver().arg("crs").arg(&path).args(objects).status();
    if !done.as_ref().is_ok_and(|status| status.success()) {
        fail(&format!("cannot make {}: {done:?}", path.display()));
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

fn fail(reason: &str) -> ! {
    eprintln!("{reason}\n\nchtsl-emulation: {NEEDED}.");
    std::process::exit(1)
}

/// Flags for the planted mistakes, which the compiler need not point out.
fn knowing(kernel: &[String]) -> Vec<String> {
    let mut flags = kernel.to_vec();
    flags.push("-Wno-array-bounds".into());
    flags
}
