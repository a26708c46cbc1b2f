//! Documents of a corpus, streamed from text, JSON-lines, gzip and Zstandard files in the order
//! given.
//!
//! A `.txt` file is one document (line ends `\r\n` become `\n`); a `.jsonl` or `.json` file holds
//! one JSON object a line, whose text field is the document, untouched. A byte order mark, `\r\n`
//! and blank lines are tolerated; a document with empty text is counted and skipped.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};

use super::lines::{Kind, Line, LineReader, MAX_LINE, kind};
use crate::error::{Error, Result};

/// How documents are taken from files.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Field of a JSON line that holds the text.
    pub text_field: String,
    /// Lines that may be skipped because they are not valid; one more is an error.
    pub skip_bad_lines: u64,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions { text_field: "text".into(), skip_bad_lines: 0 }
    }
}

/// One document and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text, never empty.
    pub text: String,
    /// Index of its file in the list.
    pub file: usize,
    /// Its line, counted from 1; 0 for a text file.
    pub line: u64,
}

/// What has been seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Documents handed out.
    pub documents: u64,
    /// Bytes of their texts (UTF-8).
    pub text_bytes: u64,
    /// Documents skipped because their text is empty.
    pub empty: u64,
    /// Invalid lines skipped.
    pub bad_lines: u64,
}

/// Iterator over the documents of a list of files. After an error it ends.
pub struct Documents {
    paths: Vec<PathBuf>,
    options: SourceOptions,
    next: usize,
    current: Option<(Kind, LineReader)>,
    line: Vec<u8>,
    counts: SourceCounts,
    read: Arc<AtomicU64>,
    failed: bool,
}

impl Documents {
    /// Documents of `paths`. Their names are checked now, their content as it is read.
    pub fn new(paths: &[PathBuf], options: SourceOptions) -> Result<Self> {
        for path in paths {
            if path.is_dir() {
                return Err(Error::data(path, "is a folder: name the files in it instead"));
            }
            kind(path)?;
        }
        Ok(Documents {
            paths: paths.to_vec(),
            options,
            next: 0,
            current: None,
            line: Vec::new(),
            counts: SourceCounts::default(),
            read: Arc::default(),
            failed: false,
        })
    }

    /// What has been seen so far.
    pub fn counts(&self) -> SourceCounts {
        self.counts
    }

    /// Counter of the bytes read from the files, as they are on disk.
    pub fn bytes_read(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    fn advance(&mut self) -> Result<Option<Document>> {
        loop {
            let Some((kind, mut reader)) = self.current.take() else {
                let Some(path) = self.paths.get(self.next) else { return Ok(None) };
                self.current = Some((kind(path)?, LineReader::open(path, self.read.clone())?));
                self.next += 1;
                continue;
            };
            let (text, line) = match kind {
                Kind::Text => (Some(self.text_file(&mut reader)?), 0),
                Kind::JsonLines => {
                    let state = reader.next_line(&mut self.line)?;
                    let number = reader.number();
                    self.current = match state {
                        Line::End => continue, // `current` stays empty: on to the next file
                        _ => Some((kind, reader)),
                    };
                    (self.json_line(state, number)?, number)
                }
            };
            match text {
                None => {}
                Some(text) if text.is_empty() => self.counts.empty += 1,
                Some(text) => {
                    self.counts.documents += 1;
                    self.counts.text_bytes += text.len() as u64;
                    return Ok(Some(Document { text, file: self.next - 1, line }));
                }
            }
        }
    }

    fn text_file(&self, reader: &mut LineReader) -> Result<String> {
        let text = String::from_utf8(reader.read_text()?).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = 1 + e.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
            self.error(&format!("line {line}: invalid UTF-8 at byte {at} of the file"))
        })?;
        Ok(if text.contains("\r\n") { text.replace("\r\n", "\n") } else { text })
    }

    /// The text of the line in `self.line`; `None` for blank lines and bad ones that are skipped.
    fn json_line(&mut self, state: Line, number: u64) -> Result<Option<String>> {
        let parsed = if state == Line::TooLong {
            Err(format!("longer than {} MiB", MAX_LINE >> 20))
        } else if self.line.trim_ascii().is_empty() {
            return Ok(None);
        } else {
            extract(&self.line, &self.options.text_field)
        };
        let reason = match parsed {
            Ok(text) => return Ok(Some(text)),
            Err(reason) => reason,
        };
        if self.counts.bad_lines < self.options.skip_bad_lines {
            self.counts.bad_lines += 1;
            return Ok(None);
        }
        let advice = match self.counts.bad_lines {
            0 => "correct the line, or allow some with --skip-bad-lines N".to_string(),
            n => format!("{n} bad lines had been skipped before, as --skip-bad-lines allows"),
        };
        Err(self.error(&format!("line {number}: {reason}; {advice}")))
    }

    fn error(&self, message: &str) -> Error {
        Error::data(&self.paths[self.next - 1], message)
    }
}

impl Iterator for Documents {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.advance();
        self.failed = item.is_err();
        item.transpose()
    }
}

/// The text field of one JSON line, or what is wrong with the line.
fn extract(line: &[u8], field: &str) -> std::result::Result<String, String> {
    // Checked on its own: the parser would not look into the strings it skips.
    if let Err(e) = std::str::from_utf8(line) {
        return Err(format!("invalid UTF-8 at byte {} of the line", e.valid_up_to()));
    }
    let mut parser = serde_json::Deserializer::from_slice(line);
    let found = TextField(field).deserialize(&mut parser).and_then(|found| {
        parser.end()?;
        Ok(found)
    });
    match found {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("no field {field:?} (choose another with --text-field)")),
        // The parser sees one line: its own "line 1" would mislead.
        Err(e) => {
            let text = e.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            Err(format!(
                "{} at column {}: {text}",
                if e.is_data() { "unusable" } else { "invalid JSON" },
                e.column()
            ))
        }
    }
}

/// Takes one string field out of an object and skips everything else without storing it.
struct TextField<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for TextField<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TextField<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "a JSON object with a string field {:?}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut text = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key == self.0 {
                text = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_and_faults_named() {
        let text = |line: &str| extract(line.as_bytes(), "text");
        assert_eq!(text(r#"{"a":[1,{"text":"no"}],"text":"x\ny","b":null}"#).unwrap(), "x\ny");
        for (line, part) in [
            (r#"{"a":1}"#, "no field \"text\""),
            (r#"{"text":3}"#, "expected a string"),
            (r#"{"text":"a"#, "invalid JSON at column 10"),
            (r#"{"text":"a"} x"#, "trailing characters"),
            (r#"["text"]"#, "expected a JSON object"),
            (r#"{"text":"\ud800"}"#, "invalid JSON"),
        ] {
            let error = text(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
        let error = extract(b"{\"text\":\"\xff\"}", "text").unwrap_err();
        assert_eq!(error, "invalid UTF-8 at byte 9 of the line");
        // Nesting is bounded, so a hostile line cannot overflow the stack.
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(extract(deep.as_bytes(), "text").is_err());
    }
}
