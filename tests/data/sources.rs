//! Corpus files, good and bad.

use std::io::Write;
use std::path::{Path, PathBuf};

use chtsl::data::source::{Document, Documents, SourceCounts, SourceOptions};
use chtsl::error::Result;

use super::data_error;

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn read(path: &Path, skip: u64) -> Result<(Vec<String>, SourceCounts)> {
    let options = SourceOptions { skip_bad_lines: skip, ..SourceOptions::default() };
    let mut documents = Documents::new(&[path.to_path_buf()], options)?;
    let texts = documents.by_ref().map(|d| d.map(|d| d.text)).collect::<Result<Vec<_>>>()?;
    Ok((texts, documents.counts()))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn windows_files_and_blank_lines_are_tolerated() {
    let folder = Folder::new();
    let text =
        "\u{FEFF}{\"text\":\"a\\r\\nb\"}\r\n\r\n  \n{\"url\":1,\"text\":\"\"}\n{\"text\":\"c\"}";
    let (texts, counts) = read(&folder.file("x.jsonl", text), 0).unwrap();
    assert_eq!(texts, ["a\r\nb", "c"]);
    let expected = SourceCounts { documents: 2, text_bytes: 5, empty: 1, bad_lines: 0 };
    assert_eq!(counts, expected);
    let (texts, _) = read(&folder.file("x.txt", "\u{FEFF}one\r\ntwo\n"), 0).unwrap();
    assert_eq!(texts, ["one\ntwo\n"]);
    assert!(read(&folder.file("y.txt", ""), 0).unwrap().0.is_empty());
}

#[test]
fn compressed_files_may_have_several_members() {
    let folder = Folder::new();
    let (a, b) = (b"{\"text\":\"first\"}\n{\"te", b"xt\":\"second\"}\n");
    for (name, pack) in [("x.json.gz", gzip as fn(&[u8]) -> Vec<u8>), ("x.jsonl.zst", zstd)] {
        let path = folder.file(name, [pack(a), pack(b)].concat());
        assert_eq!(read(&path, 0).unwrap().0, ["first", "second"], "{name}");
    }
    for (name, pack) in [("x.txt.gz", gzip as fn(&[u8]) -> Vec<u8>), ("x.txt.zst", zstd)] {
        assert_eq!(read(&folder.file(name, pack(b"text")), 0).unwrap().0, ["text"]);
    }
}

#[test]
fn documents_say_where_they_stand() {
    let folder = Folder::new();
    let a = folder.file("a.jsonl", "\n{\"text\":\"x\"}\n");
    let b = folder.file("b.txt", "y");
    let documents = Documents::new(&[a, b], SourceOptions::default()).unwrap();
    let all: Vec<Document> = documents.map(|d| d.unwrap()).collect();
    let document = |text: &str, file, line| Document { text: text.into(), file, line };
    assert_eq!(all, [document("x", 0, 2), document("y", 1, 0)]);
}

#[test]
fn errors_name_file_and_line() {
    let folder = Folder::new();
    let ok = "{\"text\":\"fine\"}\n";
    let mut invalid = ok.as_bytes().to_vec();
    invalid.extend(b"{\"url\":\"\xC3\x28\",\"text\":\"a\"}\n");
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("a.jsonl", format!("{ok}{{\"text\":}}\n").into(), &["a.jsonl: line 2: invalid JSON"]),
        (
            "b.jsonl",
            format!("{ok}\n{{\"body\":\"x\"}}").into(),
            &["line 3", "\"text\"", "--text-field"],
        ),
        ("c.jsonl", format!("{ok}{{\"text\":[1]}}").into(), &["line 2", "expected a string"]),
        ("d.jsonl", invalid, &["line 2", "invalid UTF-8 at byte 8"]),
        (
            "e.json.gz",
            gzip(&ok.repeat(99).into_bytes())[..40].into(),
            &["e.json.gz", "truncated or damaged"],
        ),
        ("f.jsonl.zst", zstd(&ok.repeat(99).into_bytes())[..30].into(), &["truncated or damaged"]),
        ("g.json.gz", ok.into(), &["g.json.gz", "after line 0", "damaged"]),
        ("h.txt", b"one\ntwo \xFF".to_vec(), &["line 2", "invalid UTF-8 at byte 8"]),
    ];
    for (name, bytes, parts) in cases {
        data_error(read(&folder.file(name, bytes), 0), parts);
    }
    data_error(read(&folder.file("x.csv", ""), 0), &[".txt, .jsonl or .json"]);
    data_error(read(&folder.0.path().join("no.txt"), 0), &["does not exist"]);
    std::fs::create_dir(folder.0.path().join("d.txt")).unwrap();
    data_error(read(&folder.0.path().join("d.txt"), 0), &["is a folder"]);
}

#[test]
fn bad_lines_are_skipped_up_to_a_number() {
    let folder = Folder::new();
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat((64 << 20) + 1));
    let text = format!("{{\"text\":\"a\"}}\nnonsense\n{long}\n{{\"text\":\"b\"}}\n");
    let path = folder.file("x.jsonl", text);
    let (texts, counts) = read(&path, 2).unwrap();
    assert_eq!((texts, counts.bad_lines), (vec!["a".to_string(), "b".to_string()], 2));
    data_error(read(&path, 1), &["line 3", "longer than 64 MiB", "1 bad lines had been skipped"]);
    data_error(read(&path, 0), &["line 2", "--skip-bad-lines"]);
}
