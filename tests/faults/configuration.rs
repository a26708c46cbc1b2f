//! F15: every key of the configuration changed at a resume.

use chtsl::config::layers;
use toml::Value;

use crate::program::{copy, prepare, pretrain, text};
use crate::told;

/// Keys that may change freely; stated here once more, so that a change of the list is a decision.
const FREE: [&str; 6] = [
    "train.log_interval",
    "train.eval_interval",
    "train.checkpoint_interval",
    "train.keep_checkpoints",
    "train.micro_batch",
    "data.eval_tokens",
];

/// Keys that may change when `--allow-change` names them; likewise.
const DECLARED: [&str; 21] = [
    "train.steps",
    "train.warmup",
    "train.batch",
    "train.lr",
    "train.min_lr_ratio",
    "train.rewarmup",
    "train.low_rank_lr_scale",
    "train.beta1",
    "train.beta2",
    "train.eps",
    "train.weight_decay",
    "train.clip",
    "train.on_nonfinite",
    "train.max_skips",
    "train.skip_z",
    "train.loss_scaling",
    "method.lambda_align",
    "topology.zeta",
    "topology.update_interval",
    "topology.end_fraction",
    "topology.regrow_temperature",
];

/// Another valid value.
fn other(key: &str, value: &Value) -> String {
    let word = |a: &str, b: &str| if value.as_str() == Some(a) { b.into() } else { a.to_string() };
    match (key, value) {
        ("train.micro_batch", Value::Integer(n)) => (n / 2).to_string(),
        ("model.hidden" | "model.heads" | "train.batch", Value::Integer(n)) => (n * 2).to_string(),
        ("train.recipe", _) => word("paper", "tuned"),
        ("train.optimizer", _) => word("adam", "adamw"),
        ("train.precision", _) => word("bf16_pure", "f32"),
        ("train.loss_scaling", _) => word("per_micro_batch", "tokens"),
        ("train.on_nonfinite", _) => word("skip", "halt"),
        ("method.name", _) => word("act", "chtsl"),
        ("method.activation", _) => word("identity", "silu"),
        ("method.align", _) => word("frobenius", "mse"),
        ("method.align_layers", _) => word("qk", "all"),
        ("method.low_rank_init", _) => word("normal", "cola"),
        ("method.sparse_init", _) => word("variance_preserving", "masked"),
        ("topology.init", _) => word("er", "brf"),
        ("topology.brf_layout", _) => word("released", "scaled"),
        ("topology.degree", _) => word("multinomial", "fixed"),
        ("topology.zeta_schedule", _) => word("constant", "cosine"),
        ("topology.removal", _) => word("magnitude", "soft_magnitude"),
        ("topology.regrow_select", _) => word("topk", "soft"),
        ("topology.count", _) => word("released", "rounded"),
        ("data.layout", _) => word("doc_pad", "packed"),
        (_, Value::Boolean(b)) => (!b).to_string(),
        (_, Value::Integer(n)) => (n + 1).to_string(),
        (_, Value::Float(x)) => format!("{:?}", x * 0.5 + 0.013),
        _ => panic!("no other value for {key} = {value}"),
    }
}

#[test]
fn every_key_changed_at_a_resume_is_taken_or_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let done = pretrain(&data, &out, &["--set", "train.steps=4"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let config = std::fs::read_to_string(out.join("config.toml")).unwrap();
    let keys = layers::leaves(&config.parse().unwrap());
    assert!(keys.len() > 60, "{} keys", keys.len());
    let mut changes: Vec<(String, String)> = keys
        .iter()
        // There is one rule of regrowth.
        .filter(|(key, _)| key != "topology.regrowth")
        .map(|(key, value)| (key.clone(), other(key, value)))
        .collect();
    // Keys without a value are not in the file.
    changes.push(("method.total_sparsity".into(), "0.6".into()));
    changes.push(("method.low_rank_alpha".into(), "8.0".into()));
    let folder = tmp.path().join("copy");
    let resume = |words: &[&str]| {
        let _ = std::fs::remove_dir_all(&folder);
        copy(&out, &folder);
        let done = pretrain(&data, &folder, &["--resume", "auto", "--set", "train.steps=4"])
            .args(words)
            .output()
            .unwrap();
        (done.status.code(), text(&done))
    };
    let (mut free, mut declared, mut frozen, mut invalid) = (0, 0, 0, Vec::new());
    for (key, value) in &changes {
        let set = format!("{key}={value}");
        let (code, said) = resume(&["--set", &set]);
        let allowed = resume(&["--set", &set, "--allow-change", key]);
        if FREE.contains(&key.as_str()) {
            assert!(code == Some(0) && allowed.0 == Some(0), "{set}: {said}");
            free += 1;
            continue;
        }
        assert_eq!(code, Some(2), "{set}: {said}");
        if DECLARED.contains(&key.as_str()) {
            let asked = said.contains("these need --allow-change KEY each") && said.contains(key);
            assert!(asked, "{set}: {said}");
            assert_eq!(allowed.0, Some(0), "{set}: {}", allowed.1);
            declared += 1;
            continue;
        }
        assert_eq!(allowed.0, Some(2), "{set}: {}", allowed.1);
        // A recipe stands for the keys that follow from it.
        assert!(said.contains(key) || key == "train.recipe", "{set}: {said}");
        if said.contains("cannot change in a resumed run") {
            frozen += 1;
        } else {
            invalid.push(key.clone());
        }
    }
    assert_eq!((free, declared), (FREE.len(), DECLARED.len()));
    assert!(invalid.len() <= 3, "refused by another rule: {invalid:?}");
    // All of them at once, and a typing error.
    let (_, said) = resume(&["--set", "model.heads=1", "--set", "train.seed=9"]);
    assert!(said.contains("model.heads: 2 -> 1") && said.contains("train.seed: 1 -> 9"), "{said}");
    let (code, said) = resume(&["--set", "train.lrr=1"]);
    assert!(code == Some(2) && said.contains("did you mean \"lr\""), "{said}");
    told(&format!(
        "F15: {} keys changed one at a time: {free} taken, {declared} taken when declared, {frozen} \
         refused by name, {} impossible by themselves",
        changes.len(),
        invalid.len()
    ));
}
