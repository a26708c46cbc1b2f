//! F15: every key of the configuration changed at a resume.

use chtsl::config::layers;
use toml::Value;

use crate::program::{path, prepare, pretrain, text};
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

/// Another value of the same type, if possible a valid one.
fn other(key: &str, value: &Value) -> String {
    let word = |a: &str, b: &str| if value.as_str() == Some(a) { b.into() } else { a.to_string() };
    match value {
        Value::Boolean(b) => (!b).to_string(),
        Value::Integer(n) if key == "train.micro_batch" => (n / 2).to_string(),
        Value::Integer(n) => (n + 1).to_string(),
        Value::Float(x) => format!("{:?}", x * 0.5 + 0.013),
        _ => match key {
            "train.recipe" => word("paper", "tuned"),
            "train.optimizer" => word("adam", "adamw"),
            "train.precision" => word("bf16_pure", "f32"),
            "train.loss_scaling" => word("per_micro_batch", "tokens"),
            "train.on_nonfinite" => word("skip", "halt"),
            "method.activation" => word("identity", "silu"),
            "method.align" => word("frobenius", "mse"),
            "method.align_layers" => word("qk", "all"),
            "data.layout" => word("doc_pad", "packed"),
            _ => "another".into(),
        },
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
    assert!(keys.len() > 50, "{} keys", keys.len());
    let copy = tmp.path().join("copy");
    let (mut taken, mut refused) = (0, 0);
    for (key, value) in &keys {
        let _ = std::fs::remove_dir_all(&copy);
        let copied =
            std::process::Command::new("cp").args(["-r", path(&out), path(&copy)]).status();
        assert!(copied.unwrap().success());
        let set = format!("{key}={}", other(key, value));
        let words = ["--resume", "auto", "--set", "train.steps=4", "--set", &set];
        let done = pretrain(&data, &copy, &words).output().unwrap();
        let said = text(&done);
        if FREE.contains(&key.as_str()) {
            assert!(done.status.success(), "{set}: {said}");
            taken += 1;
        } else {
            // What follows from a preset or a recipe is named by the keys that follow.
            let last = key.rsplit('.').next().unwrap();
            let by_name =
                said.contains(last) || matches!(key.as_str(), "train.recipe" | "method.name");
            assert!(done.status.code() == Some(2) && by_name, "{set}: {said}");
            refused += 1;
        }
    }
    // All of them at once, and a typing error.
    let words = ["--resume", "auto", "--set", "model.heads=1", "--set", "train.seed=9"];
    let said = text(&pretrain(&data, &out, &words).output().unwrap());
    assert!(said.contains("model.heads") && said.contains("train.seed"), "{said}");
    let said = text(
        &pretrain(&data, &out, &["--resume", "auto", "--set", "train.lrr=1"]).output().unwrap(),
    );
    assert!(said.contains("did you mean \"lr\"") || said.contains("train.lr"), "{said}");
    told(&format!(
        "F15: {} keys changed one at a time: {taken} taken, {refused} refused by name",
        keys.len()
    ));
}
