//! A safetensors file written tensor by tensor: the `safetensors` crate cannot report that the bytes of
//! one could not be had.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::check_stop;
use crate::error::{Error, Result, check_len};

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
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0;
    for s in specs.clone() {
        let end = offset + s.bytes();
        let dtype = serde_json::to_value(s.dtype).expect("plain data");
        let entry = json!({"dtype": dtype, "shape": s.shape, "data_offsets": [offset, end]});
        header.insert(s.name.clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut written = 0;
    let mut put = |bytes: &[u8]| {
        written += bytes.len();
        out.write_all(bytes).map_err(Error::io("write", path))
    };
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for i in 0..specs.count() {
        check_stop(stop)?;
        data(i, &mut put)?;
    }
    check_len("export", "bytes", 8 + header.len() + offset, written)?;
    let file = out.into_inner().map_err(|e| Error::io("write", path)(e.into_error()))?;
    file.sync_all().map_err(Error::io("sync", path))
}
