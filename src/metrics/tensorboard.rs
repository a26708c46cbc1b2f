//! TensorBoard event files: `tensorboard/events.out.tfevents.TIME.STEP` beside the metrics.
//!
//! A file is a list of records, each `length (u64), crc(length), data, crc(data)`, little-endian, with
//! the masked CRC-32C of TensorFlow's record format (`tensorflow/core/lib/io/record_writer.h`). The
//! data are protocol buffers of type `Event` (`tensorflow/core/util/event.proto`): one double, one
//! int64, one string, and `Summary` with tag and number. That is little enough to be written by hand.
//!
//! A resumed run begins a new file with a session-start event at the step after its last one: of older
//! files TensorBoard keeps the points before that event's step, so those of the last one stay.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::ocr_qk;
use crate::error::{Error, Result};

/// Folder of the files.
pub const FOLDER: &str = "tensorboard";

/// Writes events.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Starts a file in `dir/tensorboard` for a run that has finished `step` updates.
    pub fn open(dir: &Path, step: u64) -> Result<Self> {
        let folder = dir.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let seconds = now();
        // A second start within the same second takes the next free name.
        let mut opened = None;
        for n in 0..1000u64 {
            let time = seconds as u64 + n;
            let path = folder.join(format!("events.out.tfevents.{time:010}.step{step}"));
            match OpenOptions::new().create_new(true).append(true).open(&path) {
                Ok(file) => {
                    opened = Some(Events { path, file });
                    break;
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", &path)(e)),
            }
        }
        let mut events =
            opened.ok_or_else(|| Error::data(&folder, "holds a thousand files of this minute"))?;
        let mut version = Message::event(seconds, 0);
        version.bytes(3, b"brain.Event:2");
        events.record(&version.0)?;
        // SessionLog { status: START }: what older files hold from this step on is void. The numbers of
        // `step` itself stand; they are not written again.
        let mut start = Message::event(seconds, step + 1);
        start.bytes(7, &[0x08, 0x01]);
        events.record(&start.0)?;
        Ok(events)
    }

    /// Writes the numbers of a row of kind `train`, `eval` or `topology`.
    pub fn row(&mut self, row: &Value) -> Result<()> {
        let mut summary = Message(Vec::new());
        for (tag, number) in scalars(row) {
            let mut value = Message(Vec::new());
            value.bytes(1, tag.as_bytes());
            value.float(2, number as f32);
            summary.bytes(1, &value.0);
        }
        if summary.0.is_empty() {
            return Ok(());
        }
        let mut event = Message::event(now(), row["step"].as_u64().unwrap_or(0));
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_crc(data).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }
}

/// Tag and number of everything in a row that makes a curve.
fn scalars(row: &Value) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    let mut take = |tag: String, value: &Value| {
        found.extend(value.as_f64().map(|x| (tag, x)));
    };
    match row["kind"].as_str() {
        Some("train") => {
            for key in ["loss", "loss_align", "lr", "grad_norm"] {
                take(format!("train/{key}"), &row[key]);
            }
            for key in ["tokens_per_s", "step_ms"] {
                take(format!("speed/{key}"), &row["time"][key]);
            }
            take("train/ocr_qk".into(), &ocr_qk(row).into());
            for group in ["ocr", "rms_s", "rms_l"] {
                for (layer, value) in row[group].as_object().into_iter().flatten() {
                    take(format!("{group}/{layer}"), value);
                }
            }
        }
        Some("eval") => {
            for key in ["ppl", "ppl_galore_compat", "bits_per_byte", "loss"] {
                take(format!("eval/{key}"), &row[key]);
            }
        }
        Some("topology") => {
            let layer = row["layer"].as_str().unwrap_or("?");
            for key in ["removed", "returned", "itop", "kept16"] {
                take(format!("{key}/{layer}"), &row[key]);
            }
        }
        _ => {}
    }
    found
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// TensorFlow's checksum of a record.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protocol buffer under construction.
struct Message(Vec<u8>);

impl Message {
    /// `Event { wall_time = 1, step = 2 }`.
    fn event(seconds: f64, step: u64) -> Self {
        let mut m = Message(vec![1 << 3 | 1]);
        m.0.extend(seconds.to_le_bytes());
        m.0.push(2 << 3);
        m.varint(step);
        m
    }

    fn varint(&mut self, mut x: u64) {
        while x >= 0x80 {
            self.0.push(x as u8 | 0x80);
            x >>= 7;
        }
        self.0.push(x as u8);
    }

    fn bytes(&mut self, field: u8, data: &[u8]) {
        self.0.push(field << 3 | 2);
        self.varint(data.len() as u64);
        self.0.extend(data);
    }

    fn float(&mut self, field: u8, x: f32) {
        self.0.push(field << 3 | 5);
        self.0.extend(x.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn checksums_are_those_of_the_record_format() {
        // CRC-32C of "123456789" is e3069283 (RFC 3720's polynomial); the mask is the format's.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }

    #[test]
    fn an_event_has_the_bytes_of_its_protocol_buffer() {
        let mut m = Message::event(1.5, 300);
        m.bytes(5, b"ab");
        let want = [0x09, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a, 0x02, b'a', b'b'];
        assert_eq!(m.0, want);
    }

    #[test]
    fn a_file_voids_what_comes_after_its_step() {
        let dir = tempfile::tempdir().unwrap();
        let events = Events::open(dir.path(), 300).unwrap();
        let bytes = std::fs::read(&events.path).unwrap();
        // After the first record, the version: length, checksum, tag of the double, double, step 301,
        // session log { start }, checksum.
        let start = &bytes[8 + 4 + bytes[0] as usize + 4..];
        assert_eq!(start[..8], 16u64.to_le_bytes());
        assert_eq!(start[8 + 4 + 9..][..7], [0x10, 0xad, 0x02, 0x3a, 2, 8, 1]);
        assert_eq!(start.len(), 8 + 4 + 16 + 4);
    }

    #[test]
    fn rows_become_named_numbers() {
        let row = json!({"kind": "train", "step": 4, "loss": 2.5, "grad_norm": null,
            "ocr": {"0.q_proj": 0.5, "0.k_proj": 0.25, "0.up_proj": 0.75}});
        let found = scalars(&row);
        let of = |tag: &str| found.iter().find(|(t, _)| t == tag).map(|(_, x)| *x);
        assert_eq!(of("train/loss"), Some(2.5));
        assert_eq!(of("train/ocr_qk"), Some(0.375));
        assert_eq!(of("ocr/0.up_proj"), Some(0.75));
        assert_eq!(of("train/grad_norm"), None);
        assert!(scalars(&json!({"kind": "note", "text": "x"})).is_empty());
    }
}
