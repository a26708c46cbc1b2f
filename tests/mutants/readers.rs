//! The readers under attack, from the file to the last value that is used. Shared with `tests/fuzz`.
#![allow(dead_code)] // each user takes its share

use std::path::Path;

use chtsl::checkpoint::TensorFile;
use chtsl::checkpoint::folder::{self, read_manifest};
use chtsl::config::Layout;
use chtsl::data::{Dataset, DatasetOptions, Manifest, Order, Shard, Split};
use chtsl::{Error, Result};

pub const VOCAB: usize = 400;

/// A shard file: its header, its hash, and batches of both layouts.
pub fn shard(path: &Path) -> Result<()> {
    let shard = Shard::open(path)?;
    shard.verify()?;
    shard.check_vocab(VOCAB)?;
    drop(shard);
    batches(path)
}

/// Batches of a shard file or a dataset folder.
pub fn batches(path: &Path) -> Result<()> {
    for layout in [Layout::Packed, Layout::DocPad] {
        let (vocab, seq_len) = (VOCAB, 16);
        let options = DatasetOptions { vocab, seq_len, layout, document_mask: true, eos: Some(2) };
        let dataset = Dataset::open(&[path.to_path_buf()], Split::Train, &options)?;
        let mut batch = dataset.batch(0);
        dataset.fill(Order::Natural, 0..dataset.rows().min(64), &mut batch)?;
        assert!(batch.ids.iter().all(|&id| (id as usize) < VOCAB), "an id beyond the vocabulary");
    }
    Ok(())
}

/// A folder's `dataset.json`. `fix`: its checksum is made to fit first, so that what lies behind it is
/// reached.
pub fn dataset_manifest(folder: &Path, fix: bool) -> Result<()> {
    if fix {
        let bytes =
            std::fs::read(folder.join("dataset.json")).map_err(Error::io("read", folder))?;
        if let Ok(mut manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            manifest.save(folder)?;
        }
    }
    Manifest::load(folder).map(drop)
}

/// A checkpoint's `manifest.json`, likewise.
pub fn checkpoint_manifest(dir: &Path, fix: bool) -> Result<()> {
    if fix {
        let path = dir.join("manifest.json");
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        if let Ok(mut manifest) = serde_json::from_slice::<folder::Manifest>(&bytes) {
            manifest.checksum = (manifest.format > 1).then(|| manifest.digest());
            let text = serde_json::to_vec(&manifest).expect("plain data");
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
    }
    read_manifest(dir).map(drop)
}

/// A safetensors file: every tensor as every type, links where there are such.
pub fn safetensors(bytes: Vec<u8>) -> Result<()> {
    let file = TensorFile::from_bytes(Path::new("hostile.safetensors"), bytes)?;
    let names: Vec<String> = file.names().map(String::from).collect();
    for name in &names {
        let (_, shape, bytes) = file.info(name)?;
        let elements = shape.iter().product::<usize>();
        assert!(bytes <= file.size() && elements <= 8 * file.size(), "{name}: {shape:?}");
        let _ = file.floats(name).map(|x| assert_eq!(x.len(), elements));
        let _ = file.indices(name).map(|x| assert_eq!(x.len(), elements));
        let _ = file.raw(name);
        if let Some(of) = name.strip_suffix(".crow_indices") {
            let rows = elements.saturating_sub(1);
            if let Ok(pattern) = file.pattern(of, rows, 32) {
                assert!(pattern.column_indices().iter().all(|c| *c < 32));
            }
        }
    }
    Ok(())
}
