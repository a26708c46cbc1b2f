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

/// Shared memory that a launch adds to what the kernel declares, in bytes: ptxas does not see it. Follows
/// the launchers' arithmetic for the largest head of an instance, and for 512 rows of operand.
fn dynamic_shared(kernel: &str) -> u64 {
    let (stem, arguments) = kernel.split_once('<').unwrap_or((kernel, ""));
    let per = arguments.trim_end_matches('>').rsplit(',').next().and_then(|n| n.parse().ok());
    let per: u64 = per.unwrap_or(0);
    let bytes = if arguments.starts_with("bf16") { 2 } else { 4 };
    match stem {
        "attention_forward_kernel" => (3 * 16 * per + 64) * 68 * 4,
        "attention_backward_keys_kernel" | "attention_backward_queries_kernel" => {
            ((4 * 16 * per + 64) * 68 + 2 * 64) * 4
        }
        // The launcher takes the widest tile only while two blocks of it fit.
        "product_tile_kernel" if per == 4 => 80 << 10,
        "product_tile_kernel" => 512 * 32 * per * bytes,
        _ => 0,
    }
}

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Usage {
    registers: u64,
    shared: u64,
    dynamic: u64,
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
            let empty = Usage { dynamic: dynamic_shared(&k.1), ..Usage::default() };
            assert!(table.insert(k.clone(), empty).is_none(), "two kernels are called {k:?}");
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
                usage.spill =
                    count(line, " bytes spill stores") + count(line, " bytes spill loads");
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
        let shared = usage.shared + usage.dynamic;
        usage.warps = machine.resident_warps(usage.threads, usage.registers, shared);
    }
    table
}

fn print(table: &Table, compiler: &str) -> String {
    let [a100, h100] = MULTIPROCESSORS.map(|m| format!("{}, {} KiB", m.name, m.shared >> 10));
    let mut text = format!(
        "# Kernel resources\n\n\
         Made by `CHTSL_BLESS=1 CHTSL_CUDA=require cargo test --test ptxas`; the test without \
         `CHTSL_BLESS` compares.\n\
         Compiler: {compiler}. Per thread: registers, bytes of stack, bytes spilled (stores and \
         loads). Per block: bytes of\n\
         static and dynamic shared memory (the latter, which ptxas does not see, from the \
         launchers' arithmetic in\n\
         `tests/ptxas.rs`), most threads (`__launch_bounds__`). Warps: how many of {WARPS} fit on a \
         multiprocessor at once\n\
         by NVIDIA's occupancy rules, sm_80 ({a100} of shared memory) and sm_90 ({h100}).\n\n\
         | file | kernel | target | registers | stack | spill | static | dynamic | threads | warps |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for ((file, kernel, target), u) in table {
        writeln!(
            text,
            "| {file} | {kernel} | {target} | {} | {} | {} | {} | {} | {} | {} |",
            u.registers, u.stack, u.spill, u.shared, u.dynamic, u.threads, u.warps
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
            stack: n(4),
            spill: n(5),
            shared: n(6),
            dynamic: n(7),
            threads: n(8),
            warps: n(9),
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
