//! Bytes of a corpus file, decompressed and cut into lines of bounded length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::files::{self, FileKind};

/// Longest line, in bytes.
pub const MAX_LINE: u64 = 64 << 20;
/// Longest plain text file (one document), in bytes after decompression.
pub const MAX_TEXT: u64 = 1 << 30;

const BUFFER: usize = 256 << 10;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// What a file's name says about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole file is one document.
    Text,
    /// One JSON object per line.
    JsonLines,
}

/// Kind of the file by the ends of its name, and whether it is compressed.
///
/// Errors: [`Error::Data`] listing the accepted ends.
pub fn kind(path: &Path) -> Result<Kind> {
    match split_name(path) {
        (Some(kind), _) => Ok(kind),
        _ => Err(Error::data(
            path,
            "cannot tell the format from the name: it must end in .txt, .jsonl or .json, optionally \
             followed by .gz or .zst",
        )),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

fn split_name(path: &Path) -> (Option<Kind>, Packing) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let (stem, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(stem), _) => (stem, Packing::Gzip),
        (_, Some(stem)) => (stem, Packing::Zstd),
        _ => (name.as_str(), Packing::None),
    };
    let kind = match stem.rsplit_once('.') {
        Some((_, "txt")) => Some(Kind::Text),
        Some((_, "jsonl" | "json" | "ndjson")) => Some(Kind::JsonLines),
        _ => None,
    };
    (kind, packing)
}

/// One line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// The buffer holds the line, without its end.
    Full,
    /// The line is longer than [`MAX_LINE`]; it has been skipped up to its end.
    TooLong,
    /// The file has ended.
    End,
}

/// A file whose bytes are counted as they are read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Reader of one corpus file.
pub struct LineReader {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    packed: bool,
    /// Lines handed out so far.
    number: u64,
}

impl LineReader {
    /// Opens `path`, decompressing by its name; several gzip members or Zstandard frames in one
    /// file are read one after the other. `read` counts the bytes taken from the file.
    pub fn open(path: &Path, read: Arc<AtomicU64>) -> Result<Self> {
        files::regular_size(path, FileKind::Data)?;
        let file = File::open(path).map_err(Error::io("open", path))?;
        let file = BufReader::with_capacity(BUFFER, Counted { file, read });
        let packing = split_name(path).1;
        let input: Box<dyn BufRead + Send> = match packing {
            Packing::None => Box::new(file),
            Packing::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
            Packing::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(file)
                    .map_err(Error::io("read", path))?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
        };
        Ok(LineReader {
            path: path.to_path_buf(),
            input,
            packed: packing != Packing::None,
            number: 0,
        })
    }

    /// Number of the line last handed out, counted from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line into `line`, without `\n` or `\r\n`, and without a byte order mark at
    /// the start of the file.
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> Result<Line> {
        line.clear();
        let read = (&mut self.input).take(MAX_LINE + 1).read_until(b'\n', line);
        let read = read.map_err(|e| self.failed(e))?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        if line.last() != Some(&b'\n') && line.len() as u64 > MAX_LINE {
            line.clear();
            self.skip_line()?;
            return Ok(Line::TooLong);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if self.number == 1 && line.starts_with(BOM) {
            line.drain(..BOM.len());
        }
        Ok(Line::Full)
    }

    /// Reads the whole file, without a byte order mark.
    ///
    /// Errors: [`Error::Data`] beyond [`MAX_TEXT`] bytes.
    pub fn read_text(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(MAX_TEXT + 1).read_to_end(&mut bytes);
        read.map_err(|e| self.failed(e))?;
        if bytes.len() as u64 > MAX_TEXT {
            return Err(Error::data(
                &self.path,
                "is longer than 1 GiB: a .txt file is one document; split it into several files, \
                 or into JSON lines",
            ));
        }
        if bytes.starts_with(BOM) {
            bytes.drain(..BOM.len());
        }
        Ok(bytes)
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let (used, ended) = {
                let available = match self.input.fill_buf() {
                    Ok(available) => available,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => return Err(self.failed(e)),
                };
                match available.iter().position(|&b| b == b'\n') {
                    Some(i) => (i + 1, true),
                    None => (available.len(), available.is_empty()),
                }
            };
            self.input.consume(used);
            if ended {
                return Ok(());
            }
        }
    }

    /// Decoders report damaged data as an I/O error without a system code.
    fn failed(&self, e: io::Error) -> Error {
        if !self.packed || e.raw_os_error().is_some() {
            return Error::io("read", &self.path)(e);
        }
        Error::data(
            &self.path,
            format!(
                "the compressed data after line {} is truncated or damaged ({e}): fetch or make \
                 the file again",
                self.number
            ),
        )
    }
}
