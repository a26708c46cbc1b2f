//! Hugging Face folders: what goes out comes back, what cannot is refused in one sentence, nothing half
//! done is left, and transformers computes what we compute.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use chtsl::backend::{Backend, Cpu, NO_TARGET};
use chtsl::checkpoint::{self, State, TensorFile};
use chtsl::config::{Config, Precision, layers};
use chtsl::data::Tokenizer;
use chtsl::export::{Format, export, import};
use chtsl::generate::{Sampling, generate};
use chtsl::layer::{MicroBatch, ParamKind};
use chtsl::model::{Activations, ForwardOptions, Llama, RandomInit};
use chtsl::rng::{Purpose, Stream};
use chtsl::train::load_model;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

#[path = "support/program.rs"]
mod program;

use program::{chtsl, ok, path, prepare, pretrain, run, text};

static GO: AtomicBool = AtomicBool::new(false);

/// Tensors of a file by name.
type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tokenizer() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(root.join("tests/golden/tokenizer/tokenizer.json")).unwrap()
}

/// The same, but it truncates and puts an end after every text, as T5's does.
fn talkative() -> Vec<u8> {
    let mut v: Value = serde_json::from_slice(&tokenizer()).unwrap();
    v["truncation"] =
        json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    v["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}},
    });
    v.to_string().into_bytes()
}

fn config(sets: &[&str]) -> Config {
    let base = [
        "model.hidden=32",
        "model.intermediate=48",
        "model.layers=2",
        "model.heads=4",
        "model.vocab=512",
        "model.seq_len=24",
        "method.connectivity_sparsity=0.7",
        "method.rank=3",
    ];
    let sets: Vec<String> = base.iter().chain(sets).map(|s| s.to_string()).collect();
    layers::resolve(None, None, &sets).unwrap()
}

/// A run whose every weight matters: far from the small initial values, gains and factors included.
/// Each sparse matrix has a link with the value zero.
fn make(run: &Path, config: &Config, tokenizer: Option<&[u8]>) {
    let precision = match config.train.precision {
        Precision::Bf16Pure => Precision::Bf16Pure,
        _ => Precision::F32,
    };
    let backend = Cpu::new(1, precision).unwrap();
    let mut model = Llama::new(&backend, config, &mut RandomInit::new(config), true).unwrap();
    let mut number = 0;
    model
        .visit(&mut |p| {
            number += 1;
            let s = Stream::new(7, Purpose::Corpus, number, 0);
            let mut values = backend.read(p.values)?;
            for (i, x) in values.iter_mut().enumerate() {
                *x += 0.2 * s.normal(i as u64) as f32;
            }
            if p.kind == ParamKind::Sparse {
                values[1] = 0.0;
            }
            backend.write(p.values, &values)?;
            backend.round(p.values)
        })
        .unwrap();
    model.pack(&backend).unwrap();
    let state = State {
        format: 1,
        program: "test".into(),
        step: 3,
        tokens: 99,
        precision: backend.precision().to_string(),
        ..State::default()
    };
    checkpoint::save(&backend, run, config, &mut model, &[], &state, tokenizer, 1).unwrap();
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(checkpoint::find(run).unwrap().path.join("model.safetensors")).unwrap()
}

/// Logits after each of `ids`, token by token, in f32.
fn logits(run: &Path, ids: &[u32]) -> Vec<f32> {
    let backend = Cpu::new(1, Precision::F32).unwrap();
    let model = load_model(&backend, &checkpoint::find(run).unwrap(), false).unwrap();
    let tokens = ids.len();
    let mut acts = Activations::new(&backend, &model, tokens, false).unwrap();
    let batch = MicroBatch {
        targets: &vec![NO_TARGET; tokens],
        sequences: 1,
        seq_len: tokens,
        target_divisor: 1.0,
        micro_batches: 1,
        starts: None,
    };
    model.forward(&backend, ids, &batch, ForwardOptions::default(), &mut acts).unwrap();
    let all = model.logits(&backend, &acts, tokens).unwrap();
    let vocab = model.config().model.vocab;
    (0..tokens * vocab).map(|i| all[i % vocab * tokens + i / vocab]).collect()
}

fn greedy(run: &Path, prompt: &[u32], most: usize, eos: Option<u32>) -> Vec<u32> {
    let backend = Cpu::new(1, Precision::F32).unwrap();
    let model = load_model(&backend, &checkpoint::find(run).unwrap(), false).unwrap();
    let sampling = Sampling { max_tokens: most, temperature: 0.0, top_p: 1.0, seed: 0, eos };
    generate(&backend, &model, prompt, 1, &sampling, &GO).unwrap().remove(0)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn send(run: &Path, out: &Path, format: Format) {
    export(&checkpoint::find(run).unwrap(), out, format, &GO).unwrap();
}

/// All files under a folder with their content.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(n, b)| (name.join(n), b)));
        } else {
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

fn edit(path: &Path, f: impl FnOnce(&mut Value)) {
    let mut v: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    f(&mut v);
    std::fs::write(path, v.to_string()).unwrap();
}

const HF: Format = Format::Hf;
const CUSTOM: Format = Format::HfCustom;

/// Methods, other keys, formats that keep everything.
fn kinds() -> Vec<(&'static str, Vec<&'static str>, Vec<Format>)> {
    let odd = ["model.rope_base=1234.5", "model.rms_eps=1e-5", "model.heads=2"];
    vec![
        ("dense", vec![], vec![HF, CUSTOM]),
        ("chts", odd.to_vec(), vec![HF, CUSTOM]),
        ("static", vec![], vec![HF]),
        ("naive", vec!["method.low_rank_scale=0.7"], vec![CUSTOM]),
        ("sltrain", vec!["method.low_rank_alpha=2.0"], vec![CUSTOM]),
        ("cola", odd.to_vec(), vec![CUSTOM]),
        ("chtsl", vec!["data.layout=doc_pad"], vec![CUSTOM]),
        ("chts", vec!["train.precision=bf16_pure"], vec![HF, CUSTOM]),
        ("chtsl", vec!["train.precision=bf16_pure"], vec![CUSTOM]),
    ]
}

#[test]
fn what_goes_out_comes_back() {
    for (method, extra, formats) in kinds() {
        let tmp = tempfile::tempdir().unwrap();
        let at = |name: &str| tmp.path().join(name);
        let name = format!("method.name={method}");
        let config = config(&[&[name.as_str()][..], &extra].concat());
        // With and without a tokenizer, and with one that others must get in another form.
        let json = match method {
            "dense" => None,
            "chtsl" => Some(talkative()),
            _ => Some(tokenizer()),
        };
        make(&at("run"), &config, json.as_deref());
        for (i, format) in formats.into_iter().enumerate() {
            let [out, back, again] = ["out", "back", "again"].map(|n| at(&format!("{n}{i}")));
            send(&at("run"), &out, format);
            let found = import(&out, &back, &GO).unwrap();
            assert_eq!((found.step, found.tokenizer), (3, json.is_some()), "{method}");
            let checkpoint = checkpoint::find(&back).unwrap();
            assert_eq!(checkpoint.config, config, "{method}");
            assert_eq!(checkpoint.state.tokens, 99);
            assert!(weights(&at("run")) == weights(&back), "{method} {format:?}: other weights");
            let stored = checkpoint.tokenizer().map(|p| std::fs::read(p).unwrap());
            assert!(stored == json, "{method}: other tokenizer");
            send(&back, &again, format);
            assert!(files(&out) == files(&again), "{method} {format:?}: other folder");
        }
        let left = std::fs::read_dir(tmp.path()).unwrap();
        assert!(left.flatten().all(|e| !e.file_name().to_string_lossy().starts_with('.')));
    }
}

#[test]
fn a_linear_branch_multiplied_out_computes_the_same() {
    let ids: Vec<u32> = (0..20).map(|i| (i * 37 + 5) % 512).collect();
    for (method, scale) in
        [("naive", "method.low_rank_scale=0.7"), ("sltrain", "method.low_rank_alpha=2.0")]
    {
        let tmp = tempfile::tempdir().unwrap();
        let [run, out, back] = ["run", "out", "back"].map(|n| tmp.path().join(n));
        let name = format!("method.name={method}");
        make(&run, &config(&[&name, scale]), Some(&tokenizer()));
        send(&run, &out, HF);
        let found = import(&out, &back, &GO).unwrap();
        assert!(found.config.method.dense);
        let (a, b) = (logits(&run, &ids), logits(&back, &ids));
        let size = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
        // Each projection differs by the rounding of its sums; 100 · 2^-24 of the largest logit.
        let difference = largest_difference(&a, &b);
        assert!(size > 1.0 && difference < 6e-6 * size, "{method}: {difference} of {size}");
    }
}

/// A trained run by the program alone, there and back, with equal text and figures.
#[test]
fn the_program_evaluates_and_continues_what_it_imported() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let [out, folder, back] = ["run", "folder", "sub/back"].map(|n| tmp.path().join(n));
    let done = pretrain(&data, &out, &["--set", "train.steps=9"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let said = ok(&["export", "--checkpoint", path(&out), "--out", path(&folder)]);
    assert!(said.contains("trust_remote_code"), "{said}");
    for file in ["modeling_chtsl.py", "configuration_chtsl.py", "tokenizer_config.json"] {
        assert!(folder.join(file).exists(), "{file}");
    }
    let said = ok(&["import", "--from", path(&folder), "--out", path(&back)]);
    assert!(said.contains("chtsl of 2 layers x 32"), "{said}");
    assert!(weights(&out) == weights(&back));
    let figures = |run: &Path| {
        let text = ok(&["eval", "--checkpoint", path(run), "--data", path(&data), "--json"]);
        let mut v: Value = serde_json::from_str(&text).unwrap();
        v.as_object_mut().unwrap().remove("checkpoint");
        v
    };
    assert_eq!(figures(&out), figures(&back));
    let continued =
        |run: &Path| ok(&["generate", "--checkpoint", path(run), "--prompt", "The", "--seed", "4"]);
    assert_eq!(continued(&out), continued(&back));
    let v: Value =
        serde_json::from_str(&ok(&["inspect", path(&back), "--verify", "--json"])).unwrap();
    assert_eq!((&v["step"], &v["layers"][0]["links"]), (&json!(9), &json!(307)));
    // Its training is over.
    let more = pretrain(&data, &back, &["--set", "train.steps=9", "--resume", "auto"]);
    let more = { more }.output().unwrap();
    assert_eq!(more.status.code(), Some(4), "{}", text(&more));

    // A place that is taken stays as it is.
    let before = files(&folder);
    for args in [
        ["export", "--checkpoint", path(&out), "--out", path(&folder)],
        ["import", "--from", path(&folder), "--out", path(&back)],
        ["export", "--checkpoint", path(&out), "--out", ".."],
    ] {
        refused(&args, 2, &["--out"]);
    }
    let plain = tmp.path().join("plain");
    let words = ["export", "--checkpoint", path(&out), "--out", path(&plain)];
    refused(&[&words[..], &["--format", "hf"]].concat(), 2, &["chtsl", "hf-custom"]);
    assert!(before == files(&folder));
    assert!(!plain.exists());
}

/// Runs and expects `code`, one line that contains all of `words`, and no panic.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let out = run(args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {}", text(&out));
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    let error: Vec<&str> = stderr.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(error.len(), 1, "{args:?}: one sentence, got {stderr}");
    for word in words {
        assert!(error[0].contains(word), "{args:?}: {word:?} missing in {}", error[0]);
    }
}

/// Writes tensors as another program would.
fn write(path: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn tensors(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let parsed = SafeTensors::deserialize(&bytes).unwrap();
    let own = |t: TensorView| (t.dtype(), t.shape().to_vec(), t.data().to_vec());
    parsed.iter().map(|(name, t)| (name.to_string(), own(t))).collect()
}

/// Two shards and an index, as large models have.
fn split(folder: &Path) {
    let whole = folder.join("model.safetensors");
    let all = tensors(&whole);
    let (mut parts, mut map) = ([BTreeMap::new(), BTreeMap::new()], BTreeMap::new());
    for (i, (name, tensor)) in all.into_iter().enumerate() {
        map.insert(name.clone(), format!("model-0000{}-of-00002.safetensors", i % 2 + 1));
        parts[i % 2].insert(name, tensor);
    }
    for (i, part) in parts.iter().enumerate() {
        write(&folder.join(format!("model-0000{}-of-00002.safetensors", i + 1)), part);
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    std::fs::remove_file(whole).unwrap();
}

#[test]
fn folders_of_others_are_read() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    make(&at("run"), &config(&["method.name=dense"]), Some(&tokenizer()));
    let original =
        TensorFile::open(&checkpoint::find(&at("run")).unwrap().path.join("model.safetensors"))
            .unwrap();
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        let folder = at(&format!("{dtype:?}"));
        send(&at("run"), &folder, HF);
        let mut all = tensors(&folder.join("model.safetensors"));
        for (kind, _, bytes) in all.values_mut() {
            let values = bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
            *bytes = match dtype {
                Dtype::BF16 => values.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
                Dtype::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
                _ => continue,
            };
            *kind = dtype;
        }
        // What old versions stored besides.
        let frequencies = "model.layers.0.self_attn.rotary_emb.inv_freq".to_string();
        all.insert(frequencies, (Dtype::F32, vec![4], vec![0; 16]));
        write(&folder.join("model.safetensors"), &all);
        edit(&folder.join("config.json"), |v| {
            v.as_object_mut().unwrap().remove("chtsl");
            v["rope_scaling"] = Value::Null;
            // As transformers 5 writes it.
            let theta = v.as_object_mut().unwrap().remove("rope_theta").unwrap();
            v["rope_parameters"] = json!({"rope_type": "default", "rope_theta": theta});
        });
        split(&folder);
        let back = at(&format!("back-{dtype:?}"));
        let found = import(&folder, &back, &GO).unwrap();
        assert!(found.config.method.dense && found.tokenizer);
        assert_eq!((found.step, found.config.model.clone()), (0, config(&[]).model));
        let read =
            TensorFile::open(&checkpoint::find(&back).unwrap().path.join("model.safetensors"))
                .unwrap();
        assert!(read.names().eq(original.names()));
        for name in read.names() {
            let (a, b) = (original.floats(name).unwrap(), read.floats(name).unwrap());
            for (a, b) in a.iter().zip(&b) {
                let want = match dtype {
                    Dtype::BF16 => half::bf16::from_f32(*a).to_f32(),
                    Dtype::F16 => half::f16::from_f32(*a).to_f32(),
                    _ => *a,
                };
                assert_eq!(want.to_bits(), b.to_bits(), "{name}");
            }
        }
        ok(&["inspect", path(&back), "--verify"]);
    }
}

#[test]
fn what_is_not_supported_is_one_sentence() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    make(&at("run"), &config(&["method.name=chts"]), Some(&tokenizer()));
    let (plain, custom, folder, out) = (at("plain"), at("custom"), at("folder"), at("out"));
    send(&at("run"), &plain, HF);
    send(&at("run"), &custom, CUSTOM);
    let copy = |from: &Path| {
        let _ = std::fs::remove_dir_all(&folder);
        for (name, bytes) in files(from) {
            std::fs::create_dir_all(folder.join(&name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    };
    let fails = |words: &[&str]| {
        refused(&["import", "--from", path(&folder), "--out", path(&out)], 4, words);
        assert!(!out.exists());
    };
    let set = |key: &str, value: Value, words: &[&str]| {
        copy(&plain);
        edit(&folder.join("config.json"), |v| v[key] = value);
        fails(words);
    };
    set("tie_word_embeddings", true.into(), &["config.json", "tie_word_embeddings"]);
    set("attention_bias", true.into(), &["attention_bias"]);
    set("mlp_bias", true.into(), &["mlp_bias"]);
    set("num_key_value_heads", 2.into(), &["num_key_value_heads", "grouped-query"]);
    set("rope_scaling", json!({"type": "linear", "factor": 2.0}), &["rope_scaling"]);
    set("rope_scaling", json!({"factor": 2.0}), &["rope_scaling"]);
    set("rope_parameters", json!({"rope_type": "llama3", "rope_theta": 1e4}), &["rope_parameters"]);
    set("head_dim", 16.into(), &["head_dim"]);
    set("head_dim", u64::MAX.into(), &["head_dim"]);
    set("hidden_act", "gelu".into(), &["hidden_act"]);
    set("quantization_config", json!({"bits": 4}), &["quantization_config"]);
    set(
        "architectures",
        json!(["MistralForCausalLM"]),
        &["MistralForCausalLM", "LlamaForCausalLM"],
    );
    set("model_type", "gpt2".into(), &["gpt2"]);
    set("hidden_size", Value::Null, &["hidden_size is missing"]);
    set("hidden_size", 64.into(), &["head_dim"]);
    set("hidden_size", (-1).into(), &["hidden_size"]);
    set("vocab_size", 513.into(), &["model.embed_tokens.weight", "513"]);
    set("vocab_size", u64::MAX.into(), &["model.vocab"]);
    set("num_attention_heads", 0.into(), &["heads"]);
    set("num_hidden_layers", 3.into(), &["model.layers.2."]);
    set("num_hidden_layers", 1.into(), &["tensors", "model.layers.1."]);
    set("num_hidden_layers", u32::MAX.into(), &["model.layers"]);
    set("rms_norm_eps", "small".into(), &["rms_norm_eps"]);
    set("chtsl", json!({"version": 1, "config": {"model": {"hiden": 3}}}), &["hiden", "hidden"]);
    set("chtsl", json!({"version": 1, "config": [null]}), &["chtsl.config"]);
    set("chtsl", json!({"version": 2}), &["chtsl.version"]);
    set("chtsl", json!(7), &["chtsl.version"]);

    let change = |f: &dyn Fn(&Path), words: &[&str]| {
        copy(&plain);
        f(&folder);
        fails(words);
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let tensor = |f: &dyn Fn(&mut Tensors), words: &[&str]| {
        change(
            &|folder| {
                let mut all = tensors(&folder.join("model.safetensors"));
                f(&mut all);
                write(&folder.join("model.safetensors"), &all);
            },
            words,
        );
    };
    tensor(&|all| drop(all.remove(name)), &[name]);
    tensor(
        &|all| drop(all.insert("x.bias".into(), (Dtype::F32, vec![1], vec![0; 4]))),
        &["x.bias"],
    );
    tensor(&|all| all.get_mut(name).unwrap().1.reverse(), &[name, "shape"]);
    tensor(&|all| all.get_mut(name).unwrap().0 = Dtype::I32, &[name, "F16"]);
    tensor(&|all| all.get_mut(name).unwrap().2[..4].copy_from_slice(&[0xff; 4]), &[name, "finite"]);
    tensor(
        &|all| {
            // Every weight a one: those outside the links, too.
            let bytes = &mut all.get_mut(name).unwrap().2;
            bytes.chunks_exact_mut(4).for_each(|c| c.copy_from_slice(&1.0f32.to_le_bytes()));
        },
        &[name, "links"],
    );
    let w = |name: &'static str, text: &'static [u8]| {
        move |folder: &Path| std::fs::write(folder.join(name), text).unwrap()
    };
    change(&w("config.json", b"{"), &["config.json", "JSON"]);
    change(&w("config.json", b"[1]"), &["config.json", "not supported"]);
    change(&w("config.json", &[0xff]), &["config.json"]);
    change(&w("model.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x00{}"), &["model.safetensors"]);
    change(&w("chtsl/links.safetensors", b"short"), &["links.safetensors"]);
    change(&|f| std::fs::remove_file(f.join("config.json")).unwrap(), &["config.json"]);
    let gone = |f: &Path| std::fs::remove_file(f.join("model.safetensors")).unwrap();
    change(&gone, &["model.safetensors.index.json"]);
    let index = |text: &'static str| {
        move |f: &Path| {
            split(f);
            std::fs::write(f.join("model.safetensors.index.json"), text).unwrap();
        }
    };
    change(&index("{}"), &["weight_map"]);
    change(&index(r#"{"weight_map": {"a": "../model.safetensors"}}"#), &["plain file name"]);
    change(&index(r#"{"weight_map": {"a": "other.safetensors"}}"#), &["other.safetensors"]);
    let pickled = |f: &Path| {
        gone(f);
        std::fs::write(f.join("pytorch_model.bin"), b"x").unwrap();
    };
    change(&pickled, &["safe_serialization"]);
    copy(&plain);
    std::fs::write(folder.join("tokenizer.json"), b"{}").unwrap();
    refused(&["import", "--from", path(&folder), "--out", path(&out)], 3, &["tokenizer.json"]);
    refused(&["import", "--from", "/nonexistent", "--out", path(&out)], 4, &["/nonexistent"]);
    refused(&["export", "--checkpoint", path(&plain), "--out", path(&out)], 4, &["manifest.json"]);

    // Hostile links.
    for (part, at, to, words) in [
        (".col_indices", 0, 1000i32, "columns below"),
        (".col_indices", 0, -1, "indices"),
        (".crow_indices", 1, 1 << 20, "row offsets"),
    ] {
        copy(&custom);
        let mut all = tensors(&folder.join("model.safetensors"));
        let bytes = &mut all.get_mut(&format!("{name}{part}")).unwrap().2;
        bytes[4 * at..4 * at + 4].copy_from_slice(&to.to_le_bytes());
        write(&folder.join("model.safetensors"), &all);
        fails(&[name, words]);
    }
    copy(&custom);
    edit(&folder.join("config.json"), |v| drop(v.as_object_mut().unwrap().remove("chtsl")));
    fails(&["chtsl"]);

    // Without the links and the run's configuration, the matrices are a model all the same.
    copy(&plain);
    std::fs::remove_dir_all(folder.join("chtsl")).unwrap();
    assert!(import(&folder, &at("dense"), &GO).unwrap().config.method.dense);
    let ids = [3, 1, 4, 1, 5, 9];
    assert!(largest_difference(&logits(&at("run"), &ids), &logits(&at("dense"), &ids)) < 1e-5);
}

#[test]
fn nothing_half_done_is_left() {
    let tmp = tempfile::tempdir().unwrap();
    let at = |name: &str| tmp.path().join(name);
    let big = ["method.name=dense", "model.hidden=256", "model.intermediate=768", "model.layers=8"];
    make(&at("run"), &config(&big), Some(&tokenizer()));
    let inside = || {
        let list = std::fs::read_dir(tmp.path()).unwrap().flatten();
        let mut names: Vec<_> = list.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // Told to stop.
    let found = checkpoint::find(&at("run")).unwrap();
    let error = export(&found, &at("out"), HF, &AtomicBool::new(true)).unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert_eq!(inside(), ["run"]);
    // Killed anywhere: complete or absent, and what was begun goes with the next attempt.
    let words =
        ["export", "--checkpoint", path(&at("run")), "--out", path(&at("out"))].map(str::to_string);
    let mut complete = 0;
    for delay in [0, 1, 3, 8, 20, 50, 120, 400] {
        let mut child =
            chtsl().args(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let stage = at(&format!(".out.tmp-{}", child.id()));
        while !stage.exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        if at("out").exists() {
            complete += 1;
            import(&at("out"), &at("back"), &GO).unwrap();
            assert!(weights(&at("run")) == weights(&at("back")));
            std::fs::remove_dir_all(at("out")).unwrap();
            std::fs::remove_dir_all(at("back")).unwrap();
        }
    }
    println!("{complete} of 8 exports were complete when they were killed");
    // What another process is writing stays, what nobody writes goes.
    let [busy, stale] = [".out.tmp-1", ".out.tmp-2"].map(at);
    std::fs::create_dir_all(&busy).unwrap();
    std::fs::create_dir_all(stale.join("chtsl")).unwrap();
    let lock = std::fs::File::open(&busy).unwrap();
    lock.lock().unwrap();
    send(&at("run"), &at("out"), HF);
    assert_eq!(inside(), [".out.tmp-1", "out", "run"]);
    drop(lock);
    // An import that fails half-way.
    let mut all = tensors(&at("out").join("model.safetensors"));
    all.remove("lm_head.weight").unwrap();
    write(&at("out").join("model.safetensors"), &all);
    import(&at("out"), &at("back"), &GO).err().unwrap();
    assert_eq!(inside(), [".out.tmp-1", "out", "run"]);
}

/// A Python with torch and transformers: the one named, or the one of tests/transformers/install.sh.
fn python() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".transformers/bin/python");
    let python = std::env::var_os("CHTSL_PYTHON").map_or(own, PathBuf::from);
    let works = Command::new(&python)
        .args(["-c", "import torch, transformers"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !works {
        let text = format!("{} has no torch and transformers", python.display());
        assert!(std::env::var_os("CHTSL_TRANSFORMERS").is_none_or(|v| v != "require"), "{text}");
        println!("skipped: {text}; tests/transformers/install.sh makes one that has");
    }
    works.then_some(python)
}

/// The weights are random, far from their first values, and none is trained: what is compared is
/// arithmetic. Folders with links and factors are read by the README's loader as well.
#[test]
fn transformers_computes_what_we_compute() {
    let Some(python) = python() else { return };
    let tmp = tempfile::tempdir().unwrap();
    let csr = json!({"keep_csr": true});
    let short = ["model.seq_len=8", "model.vocab=300", "model.heads=8"];
    let theta = ["model.rope_base=500000.0", "model.seq_len=48", "model.heads=2"];
    let wide = ["model.hidden=48", "model.intermediate=80", "model.rms_eps=1e-5", "model.layers=3"];
    let bf16 = ["train.precision=bf16_pure"];
    let none: [&str; 0] = [];
    let cases: Vec<(&str, &[&str], Format, Value)> = vec![
        ("dense", &none, HF, json!({})),
        ("dense", &short, CUSTOM, json!({})),
        ("chts", &wide, HF, json!({})),
        ("chts", &theta, CUSTOM, csr.clone()),
        ("static", &short, HF, json!({})),
        ("naive", &["method.low_rank_scale=0.7"], HF, json!({})),
        ("naive", &theta, CUSTOM, json!({})),
        ("sltrain", &wide, HF, json!({})),
        ("cola", &wide, CUSTOM, json!({})),
        ("act", &["method.low_rank_scale=1.5"], CUSTOM, json!({})),
        ("chtsl", &theta, CUSTOM, json!({})),
        ("chtsl", &wide, CUSTOM, csr),
        ("chts", &bf16, HF, json!({})),
        ("chtsl", &bf16, CUSTOM, json!({})),
    ];
    let texts = ["The dogs near the tree", " two  spaces", "naïve café – 3.14\n\n\tend", ""];
    let mut asked = Vec::new();
    for (i, (method, extra, format, kwargs)) in cases.iter().enumerate() {
        let name = format!("method.name={method}");
        let config = config(&[&[name.as_str()][..], extra].concat());
        let m = &config.model;
        // The tokenizer of 512 ids goes with the vocabularies that hold it.
        let json = if i % 2 == 0 { tokenizer() } else { talkative() };
        let json = (m.vocab == 512).then_some(json);
        let [run, out] = ["run", "out"].map(|n| tmp.path().join(format!("{n}{i}")));
        make(&run, &config, json.as_deref());
        send(&run, &out, *format);
        let draw = Stream::new(3, Purpose::Corpus, i as u32, 0);
        let ids = |from: u64, n: usize| -> Vec<u64> {
            (0..n as u64).map(|k| draw.below(from + k, m.vocab as u64)).collect()
        };
        asked.push(json!({
            "folder": path(&out),
            "trust": *format == CUSTOM,
            "kwargs": kwargs,
            "ids": [ids(0, m.seq_len), ids(1000, 5)],
            "prompt": ids(2000, 4),
            "new_tokens": m.seq_len,
            "texts": if json.is_some() { json!(texts) } else { json!([]) },
            "again": path(&tmp.path().join(format!("again{i}"))),
        }));
    }
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transformers/check.py"))
        .arg(tmp.path().join("answers.json"))
        .env("HF_HOME", tmp.path().join("cache"))
        .env("HF_HUB_OFFLINE", "1")
        .env("TRANSFORMERS_VERBOSITY", "error")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    serde_json::to_writer(child.stdin.take().unwrap(), &asked).unwrap();
    assert!(child.wait().unwrap().success(), "check.py failed");
    let answers = std::fs::read(tmp.path().join("answers.json")).unwrap();
    let answers: Vec<Value> = serde_json::from_slice(&answers).unwrap();
    assert_eq!(answers.len(), cases.len());

    let whole = |v: &Value| -> Vec<u32> {
        v.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect()
    };
    let golden = Tokenizer::from_bytes(tokenizer(), Path::new("tokenizer.json")).unwrap();
    for (i, (((method, _, format, kwargs), asked), answer)) in
        cases.iter().zip(&asked).zip(&answers).enumerate()
    {
        let run = tmp.path().join(format!("run{i}"));
        let (mut difference, mut size) = (0.0f32, 0.0f32);
        for (ids, theirs) in
            asked["ids"].as_array().unwrap().iter().zip(answer["logits"].as_array().unwrap())
        {
            let theirs: Vec<f32> =
                theirs.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            let ours = logits(&run, &whole(ids));
            difference = difference.max(largest_difference(&ours, &theirs));
            size = ours.iter().fold(size, |m, x| m.max(x.abs()));
        }
        println!("{method} {format:?} {kwargs}: {difference:.1e} of logits up to {size:.1}");
        assert!(size > 1.0, "{method}: logits too small to compare");
        assert!(difference < 1e-4, "{method} {format:?}: {difference}");
        assert!(answer["again"].as_f64().unwrap() < 1e-6, "{method}: changed by saving it again");
        if *format == CUSTOM {
            let layers = checkpoint::find(&run).unwrap().config.model.layers;
            let loader = &answer["loader"];
            assert_eq!(loader["projections"], 7 * layers, "{method}");
            // Sums of at most 80 products in another order.
            assert!(loader["difference"].as_f64().unwrap() < 1e-5, "{method}: {loader}");
        }

        let has_eos = !asked["texts"].as_array().unwrap().is_empty();
        let most = asked["new_tokens"].as_u64().unwrap() as usize;
        let ours = greedy(&run, &whole(&asked["prompt"]), most, has_eos.then_some(2));
        let mut theirs = whole(&answer["greedy"]);
        if has_eos && theirs.last() == Some(&2) {
            theirs.pop();
        }
        assert_eq!(ours, theirs, "{method} {format:?}");
        if has_eos {
            for (k, text) in texts.iter().enumerate() {
                let ours = golden.encode(text).unwrap();
                assert_eq!(ours, whole(&answer["encoded"][k]), "{method}: {text:?}");
                assert_eq!(answer["decoded"][k], golden.decode(&ours).unwrap());
            }
            assert_eq!((&answer["eos"], &answer["batch"]), (&json!(2), &json!(texts.len())));
        }
        // What transformers wrote is a folder that we read: the same model in its words.
        let (again, back) =
            (PathBuf::from(asked["again"].as_str().unwrap()), tmp.path().join(format!("back{i}")));
        import(&again, &back, &GO).unwrap();
        let ids = whole(&asked["ids"][1]);
        assert!(largest_difference(&logits(&run, &ids), &logits(&back, &ids)) < 1e-4, "{method}");
    }
}
