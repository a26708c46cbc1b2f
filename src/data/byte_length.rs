//! Bytes of text behind each id, for bits per byte. The rule is documented at
//! [`Tokenizer::byte_lengths`](super::tokenize::Tokenizer::byte_lengths).

use std::collections::HashSet;

use serde_json::Value;

/// What the JSON of a tokenizer says about the bytes of its tokens.
pub struct Rules {
    byte_level: bool,
    byte_fallback: bool,
    /// Ids of special added tokens and of a Unigram's unknown piece.
    silent: HashSet<u64>,
    /// Other added tokens: matched in the text as they are written.
    literal: HashSet<u64>,
    unk_token: Option<String>,
}

impl Rules {
    /// Rules for a parsed `tokenizer.json`.
    pub fn of(value: &Value) -> Self {
        let stages = ["pre_tokenizer", "decoder"];
        let model = &value["model"];
        let (mut silent, mut literal) = (HashSet::new(), HashSet::new());
        silent.extend(model["unk_id"].as_u64());
        for token in value["added_tokens"].as_array().into_iter().flatten() {
            if let Some(id) = token["id"].as_u64() {
                let special = token["special"].as_bool() == Some(true);
                if special {
                    silent.insert(id)
                } else {
                    literal.insert(id)
                };
            }
        }
        Rules {
            byte_level: stages.iter().any(|&stage| mentions(&value[stage], "ByteLevel")),
            byte_fallback: model["byte_fallback"].as_bool() == Some(true),
            silent,
            literal,
            unk_token: model["unk_token"].as_str().map(str::to_string),
        }
    }

    /// Byte length of every id below `size`.
    pub fn table(&self, tokenizer: &tokenizers::Tokenizer, size: usize) -> Vec<u32> {
        (0..size as u32)
            .map(|id| match tokenizer.id_to_token(id) {
                Some(token) => self.length(u64::from(id), &token) as u32,
                None => 0,
            })
            .collect()
    }

    fn length(&self, id: u64, token: &str) -> usize {
        if self.silent.contains(&id) || self.unk_token.as_deref() == Some(token) {
            0
        } else if self.literal.contains(&id) {
            token.len()
        } else if self.byte_level {
            // One character per byte; a token with any other character is taken literally, as the
            // library's decoder does.
            if token.chars().all(is_byte_char) { token.chars().count() } else { token.len() }
        } else if self.byte_fallback && is_byte_piece(token) {
            1
        } else {
            token.chars().map(|c| if c == '▁' { 1 } else { c.len_utf8() }).sum()
        }
    }
}

/// Whether a stage, or one inside it, has this type.
fn mentions(stage: &Value, kind: &str) -> bool {
    match stage {
        Value::Object(map) => {
            map.get("type").and_then(Value::as_str) == Some(kind)
                || map.values().any(|inner| mentions(inner, kind))
        }
        Value::Array(list) => list.iter().any(|inner| mentions(inner, kind)),
        _ => false,
    }
}

/// Characters that GPT-2's byte-level alphabet maps bytes to: printable Latin-1 as itself, the
/// other 68 bytes from U+0100 on.
fn is_byte_char(c: char) -> bool {
    matches!(c, '!'..='~' | '\u{A1}'..='\u{AC}' | '\u{AE}'..='\u{FF}' | '\u{100}'..='\u{143}')
}

fn is_byte_piece(token: &str) -> bool {
    token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_alphabet_has_256_characters() {
        assert_eq!(('\0'..='\u{FFFF}').filter(|&c| is_byte_char(c)).count(), 256);
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        assert!(alphabet.into_iter().all(is_byte_char));
    }

    #[test]
    fn each_kind_of_token_has_its_length() {
        let json = r#"{"added_tokens":[{"id":0,"special":true},{"id":1,"special":false}],
            "decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"}]},
            "model":{"byte_fallback":true,"unk_token":"<unk>"}}"#;
        let rules = Rules::of(&serde_json::from_str(json).unwrap());
        for (id, token, length) in [
            (0, "<s>", 0),
            (1, "▁<tool>", 9),
            (2, "▁the", 4),
            (3, "é▁", 3),
            (4, "<0x0A>", 1),
            (5, "<0xZZ>", 6),
            (6, "<unk>", 0),
        ] {
            assert_eq!(rules.length(id, token), length, "{token}");
        }
        let json = r#"{"pre_tokenizer":{"type":"ByteLevel"},"model":{}}"#;
        let rules = Rules::of(&serde_json::from_str(json).unwrap());
        assert_eq!(rules.length(9, "Ġthe"), 4);
        assert_eq!(rules.length(9, "Ã©"), 2);
        assert_eq!(rules.length(9, "日本"), 6);
    }
}
