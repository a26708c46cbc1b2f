//! Reading safetensors files as a source of parameters, with everything checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::files::{FileKind, hash_text, read_limited};
use crate::layer::{ParamKind, ParamSource};
use crate::sparse::Pattern;

/// Key of a file's metadata: xxh3-64 of all bytes behind the header. Files of others lack it.
pub const DATA_HASH: &str = "chtsl_xxh3";

/// One tensor of a file.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// A name that a header gives twice: the library would keep one of the two without a word.
struct Repeated(Option<String>);

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Names)
    }
}

struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Repeated;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("a header")
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let (mut seen, mut repeated) = (BTreeSet::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            map.next_value::<IgnoredAny>()?;
            if !seen.insert(name.clone()) {
                repeated = Some(name);
            }
        }
        Ok(Repeated(repeated))
    }
}

/// A safetensors file read into memory.
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
    entries: BTreeMap<String, Entry>,
}

impl TensorFile {
    /// Reads `path` and checks its header against its size.
    pub fn open(path: &Path) -> Result<Self> {
        Self::from_bytes(path, read_limited(path, u64::MAX, FileKind::Checkpoint)?)
    }

    /// The same from bytes already read; `path` is for messages. Where the file carries a hash of its
    /// data, that must fit.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let not = |e| Error::checkpoint(path, format!("not a safetensors file: {e}"));
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(not)?;
        if let Ok(Repeated(Some(name))) = serde_json::from_slice(&bytes[8..8 + header]) {
            return Err(Error::checkpoint(path, format!("has two tensors named {name:?}")));
        }
        let parsed = SafeTensors::deserialize(&bytes).map_err(not)?;
        if let Some(listed) = metadata.metadata().as_ref().and_then(|m| m.get(DATA_HASH)) {
            let found = hash_text(xxh3_64(&bytes[8 + header..]));
            if *listed != found {
                return Err(Error::checkpoint(
                    path,
                    format!("damaged: its data has hash {found}, its header says {listed}"),
                ));
            }
        }
        let base = bytes.as_ptr() as usize;
        let entries = parsed
            .iter()
            .map(|(name, t)| {
                let start = t.data().as_ptr() as usize - base;
                let entry = Entry {
                    dtype: t.dtype(),
                    shape: t.shape().to_vec(),
                    start,
                    end: start + t.data().len(),
                };
                (name.to_string(), entry)
            })
            .collect();
        drop(parsed);
        Ok(TensorFile { path: path.into(), bytes, entries })
    }

    /// Names in the file, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Type, shape and bytes of a tensor.
    pub fn info(&self, name: &str) -> Result<(Dtype, &[usize], usize)> {
        let e = self.entry(name)?;
        Ok((e.dtype, &e.shape, e.end - e.start))
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            Error::checkpoint(
                &self.path,
                format!("tensor {name} is missing; the file belongs to another model or method"),
            )
        })
    }

    /// Elements of a float tensor (f32, bf16 or f16) as f32.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let e = self.entry(name)?;
        let bytes = &self.bytes[e.start..e.end];
        match e.dtype {
            Dtype::F32 => Ok(bytes
                .chunks_exact(4)
                .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
                .collect()),
            Dtype::BF16 => Ok(bytes
                .chunks_exact(2)
                .map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f32())
                .collect()),
            Dtype::F16 => Ok(bytes
                .chunks_exact(2)
                .map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32())
                .collect()),
            other => Err(self.bad(name, "F32, BF16 or F16", format!("{other:?}"))),
        }
    }

    /// Elements of an integer tensor (I32 or I64).
    pub fn signed(&self, name: &str) -> Result<Vec<i64>> {
        let e = self.entry(name)?;
        let bytes = &self.bytes[e.start..e.end];
        match e.dtype {
            Dtype::I32 => Ok(bytes
                .chunks_exact(4)
                .map(|c| i64::from(i32::from_le_bytes([c[0], c[1], c[2], c[3]])))
                .collect()),
            Dtype::I64 => Ok(bytes
                .chunks_exact(8)
                .map(|c| i64::from_le_bytes(c.try_into().expect("eight bytes")))
                .collect()),
            other => Err(self.bad(name, "I32 or I64", format!("{other:?}"))),
        }
    }

    /// Elements of an integer tensor, all in 0..2³².
    pub fn indices(&self, name: &str) -> Result<Vec<u32>> {
        self.signed(name)?
            .iter()
            .map(|&x| u32::try_from(x))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| self.bad(name, "indices in 0..2^32", "another value"))
    }

    /// Raw bytes of a U8 tensor.
    pub fn raw(&self, name: &str) -> Result<&[u8]> {
        let e = self.entry(name)?;
        match e.dtype {
            Dtype::U8 => Ok(&self.bytes[e.start..e.end]),
            other => Err(self.bad(name, "U8", format!("{other:?}"))),
        }
    }

    fn bad(&self, name: &str, expected: &str, got: impl ToString) -> Error {
        let got = got.to_string();
        Error::checkpoint(&self.path, format!("tensor {name}: expected {expected}, got {got}"))
    }

    /// Fails unless the elements are finite and as many as `len`.
    pub fn finite(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        let data = self.floats(name)?;
        if data.len() != len {
            return Err(self.bad(name, &format!("{len} elements"), data.len()));
        }
        if let Some(i) = data.iter().position(|x| !x.is_finite()) {
            return Err(self.bad(name, "finite values", format!("{} at {i}", data[i])));
        }
        Ok(data)
    }

    /// Links of the sparse weight `name` (tensors `.crow_indices`, `.col_indices`).
    pub fn pattern(&self, name: &str, rows: usize, cols: usize) -> Result<Pattern> {
        let crow = self.indices(&format!("{name}.crow_indices"))?;
        let col = self.indices(&format!("{name}.col_indices"))?;
        Pattern::new(rows, cols, crow, col)
            .map_err(|e| Error::checkpoint(&self.path, format!("sparse tensor {name}: {e}")))
    }
}

impl ParamSource for TensorFile {
    fn dense(&mut self, name: &str, shape: [usize; 2], _: ParamKind) -> Result<Vec<f32>> {
        let stored = &self.entry(name)?.shape;
        let vector = shape[0] == 1 && stored[..] == shape[1..];
        if stored[..] != shape && !vector {
            return Err(self.bad(name, &format!("shape {shape:?}"), format!("{stored:?}")));
        }
        self.finite(name, shape[0] * shape[1])
    }

    fn sparse(&mut self, name: &str, rows: usize, cols: usize) -> Result<(Pattern, Vec<f32>)> {
        let pattern = self.pattern(name, rows, cols)?;
        let values = self.finite(&format!("{name}.values"), pattern.nnz())?;
        Ok((pattern, values))
    }
}
