//! Every operation family at the shapes of LLaMA-60M and 130M, beside the dense product it stands for.
//!
//! `cargo bench --bench families` runs all groups on the CPU and, where a CUDA device is present, on
//! it; `... -- spmm` runs those whose name matches. A group is `<family>/<machine>/<out>x<in>`, its
//! rows are densities and `dense`. Throughput is what the dense product would compute: a row that is
//! twice as high as `dense` saves half the time. On a device time comes from its own events.

mod inputs;
mod machine;

mod adam;
mod low_rank;
mod sparse;
mod topology;

use criterion::Criterion;
use machine::Machine;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1))
        .configure_from_args();
    run(&mut criterion, &machine::cpu());
    match machine::cuda() {
        Ok(device) => run(&mut criterion, &device),
        Err(reason) => println!("cuda: skipped, {reason}"),
    }
    criterion.final_summary();
}

fn run<B: machine::Timed>(c: &mut Criterion, machine: &Machine<B>) {
    println!("{}", machine.backend.describe());
    sparse::groups(c, machine);
    low_rank::groups(c, machine);
    adam::groups(c, machine);
    topology::groups(c, machine);
}
