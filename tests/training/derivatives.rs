//! All gradients of the whole model against central differences of its own loss, for both branches
//! and every reading of the alignment term.

use chtsl::backend::{Backend, Cpu};
use chtsl::config::{AlignReduction, Config};
use chtsl::data::{Batch, Dataset, Order};
use chtsl::layer::{Alignment, MicroBatch};
use chtsl::model::{Activations, ForwardOptions, Llama, RandomInit};
use chtsl::rng::{Purpose, Stream};

use crate::setup::{backend, config, dataset};

struct Case {
    backend: Cpu,
    model: Llama<Cpu>,
    acts: Activations<Cpu>,
    batch: Batch,
    alignment: Option<Alignment>,
}

fn micro(batch: &Batch) -> MicroBatch<'_> {
    MicroBatch {
        targets: &batch.targets,
        sequences: batch.sequences,
        seq_len: batch.seq_len,
        target_divisor: batch.target_tokens as f64,
        micro_batches: 1,
        starts: batch.starts.as_deref(),
    }
}

impl Case {
    fn new(c: &Config, data: &Dataset) -> Self {
        let backend = backend(2);
        let mut model = Llama::new(&backend, c, &mut RandomInit::new(c), true).unwrap();
        model.pack(&backend).unwrap();
        let mut batch = data.batch(4);
        data.fill(Order::Natural, 0..4, &mut batch).unwrap();
        let acts = Activations::new(&backend, &model, batch.ids.len(), true).unwrap();
        let alignment = (c.method.align != AlignReduction::None).then(|| Alignment {
            reduction: c.method.align,
            lambda: c.method.lambda_align,
            projections: c.method.aligned().unwrap(),
        });
        Case { backend, model, acts, batch, alignment }
    }

    /// Mean loss plus λ times alignment.
    fn loss(&mut self) -> f64 {
        let batch = micro(&self.batch);
        let alignment = self.alignment.as_ref();
        let options = ForwardOptions { alignment, stats: true, ..Default::default() };
        let (backend, acts) = (&self.backend, &mut self.acts);
        let stats = self.model.forward(backend, &self.batch.ids, &batch, options, acts).unwrap();
        let sum = self.model.loss(backend, &batch, acts).unwrap();
        let align: f64 = stats.iter().flatten().map(|s| s.align).sum();
        sum.loss / batch.target_divisor + alignment.map_or(0.0, |a| a.lambda) * align
    }

    fn gradients(&mut self) -> Vec<(String, Vec<f32>)> {
        self.loss();
        self.model.zero_gradients(&self.backend).unwrap();
        let (batch, aligned) = (micro(&self.batch), self.alignment.is_some());
        let (backend, acts) = (&self.backend, &mut self.acts);
        self.model.loss_and_backward(backend, &self.batch.ids, &batch, aligned, acts).unwrap();
        let mut out = Vec::new();
        let b = &self.backend;
        self.model
            .visit(&mut |p| {
                out.push((p.name.to_string(), b.read(p.grad)?));
                Ok(())
            })
            .unwrap();
        out
    }

    /// Adds h·direction to the parameter `name`.
    fn shift(&mut self, name: &str, direction: &[f32], h: f32) {
        let b = &self.backend;
        self.model
            .visit(&mut |p| {
                if p.name == name {
                    let mut w = b.read(p.values)?;
                    w.iter_mut().zip(direction).for_each(|(w, d)| *w += h * d);
                    b.write(p.values, &w)?;
                }
                Ok(())
            })
            .unwrap();
        self.model.pack(&self.backend).unwrap();
    }
}

/// For every parameter: the slope along (gradient/‖gradient‖ + a random unit vector).
fn check(name: &str, c: &Config) {
    let data = dataset(c, 400, 3);
    let mut case = Case::new(c, &data);
    let gradients = case.gradients();
    for (index, (param, g)) in gradients.iter().enumerate() {
        let norm = g.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-5, "{name} {param}: gradient {norm}");
        let s = Stream::new(1, Purpose::Init, index as u32, 9);
        let unit = (g.len() as f64).sqrt();
        let direction: Vec<f32> = g
            .iter()
            .enumerate()
            .map(|(i, x)| (f64::from(*x) / norm + s.normal(i as u64) / unit) as f32)
            .collect();
        let slope: f64 = g.iter().zip(&direction).map(|(a, b)| f64::from(a * b)).sum();
        // The loss carries about 2e-7·loss of rounding; Richardson over h and 2h cancels the third
        // derivative, so a step as large as 0.02/slope stays accurate.
        let h = (0.02 / norm).min(0.02) as f32;
        let mut difference = |h: f32| {
            case.shift(param, &direction, h);
            let up = case.loss();
            case.shift(param, &direction, -2.0 * h);
            let down = case.loss();
            case.shift(param, &direction, h);
            (up - down) / (2.0 * f64::from(h))
        };
        let numeric = (4.0 * difference(h) - difference(2.0 * h)) / 3.0;
        let rounding = 8.0 * 2e-6 / f64::from(h);
        let tolerance = 2e-3 * norm + rounding;
        assert!(
            (numeric - slope).abs() < tolerance,
            "{name} {param}: {numeric} {slope} ±{tolerance}"
        );
    }
}

#[test]
fn every_parameter_of_every_composition() {
    // Weights larger than at initialisation, so that every path carries a visible gradient. With g = 2
    // and no SiLU, CoLA's factors would make the loss too curved for finite steps.
    let config = |sets: &[&str]| config(&[&["model.init_std=0.15"], sets].concat());
    for align in ["mse", "frobenius", "frobenius_per_sample", "token_l2"] {
        // λ large enough that the term carries a good part of the gradient.
        let lambda = match align {
            "frobenius" | "frobenius_per_sample" => "method.lambda_align=300",
            "token_l2" => "method.lambda_align=0.2",
            _ => "method.lambda_align=3",
        };
        let align = format!("method.align={align}");
        check(&align, &config(&[&align, lambda, "data.layout=doc_pad"]));
    }
    check("qk", &config(&["method.align_layers=qk", "method.lambda_align=3"]));
    check("act", &config(&["method.name=act"]));
    check(
        "naive",
        &config(&["method.name=naive", "method.low_rank_scale=2", "method.low_rank_init=normal"]),
    );
    check("chts", &config(&["method.name=chts", "data.document_mask=true"]));
    check("cola", &config(&["method.name=cola"]));
    check("dense", &config(&["method.name=dense"]));
}
