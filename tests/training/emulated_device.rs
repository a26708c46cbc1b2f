//! The whole training loop on the emulated device: every kernel, the device's topology events, checkpoints
//! read from and written to its memory.

use chtsl::backend::Backend;
use chtsl::backend::cuda::Strategy;
use chtsl::checkpoint;
use chtsl::config::{Config, Precision};
use chtsl::sparse::Pattern;
use chtsl::train::{RunOptions, Trainer};
use chtsl_emulation::Order;

use crate::emulated::{backend, named};
use crate::golden_run::{ten_steps, trained};
use crate::resume;
use crate::setup::{config, dataset, links, never, portable};

/// Losses of every update, and the links at the end.
fn train<B: Backend>(backend: &B, c: &Config) -> (Vec<f64>, Vec<Pattern>) {
    let (losses, links) = trained(backend, c);
    (losses.iter().map(|r| r["loss"].as_f64().unwrap()).collect(), links)
}

#[test]
fn in_f32_a_run_chooses_the_cpus_links_and_has_its_losses() {
    let devices = named(Precision::F32);
    let f32 = ten_steps().into_iter().filter(|(_, c)| c.train.precision != Precision::Bf16Pure);
    for (i, (name, mut c)) in f32.enumerate() {
        c.train.steps = 8; // events at 4 and 8
        let (want, links) = train(&portable(), &c);
        let (kind, cuda) = &devices[i % devices.len()];
        let (got, chosen) = train(cuda, &c);
        assert_eq!(chosen, links, "{name} on {kind}: other links after two events");
        for (t, (g, w)) in got.iter().zip(&want).enumerate() {
            // As between SIMD levels: sums in another order, ten updates.
            assert!((g - w).abs() < 1e-4 * w, "{name} on {kind}, update {t}: {g} {w}");
        }
    }
}

#[test]
fn in_bf16_losses_follow_those_of_f32() {
    let mut c = ten_steps().remove(0).1;
    // Links drawn from other roundings part; the losses of a fixed topology are compared.
    c.topology.update_interval = 0;
    let (want, _) = train(&portable(), &c);
    let cuda = backend(Precision::Bf16Master, Order::Forward, Strategy::Dense, 0);
    let (got, _) = train(&cuda, &c);
    assert!(got != want, "bf16 was not used");
    for (t, (g, w)) in got.iter().zip(&want).enumerate() {
        // Logits pass some twenty roundings of 2⁻⁹ each, which add like a root and change the loss by
        // their mean over 192 targets; the loss itself is about 4.
        let tolerance = 20f64.sqrt() * 2f64.powi(-9);
        assert!((g - w).abs() < tolerance * w, "update {t}: {g} {w}");
    }
}

#[test]
fn checkpoints_carry_a_run_through_a_stop_and_to_the_other_backend() {
    let c = config(&["train.steps=7", "topology.update_interval=3", "topology.end_fraction=1"]);
    let (data, val) = (dataset(&c, 721, 1), dataset(&c, 400, 2));
    let tmp = tempfile::tempdir().unwrap();
    let cuda = backend(Precision::F32, Order::Random(3), Strategy::Links, 0);
    let (whole, cut) = (tmp.path().join("whole"), tmp.path().join("cut"));
    resume::run(&cuda, &c, &data, &val, &whole, &[]);
    resume::run(&cuda, &c, &data, &val, &cut, &[3, 2]);
    resume::equal("cut at 3 and 5", &whole, &cut);

    let found = checkpoint::latest(&whole).unwrap().unwrap();
    let cpu = portable();
    let options = || RunOptions::new(never());
    let mut here = Trainer::resume(&cpu, &c, &found, &data, Some(&val), options()).unwrap();
    let mut there = Trainer::resume(&cuda, &c, &found, &data, Some(&val), options()).unwrap();
    assert_eq!(links(&here.model), links(&there.model));
    let (a, b) = (here.evaluate().unwrap().unwrap(), there.evaluate().unwrap().unwrap());
    assert!((a.loss - b.loss).abs() < 1e-5 * a.loss, "{} {}", a.loss, b.loss);
}
