//! The `prepare` command: equal results from every format, refusals, and being killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chtsl::config::Layout;
use chtsl::data::{
    Dataset, DatasetOptions, Order, PrepareOptions, Shard, Split, Stage, TokenizerChoice,
    Validation, prepare,
};
use chtsl::rng::{Purpose, Stream};

use super::sources::{gzip, zstd};
use super::{contents, data_error, options, packed, run, small_tokenizer, tiny, tiny_texts};

/// All tokens of a split of a prepared folder.
fn tokens(folder: &Path, split: Split) -> Vec<u32> {
    let dataset = Dataset::open(&[folder.to_path_buf()], split, &packed(1 << 20, 2)).unwrap();
    let mut all = Vec::new();
    for entry in &dataset.manifest().unwrap().split(split).unwrap().shards {
        let shard = Shard::open(folder.join(&entry.file)).unwrap();
        assert_eq!(shard.len(), entry.tokens);
        shard.verify().unwrap();
        all.extend((0..shard.len()).map(|i| shard.get(i).unwrap()));
    }
    assert_eq!(all.len() as u64, dataset.tokens());
    all
}

#[test]
fn every_format_gives_the_same_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let lines = std::fs::read(tiny()).unwrap();
    std::fs::write(at("tiny.json.gz"), gzip(&lines)).unwrap();
    std::fs::write(at("tiny.jsonl.zst"), zstd(&lines)).unwrap();
    let mut texts = Vec::new();
    for (i, text) in tiny_texts().iter().enumerate() {
        let path = at(&format!("{i}.txt{}", ["", ".gz", ".zst"][i % 3]));
        let pack = [<[u8]>::to_vec, gzip, zstd][i % 3];
        std::fs::write(&path, pack(text.as_bytes())).unwrap();
        texts.push(path);
    }
    let inputs = [vec![tiny()], vec![at("tiny.json.gz")], vec![at("tiny.jsonl.zst")], texts];
    let outputs: Vec<PathBuf> = (0..inputs.len()).map(|i| at(&format!("out{i}"))).collect();
    for (input, out) in inputs.into_iter().zip(&outputs) {
        let summary = run(&options(input, out)).unwrap();
        assert!(!summary.already_complete);
        let m = summary.manifest;
        assert_eq!((m.train.documents, m.val, m.vocab_size), (40, None, 400));
        let bytes: usize = tiny_texts().iter().map(String::len).sum();
        assert_eq!(m.train.text_bytes, bytes as u64);
    }
    // Expected: each document's ids, then EOS.
    let tokenizer = small_tokenizer();
    let mut expected = Vec::new();
    for text in tiny_texts() {
        expected.extend(tokenizer.encode(&text).unwrap());
        expected.push(2);
    }
    for out in &outputs {
        assert_eq!(tokens(out, Split::Train), expected);
        assert_eq!(std::fs::read(out.join("tokenizer.json")).unwrap(), tokenizer.json());
    }
}

#[test]
fn a_book_in_one_file_trains_and_encodes_like_its_chapters() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let chapter = tiny_texts().join(" ");
    std::fs::write(at("book.txt"), vec![chapter.as_str(); 150].join(" ")).unwrap();
    // The blank between two chapters begins the later one, as the pre-tokenizer has it.
    let later = serde_json::json!({ "text": format!(" {chapter}") }).to_string();
    let first = serde_json::json!({ "text": chapter }).to_string();
    std::fs::write(at("chapters.jsonl"), format!("{first}\n{}", (later + "\n").repeat(149)))
        .unwrap();
    let inputs = ["book.txt", "chapters.jsonl"];
    for name in inputs {
        run(&options(vec![at(name)], &at(&format!("{name}.out")))).unwrap();
    }
    let [book, chapters] = inputs.map(|name| at(&format!("{name}.out")));
    let tokenizer = |out: &Path| std::fs::read(out.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer(&book), tokenizer(&chapters));
    let without_eos = |out: &Path| -> Vec<u32> {
        tokens(out, Split::Train).into_iter().filter(|&id| id != 2).collect()
    };
    assert_eq!(without_eos(&book), without_eos(&chapters));
}

#[test]
fn prepared_folders_feed_both_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    run(&PrepareOptions { shard_tokens: 300, ..options(vec![tiny()], &out) }).unwrap();
    let open = |layout, vocab| {
        let options = DatasetOptions { layout, ..packed(vocab, 64) };
        Dataset::open(std::slice::from_ref(&out), Split::Train, &options)
    };
    let dataset = open(Layout::DocPad, 400).unwrap();
    let tokenizer = dataset.tokenizer().unwrap().unwrap();
    let mut batch = dataset.batch(40);
    dataset.fill(Order::Natural, 0..40, &mut batch).unwrap();
    for (row, text) in batch.ids.chunks(64).zip(tiny_texts()) {
        let mut ids = tokenizer.encode(&text).unwrap();
        ids.push(2);
        ids.resize(64, 0);
        assert_eq!(row, ids);
    }
    assert_eq!((dataset.rows(), dataset.eos(), dataset.bytes_of(2)), (40, Some(2), Some(0)));
    assert_eq!(dataset.bytes_of(b'!' as u32 - 33 + 3), Some(1));
    let dataset = open(Layout::Packed, 400).unwrap();
    assert_eq!(dataset.rows(), (dataset.tokens() - 1) / 64);
    dataset.verify().unwrap();
    let max = dataset.manifest().unwrap().train.shards.iter().map(|s| s.max_id).max().unwrap();
    open(Layout::Packed, max as usize + 1).unwrap();
    data_error(open(Layout::Packed, max as usize), &["token", "vocabulary"]);
    let none = Dataset::open(&[out], Split::Val, &packed(400, 64));
    data_error(none, &["no val split", "--val-fraction"]);
}

#[test]
fn documents_are_never_split_across_shards() {
    let folder = tempfile::tempdir().unwrap();
    let one = run(&options(vec![tiny()], &folder.path().join("one"))).unwrap().manifest;
    for limit in [1, 60, 300] {
        let out = folder.path().join(limit.to_string());
        let small = PrepareOptions { shard_tokens: limit, ..options(vec![tiny()], &out) };
        let many = run(&small).unwrap().manifest;
        assert!(many.train.shards.len() > 5);
        assert_eq!(tokens(&out, Split::Train), tokens(&folder.path().join("one"), Split::Train));
        for entry in &many.train.shards {
            let shard = Shard::open(out.join(&entry.file)).unwrap();
            assert_eq!(shard.get(shard.len() - 1), Some(2), "a shard ends with a document");
            assert!(entry.tokens <= limit || entry.documents == 1);
        }
        assert_eq!(many.train.tokens, one.train.tokens);
    }
}

#[test]
fn validation_by_fraction_is_a_hash_of_the_document_number() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let tokenizer = folder.path().join("t.json");
    std::fs::write(&tokenizer, small_tokenizer().json()).unwrap();
    let fixed = PrepareOptions::new(vec![tiny()], TokenizerChoice::File(tokenizer), out.clone());
    let half = PrepareOptions { validation: Validation::Fraction(0.3), ..fixed.clone() };
    let manifest = run(&half).unwrap().manifest;
    let held: Vec<bool> =
        (0..40).map(|i| Stream::new(0, Purpose::Split, 0, 0).uniform(i) < 0.3).collect();
    assert_eq!(manifest.val.unwrap().documents, held.iter().filter(|&&h| h).count() as u64);
    let mut expected = Vec::new();
    for (text, _) in tiny_texts().iter().zip(&held).filter(|(_, held)| **held) {
        expected.extend(small_tokenizer().encode(text).unwrap());
        expected.push(2);
    }
    assert_eq!(tokens(&out, Split::Val), expected);

    let with = |validation, out: &str| {
        run(&PrepareOptions { validation, out: folder.path().join(out), ..fixed.clone() })
    };
    data_error(with(Validation::Fraction(1e-9), "a"), &["raise --val-fraction"]);
    assert!(!folder.path().join("a").exists(), "a failed run leaves nothing");
    data_error(with(Validation::Fraction(1.0 - 1e-9), "a"), &["lower --val-fraction"]);
    assert_eq!(with(Validation::Fraction(1.5), "a").unwrap_err().exit_code(), 2);
    let other = folder.path().join("v.txt");
    std::fs::write(&other, "held out").unwrap();
    let manifest = with(Validation::Inputs(vec![other]), "b").unwrap().manifest;
    assert_eq!((manifest.train.documents, manifest.val.unwrap().documents), (40, 1));
}

#[test]
fn what_may_not_stand_in_a_document_is_replaced_or_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("x.txt"), "one</s>two<s>three").unwrap();
    std::fs::write(at("y.txt"), "</s>").unwrap();
    let tokenizer = small_tokenizer();
    std::fs::write(at("t.json"), tokenizer.json()).unwrap();
    let base = PrepareOptions::new(
        vec![at("x.txt"), at("y.txt")],
        TokenizerChoice::File(at("t.json")),
        at("a"),
    );
    let manifest = run(&base).unwrap().manifest;
    assert_eq!((manifest.counts.eos_inside, manifest.unk_id), (2, Some(0)));
    let mut expected = tokenizer.encode("one<unk>two<s>three").unwrap();
    expected.extend([2, 0, 2]);
    assert_eq!(tokens(&at("a"), Split::Train), expected);

    // A limit on the ids; without an unknown token they are dropped, and so is an empty document.
    let json = String::from_utf8(tokenizer.json().to_vec()).unwrap().replace("<unk>", "<odd>");
    std::fs::write(at("u.json"), json).unwrap();
    let limited = PrepareOptions {
        tokenizer: TokenizerChoice::File(at("u.json")),
        model_vocab: Some(90),
        out: at("b"),
        ..base.clone()
    };
    let manifest = run(&limited).unwrap().manifest;
    let ids = tokenizer.encode("one</s>two<s>three").unwrap();
    let mut expected: Vec<u32> = ids.iter().copied().filter(|&id| id != 2 && id < 90).collect();
    let dropped = ids.iter().filter(|&&id| id >= 90).count() as u64;
    expected.push(2);
    assert_eq!(tokens(&at("b"), Split::Train), expected);
    let counts = manifest.counts;
    assert_eq!((counts.eos_inside, counts.beyond_vocab, counts.dropped), (2, dropped, true));
    assert_eq!((counts.empty_documents, manifest.vocab_size), (1, 90));
    assert_eq!(manifest.byte_lengths.len(), 90);
    let error = run(&PrepareOptions { model_vocab: Some(2), out: at("c"), ..base }).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("</s>"), "{error}");
}

#[test]
fn finished_folders_are_recognised_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let base = options(vec![tiny()], &at("out"));
    run(&base).unwrap();
    let before = contents(&at("out"));
    assert_eq!(before.len(), 3);
    assert!(run(&base).unwrap().already_complete);
    let moved = at("tiny.jsonl");
    std::fs::copy(tiny(), &moved).unwrap();
    let same = PrepareOptions { inputs: vec![moved.clone()], ..base.clone() };
    assert!(run(&same).unwrap().already_complete, "the same file at another place");
    std::fs::write(&moved, "{\"text\":\"changed\"}").unwrap();
    data_error(run(&same), &["other input files", "--out"]);
    let other = PrepareOptions { tokenizer: TokenizerChoice::Train(300), ..base.clone() };
    data_error(run(&other), &["other options"]);
    assert_eq!(contents(&at("out")), before);

    std::fs::remove_file(at("out/tokenizer.json")).unwrap();
    data_error(run(&base), &["tokenizer.json", "does not exist"]);
    let open = || Dataset::open(&[at("out")], Split::Train, &packed(400, 8));
    data_error(open(), &["tokenizer.json", "does not exist"]);
    std::fs::write(at("out/tokenizer.json"), "{}").unwrap();
    data_error(open(), &["tokenizer.json", "hash is", "dataset.json says"]);
    std::fs::remove_file(at("out/dataset.json")).unwrap();
    data_error(open(), &["dataset.json", "is missing"]);
    data_error(run(&base), &["not overwritten"]);
    let bare = [at("out/train-00000.bin")];
    Dataset::open(&bare, Split::Train, &packed(400, 8)).unwrap();
    std::fs::write(at("file"), "").unwrap();
    data_error(run(&PrepareOptions { out: at("file"), ..base }), &["is not a folder"]);
}

#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let marker = out.join(".prepare-unfinished");
    let other = std::fs::File::create(&marker).unwrap();
    other.lock().unwrap();
    // What the other run has written so far must survive the refusal.
    std::fs::write(out.join("train-00000.bin"), "half").unwrap();
    data_error(run(&options(vec![tiny()], &out)), &["another process"]);
    assert_eq!(contents(&out).len(), 2);
    drop(other);
    run(&options(vec![tiny()], &out)).unwrap();
    assert!(!marker.exists());
}

#[test]
fn shards_of_another_dataset_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    run(&options(vec![tiny()], &at("a"))).unwrap();
    let other = PrepareOptions {
        text_field: "text".into(),
        shard_tokens: 7,
        ..options(vec![tiny()], &at("b"))
    };
    run(&other).unwrap();
    std::fs::copy(at("b/train-00000.bin"), at("a/train-00000.bin")).unwrap();
    let opened = Dataset::open(&[at("a")], Split::Train, &packed(400, 8));
    data_error(opened, &["train-00000.bin", "dataset.json says"]);
}

#[test]
fn unusable_inputs_leave_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty.jsonl"), "\n{\"text\":\"\"}\n").unwrap();
    std::fs::write(at("bad.jsonl"), "{\"text\":\"fine\"}\nbad\n").unwrap();
    std::fs::write(at("t.json"), small_tokenizer().json()).unwrap();
    let with = |inputs: Vec<PathBuf>| {
        run(&PrepareOptions::new(inputs, TokenizerChoice::File(at("t.json")), at("out")))
    };
    data_error(with(vec![at("empty.jsonl")]), &["empty.jsonl", "no document"]);
    data_error(with(vec![at("bad.jsonl")]), &["bad.jsonl", "line 2"]);
    data_error(with(vec![at("none.jsonl")]), &["none.jsonl", "does not exist"]);
    data_error(with(vec![folder.path().to_path_buf()]), &["is a folder"]);
    assert_eq!(with(vec![]).unwrap_err().exit_code(), 2);
    assert!(!at("out").exists());
    // A tokenizer in the output folder is somebody's file, not a leftover.
    let own = PrepareOptions::new(vec![tiny()], TokenizerChoice::File(at("t.json")), at("own"));
    std::fs::create_dir(at("own")).unwrap();
    std::fs::write(at("own/tokenizer.json"), "mine").unwrap();
    data_error(run(&own), &["holds tokenizer.json", "not overwritten"]);
    assert_eq!(std::fs::read(at("own/tokenizer.json")).unwrap(), b"mine");
}

#[test]
fn a_stop_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let input = folder.path().join("big.jsonl");
    std::fs::write(&input, std::fs::read(tiny()).unwrap().repeat(300)).unwrap();
    let stages = [Stage::Hash, Stage::TrainTokenizer, Stage::Merge, Stage::Encode];
    let seen = AtomicUsize::new(0);
    for stage in stages {
        let stop = AtomicBool::new(stage == Stage::Hash);
        let told = prepare(&options(vec![input.clone()], &out), &stop, &|p| {
            seen.fetch_add(1, Ordering::Relaxed);
            if p.stage == stage {
                stop.store(true, Ordering::Relaxed);
            }
        });
        let Err(error) = told else {
            // Progress comes ten times a second: a fast machine may finish without telling.
            std::fs::remove_dir_all(&out).unwrap();
            continue;
        };
        assert_eq!(error.exit_code(), 75, "{error}");
        assert!(!out.exists(), "{stage:?}");
    }
}

/// The process that gets killed: does nothing unless started by the test below.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("CHTSL_TEST_PREPARE_CHILD").map(PathBuf::from) else {
        return;
    };
    run(&killed(&folder, "out")).unwrap();
}

fn killed(folder: &Path, out: &str) -> PrepareOptions {
    let tokenizer = TokenizerChoice::File(folder.join("t.json"));
    PrepareOptions {
        shard_tokens: 2000,
        validation: Validation::Fraction(0.2),
        ..PrepareOptions::new(vec![folder.join("big.jsonl")], tokenizer, folder.join(out))
    }
}

#[test]
fn killed_and_run_again_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("big.jsonl"), std::fs::read(tiny()).unwrap().repeat(25)).unwrap();
    std::fs::write(path.join("t.json"), small_tokenizer().json()).unwrap();
    run(&killed(path, "reference")).unwrap();
    let expected = contents(&path.join("reference"));
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "preparing::child"])
            .env("CHTSL_TEST_PREPARE_CHILD", path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let out = path.join("out");
    let whole = std::time::Instant::now();
    assert!(start().wait().unwrap().success());
    let whole = whole.elapsed();
    assert_eq!(contents(&out), expected);
    let delays = Stream::new(1, Purpose::Data, 0, 0);
    let mut caught = 0;
    for round in 0..25 {
        // Sometimes on top of what the last kill left, sometimes afresh.
        if round % 3 == 0 && out.exists() {
            std::fs::remove_dir_all(&out).unwrap();
        }
        let mut child = start();
        std::thread::sleep(Duration::from_secs_f64(
            1.3 * whole.as_secs_f64() * delays.uniform(round),
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        if !out.exists() {
            continue;
        }
        let found = contents(&out);
        let complete = found.iter().any(|(name, _)| name == "dataset.json");
        caught += usize::from(!complete);
        for (name, bytes) in &found {
            // Under a final name there are only the final bytes.
            if !name.starts_with('.') {
                let same = expected.iter().any(|(n, b)| n == name && b == bytes);
                assert!(same, "{name} is partial");
            }
        }
        if !complete {
            let opened = Dataset::open(std::slice::from_ref(&out), Split::Train, &packed(400, 8));
            data_error(opened, &[]);
        }
    }
    println!("{caught} of 25 kills left an unfinished folder");
    run(&killed(path, "out")).unwrap();
    assert_eq!(contents(&out), expected, "nothing else is left either");
}
