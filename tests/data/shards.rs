//! llm.c shards, ours and others'.

use std::path::Path;

use chtsl::data::header::{HEADER_BYTES, Width};
use chtsl::data::{Dataset, Order, Shard, ShardWriter, Split};

use super::{data_error, packed};

/// A shard as llm.c writes it: three words, zeros, tokens.
pub fn foreign(tokens: &[u32], wide: bool) -> Vec<u8> {
    let (magic, version) = if wide { (20240801u32, 7u32) } else { (20240520, 1) };
    let mut bytes = vec![0; HEADER_BYTES];
    for (i, word) in [magic, version, tokens.len() as u32].into_iter().enumerate() {
        bytes[4 * i..4 * i + 4].copy_from_slice(&word.to_le_bytes());
    }
    for &t in tokens {
        if wide {
            bytes.extend(t.to_le_bytes());
        } else {
            bytes.extend((t as u16).to_le_bytes());
        }
    }
    bytes
}

fn ours(path: &Path, tokens: &[u32], vocab: usize) {
    let mut writer = ShardWriter::create(path, vocab, Some(1), 0xABCD).unwrap();
    tokens.chunks(3).for_each(|part| writer.push(part).unwrap());
    let done = writer.finish().unwrap();
    assert_eq!(done.tokens, tokens.len() as u64);
}

#[test]
fn foreign_shards_load_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (wide, tokens) in [(false, vec![50256, 15496, 0, 995]), (true, vec![128000, 9906, 0, 7])] {
        let path = folder.path().join("fineweb_train_000001.bin");
        std::fs::write(&path, foreign(&tokens, wide)).unwrap();
        let shard = Shard::open(&path).unwrap();
        assert_eq!(shard.width(), if wide { Width::U32 } else { Width::U16 });
        assert!(shard.spare().is_none());
        let mut read = vec![0; 4];
        shard.read(0..4, &mut read).unwrap();
        assert_eq!(read, tokens);
        assert_eq!((shard.get(3), shard.get(4)), (Some(tokens[3]), None));
        assert_eq!(shard.max_id(), tokens[0]);
        shard.read(3..5, &mut [0; 2]).unwrap_err();
        shard.read(0..3, &mut read).unwrap_err();
        shard.check_vocab(tokens[0] as usize + 1).unwrap();
        let id = tokens[0].to_string();
        data_error(shard.check_vocab(tokens[0] as usize), &["token 0 (byte 1024)", &id]);
        let dataset =
            |vocab| Dataset::open(&[folder.path().to_path_buf()], Split::Train, &packed(vocab, 3));
        let dataset = dataset(128_001).unwrap();
        assert_eq!((dataset.rows(), dataset.bytes_of(0)), (1, None));
        assert!(dataset.tokenizer().unwrap().is_none());
    }
}

#[test]
fn our_shards_are_llm_c_shards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000.bin");
    for vocab in [1000, 70_000] {
        let tokens: Vec<u32> = (0..100).map(|i| i * 37 % 1000).collect();
        ours(&path, &tokens, vocab);
        let bytes = std::fs::read(&path).unwrap();
        let plain = foreign(&tokens, vocab > 65_536);
        assert_eq!(bytes[..12], plain[..12]);
        assert_eq!(bytes[HEADER_BYTES..], plain[HEADER_BYTES..]);
        let shard = Shard::open(&path).unwrap();
        let spare = *shard.spare().unwrap();
        assert_eq!((spare.vocab as usize, spare.eos, spare.fingerprint), (vocab, Some(1), 0xABCD));
        assert_eq!(spare.max_id, tokens.iter().max().copied());
        shard.verify().unwrap();
    }
}

#[test]
fn each_corruption_has_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    let good = foreign(&[1, 2, 3, 4], false);
    let word = |i: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[4 * i..4 * i + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    let cases: [(Vec<u8>, &[&str]); 9] = [
        (word(0, 7), &["magic is 7", "20240520", "20240801"]),
        (word(0, 20240522), &["evaluation file"]),
        (word(1, 3), &["version is 3", "expected 1"]),
        // A u32 header over u16 tokens: the size tells.
        (
            [&word(0, 20240801)[..4], &7u32.to_le_bytes()[..], &good[8..]].concat(),
            &["4 tokens of 4 bytes", "1040", "1032"],
        ),
        (word(2, 5), &["declares 5 tokens", "1034", "1032"]),
        (word(2, 0xFFFF_FFFF), &["declares -1 tokens"]),
        (good[..1030].to_vec(), &["4 tokens", "has 1030"]),
        (good[..100].to_vec(), &["100 bytes are too few"]),
        (foreign(&[], false), &["holds no tokens"]),
    ];
    for (bytes, parts) in cases {
        std::fs::write(&path, bytes).unwrap();
        data_error(Shard::open(&path), parts);
    }
    data_error(Shard::open(folder.path().join("none.bin")), &["none.bin", "does not exist"]);
    data_error(Shard::open(folder.path()), &["is a folder"]);
}

#[test]
fn damage_of_our_shards_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000.bin");
    let tokens: Vec<u32> = (0..50).collect();
    ours(&path, &tokens, 100);
    let good = std::fs::read(&path).unwrap();

    let mut bytes = good.clone();
    bytes[HEADER_BYTES + 2 * 20 + 1] ^= 0x80; // token 20 gets beyond the vocabulary
    std::fs::write(&path, &bytes).unwrap();
    let paths = [path.clone()];
    let dataset = Dataset::open(&paths, Split::Train, &packed(100, 8)).unwrap();
    data_error(dataset.verify(), &["payload hash", "damaged"]);
    let mut batch = dataset.batch(6);
    dataset.fill(Order::Natural, 0..2, &mut batch).unwrap();
    let parts = ["train-00000.bin", "token 20 (byte 1064)", "32788", "100 ids"];
    data_error(dataset.fill(Order::Natural, 0..6, &mut batch), &parts);
    // As the last target of a row, not as an input.
    let dataset = Dataset::open(&paths, Split::Train, &packed(100, 20)).unwrap();
    data_error(dataset.fill(Order::Natural, 0..1, &mut batch), &parts);

    let mut bytes = good;
    bytes[4 * 12] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    data_error(Shard::open(&path), &["header check is"]);
}

/// F14: a shard that is cut or grows while it is open.
#[test]
fn shards_that_change_while_they_are_open_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000.bin");
    ours(&path, &(0..500).collect::<Vec<u32>>(), 500);
    let good = std::fs::read(&path).unwrap();
    let shard = Shard::open(&path).unwrap();
    let mut out = [0; 10];
    shard.read(480..490, &mut out).unwrap();
    for bytes in [&good[..HEADER_BYTES + 4], &[&good[..], &[0]].concat()] {
        // In place, as a copy over it would.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        let parts = ["train-00000.bin", &bytes.len().to_string(), "make it again"];
        data_error(shard.read(480..490, &mut out), &parts);
    }
    std::fs::write(&path, &good).unwrap();
    shard.read(480..490, &mut out).unwrap();
}

/// A large dataset has more shards than a process may have files open.
#[cfg(target_os = "linux")]
#[test]
fn shards_do_not_stay_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000.bin");
    ours(&path, &(0..500).collect::<Vec<u32>>(), 500);
    let shards: Vec<Shard> = (0..20).map(|_| Shard::open(&path).unwrap()).collect();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let ours =
        open.filter(|e| std::fs::read_link(e.as_ref().unwrap().path()).is_ok_and(|p| p == path));
    assert_eq!(ours.count(), 0);
    // Removed or replaced, they live on.
    std::fs::remove_file(&path).unwrap();
    let mut out = [0; 10];
    shards[7].read(480..490, &mut out).unwrap();
    std::fs::write(&path, "another").unwrap();
    shards[8].read(480..490, &mut out).unwrap();
    assert_eq!(out[9], 489);
}

#[test]
fn unfinished_shards_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train-00000.bin");
    let mut writer = ShardWriter::create(&path, 100, None, 0).unwrap();
    writer.push(&[1, 2, 3]).unwrap();
    data_error(writer.push(&[100]), &["id 100", "100 ids"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn splits_and_paths_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let open = |paths: &[std::path::PathBuf], split| Dataset::open(paths, split, &packed(100, 4));
    let here = [folder.path().to_path_buf()];
    data_error(open(&here, Split::Train), &["neither dataset.json nor .bin"]);
    for (name, first) in [("x_train_2.bin", 20), ("x_train_1.bin", 10), ("x_val_0.bin", 30)] {
        std::fs::write(at(name), foreign(&[first, 1, 2, 3, 4, 5], false)).unwrap();
    }
    let train = open(&here, Split::Train).unwrap();
    assert_eq!((train.tokens(), train.rows()), (12, 2));
    let mut batch = train.batch(1);
    train.fill(Order::Natural, 0..1, &mut batch).unwrap();
    assert_eq!(batch.ids, [10, 1, 2, 3], "files of a folder are read in the order of their names");
    let val = open(&here, Split::Val).unwrap();
    assert_ne!(train.fingerprint(), val.fingerprint());
    assert_eq!(open(&[at("x_val_0.bin"), at("x_train_1.bin")], Split::Val).unwrap().tokens(), 6);
    data_error(open(&[at("x_train_1.bin")], Split::Val), &["no val split", "--val-input"]);
    std::fs::write(at("other.bin"), foreign(&[1, 2, 3, 4, 5], false)).unwrap();
    data_error(open(&[at("other.bin")], Split::Train), &["other.bin", "rename"]);
    data_error(open(&[here[0].clone(), at("other.bin")], Split::Train), &["is a folder"]);
    assert_eq!(open(&[], Split::Train).err().unwrap().exit_code(), 2);
    let few = Dataset::open(&[at("x_val_0.bin")], Split::Val, &packed(100, 6));
    data_error(few, &["6 tokens are too few", "seq_len = 6"]);
    std::fs::write(at(".prepare-unfinished"), "").unwrap();
    data_error(open(&here, Split::Train), &["unfinished"]);
}
