//! What a CUDA device does with the kernels: ceilings, dense products, every family against its
//! roofline, bits that repeat. Run by `benches/gpu.sh`; writes JSON to the file it is given and a
//! Markdown table to standard output. Without a device it says so and ends with status 0.
//!
//! `device [--json FILE] [--quick]`; `device --probe` only describes the device, and ends with status 1
//! when there is none.

mod kernels;
mod record;
mod repeat;

use chtsl::backend::{Backend, Cuda};
use chtsl::config::Precision;
use chtsl::error::Result;
use record::Record;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let probe = arguments.iter().any(|a| a == "--probe");
    let cuda = match Cuda::open(Precision::Auto) {
        Ok(cuda) => cuda,
        Err(reason) => {
            println!("cuda: skipped, {reason}");
            std::process::exit(i32::from(probe));
        }
    };
    if probe {
        println!("{}", cuda.describe());
        return;
    }
    let quick = arguments.iter().any(|a| a == "--quick");
    let json = arguments.iter().position(|a| a == "--json").and_then(|i| arguments.get(i + 1));
    let mut record = Record::new(cuda.describe());
    if let Err(error) = measure(&cuda, quick, &mut record) {
        eprintln!("{error}");
        record.note(&format!("ended early: {error}"));
    }
    print!("{}", record.markdown());
    if let Some(path) = json {
        std::fs::write(path, record.json()).expect("a writable file");
    }
    if !record.complete() {
        std::process::exit(1);
    }
}

fn measure(cuda: &Cuda, quick: bool, record: &mut Record) -> Result<()> {
    kernels::ceilings(cuda, record)?;
    kernels::dense(cuda, quick, record)?;
    kernels::families(cuda, quick, record)?;
    repeat::all(cuda, record)
}
