//! 1 × 8 = 2 × 4 = 8 × 1 up to rounding, where the loss promises it.

use chtsl::backend::Backend;
use chtsl::config::Config;
use chtsl::train::{RunOptions, Trainer};

use crate::program::rows;
use crate::setup::{backend, config, dataset, never};

/// Metrics row and all gradients of the first update.
fn first(c: &Config) -> (serde_json::Value, Vec<(String, Vec<f32>)>) {
    let backend = backend(2);
    let data = dataset(c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = RunOptions {
        out: Some(tmp.path().into()),
        stop_after: Some(1),
        ..RunOptions::new(never())
    };
    let mut trainer = Trainer::new(&backend, c, &data, None, options).unwrap();
    assert!(trainer.run().is_err(), "stops after one update");
    let mut gradients = Vec::new();
    trainer
        .model
        .visit(&mut |p| {
            gradients.push((p.name.to_string(), backend.read(p.grad)?));
            Ok(())
        })
        .unwrap();
    (rows(tmp.path()).remove(0), gradients)
}

#[test]
fn token_scaled_losses_do_not_depend_on_the_micro_batch() {
    for (align, layout) in [("mse", "packed"), ("mse", "doc_pad"), ("token_l2", "doc_pad")] {
        let at = |micro: usize| {
            first(&config(&[
                &format!("method.align={align}"),
                &format!("data.layout={layout}"),
                &format!("train.micro_batch={micro}"),
            ]))
        };
        let (row, gradients) = at(8);
        for micro in [4, 2, 1] {
            let (other, parts) = at(micro);
            for key in ["loss", "loss_align", "grad_norm"] {
                let (x, y) = (row[key].as_f64().unwrap(), other[key].as_f64().unwrap());
                assert!((x - y).abs() <= 1e-5 * x.abs(), "{align} {layout} {micro} {key}: {x} {y}");
            }
            for ((name, x), (_, y)) in gradients.iter().zip(&parts) {
                let largest = x.iter().fold(0f32, |a, b| a.max(b.abs()));
                for (a, b) in x.iter().zip(y) {
                    // Sums of about 200 products in another order: 200·2^-24 = 1.2e-5.
                    assert!((a - b).abs() <= 2e-5 * largest, "{align} {layout} {name}: {a} {b}");
                }
            }
        }
    }
}

#[test]
fn frobenius_depends_on_the_micro_batch_as_documented() {
    // Mean over k chunks of ‖D_chunk‖/(B/k·N) is about √k times the whole (exactly for equal chunks).
    let at = |micro: usize| {
        let micro = format!("train.micro_batch={micro}");
        let (row, _) = first(&config(&["method.align=frobenius", &micro]));
        row["loss_align"].as_f64().unwrap()
    };
    let ratio = at(2) / at(8);
    assert!((ratio - 2.0).abs() < 0.05, "{ratio}");
}
