//! Tokenizers: known ids, training, bytes behind ids.

use std::path::{Path, PathBuf};

use chtsl::data::{Tokenizer, train_bpe};
use serde_json::Value;

use super::{data_error, small_tokenizer, tiny_texts};

const SMALL: &str = "tiny-bpe-512";

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer")
}

/// Compares a tokenizer with its stored ids; returns the number of texts compared.
fn compare(tokenizer: &Tokenizer, name: &str, expected: &Value) -> usize {
    let mut compared = 0;
    for case in expected["cases"].as_array().unwrap() {
        let Some(ids) = case["ids"].get(name) else { continue };
        let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
        compared += 1;
    }
    compared
}

fn read_expected(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn golden_tokenizer_ids() {
    let expected = read_expected(&golden().join("expected_ids.json"));
    let small = Tokenizer::load(golden().join("tokenizer.json")).unwrap();
    assert_eq!(compare(&small, SMALL, &expected), 26);
    let Some(data) = std::env::var_os("CHTSL_TEST_DATA").map(PathBuf::from) else {
        println!("CHTSL_TEST_DATA is not set: the four large tokenizers are not compared");
        return;
    };
    let stored = read_expected(&data.join("tokenizers/expected_ids.json"));
    for (name, vocab, eos, unk) in [
        ("t5-base", 32_100, 1, Some(2)),
        ("mistral-7b-v0.1", 32_000, 2, Some(0)),
        ("corpus-bpe-32000", 32_000, 2, Some(0)),
        ("gpt2", 50_257, 50_256, None),
    ] {
        let path = data.join("tokenizers").join(name).join("tokenizer.json");
        let tokenizer = Tokenizer::load(path).unwrap();
        assert_eq!(compare(&tokenizer, name, &expected), 26);
        assert_eq!(compare(&tokenizer, name, &stored), 26);
        assert_eq!((tokenizer.vocab_size(), tokenizer.unk()), (vocab, unk), "{name}");
        assert_eq!(tokenizer.eos(None).unwrap().1, eos, "{name}");
        // Bytes behind the ids: exact where decoding is; a leading ▁ is one byte too many.
        let lengths = tokenizer.byte_lengths();
        for case in expected["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let ids = tokenizer.encode(text).unwrap();
            let bytes: usize = ids.iter().map(|&id| lengths[id as usize] as usize).sum();
            match name {
                "t5-base" => {}
                "mistral-7b-v0.1" if ids.is_empty() => assert_eq!(bytes, 0),
                "mistral-7b-v0.1" => assert_eq!(bytes, text.len() + 1, "{text:?}"),
                _ => assert_eq!(bytes, text.len(), "{name} {text:?}"),
            }
            if name != "t5-base" {
                assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{name}");
            }
        }
    }
}

#[test]
fn long_texts_in_pieces_have_the_ids_of_the_whole() {
    let Some(data) = std::env::var_os("CHTSL_TEST_DATA").map(PathBuf::from) else {
        println!("CHTSL_TEST_DATA is not set: long texts are not compared");
        return;
    };
    // 1.1 MB in one text; counts made by the library on the whole.
    let text = std::fs::read_to_string(data.join("tinyshakespeare/input.txt")).unwrap();
    for (name, tokens) in [
        ("t5-base", 341_470),
        ("mistral-7b-v0.1", 361_972),
        ("corpus-bpe-32000", 343_375),
        ("gpt2", 338_025),
    ] {
        let path = data.join("tokenizers").join(name).join("tokenizer.json");
        assert_eq!(Tokenizer::load(path).unwrap().encode(&text).unwrap().len(), tokens, "{name}");
    }
}

#[test]
fn t5_lengths_are_those_of_the_normalised_text() {
    let Some(data) = std::env::var_os("CHTSL_TEST_DATA").map(PathBuf::from) else {
        println!("CHTSL_TEST_DATA is not set: T5's byte lengths are not checked");
        return;
    };
    let t5 = Tokenizer::load(data.join("tokenizers/t5-base/tokenizer.json")).unwrap();
    let bytes = |text: &str| -> usize {
        let ids = t5.encode(text).unwrap();
        ids.iter().map(|&id| t5.byte_lengths()[id as usize] as usize).sum()
    };
    assert_eq!(bytes("Hello world, this is a test."), 1 + 28);
    assert_eq!(bytes("two\n lines"), 1 + "two lines".len());
    assert_eq!(t5.byte_lengths()[..3], [0, 0, 0]);
    assert_eq!(t5.byte_lengths()[32_000..], [0; 100]);
}

#[test]
fn trained_tokenizers_are_deterministic_exact_and_start_with_their_special_tokens() {
    let first = small_tokenizer();
    for _ in 0..3 {
        assert_eq!(small_tokenizer().json(), first.json());
    }
    assert_eq!(first.vocab_size(), 400);
    for (token, id) in [("<unk>", 0), ("<s>", 1), ("</s>", 2)] {
        assert_eq!(first.token_to_id(token), Some(id));
        assert_eq!(first.byte_lengths()[id as usize], 0);
    }
    assert_eq!((first.unk(), first.eos(None).unwrap()), (Some(0), ("</s>".into(), 2)));
    // Any text, also one with bytes the training never saw.
    let unseen = "\u{0}日本 🙂\r\n\tñ \u{7f}";
    for text in tiny_texts().iter().map(String::as_str).chain([unseen, "", " "]) {
        let ids = first.encode(text).unwrap();
        assert_eq!(first.decode(&ids).unwrap(), text);
        let bytes: usize = ids.iter().map(|&id| first.byte_lengths()[id as usize] as usize).sum();
        assert_eq!(bytes, text.len());
    }
    let limited = train_bpe(["abc abc".to_string()].into_iter(), 1000).unwrap();
    assert!((259..=1000).contains(&limited.vocab_size()));
}

#[test]
fn too_small_vocabularies_and_missing_eos_are_errors() {
    let error = train_bpe(std::iter::empty(), 258).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("at least 259"), "{error}");
    let small = small_tokenizer();
    data_error(small.eos(Some("<eod>")), &["\"<eod>\"", "--eos"]);
    let json = String::from_utf8(small.json().to_vec()).unwrap().replace("</s>", "<end>");
    let other = Tokenizer::from_bytes(json.into_bytes(), Path::new("t.json")).unwrap();
    data_error(other.eos(None), &["</s>, <|endoftext|>, <eos>", "--eos TOKEN", "<end>"]);
    assert_eq!(other.eos(Some("<end>")).unwrap().1, 2);
}

#[test]
fn truncation_padding_and_dropout_of_the_file_are_ignored() {
    let small = small_tokenizer();
    let mut value: Value = serde_json::from_slice(small.json()).unwrap();
    value["truncation"] = serde_json::json!({
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    });
    value["padding"] = serde_json::json!({
        "strategy": {"Fixed": 500}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"
    });
    value["model"]["dropout"] = 0.5.into();
    let path = Path::new("t.json");
    let odd = Tokenizer::from_bytes(serde_json::to_vec(&value).unwrap(), path).unwrap();
    for text in &tiny_texts()[..5] {
        assert_eq!(odd.encode(text).unwrap(), small.encode(text).unwrap());
    }
}
