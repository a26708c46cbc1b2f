//! F5: files made to do harm, each refused with its own message, without memory of the size of the lie.

use std::os::unix::fs::symlink;
use std::path::Path;

use chtsl::Result;
use chtsl::checkpoint::{Checkpoint, TensorFile};
use chtsl::config::layers;
use chtsl::data::{Manifest, Shard, Tokenizer};

use crate::site::Site;
use crate::{alone, observe, readers, told};

/// Runs a reader that must refuse: with this exit status, these words, and at most `bytes` + 16 MB.
fn refuse(what: &str, bytes: usize, code: u8, words: &[&str], read: impl FnOnce() -> Result<()>) {
    let seen = observe(read);
    let e = match seen.result {
        Some(Err(e)) => e,
        Some(Ok(())) => panic!("{what}: taken"),
        None => panic!("{what}: a panic"),
    };
    let text = e.to_string();
    assert_eq!(e.exit_code(), code, "{what}: {text}");
    assert!(words.iter().all(|w| text.contains(w)), "{what}: {text} lacks one of {words:?}");
    assert!(text.len() < 1000, "{what}: {} bytes of message", text.len());
    assert!(seen.peak <= bytes + (16 << 20), "{what}: {} bytes for {bytes}", seen.peak);
}

/// A safetensors file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Header of tensors given as (name, dtype, shape, offsets).
fn tensors(list: &[(&str, &str, &str, &str)]) -> String {
    let one = |(name, dtype, shape, offsets): &(&str, &str, &str, &str)| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    format!("{{{}}}", list.iter().map(one).collect::<Vec<_>>().join(","))
}

#[test]
fn headers_of_safetensors() {
    let _alone = alone();
    let deep = "[".repeat(100_000);
    let one = |name, dtype, shape, offsets| tensors(&[(name, dtype, shape, offsets)]);
    let mut number = 0;
    let mut refused = |what: &str, bytes: Vec<u8>, words: &[&str]| {
        // Parsing holds the names and shapes a second time.
        refuse(what, 3 * bytes.len(), 4, words, || readers::safetensors(bytes));
        number += 1;
    };
    let mut long = file("{}", 0);
    long[..8].copy_from_slice(&(1u64 << 63).to_le_bytes());
    refused("a header of 2^63 bytes", long.clone(), &["header too large"]);
    long[..8].copy_from_slice(&1000u64.to_le_bytes());
    refused("a header longer than the file", long, &["invalid header length"]);
    refused("nothing at all", Vec::new(), &["header too small"]);
    refused("a header of 101 MB", file(&" ".repeat(101 << 20), 0), &["header too large"]);
    refused("brackets, 100,000 deep", file(&deep, 0), &["invalid JSON"]);
    refused(
        "not text",
        {
            let mut b = file("{\"a\":1}", 0);
            b[9] = 0xff;
            b
        },
        &["UTF-8"],
    );
    let pair = |b: &str| tensors(&[("a", "F32", "[4]", "[0,16]"), ("b", "F32", "[4]", b)]);
    refused("overlapping tensors", file(&pair("[8,24]"), 24), &["invalid offset"]);
    refused("a hole between tensors", file(&pair("[20,36]"), 36), &["invalid offset"]);
    refused("data behind the last tensor", file(&pair("[16,32]"), 40), &["incomplete metadata"]);
    refused("data that is not there", file(&pair("[16,32]"), 20), &["incomplete metadata"]);
    refused("offsets backwards", file(&one("a", "F32", "[4]", "[16,0]"), 16), &["invalid"]);
    let wide = "[4294967296,4294967296,4294967296]";
    refused("a product beyond 2^64", file(&one("a", "F32", wide, "[0,16]"), 16), &["overflow"]);
    let much = "[1152921504606846976]";
    refused(
        "more elements than bytes",
        file(&one("a", "F32", much, "[0,16]"), 16),
        &["overflow computing buffer size"],
    );
    refused("a negative size", file(&one("a", "F32", "[-4]", "[0,16]"), 16), &["invalid JSON"]);
    refused("an unknown type", file(&one("a", "F31", "[4]", "[0,16]"), 16), &["F31"]);
    let twice = tensors(&[("a", "F32", "[4]", "[0,16]"), ("a", "F32", "[4]", "[16,32]")]);
    refused("a name twice", file(&twice, 32), &["invalid offset for tensor `a`"]);
    let same = tensors(&[("a", "F32", "[4]", "[0,16]"), ("a", "F32", "[4]", "[0,16]")]);
    refused("a name twice for the same bytes", file(&same, 16), &["two tensors named \"a\""]);
    told(&format!("F5 safetensors: {number} hostile headers, each refused"));
}

#[test]
fn invalid_links() {
    let _alone = alone();
    let ok = (vec![0, 2, 3], vec![0, 3, 1]);
    type Case<'a> = (&'a str, usize, Vec<i32>, Vec<i32>, &'a str);
    let cases: [Case; 10] = [
        ("offsets that begin at 1", 2, vec![1, 2, 3], ok.1.clone(), "got 1 to 3"),
        ("offsets that fall", 3, vec![0, 2, 1, 3], ok.1.clone(), "got 2 > 1 at 1"),
        ("an offset beyond the links", 2, vec![0, 4, 3], ok.1.clone(), "got 0 > 4 at 0"),
        ("a negative offset", 2, vec![0, -1, 3], ok.1.clone(), "indices in 0..2^32"),
        ("more links than columns", 2, vec![0, 2, 9], ok.1.clone(), "got 0 to 9"),
        ("fewer links than columns", 2, vec![0, 1, 2], ok.1.clone(), "got 0 to 2"),
        ("one offset too few", 2, vec![0, 3], ok.1.clone(), "expected 3 row offsets, got 2"),
        ("a column beyond the matrix", 2, ok.0.clone(), vec![0, 4, 1], "got 4 in row 0"),
        ("a column twice", 2, ok.0.clone(), vec![3, 3, 1], "got 3 then 3 in row 0"),
        ("columns out of order", 2, ok.0.clone(), vec![3, 0, 1], "got 3 then 0 in row 0"),
    ];
    let made = |rows: usize, crow: &[i32], col: &[i32]| {
        let (a, b) = (4 * crow.len(), 4 * (crow.len() + col.len()));
        let header = tensors(&[
            ("w.crow_indices", "I32", &format!("[{}]", crow.len()), &format!("[0,{a}]")),
            ("w.col_indices", "I32", &format!("[{}]", col.len()), &format!("[{a},{b}]")),
        ]);
        let mut bytes = file(&header, 0);
        bytes.extend(crow.iter().chain(col).flat_map(|x| x.to_le_bytes()));
        TensorFile::from_bytes(Path::new("w.safetensors"), bytes).unwrap().pattern("w", rows, 4)
    };
    made(2, &ok.0, &ok.1).unwrap();
    for (what, rows, crow, col, word) in &cases {
        refuse(what, 0, 4, &["w.safetensors", word], || made(*rows, crow, col).map(drop));
    }
    told(&format!("F5 links: {} impossible patterns, each refused", cases.len()));
}

#[test]
fn non_finite_numbers() {
    let _alone = alone();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bytes = file(&tensors(&[("a", "F32", "[4]", "[0,16]")]), 12);
        bytes.extend(bad.to_le_bytes());
        let read = || TensorFile::from_bytes(Path::new("a"), bytes)?.finite("a", 4).map(drop);
        refuse("a weight", 0, 4, &["finite", "at 3"], read);
    }
}

#[test]
fn places_that_are_no_files() {
    let _alone = alone();
    let site = Site::new();
    let mut number = 0;
    let weights = site.checkpoint.join("model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    let open = || Checkpoint::open(&site.checkpoint).map(drop);
    type Plant<'a> = (&'a str, &'a dyn Fn(&Path), &'a str);
    let plants: [Plant; 4] = [
        ("a pipe", &fifo, "not a regular file"),
        ("a link to a device", &|p| symlink("/dev/zero", p).unwrap(), "not a regular file"),
        ("a link to another file", &|p| symlink("/etc/passwd", p).unwrap(), "not a regular file"),
        ("a folder", &|p| std::fs::create_dir(p).unwrap(), "not a regular file"),
    ];
    for (what, plant, word) in plants {
        std::fs::remove_file(&weights).unwrap();
        plant(&weights);
        refuse(what, 0, 4, &[word, "model.safetensors"], open);
        let _ = std::fs::remove_file(&weights).or_else(|_| std::fs::remove_dir(&weights));
        std::fs::write(&weights, &good).unwrap();
        number += 1;
    }
    // The manifest itself, shards, tokenizers and configurations: a link is fine there, an endless one
    // is not.
    let endless = site.fresh();
    symlink("/dev/zero", &endless).unwrap();
    let pipe = endless.with_extension("pipe");
    fifo(&pipe);
    for path in [&endless, &pipe] {
        let word = ["not a regular file"];
        refuse("a shard", 0, 3, &word, || Shard::open(path).map(drop));
        refuse("a tokenizer", 0, 3, &word, || Tokenizer::load(path).map(drop));
        refuse("a configuration", 0, 2, &word, || layers::read_file(path).map(drop));
        refuse("weights", 0, 4, &word, || TensorFile::open(path).map(drop));
        let manifest = site.data.join("dataset.json");
        let kept = std::fs::read(&manifest).unwrap();
        std::fs::remove_file(&manifest).unwrap();
        std::fs::rename(path, &manifest).unwrap();
        refuse("a dataset manifest", 0, 3, &word, || Manifest::load(&site.data).map(drop));
        let listed = site.checkpoint.join("manifest.json");
        let list = std::fs::read(&listed).unwrap();
        std::fs::remove_file(&listed).unwrap();
        std::fs::rename(&manifest, &listed).unwrap();
        refuse("a manifest", 0, 4, &word, open);
        std::fs::remove_file(&listed).unwrap();
        std::fs::write(&listed, list).unwrap();
        std::fs::write(&manifest, kept).unwrap();
        number += 6;
    }
    told(&format!(
        "F5 places: {number} pipes, devices, links and folders in place of files, each refused"
    ));
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn names_that_lead_elsewhere_and_texts_without_end() {
    let _alone = alone();
    let site = Site::new();
    let deep = |open: &str| open.repeat(100_000);
    let mut number = 0;
    let mut refused = |what: &str,
                       path: &Path,
                       text: &str,
                       code: u8,
                       words: &[&str],
                       read: &dyn Fn() -> Result<()>| {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, text).unwrap();
        refuse(what, 2 * text.len(), code, words, read);
        std::fs::write(path, good).unwrap();
        number += 1;
    };
    // Checkpoints.
    let manifest = site.checkpoint.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for name in ["../../data/dataset.json", "/etc/passwd", "a/b", "..", "", ".hidden", "a\\\\b"] {
        let bad = text.replacen(
            "\"model.safetensors\"",
            &format!(
                "\"x.safetensors\": {{\"bytes\": 1, \
            \"xxh3\": \"0000000000000000\"}}, \"{name}\": {{\"bytes\": 1, \"xxh3\": \
            \"0000000000000000\"}}, \"model.safetensors\""
            ),
            1,
        );
        let read = || readers::checkpoint_manifest(&site.checkpoint, true);
        refused(&format!("the name {name:?}"), &manifest, &bad, 4, &["plain file name"], &read);
    }
    let open = || Checkpoint::open(&site.checkpoint).map(drop);
    refused("a deep manifest", &manifest, &deep("{\"a\":"), 4, &["not a manifest"], &open);
    let large = " ".repeat(65 << 20);
    refused("a manifest of 65 MB", &manifest, &large, 4, &["more than the"], &open);
    for missing in ["state.json", "config.toml", "optim.safetensors"] {
        let bad = text.replacen(&format!("\"{missing}\""), "\"x\"", 1);
        let read = || readers::checkpoint_manifest(&site.checkpoint, true);
        refused("an incomplete manifest", &manifest, &bad, 4, &["does not list", missing], &read);
    }
    let bad = text.replacen("\"step\": 5", "\"step\": 4", 1);
    refused("another step", &manifest, &bad, 4, &["checksum"], &open);
    let bad = text.replacen("\"format\": 2", "\"format\": 1", 1);
    refused("a format without checksum", &manifest, &bad, 4, &["checksum"], &open);

    // Datasets.
    let manifest = site.data.join("dataset.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    for name in ["../x.bin", "/etc/passwd", "a/b.bin", "", "..", ".hidden", "a\\\\b"] {
        let bad = text.replacen("train-00000.bin", name, 1);
        let read = || readers::dataset_manifest(&site.data, true);
        refused(&format!("the name {name:?}"), &manifest, &bad, 3, &["plain name"], &read);
    }
    let load = || Manifest::load(&site.data).map(drop);
    refused(
        "a deep dataset manifest",
        &manifest,
        &deep("{\"a\":"),
        3,
        &["not a dataset manifest"],
        &load,
    );
    let bad = text.replacen("\"version\": 1", "\"version\": 2", 1);
    refused("a later version", &manifest, &bad, 3, &["version is 2", "reads 1"], &load);

    // Tokenizers and configurations.
    let path = site.data.join("tokenizer.json");
    let load = || Tokenizer::load(&path).map(drop);
    refused("a deep tokenizer", &path, &deep("[{\"a\":"), 3, &["recursion limit"], &load);
    refused("an empty tokenizer", &path, "{}", 3, &["no \"model\" object"], &load);
    let path = &site.user_config;
    let load = || layers::resolve(None, Some(path), &[]).map(drop);
    refused("a deep configuration", path, &format!("a = {}", deep("[")), 2, &["user.toml"], &load);
    for (what, text, word) in [
        ("a width of 2^62", "[model]\nhidden = 4611686018427387904", "model.hidden"),
        ("a negative width", "[model]\nhidden = -64", "hidden"),
        ("a learning rate that is none", "[train]\nlr = nan", "train.lr"),
        ("an infinite learning rate", "[train]\nlr = inf", "train.lr"),
        ("a number beyond 64 bits", "[train]\nsteps = 99999999999999999999", "user.toml"),
        ("a key twice", "[train]\nlr = 1e-3\nlr = 1e-3", "duplicate key"),
        ("another type", "train = 5", "train"),
    ] {
        refused(what, path, text, 2, &[word], &load);
    }
    told(&format!("F5 texts: {number} names and texts, each refused"));
}

/// A shard that promises more than it has.
#[test]
fn shards_that_promise_too_much() {
    let _alone = alone();
    let site = Site::new();
    let good = std::fs::read(site.data.join("train-00000.bin")).unwrap();
    let path = site.fresh().with_extension("bin");
    let word = |i: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
        bytes[32..36].fill(0); // nobody's: our own are hashed
        bytes
    };
    for (what, bytes, part) in [
        ("2^31 - 1 tokens", word(2, i32::MAX as u32), "2147483647"),
        ("a negative number of tokens", word(2, u32::MAX), "-1"),
        ("no tokens", word(2, 0), "0 tokens"),
        ("another magic", word(0, 7), "magic is 7"),
        ("the other width", word(0, 20_240_801), "version"),
        ("half a header", good[..500].to_vec(), "too few"),
        ("half a token", good[..good.len() - 1].to_vec(), "truncated or damaged"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        refuse(what, 0, 3, &[part], || Shard::open(&path).map(drop));
    }
}
