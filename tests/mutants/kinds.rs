//! F4: mutants of every kind of file, as they are and with the checksums around them made to fit again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chtsl::checkpoint::folder::{Manifest, read_manifest};
use chtsl::config::layers;
use chtsl::data::Tokenizer;
use chtsl::data::source::{Documents, SourceOptions};
use chtsl::export::import;
use chtsl::metrics::{Extras, Metrics};
use chtsl::plot::Run;
use chtsl::train::plan::{Home, Plan};
use chtsl::{Error, Result};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::mutate::mutate;
use crate::site::{Site, never};
use crate::{alone, count, observe, readers, told};

/// Bytes that a reader may hold beside the file itself.
const ROOM: usize = 200 << 20;

/// How the mutants of one kind are read.
struct Kind<'a> {
    name: &'a str,
    file: PathBuf,
    /// Bytes at the start in which half of the mutants are damaged.
    head: usize,
    /// A checksum covers it: no mutant may load, except one of JSON that says the very same.
    checked: bool,
    read: Box<dyn Fn() -> Result<()> + 'a>,
}

/// Lists the file of a checkpoint anew, as one who forges checkpoints would.
fn agree(dir: &Path, file: &str) -> Result<()> {
    let path = dir.join("manifest.json");
    let mut manifest: Manifest = read_manifest(dir)?;
    let bytes = std::fs::read(dir.join(file)).map_err(Error::io("read", file))?;
    let entry = manifest.files.get_mut(file).expect("listed");
    (entry.bytes, entry.xxh3) = (bytes.len() as u64, format!("{:016x}", xxh3_64(&bytes)));
    manifest.checksum = Some(manifest.digest());
    std::fs::write(&path, serde_json::to_vec(&manifest).expect("plain data")).unwrap();
    Ok(())
}

/// Length of the header of a safetensors file.
fn header(path: &Path) -> usize {
    let bytes = std::fs::read(path).unwrap();
    8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize
}

fn kinds<'a>(site: &'a Site) -> Vec<Kind<'a>> {
    let everything = usize::MAX;
    let mut all: Vec<Kind<'a>> = Vec::new();
    let mut add = |name, file: PathBuf, head, checked, read: Box<dyn Fn() -> Result<()> + 'a>| {
        all.push(Kind { name, file, head, checked, read });
    };
    for file in
        ["model.safetensors", "optim.safetensors", "state.json", "config.toml", "tokenizer.json"]
    {
        let path = site.checkpoint.join(file);
        let head = if file.ends_with("safetensors") { header(&path) } else { everything };
        add(file, path.clone(), head, true, Box::new(|| site.resume()));
        let forged = format!("{file}, forged").leak();
        let read = move || {
            agree(&site.checkpoint, file)?;
            site.resume()
        };
        add(forged, path, head, false, Box::new(read));
    }
    let manifest = site.checkpoint.join("manifest.json");
    let read = |fix| {
        move || {
            readers::checkpoint_manifest(&site.checkpoint, fix)?;
            site.resume()
        }
    };
    add("manifest.json", manifest.clone(), everything, true, Box::new(read(false)));
    add("manifest.json, forged", manifest, everything, false, Box::new(read(true)));

    let dataset = site.data.join("dataset.json");
    let read = |fix| {
        move || {
            readers::dataset_manifest(&site.data, fix)?;
            readers::batches(&site.data)
        }
    };
    add("dataset.json", dataset.clone(), everything, true, Box::new(read(false)));
    add("dataset.json, forged", dataset, everything, false, Box::new(read(true)));
    let shard = site.data.join("train-00000.bin");
    let one = shard.clone();
    // By the folder: without its mark a shard is nobody's, and only there known to be missed.
    let read = move || readers::batches(&site.data).and_then(|()| readers::shard(&one));
    add("shard", shard.clone(), 1024, true, Box::new(read));
    // The header of llm.c: without our words nothing is hashed.
    let foreign = site.fresh().with_file_name("train-foreign.bin");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[12..1024].fill(0);
    std::fs::write(&foreign, bytes).unwrap();
    let one = foreign.clone();
    add("shard of llm.c", foreign, 1024, false, Box::new(move || readers::shard(&one)));

    let tokenizer = site.data.join("tokenizer.json");
    let one = tokenizer.clone();
    let read = move || {
        let tokenizer = Tokenizer::load(&one)?;
        assert_eq!(tokenizer.byte_lengths().len(), tokenizer.vocab_size());
        let _ = tokenizer.encode("A text, to see what it does with it: 1 + 2 = 3.");
        let _ = tokenizer.decode(&[0, 5, 300, u32::MAX]);
        tokenizer.eos(None).map(drop)
    };
    add("tokenizer", tokenizer, everything, false, Box::new(read));

    let read = || {
        let config = layers::resolve(None, Some(&site.user_config), &[])?;
        Plan::new(&config, Home::Cpu)?;
        Plan::new(&config, Home::Cuda).map(drop)
    };
    add("configuration", site.user_config.clone(), everything, false, Box::new(read));

    let read = || import(&site.exported, &site.fresh(), never()).map(drop);
    let config = site.exported.join("config.json");
    add("config.json of a model", config, everything, false, Box::new(read));
    for (name, file) in
        [("exported weights", "model.safetensors"), ("exported links", "chtsl/links.safetensors")]
    {
        let file = site.exported.join(file);
        if file.exists() {
            add(name, file.clone(), header(&file), false, Box::new(read));
        }
    }

    let metrics = site.run.join("metrics.jsonl");
    let read = || {
        let run = Run::load(&site.run)?;
        let _ = (run.train("/loss"), run.ocr_qk(), run.steps(), run.last_evaluation().is_some());
        let extras = Extras { csv: true, tensorboard: false };
        Metrics::open(&site.run, 3, extras)?.finish()
    };
    add("metrics.jsonl", metrics, everything, false, Box::new(read));

    let text =
        std::fs::read(format!("{}/datasets/tiny.jsonl", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let gz = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, &text).unwrap();
        encoder.finish().unwrap()
    };
    let zst = zstd::encode_all(&text[..], 3).unwrap();
    for (name, bytes) in
        [("a.jsonl", text.clone()), ("b.jsonl.gz", gz), ("c.jsonl.zst", zst), ("d.txt", text)]
    {
        let path = site.data.join("..").join(name);
        std::fs::write(&path, bytes).unwrap();
        let one = path.clone();
        let read = move || {
            let options = SourceOptions::default();
            for document in Documents::new(std::slice::from_ref(&one), options)? {
                document?;
            }
            Ok(())
        };
        add(name, path, 64, false, Box::new(read));
    }
    all
}

/// Every file of the folders around, to be put back after a reader that writes.
fn surroundings(site: &Site) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        entries
            .filter(|p| p.is_file())
            .map(|p| (p.clone(), std::fs::read(p).unwrap()))
            .collect::<Vec<_>>()
    };
    [&site.checkpoint, &site.data, &site.run].iter().flat_map(|dir| read(dir)).collect()
}

#[test]
fn mutants_of_every_kind_of_file() {
    let _alone = alone();
    let site = Site::new();
    let rounds = count(200, 1000) as u64;
    for (k, kind) in kinds(&site).iter().enumerate() {
        let good = std::fs::read(&kind.file).unwrap();
        (kind.read)().unwrap_or_else(|e| panic!("{}: the undamaged one: {e}", kind.name));
        let around = surroundings(&site);
        let (mut loaded, mut peak, mut slowest) = (0, 0, Duration::ZERO);
        for round in 0..rounds {
            let bad = mutate(&good, kind.head, k as u32, round);
            std::fs::write(&kind.file, &bad).unwrap();
            let seen = observe(&kind.read);
            let what = || {
                let kept = std::env::temp_dir().join("mutant");
                let _ = std::fs::write(&kept, &bad);
                format!("mutant {round} of {}, kept as {}", kind.name, kept.display())
            };
            match seen.result {
                None => panic!("{} panicked", what()),
                Some(Ok(())) if bad == good => {}
                Some(Ok(())) => {
                    // Blanks may come and go, and a key may be there twice with one value.
                    let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
                    let same = value(&bad).is_some_and(|v| Some(v) == value(&good));
                    assert!(same || !kind.checked, "{} loaded past a checksum", what());
                    loaded += 1;
                }
                Some(Err(e)) => {
                    let known = matches!(e.exit_code(), 2..=5);
                    assert!(known && e.to_string().len() < 2000, "{}: {e}", what());
                }
            }
            assert!(seen.peak <= bad.len() + ROOM, "{} held {} bytes", what(), seen.peak);
            (peak, slowest) = (peak.max(seen.peak), slowest.max(seen.took));
            for (path, bytes) in &around {
                if std::fs::read(path).ok().as_ref() != Some(bytes) {
                    std::fs::write(path, bytes).unwrap();
                }
            }
            std::fs::write(&kind.file, &good).unwrap();
        }
        told(&format!(
            "F4 {}: {rounds} mutants, {loaded} loaded, most memory {:.1} MB, most processor time {:.0} ms",
            kind.name,
            peak as f64 / 1e6,
            1e3 * slowest.as_secs_f64()
        ));
    }
}
