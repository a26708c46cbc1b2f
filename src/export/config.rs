//! config.json: the architecture in Hugging Face's words, and the run's own configuration beside it.

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::tensors::Plan;
use super::tokenizer::Words;
use super::{Format, OWN};
use crate::checkpoint::Checkpoint;
use crate::config::{
    Activation, AlignReduction, Config, MethodConfig, ModelConfig, Removal, layers,
};
use crate::error::{Error, Result};
use crate::files::{FileKind, read_small};

/// Version of the object under [`OWN`].
pub(super) const VERSION: u64 = 1;

pub(super) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}

/// The content of config.json.
pub(super) fn text(c: &Checkpoint, format: Format, plan: &Plan, words: &Words) -> Result<String> {
    let (m, method) = (&c.config.model, &c.config.method);
    let custom = format == Format::HfCustom;
    let id = |token: &Option<(String, u32)>| token.as_ref().map(|(_, id)| *id);
    let dtype = if plan.dtype == Dtype::BF16 { "bfloat16" } else { "float32" };
    let mut value = json!({
        "architectures": [if custom { "ChtslForCausalLM" } else { "LlamaForCausalLM" }],
        "model_type": if custom { "chtsl" } else { "llama" },
        "hidden_size": m.hidden,
        "intermediate_size": m.intermediate,
        "num_hidden_layers": m.layers,
        "num_attention_heads": m.heads,
        "num_key_value_heads": m.heads,
        "head_dim": m.head_dim(),
        "vocab_size": m.vocab,
        "max_position_embeddings": m.seq_len,
        "rope_theta": m.rope_base,
        "rms_norm_eps": m.rms_eps,
        "hidden_act": "silu",
        "initializer_range": m.init_std,
        "attention_bias": false,
        "mlp_bias": false,
        "attention_dropout": 0.0,
        "tie_word_embeddings": false,
        "use_cache": true,
        // No text was ever trained with a token before it, even where the tokenizer has one for that.
        "bos_token_id": null,
        "eos_token_id": id(&words.eos),
        "pad_token_id": id(&words.pad),
        "torch_dtype": dtype,
    });
    if custom {
        value["auto_map"] = json!({
            "AutoConfig": "configuration_chtsl.ChtslConfig",
            "AutoModelForCausalLM": "modeling_chtsl.ChtslForCausalLM",
        });
        let links: Map<String, Value> =
            plan.link_counts.iter().map(|(name, n)| (name.clone(), (*n).into())).collect();
        value["sparsity"] = json!({
            "method": method.name,
            "dense": method.dense,
            "layout": if method.sparse && !method.dense { "csr".into() } else { Value::Null },
            "links": links,
            "rank": plan.rank,
            "activation": match method.activation {
                Activation::Identity => "identity",
                Activation::Silu => "silu",
            },
            "scale": plan.scale,
        });
        value["keep_csr"] = false.into();
    }
    // Through a TOML table, as in config.toml: what is unset is absent.
    let run = toml::Table::try_from(&c.config).expect("plain data");
    value[OWN] = json!({
        "version": VERSION,
        "program": env!("CARGO_PKG_VERSION"),
        "step": c.state.step,
        "tokens": c.state.tokens,
        "config": serde_json::to_value(run).expect("plain data"),
    });
    Ok(pretty(&value))
}

/// The content of generation_config.json.
pub(super) fn generation(m: &ModelConfig, words: &Words) -> String {
    let eos = words.eos.as_ref().map(|(_, id)| *id);
    let pad = words.pad.as_ref().map(|(_, id)| *id).or(eos);
    let mut value = json!({ "max_length": m.seq_len });
    for (key, id) in [("eos_token_id", eos), ("pad_token_id", pad)] {
        if let Some(id) = id {
            value[key] = id.into();
        }
    }
    pretty(&value)
}

/// What config.json says about a model.
pub(super) struct Read {
    pub config: Config,
    pub step: u64,
    pub tokens: u64,
}

/// Reads config.json of `folder`. `links`: the links of sparse matrices are stored beside them.
pub(super) fn read(folder: &Path, links: bool) -> Result<Read> {
    let path = folder.join("config.json");
    let fail = |text: String| Error::checkpoint(&path, text);
    let value: Value = serde_json::from_str(&read_small(&path, FileKind::Checkpoint)?)
        .map_err(|e| fail(format!("not valid JSON: {e}")))?;
    let custom = architecture(&value).map_err(fail)?;
    let model = shape(&value).map_err(fail)?;
    let own = &value[OWN];
    if own.is_null() && custom {
        return Err(fail(format!("has no object {OWN:?}, which says what the projections are")));
    }
    let mut config = if own.is_null() {
        Config::default()
    } else {
        if own["version"] != VERSION {
            let (is, text) = (&own["version"], "this program reads version");
            return Err(fail(format!("{OWN}.version is {is}, {text} {VERSION}")));
        }
        let table = toml::Table::try_from(&own["config"])
            .map_err(|e| fail(format!("{OWN}.config is not a configuration: {e}")))?;
        layers::parse(table).map_err(|e| fail(format!("{OWN}.config: {e}")))?
    };
    config.model = model;
    let m = &config.method;
    let kept = m.dense || (m.sparse && !m.low_rank && links);
    if !custom && (own.is_null() || !kept) {
        // Matrices without links or factors, whatever they were made from.
        config.method = MethodConfig {
            name: "dense".into(),
            dense: true,
            sparse: false,
            low_rank: false,
            align: AlignReduction::None,
            ..MethodConfig::default()
        };
        config.topology.removal = Removal::None;
    }
    config.validate().map_err(|e| fail(format!("cannot be a model here: {e}")))?;
    let count = |key: &str| own[key].as_u64().unwrap_or(0);
    Ok(Read { config, step: count("step"), tokens: count("tokens") })
}

/// Whether the architecture is ours (or else LLaMA's); why it is neither.
fn architecture(v: &Value) -> std::result::Result<bool, String> {
    let names: Vec<&str> =
        v["architectures"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let kind = v["model_type"].as_str().unwrap_or("none");
    let custom = match (kind, names.first()) {
        ("llama", Some(&"LlamaForCausalLM" | &"LLaMAForCausalLM") | None) => false,
        ("chtsl", _) => true,
        _ => {
            return Err(format!(
                "the architecture {} (model_type {kind}) is not supported; LlamaForCausalLM and \
                 this program's own folders are",
                names.first().unwrap_or(&"is not named")
            ));
        }
    };
    let refuse = |key: &str, why: &str| Err(format!("{key} = {}: {why}", v[key]));
    if v["tie_word_embeddings"] == true {
        return refuse("tie_word_embeddings", "embedding and head are separate here");
    }
    for key in ["attention_bias", "mlp_bias"] {
        if v[key] == true {
            return refuse(key, "projections have no bias here");
        }
    }
    if !matches!(v["hidden_act"].as_str(), None | Some("silu" | "swish")) {
        return refuse("hidden_act", "only silu is supported");
    }
    if !v["quantization_config"].is_null() {
        return refuse("quantization_config", "quantised weights are not supported");
    }
    // Before transformers 5: rope_scaling, null when the frequencies are plain; since: rope_parameters.
    for key in ["rope_scaling", "rope_parameters"] {
        let kind = v[key]["rope_type"].as_str().or(v[key]["type"].as_str());
        let plain = match kind {
            Some(kind) => kind == "default",
            None => v[key].is_null() || key == "rope_parameters",
        };
        if !plain {
            return refuse(key, "only unscaled rotary frequencies are supported");
        }
    }
    Ok(custom)
}

/// Sizes and constants of the model.
fn shape(v: &Value) -> std::result::Result<ModelConfig, String> {
    let whole = |key: &str, default: Option<usize>| match (&v[key], default) {
        (Value::Null, Some(value)) => Ok(value),
        (Value::Null, None) => Err(format!("{key} is missing")),
        (value, _) => value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .ok_or_else(|| format!("{key} = {value}: expected a whole number")),
    };
    let real = |value: &Value, key: &str, default: f64| match value {
        Value::Null => Ok(default),
        value => value.as_f64().ok_or_else(|| format!("{key} = {value}: expected a number")),
    };
    let d = ModelConfig::default();
    let theta = match &v["rope_parameters"]["rope_theta"] {
        Value::Null => &v["rope_theta"],
        nested => nested,
    };
    let m = ModelConfig {
        hidden: whole("hidden_size", None)?,
        intermediate: whole("intermediate_size", None)?,
        layers: whole("num_hidden_layers", None)?,
        heads: whole("num_attention_heads", None)?,
        vocab: whole("vocab_size", None)?,
        seq_len: whole("max_position_embeddings", Some(2048))?,
        rope_base: real(theta, "rope_theta", 10_000.0)?,
        rms_eps: real(&v["rms_norm_eps"], "rms_norm_eps", 1e-6)?,
        init_std: real(&v["initializer_range"], "initializer_range", d.init_std)?,
    };
    let kv = whole("num_key_value_heads", Some(m.heads))?;
    if kv != m.heads {
        return Err(format!(
            "num_key_value_heads = {kv} of {} heads: grouped-query attention is not supported",
            m.heads
        ));
    }
    let width = whole("head_dim", Some(m.hidden / m.heads.max(1)))?;
    if width.checked_mul(m.heads) != Some(m.hidden) {
        return Err(format!(
            "head_dim = {width}: must be hidden_size / num_attention_heads = {} / {}",
            m.hidden, m.heads
        ));
    }
    Ok(m)
}
