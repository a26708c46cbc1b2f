//! The whole model against the independent PyTorch results of tests/golden/model: logits, losses,
//! OCR, all gradients and twelve Adam updates.

#[allow(dead_code, unused_imports, unused_macros)] // shared with the tests of operations
mod support;

use std::path::{Path, PathBuf};

use chtsl::backend::cpu::Level;
use chtsl::backend::{Backend, Cpu, NO_TARGET};
use chtsl::checkpoint::tensors::TensorFile;
use chtsl::config::{
    Activation, AlignReduction, Config, MethodConfig, ModelConfig, PROJECTIONS, Precision,
};
use chtsl::layer::{Alignment, BranchStats, MicroBatch};
use chtsl::model::{Activations, ForwardOptions, Llama};
use chtsl::optim;
use serde_json::Value;
use support::emulated;

struct Case {
    name: String,
    json: Value,
    tensors: TensorFile,
    config: Config,
    alignment: Option<Alignment>,
    ids: Vec<u32>,
    targets: Vec<u32>,
}

fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    paths.iter().map(|p| load(p)).collect()
}

fn load(path: &Path) -> Case {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let tensors = TensorFile::open(&path.with_extension("safetensors")).unwrap();
    let c = &json["config"];
    let size = |key: &str| c[key].as_u64().unwrap() as usize;
    let number = |key: &str| c[key].as_f64().unwrap();
    let sparse = tensors.contains("model.layers.0.self_attn.q_proj.weight.values");
    let dense = tensors.contains("model.layers.0.self_attn.q_proj.weight");
    let low_rank = tensors.contains("model.layers.0.self_attn.q_proj.low_rank.A");
    let reduction = match c["align"].as_str().unwrap() {
        "none" => AlignReduction::None,
        "mse" => AlignReduction::Mse,
        "frobenius" => AlignReduction::Frobenius,
        "frobenius_per_sample" => AlignReduction::FrobeniusPerSample,
        "token_l2" => AlignReduction::TokenL2,
        other => panic!("reading {other}"),
    };
    let config = Config {
        model: ModelConfig {
            hidden: size("hidden"),
            intermediate: size("ffn"),
            layers: size("layers"),
            heads: size("heads"),
            vocab: size("vocab"),
            seq_len: json["seq"].as_u64().unwrap() as usize,
            rope_base: number("rope_base"),
            rms_eps: number("eps"),
            init_std: 0.02,
        },
        method: MethodConfig {
            dense: dense && !low_rank,
            sparse,
            low_rank,
            connectivity_sparsity: Some(if sparse { number("sparsity") } else { 1.0 }),
            rank: Some(if low_rank { size("rank") } else { 0 }),
            activation: match c["act"].as_str().unwrap() {
                "silu" => Activation::Silu,
                "identity" => Activation::Identity,
                other => panic!("activation {other}"),
            },
            low_rank_scale: number("g"),
            align: reduction,
            lambda_align: number("lam"),
            align_layers: c["align_layers"].as_str().unwrap().into(),
            ..MethodConfig::default()
        },
        ..Config::default()
    };
    let projections = config.method.aligned().unwrap();
    let alignment = (reduction != AlignReduction::None).then(|| Alignment {
        reduction,
        lambda: number("lam"),
        projections,
    });
    let ints = |name: &str| -> Vec<u32> { signed(&tensors, name) };
    let (ids, targets) = (ints("ids"), ints("targets"));
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    Case { name, config, alignment, ids, targets, json, tensors }
}

/// Integers with -100 (no target) mapped to [`NO_TARGET`].
fn signed(tensors: &TensorFile, name: &str) -> Vec<u32> {
    tensors
        .signed(name)
        .unwrap()
        .iter()
        .map(|&i| if i < 0 { NO_TARGET } else { i as u32 })
        .collect()
}

impl Case {
    fn batch(&self) -> MicroBatch<'_> {
        MicroBatch {
            targets: &self.targets,
            sequences: self.json["batch"].as_u64().unwrap() as usize,
            seq_len: self.config.model.seq_len,
            target_divisor: self.targets.iter().filter(|t| **t != NO_TARGET).count() as f64,
            micro_batches: 1,
            starts: None,
        }
    }

    fn model<B: Backend>(&mut self, backend: &B) -> Llama<B> {
        Llama::new(backend, &self.config, &mut self.tensors, true).unwrap()
    }
}

/// One forward and backward pass; returns the task loss, the alignment term times λ and the stats.
fn pass<B: Backend>(
    case: &Case,
    backend: &B,
    model: &mut Llama<B>,
    acts: &mut Activations<B>,
) -> (f64, f64, Vec<[BranchStats; 7]>) {
    let batch = case.batch();
    model.zero_gradients(backend).unwrap();
    let options =
        ForwardOptions { alignment: case.alignment.as_ref(), stats: true, all_positions: true };
    let stats = model.forward(backend, &case.ids, &batch, options, acts).unwrap();
    let aligned = case.alignment.is_some();
    let loss = model.loss_and_backward(backend, &case.ids, &batch, aligned, acts).unwrap();
    let align: f64 = stats.iter().flatten().map(|s| s.align).sum();
    let lambda = case.alignment.map_or(0.0, |a| a.lambda);
    (loss.loss / batch.target_divisor, lambda * align, stats)
}

fn backends() -> Vec<Cpu> {
    Level::available()
        .into_iter()
        .map(|level| Cpu::with_level(2, Precision::F32, level).unwrap())
        .collect()
}

/// f32 against f64 results: 1e-5 of the largest element of each tensor (tests/golden/model/README.md
/// calls it generous; the longest sums have 101 terms, 101·2^-24 = 6e-6).
fn close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-5 * largest, "{what}[{i}]: {g} against {w} (max {largest})");
    }
}

/// Everything that the file holds of one forward and backward pass.
fn check_pass<B: Backend>(backend: &B, case: &mut Case) {
    let mut model = case.model(backend);
    let tokens = case.ids.len();
    let mut acts = Activations::new(backend, &model, tokens, true).unwrap();
    let (task, align, stats) = pass(case, backend, &mut model, &mut acts);
    let name = format!("{} {}", case.name, backend.describe());

    // File: (batch, seq, vocab); ours: (vocab, tokens).
    let want = case.tensors.floats("logits").unwrap();
    let vocab = case.config.model.vocab;
    let got = model.logits(backend, &acts, tokens).unwrap();
    let got: Vec<f32> = (0..tokens * vocab).map(|i| got[i % vocab * tokens + i / vocab]).collect();
    close(&format!("{name} logits"), &got, &want);

    let number = |key: &str| case.json[key].as_f64().unwrap();
    assert!((task - number("task_loss")).abs() < 1e-5 * task, "{name}: task {task}");
    let want = number("alignment_times_lambda");
    assert!((align - want).abs() <= 1e-5 * want, "{name}: alignment {align} {want}");

    let ocr = case.json["ocr"].as_object().unwrap();
    for (layer, stats) in stats.iter().enumerate() {
        for (i, s) in stats.iter().enumerate() {
            let part = if i < 4 { "self_attn" } else { "mlp" };
            let key = format!("model.layers.{layer}.{part}.{}", PROJECTIONS[i]);
            match ocr.get(&key) {
                // An element near zero may change sign in f32; its weight is min(|S|,|L|).
                Some(v) => assert!((s.ocr() - v.as_f64().unwrap()).abs() < 2e-5, "{key}"),
                None => assert!(ocr.is_empty()),
            }
        }
    }

    let mut compared = 0;
    model
        .visit(&mut |p| {
            let suffix = if p.pattern.is_some() { ".values" } else { "" };
            let key = format!("grad.{}{suffix}", p.name);
            let want = case.tensors.floats(&key)?;
            close(&format!("{name} {key}"), &backend.read(p.grad)?, &want);
            compared += 1;
            Ok(())
        })
        .unwrap();
    let stored = case.tensors.names().filter(|n| n.starts_with("grad.")).count();
    assert_eq!(compared, stored, "{name}: every stored gradient has been compared");
}

#[test]
fn golden_logits_losses_ocr_and_gradients() {
    let emulated = emulated::named(Precision::F32);
    let mut all = cases();
    assert_eq!(all.len(), 14);
    for (i, case) in all.iter_mut().enumerate() {
        for backend in backends() {
            check_pass(&backend, case);
        }
        // In turn, so that every kind of backend meets every kind of model.
        check_pass(&emulated[i % emulated.len()].1, case);
    }
}

/// The stored losses over twelve updates.
fn check_updates<B: Backend>(backend: &B, case: &mut Case) {
    let adam = case.json["adam"].clone();
    let mut model = case.model(backend);
    let mut acts = Activations::new(backend, &model, case.ids.len(), true).unwrap();
    let mut t = Config::default().train;
    t.optimizer = chtsl::config::Optimizer::Adam;
    t.beta1 = adam["betas"][0].as_f64().unwrap();
    t.beta2 = adam["betas"][1].as_f64().unwrap();
    t.eps = adam["eps"].as_f64().unwrap();
    t.weight_decay = adam["weight_decay"].as_f64().unwrap();
    t.per_link_steps = false;
    t.steps = adam["steps"].as_u64().unwrap();
    t.warmup = adam["warmup"].as_u64().unwrap();
    t.min_lr_ratio = adam["min_ratio"].as_f64().unwrap();
    let clip = adam["clip"].as_f64().unwrap_or(0.0);
    let peak = adam["lr"].as_f64().unwrap();
    for u in 0..t.steps as usize {
        let (task, align, _) = pass(case, backend, &mut model, &mut acts);
        let want = &adam["task_and_alignment_before_each_update"][u];
        // Rounding differences grow with the updates; 1e-5 relative stays far below the
        // changes between updates (1e-2).
        for (got, want) in [(task, &want[0]), (align, &want[1])] {
            let want = want.as_f64().unwrap();
            let ok = (got - want).abs() <= 1e-5 * want.abs();
            assert!(ok, "{} update {u}: {got} {want}", case.name);
        }
        let factor = optim::schedule::factor(u as u64, &t, &case.config.topology);
        let stored = adam["lr_factor"][u].as_f64().unwrap();
        assert!((factor - stored).abs() < 1e-12);
        let norm = optim::gradient_norm(backend, &mut model).unwrap();
        let scale = optim::clip_factor(norm, clip);
        let lr = peak * factor;
        optim::update(backend, &mut model, &t, lr, u as u64 + 1, scale).unwrap();
    }
}

#[test]
fn golden_twelve_adam_updates() {
    let emulated = emulated::named(Precision::F32);
    let mut all: Vec<Case> = cases().into_iter().filter(|c| c.json.get("adam").is_some()).collect();
    assert_eq!(all.len(), 5);
    for (i, case) in all.iter_mut().enumerate() {
        for backend in backends() {
            check_updates(&backend, case);
        }
        check_updates(&emulated[i % emulated.len()].1, case);
    }
}
