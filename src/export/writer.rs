//! A safetensors file written tensor by tensor: the `safetensors` crate cannot report that the bytes of
//! one could not be had.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3Default;

use super::check_stop;
use crate::checkpoint::tensors::DATA_HASH;
use crate::error::{Error, Result, check_len};
use crate::files::{self, hash_text};

/// Name, type and shape of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Spec {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Takes the next bytes of a tensor.
pub(super) type Put<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Writes and syncs `specs` with the bytes that `data` hands over for each, in order. Two-byte types
/// must come last, so that every tensor is aligned.
pub(super) fn write<'a>(
    path: &Path,
    specs: impl Iterator<Item = &'a Spec> + Clone,
    mut data: impl FnMut(usize, &mut Put) -> Result<()>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut header = Map::new();
    // The hash is known last; its place is kept for it.
    header.insert("__metadata__".into(), json!({"format": "pt", DATA_HASH: hash_text(0)}));
    let mut offset = 0;
    for s in specs.clone() {
        let end = offset + s.bytes();
        let dtype = serde_json::to_value(s.dtype).expect("plain data");
        let entry = json!({"dtype": dtype, "shape": s.shape, "data_offsets": [offset, end]});
        header.insert(s.name.clone(), entry);
        offset = end;
    }
    let header = Value::Object(header).to_string();
    let key = format!("\"{DATA_HASH}\":\"");
    let hash_at = 8 + header.find(&key).expect("just inserted") + key.len();
    let mut header = header.into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let file = files::create(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::io("write", path))?;
    out.write_all(&header).map_err(Error::io("write", path))?;
    let (mut written, mut hash) = (0, Xxh3Default::new());
    let mut put = |bytes: &[u8]| {
        written += bytes.len();
        hash.update(bytes);
        out.write_all(bytes).map_err(Error::io("write", path))
    };
    for i in 0..specs.count() {
        check_stop(stop)?;
        data(i, &mut put)?;
    }
    check_len("export", "bytes", offset, written)?;
    let mut file = out.into_inner().map_err(|e| Error::io("write", path)(e.into_error()))?;
    file.seek(SeekFrom::Start(hash_at as u64))
        .and_then(|_| file.write_all(hash_text(hash.digest()).as_bytes()))
        .map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}
