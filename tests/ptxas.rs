//! Resources of every kernel, as `ptxas` counted them in this build, against `benches/record/ptxas.md`.
//!
//! A kernel that is missing in the record, spills more than recorded, or fits less often on a
//! multiprocessor fails; fewer registers or more warps pass and are said, so that the record can be
//! made again: `CHTSL_BLESS=1 CHTSL_CUDA=require cargo test --test ptxas`. Counts belong to one version of
//! the compiler; with another one only spills beyond the record fail. Without kernels there is nothing to test.
#![cfg(chtsl_cuda)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Shared memory that a launch adds to what the kernel declares, in bytes, at its largest: ptxas does
/// not see it. Kernels that are not listed use none.
const DYNAMIC_SHARED: [(&str, u64); 0] = [];

/// A multiprocessor of compute capability 8.0 or 9.0.
struct Multiprocessor {
    name: &'static str,
    target: &'static str,
    shared: u64,
}

const MULTIPROCESSORS: [Multiprocessor; 2] = [
    Multiprocessor { name: "A100", target: "sm_80", shared: 164 << 10 },
    Multiprocessor { name: "H100", target: "sm_90", shared: 228 << 10 },
];

const REGISTERS: u64 = 65536;
const WARPS: u64 = 64;
const BLOCKS: u64 = 32;

impl Multiprocessor {
    /// Warps that are resident at once, by the rules of NVIDIA's occupancy calculator: registers are
    /// given to a warp in units of 256, shared memory to a block in units of 128 bytes plus 1 KiB of the
    /// system's own.
    fn resident_warps(&self, threads: u64, registers: u64, shared: u64) -> u64 {
        let warps = threads.div_ceil(32).max(1);
        let per_warp = (registers.max(1) * 32).next_multiple_of(256);
        // Warps are dealt out to four partitions with a quarter of the registers each.
        let by_registers = REGISTERS / 4 / per_warp * 4 / warps;
        let by_shared = self.shared / (shared + 1024).next_multiple_of(128);
        let blocks = (WARPS / warps).min(BLOCKS).min(by_registers).min(by_shared);
        blocks * warps
    }
}

/// One kernel on one target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Usage {
    registers: u64,
    shared: u64,
    stack: u64,
    spill: u64,
    threads: u64,
    warps: u64,
}

/// (file, kernel, target) in order.
type Table = BTreeMap<(String, String, String), Usage>;

/// `kernel<args>` of a mangled name.
fn plain_name(mangled: &str) -> String {
    let symbol = cpp_demangle::Symbol::new(mangled).unwrap_or_else(|e| panic!("{mangled}: {e}"));
    let options = cpp_demangle::DemangleOptions::new().no_params().no_return_type();
    let full = symbol.demangle_with_options(&options).unwrap();
    // Kernels live in the unnamed namespace of their file, which has a name made of hashes.
    let mut depth = 0;
    let mut start = 0;
    for (i, c) in full.char_indices() {
        match c {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            ':' if depth == 0 => start = i + 1,
            _ => {}
        }
    }
    full[start..].replace("__nv_bfloat16", "bf16").replace(' ', "")
}

/// The number before `unit` in a line such as "Used 40 registers, 64 bytes smem".
fn count(line: &str, unit: &str) -> u64 {
    let Some((before, _)) = line.split_once(unit) else { return 0 };
    before.split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Reads what the build kept.
fn parse(text: &str) -> Table {
    let mut table = Table::new();
    let (mut file, mut key, mut keys) = (String::new(), None, BTreeMap::<String, Vec<_>>::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            file = name.to_string();
        } else if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let mut parts = rest.split('\'');
            let (mangled, target) = (parts.next().unwrap(), parts.nth(1).unwrap());
            let k = (file.clone(), plain_name(mangled), target.to_string());
            keys.entry(mangled.to_string()).or_default().push(k.clone());
            let none = Usage { registers: 0, shared: 0, stack: 0, spill: 0, threads: 0, warps: 0 };
            assert!(table.insert(k.clone(), none).is_none(), "two kernels are called {k:?}");
            key = Some(k);
        } else if let Some(rest) = line.strip_prefix("launch bounds : ") {
            let mut words = rest.split(' ');
            let (mangled, threads) = (words.next().unwrap(), words.next().unwrap());
            for k in keys.get(mangled).into_iter().flatten() {
                table.get_mut(k).unwrap().threads = threads.parse().unwrap();
            }
        } else if let Some(usage) = key.as_ref().and_then(|k| table.get_mut(k)) {
            if line.contains("bytes stack frame") {
                usage.stack = count(line, " bytes stack frame");
                usage.spill = count(line, " bytes spill stores") + count(line, " bytes spill loads");
            } else if line.contains("registers") {
                usage.registers = count(line, " registers");
                usage.shared = count(line, " bytes smem");
                key = None;
            }
        }
    }
    for ((file, kernel, target), usage) in &mut table {
        assert!(usage.threads > 0, "{file}: {kernel} has no __launch_bounds__");
        let machine = MULTIPROCESSORS.iter().find(|m| m.target == target.as_str()).unwrap();
        let dynamic = DYNAMIC_SHARED.iter().find(|(name, _)| kernel.starts_with(name));
        let shared = usage.shared + dynamic.map_or(0, |(_, bytes)| *bytes);
        usage.warps = machine.resident_warps(usage.threads, usage.registers, shared);
    }
    table
}

fn print(table: &Table, compiler: &str) -> String {
    let mut text = format!(
        "# Kernel resources\n\n\
         Made by `CHTSL_BLESS=1 CHTSL_CUDA=require cargo test --test ptxas`; without `CHTSL_BLESS` the test \
         compares.\nCompiler: {compiler}. Registers per thread, bytes of static shared memory per block, \
         bytes of stack and of\nspilled registers (stores + loads) per thread, threads per block \
         (`__launch_bounds__`), and the warps that fit on a\nmultiprocessor at once, of {WARPS}, by \
         NVIDIA's occupancy rules for"
    );
    for (i, m) in MULTIPROCESSORS.iter().enumerate() {
        let and = if i > 0 { " and" } else { "" };
        write!(text, "{and} {} ({}, {} KiB shared memory)", m.name, m.target, m.shared >> 10).unwrap();
    }
    text.push_str(
        ". Dynamic shared memory counts where\n`tests/ptxas.rs` names it; ptxas does not see it.\n\n\
         | file | kernel | target | registers | shared | stack | spill | threads | warps |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for ((file, kernel, target), u) in table {
        writeln!(
            text,
            "| {file} | {kernel} | {target} | {} | {} | {} | {} | {} | {} |",
            u.registers, u.shared, u.stack, u.spill, u.threads, u.warps
        )
        .unwrap();
    }
    text
}

fn read(record: &str) -> Table {
    let rows = record.lines().filter(|l| l.contains("| sm_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let n = |i: usize| cells[i].parse().unwrap_or_else(|_| panic!("a number in {row:?}"));
        let key = (cells[0].into(), cells[1].into(), cells[2].into());
        let usage = Usage {
            registers: n(3),
            shared: n(4),
            stack: n(5),
            spill: n(6),
            threads: n(7),
            warps: n(8),
        };
        (key, usage)
    })
    .collect()
}

#[test]
fn kernels_stay_within_the_record() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/record/ptxas.md");
    let now = parse(&std::fs::read_to_string(env!("CHTSL_PTXAS")).unwrap());
    assert!(!now.is_empty());
    let compiler = format!("nvcc {}", env!("CHTSL_CUDA_VERSION"));
    if std::env::var_os("CHTSL_BLESS").is_some() {
        std::fs::write(&path, print(&now, &compiler)).unwrap();
    }
    let record = std::fs::read_to_string(&path).unwrap_or_default();
    let recorded = read(&record);
    let same_compiler = record.contains(&format!("Compiler: {compiler}."));
    let (mut worse, mut better) = (Vec::new(), Vec::new());
    for (key, u) in &now {
        let name = format!("{} {} {}", key.0, key.1, key.2);
        let Some(was) = recorded.get(key) else {
            if same_compiler {
                worse.push(format!("{name}: not in the record"));
            }
            continue;
        };
        if u.spill > was.spill {
            worse.push(format!("{name}: {} bytes spilled, {} recorded", u.spill, was.spill));
        } else if same_compiler && u.warps < was.warps {
            worse.push(format!("{name}: {} warps resident, {} recorded", u.warps, was.warps));
        } else if same_compiler && u != was {
            better.push(format!("{name}: {u:?}, recorded {was:?}"));
        }
    }
    let gone = recorded.keys().filter(|k| !now.contains_key(*k));
    better.extend(gone.map(|k| format!("{} {} {}: in the record only", k.0, k.1, k.2)));
    println!("changed, not worse (CHTSL_BLESS=1 records it):\n{}", better.join("\n"));
    assert!(
        worse.is_empty(),
        "{}\n(CHTSL_BLESS=1 CHTSL_CUDA=require cargo test --test ptxas records what is intended)",
        worse.join("\n")
    );
}

#[test]
fn occupancy_follows_the_calculator() {
    let [a100, h100] = MULTIPROCESSORS;
    // Rows of NVIDIA's occupancy calculator.
    assert_eq!(a100.resident_warps(256, 32, 0), 64);
    assert_eq!(a100.resident_warps(256, 64, 0), 32);
    assert_eq!(a100.resident_warps(128, 255, 0), 8);
    assert_eq!(a100.resident_warps(32, 16, 0), 32);
    assert_eq!(a100.resident_warps(256, 32, 48 << 10), 24);
    assert_eq!(h100.resident_warps(256, 32, 48 << 10), 32);
    assert_eq!(a100.resident_warps(1024, 65, 0), 0);
}

#[test]
fn names_are_plain() {
    let mangled = "_ZN45_GLOBAL__N__6c0c9f84_12_attention_cu_8a8f18cb24attention_forward_kernelI13__nv_bfloat16Li2EEEv15chtsl_attentionNS_5HeadsIT_EEPS4_";
    assert_eq!(plain_name(mangled), "attention_forward_kernel<bf16,2>");
    let mangled = "_ZN39_GLOBAL__N__0ce7cf8f_7_adam_cu_8daf82c711adam_kernelENS_6UpdateE";
    assert_eq!(plain_name(mangled), "adam_kernel");
    assert_eq!(plain_name("_Z1kPi"), "k");
}
