//! The search for nvcc and what the build makes of it: where it is looked for and in which order, what
//! counts as usable, the wishes of `CHTSL_CUDA`, and whole builds of a small crate with a made-up nvcc.
#![cfg(unix)]

#[allow(dead_code)]
#[path = "../build/kernels.rs"]
mod kernels;
#[allow(dead_code)]
#[path = "../build/nvcc.rs"]
mod nvcc;

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nvcc::{Decision, Places, Search, Wish, decide, search};

/// A compiler that answers as nvcc does and gives kernels to `cc`, which compiles a file without device
/// code. Calls with `-c` are logged beside it.
const STAND_IN: &str = r##"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
for a in "$@"; do
  case "$a" in
    --version) echo "Cuda compilation tools, release VERSION, V.0"; exit 0;;
    --dryrun) echo "#\$ TOP=$here/.." >&2; exit 0;;
    --lib) shift; objects=
           while [ "$1" != -o ]; do objects="$objects $1"; shift; done
           ar crs "$2" $objects; exit $?;;
    usable.cu) BODY;;
  esac
done
while [ $# -gt 0 ]; do
  case "$1" in
    -MMD|-c) ;;
    -MF) depfile=$2; shift;;
    -I) include="$include -I $2"; shift;;
    -o) object=$2; shift;;
    -gencode|-Xcompiler|-Xptxas|--keep-dir) shift;;
    *.cu) source=$1;;
  esac
  shift
done
echo "$(basename "$source")" >> "$here/log"
echo "ptxas info    : Compiling entry function '_Z1kv' for 'sm_80'" >&2
exec cc -x c++ -fPIC $include -MMD -MF "$depfile" -c "$source" -o "$object"
"##;

/// Makes a toolkit in `dir` whose compiler says it is `version`; `body` handles the test kernel.
fn toolkit(dir: &Path, version: &str, body: &str) -> PathBuf {
    let script = STAND_IN.replace("VERSION", version).replace("BODY", body);
    let nvcc = dir.join("bin/nvcc");
    fs::create_dir_all(nvcc.parent().unwrap()).unwrap();
    fs::create_dir_all(dir.join("lib64")).unwrap();
    // An archive without members.
    fs::write(dir.join("lib64/libcudart_static.a"), "!<arch>\n").unwrap();
    fs::write(&nvcc, script).unwrap();
    fs::set_permissions(&nvcc, fs::Permissions::from_mode(0o755)).unwrap();
    nvcc
}

const WORKS: &str = "exit 0";

/// A folder for one test at a time: a script that one thread has open for writing while another forks
/// cannot be started ("text file busy").
struct Fixture {
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

static ONE: Mutex<()> = Mutex::new(());

impl Fixture {
    fn new() -> Self {
        let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Fixture { dir: tempfile::tempdir().unwrap(), _alone }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The places of a machine where only this folder exists.
    fn places(&self, env: &[(&str, &Path)]) -> Places {
        let env: HashMap<String, OsString> =
            env.iter().map(|(k, v)| (k.to_string(), v.as_os_str().to_owned())).collect();
        let mut places = Places::new(|name| env.get(name).cloned(), &self.at("repository"));
        assert_eq!(places.system, Path::new("/usr/local/cuda"));
        places.system = self.at("system");
        places
    }

    fn search(&self, places: &Places) -> Search {
        search(places, self.dir.path())
    }

    /// Where a search ends.
    fn found(&self, places: &Places) -> PathBuf {
        match self.search(places) {
            Search::Found(toolkit) => toolkit.nvcc,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, places: &Places) -> String {
        match self.search(places) {
            Search::Unusable(nvcc, why) => format!("{}: {why}", nvcc.display()),
            other => panic!("{other:?}"),
        }
    }
}

const WHEELS: &str = "repository/.cuda/lib/python3.12/site-packages/nvidia/cu13";

#[test]
fn places_are_searched_in_their_order() {
    let f = Fixture::new();
    let [named, home, path, on_path] = ["named", "home", "path", "on_path"].map(|n| f.at(n));
    let env = [
        ("NVCC", named.join("bin/nvcc")),
        ("CUDA_HOME", home.clone()),
        ("CUDA_PATH", path.clone()),
        ("PATH", on_path.join("bin")),
    ];
    let folders = [named, home, path, on_path, f.at("system"), f.at(WHEELS)];
    let all: Vec<PathBuf> = folders.iter().map(|dir| toolkit(dir, "13.0", WORKS)).collect();
    for (i, expected) in all.iter().enumerate() {
        // NVCC is an instruction: unset it once its turn is over.
        let env: Vec<(&str, &Path)> =
            env.iter().skip(usize::from(i > 0)).map(|(k, v)| (*k, v.as_path())).collect();
        assert_eq!(&f.found(&f.places(&env)), expected);
        fs::remove_file(expected).unwrap();
    }
    assert!(matches!(f.search(&f.places(&[("PATH", &f.at("on_path/bin"))])), Search::Missing));
}

#[test]
fn toolkit_is_described() {
    let f = Fixture::new();
    toolkit(&f.at(WHEELS), "12.4", WORKS);
    let Search::Found(found) = f.search(&f.places(&[])) else { panic!() };
    assert_eq!(found.version, (12, 4));
    assert_eq!(found.dir, f.at(WHEELS).canonicalize().unwrap());
    assert_eq!(found.libraries, found.dir.join("lib64"));
    // A link far from the toolkit, as distributions make them.
    let link = f.at("links/nvcc");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let script = "#!/bin/sh\nexec \"REAL\" \"$@\"\n";
    fs::write(&link, script.replace("REAL", f.at(WHEELS).join("bin/nvcc").to_str().unwrap()))
        .unwrap();
    fs::set_permissions(&link, fs::Permissions::from_mode(0o755)).unwrap();
    let Search::Found(again) = f.search(&f.places(&[("NVCC", &link)])) else { panic!() };
    assert_eq!((again.nvcc, again.dir), (link, found.dir));
}

#[test]
fn nvcc_may_be_a_name_in_path() {
    let f = Fixture::new();
    let nvcc = toolkit(&f.at("tools"), "13.0", WORKS);
    let named = f.at("tools/bin/nvcc-13");
    fs::rename(nvcc, &named).unwrap();
    let path = f.at("tools/bin");
    let places = f.places(&[("NVCC", Path::new("nvcc-13")), ("PATH", &path)]);
    assert_eq!(f.found(&places), named);
}

#[test]
fn unusable_compilers_say_why() {
    let f = Fixture::new();
    let home = f.at("home");
    let refusal = |env: &[(&str, &Path)]| f.refusal(&f.places(env));
    let env: &[(&str, &Path)] = &[("CUDA_HOME", &home)];

    toolkit(&home, "11.8", WORKS);
    let said = refusal(env);
    assert!(said.ends_with("its version is 11.8, 12.4 or newer is needed"), "{said}");

    let body = "echo; echo 'x.h(1): error: unsupported GNU version!' >&2; exit 1";
    toolkit(&home, "13.0", body);
    let said = refusal(env);
    assert!(
        said.ends_with("does not compile a test kernel: x.h(1): error: unsupported GNU version!"),
        "{said}"
    );

    toolkit(&home, "13.0", WORKS);
    fs::remove_file(home.join("lib64/libcudart_static.a")).unwrap();
    // Unless the system has one of its own, as Debian's package does.
    if let Search::Unusable(_, said) = f.search(&f.places(env)) {
        assert!(said.starts_with("libcudart_static.a is missing in "), "{said}");
    }

    fs::write(home.join("bin/nvcc"), "#!/bin/sh\necho 'nvcc: out of order' >&2\n").unwrap();
    let said = refusal(env);
    assert!(said.ends_with("it does not tell its version: nvcc: out of order"), "{said}");

    fs::set_permissions(home.join("bin/nvcc"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = refusal(env);
    assert!(said.contains("it cannot be started: "), "{said}");

    let said = refusal(&[("NVCC", Path::new("/nowhere/nvcc"))]);
    assert!(said.starts_with("/nowhere/nvcc: it cannot be started: "), "{said}");
}

#[test]
fn a_usable_compiler_is_taken_after_an_unusable_one() {
    let f = Fixture::new();
    let old = toolkit(&f.at("old"), "11.8", WORKS);
    let new = toolkit(&f.at(WHEELS), "13.0", WORKS);
    let path = f.at("old/bin");
    assert_eq!(f.found(&f.places(&[("PATH", &path)])), new);
    // But not in place of the one that was asked for by name.
    let said = f.refusal(&f.places(&[("PATH", &path), ("NVCC", &old)]));
    assert!(said.contains("its version is 11.8"), "{said}");
    // Of several unusable ones the first is reported.
    toolkit(&f.at(WHEELS), "12.0", WORKS);
    let said = f.refusal(&f.places(&[("PATH", &path)]));
    assert!(said.starts_with(old.to_str().unwrap()), "{said}");
}

#[test]
fn wishes_decide() {
    assert_eq!(Wish::parse(None), Ok(Wish::Auto));
    assert_eq!(Wish::parse(Some("")), Ok(Wish::Auto));
    assert_eq!(Wish::parse(Some("off")), Ok(Wish::Off));
    assert_eq!(Wish::parse(Some("require")), Ok(Wish::Require));
    let said = Wish::parse(Some("on")).unwrap_err();
    assert_eq!(said, "CHTSL_CUDA=on: must be \"off\", \"require\" or unset");

    let unusable = || Search::Unusable("/x/nvcc".into(), "it is old".into());
    let cpu = |d: Decision| match d {
        Decision::Cpu { reason, warn } => (reason, warn),
        other => panic!("{other:?}"),
    };
    let fails = |d: Decision| match d {
        Decision::Fail(why) => why,
        other => panic!("{other:?}"),
    };
    let never = || panic!("`off` does not search");
    assert_eq!(cpu(decide(Wish::Off, true, never)), ("CHTSL_CUDA=off".into(), false));
    // Missing: quiet on a machine without a GPU, a line on one with.
    for gpu in [false, true] {
        let (reason, warn) = cpu(decide(Wish::Auto, gpu, || Search::Missing));
        assert_eq!((reason.as_str(), warn), ("no nvcc found", gpu));
    }
    let expected = ("/x/nvcc is not usable: it is old".to_string(), true);
    assert_eq!(cpu(decide(Wish::Auto, false, unusable)), expected);
    let said = fails(decide(Wish::Require, false, || Search::Missing));
    assert!(said.contains("there is no nvcc in NVCC, CUDA_HOME, CUDA_PATH, PATH"), "{said}");
    assert!(said.contains("pip install -r kernels/nvcc-requirements.txt"), "{said}");
    let said = fails(decide(Wish::Require, true, unusable));
    assert_eq!(said, "CHTSL_CUDA=require, but /x/nvcc is not usable: it is old");
}

/// Where no nvcc could build the kernels, that is the reason, and not that there is none.
#[test]
fn other_machines_hear_the_real_reason() {
    let not_here = |host: &str, target: &str, os, arch| nvcc::not_here(host, target, os, arch);
    for arch in ["x86_64", "aarch64"] {
        let machine = format!("{arch}-unknown-linux-gnu");
        assert_eq!(not_here(&machine, &machine, "linux", arch), None);
    }
    let rule =
        "kernels are built for Linux x86_64 or aarch64 hosts building for themselves, and this";
    let (pc, arm) = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu");
    let (mac, risc) = ("aarch64-apple-darwin", "riscv64gc-unknown-linux-gnu");
    for (host, target, os, arch, end) in [
        (
            pc,
            arm,
            "linux",
            "aarch64",
            " build is on x86_64-unknown-linux-gnu for aarch64-unknown-linux-gnu",
        ),
        (
            mac,
            pc,
            "linux",
            "x86_64",
            " build is on aarch64-apple-darwin for x86_64-unknown-linux-gnu",
        ),
        (mac, mac, "macos", "aarch64", " is aarch64-apple-darwin"),
        (risc, risc, "linux", "riscv64", " is riscv64gc-unknown-linux-gnu"),
    ] {
        let said = not_here(host, target, os, arch).unwrap();
        assert_eq!(said, format!("{rule}{end}"));
        for gpu in [false, true] {
            match decide(Wish::Auto, gpu, || Search::NotHere(said.clone())) {
                Decision::Cpu { reason, warn } => assert_eq!((&reason, warn), (&said, gpu)),
                other => panic!("{other:?}"),
            }
        }
        match decide(Wish::Require, true, || Search::NotHere(said.clone())) {
            Decision::Fail(why) => {
                assert!(
                    why.starts_with(&format!("CHTSL_CUDA=require, but {said}: build on ")),
                    "{why}"
                );
                assert!(why.ends_with("CHTSL_CUDA=off"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn compiler_output_is_read() {
    let text =
        "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 13.0, V13.0.88";
    assert_eq!(nvcc::parse_version(text), Some((13, 0)));
    assert_eq!(nvcc::parse_version("release 12"), None);
    assert_eq!(nvcc::reason("\n  warning: x\n  a.h:3: error: y\n"), "a.h:3: error: y");
    assert_eq!(nvcc::reason("only this\n"), "only this");
    assert_eq!(nvcc::reason(""), "it says nothing");

    let depfile = "a.o : a.cu \\\n  /with\\ blank/b.h \\\n  c.cuh\n";
    let inputs = ["a.cu", "/with blank/b.h", "c.cuh"].map(PathBuf::from);
    assert_eq!(kernels::parse_depfile(depfile), inputs);
    assert_eq!(kernels::parse_depfile("no rule"), [] as [PathBuf; 0]);

    let ptx = ".visible .entry _Z1kv(\n.param .u64 p\n)\n.maxntid 32, 4, 1\n.minnctapersm 2\n{\nret;\n}\n\
               .visible .entry _Z1gv(\n)\n{\n.maxntid 7\n}\n";
    let expected = "launch bounds : _Z1kv 128 2\nlaunch bounds : _Z1gv 0 0\n";
    assert_eq!(kernels::bounds_in_ptx(ptx), expected);
}

/// A crate with the real build script, two made-up kernels and a program that tells what it was built as.
fn small_crate(dir: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["build", "kernels/common", "include", "src"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for file in ["build.rs", "build/bindings.rs", "build/kernels.rs", "build/nvcc.rs"] {
        fs::copy(root.join(file), dir.join(file)).unwrap();
    }
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
    write("kernels/nvcc-requirements.txt", "");
    write("kernels/common/number.cuh", "static int number() { return 40; }\n");
    write(
        "kernels/one.cu",
        "#include \"common/number.cuh\"\nextern \"C\" int one() { return number(); }\n",
    );
    write("kernels/two.cu", "#include \"two.h\"\nextern \"C\" int two() { return TWO; }\n");
    write("include/two.h", "#define TWO 2\n");
    write(
        "Cargo.toml",
        "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
         [features]\nbindgen = []\n[workspace]\n",
    );
    write(
        "src/main.rs",
        "#[cfg(chtsl_cuda)]\nunsafe extern \"C\" { fn one() -> i32; fn two() -> i32; }\n\
         fn main() {\n\
         println!(\"{}|{}|{}\", env!(\"CHTSL_BUILD\"), env!(\"CHTSL_CUDA_VERSION\"), env!(\"CHTSL_CUDA_DIR\"));\n\
         #[cfg(chtsl_cuda)]\nprintln!(\"{}\", unsafe { one() + two() });\n\
         }\n",
    );
}

fn cargo_run(dir: &Path, env: &[(&str, &str)]) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    // A stray nvcc of this machine plays no part: every run names its own or none.
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "CHTSL_CUDA", "RUSTFLAGS"] {
        cargo.env_remove(name);
    }
    cargo.args(["run", "--offline"]).current_dir(dir);
    cargo.env("CARGO_TARGET_DIR", dir.join("target")).envs(env.iter().copied());
    cargo.output().unwrap()
}

#[test]
fn whole_builds() {
    let f = Fixture::new();
    let dir = f.at("crate");
    small_crate(&dir);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let runs = |env: &[(&str, &str)]| {
        let out = cargo_run(&dir, env);
        assert!(out.status.success(), "{env:?}: {}", text(&out.stderr));
        (text(&out.stdout), text(&out.stderr))
    };
    let fails = |env: &[(&str, &str)]| {
        let out = cargo_run(&dir, env);
        assert!(!out.status.success(), "{env:?}");
        text(&out.stderr)
    };
    let target = format!("{}-", std::env::consts::ARCH);

    let (said, build) = runs(&[("CHTSL_CUDA", "off")]);
    assert!(said.starts_with(&format!("CPU build for {target}")), "{said}");
    assert!(said.ends_with(": CHTSL_CUDA=off||\n"), "{said}");
    assert!(!build.contains("warning"), "{build}");

    let said = fails(&[("CHTSL_CUDA", "yes")]);
    assert!(said.contains("CHTSL_CUDA=yes: must be \"off\", \"require\" or unset"), "{said}");

    let old = toolkit(&f.at("old"), "12.3", WORKS);
    let old = old.to_str().unwrap();
    let (said, build) = runs(&[("NVCC", old)]);
    assert!(
        said.contains("is not usable: its version is 12.3, 12.4 or newer is needed||"),
        "{said}"
    );
    assert_eq!(build.matches("CPU build: ").count(), 1, "{build}");
    assert!(build.contains("warning: small@0.1.0: CPU build: "), "{build}");

    let said = fails(&[("NVCC", old), ("CHTSL_CUDA", "require")]);
    assert!(said.contains("CHTSL_CUDA=require, but"), "{said}");
    assert!(said.contains("is not usable: its version is 12.3"), "{said}");

    // A build for another machine fails for what it is, even where there is an nvcc.
    let new = toolkit(&f.at("new"), "13.0", WORKS);
    let other = match std::env::consts::ARCH {
        "aarch64" => "x86_64-unknown-linux-gnu",
        _ => "aarch64-unknown-linux-gnu",
    };
    let said = fails(&[
        ("NVCC", new.to_str().unwrap()),
        ("CHTSL_CUDA", "require"),
        ("CARGO_BUILD_TARGET", other),
    ]);
    assert!(said.contains("CHTSL_CUDA=require, but kernels are built for Linux x86_64"), "{said}");
    assert!(said.contains(&format!(" for {other}: build on the machine")), "{said}");

    let env = [("NVCC", new.to_str().unwrap()), ("CHTSL_CUDA", "require")];
    let log = f.at("new/bin/log");
    let compiled = || {
        let mut files: Vec<String> =
            fs::read_to_string(&log).unwrap_or_default().lines().map(String::from).collect();
        files.sort();
        let _ = fs::remove_file(&log);
        files.join(" ")
    };
    let (said, _) = runs(&env);
    let dir_text = f.at("new").canonicalize().unwrap().display().to_string();
    assert!(said.starts_with("CUDA 13.0 (sm_80, sm_90, PTX 8.0) for "), "{said}");
    assert!(said.ends_with(&format!("|13.0|{dir_text}\n42\n")), "{said}");
    assert_eq!(compiled(), "one.cu two.cu");

    // Only what changed is compiled again, through headers too.
    runs(&env);
    assert_eq!(compiled(), "");
    fs::write(dir.join("include/two.h"), "#define TWO 3\n").unwrap();
    assert!(runs(&env).0.ends_with("\n43\n"));
    assert_eq!(compiled(), "two.cu");
    fs::write(dir.join("kernels/common/number.cuh"), "static int number() { return 50; }\n")
        .unwrap();
    assert!(runs(&env).0.ends_with("\n53\n"));
    assert_eq!(compiled(), "one.cu");

    // A kernel that a usable compiler refuses is our mistake, and never a quiet CPU build.
    fs::write(dir.join("include/two.h"), "#define TWO nonsense\n").unwrap();
    let said = fails(&env[..1]);
    assert!(said.contains("two.cu: ") && said.contains("error"), "{said}");
    assert!(said.contains("CHTSL_CUDA=off cargo build"), "{said}");
}
