//! Small files of every kind, as the program writes them.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use chtsl::backend::Cpu;
use chtsl::checkpoint::{self, Checkpoint};
use chtsl::config::{Config, Precision, layers};
use chtsl::data::{
    Dataset, DatasetOptions, PrepareOptions, Split, Tokenizer, TokenizerChoice, prepare,
};
use chtsl::export::{Format, export};
use chtsl::train::{RunOptions, Trainer, load_model};

use crate::readers::VOCAB;

pub fn never() -> &'static AtomicBool {
    static NEVER: AtomicBool = AtomicBool::new(false);
    &NEVER
}

/// A dataset, a run on it, and what it was exported to.
pub struct Site {
    tmp: tempfile::TempDir,
    pub backend: Cpu,
    pub data: PathBuf,
    pub run: PathBuf,
    pub checkpoint: PathBuf,
    pub exported: PathBuf,
    pub user_config: PathBuf,
    dataset: Dataset,
}

impl Site {
    pub fn new() -> Self {
        // Thousands of files are written: in memory where the system has such a place.
        let memory = Path::new("/dev/shm");
        let tmp = if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        };
        let at = |name: &str| tmp.path().join(name);
        let (data, run, exported) = (at("data"), at("run"), at("exported"));
        let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny.jsonl");
        let choice = TokenizerChoice::Train(VOCAB);
        let options = PrepareOptions::new(vec![input], choice, data.clone());
        prepare(&PrepareOptions { shard_tokens: 2000, ..options }, never(), &|_| {}).unwrap();
        let user_config = at("user.toml");
        std::fs::write(&user_config, CONFIG).unwrap();
        let config = layers::resolve(None, Some(&user_config), &[]).unwrap();
        let backend = Cpu::new(1, Precision::F32).unwrap();
        let options = DatasetOptions::from_config(&config);
        let dataset = Dataset::open(std::slice::from_ref(&data), Split::Train, &options).unwrap();
        let tokenizer = Tokenizer::load(data.join("tokenizer.json")).unwrap();
        let options = RunOptions {
            out: Some(run.clone()),
            tokenizer: Some(tokenizer.json().to_vec()),
            tokenizer_hash: Some(tokenizer.hash()),
            ..RunOptions::new(never())
        };
        std::fs::create_dir_all(&run).unwrap();
        Trainer::new(&backend, &config, &dataset, None, options).unwrap().run().unwrap();
        let found = checkpoint::latest(&run).unwrap().unwrap();
        export(&found, &exported, Format::HfCustom, never()).unwrap();
        let checkpoint = found.path;
        Site { backend, data, run, checkpoint, exported, user_config, dataset, tmp }
    }

    /// A name for something new.
    pub fn fresh(&self) -> PathBuf {
        let out = self.tmp.path().join("fresh");
        let _ = std::fs::remove_dir_all(&out);
        out
    }

    /// Opens the checkpoint, makes its model, and goes on with its run.
    pub fn resume(&self) -> chtsl::Result<()> {
        let found = Checkpoint::open(&self.checkpoint)?;
        load_model(&self.backend, &found, false)?;
        if let Some(tokenizer) = found.tokenizer() {
            Tokenizer::load(&tokenizer)?;
        }
        let config: &Config = &found.config;
        let own = RunOptions::new(never());
        Trainer::resume(&self.backend, config, &found, &self.dataset, None, own).map(drop)
    }
}

const CONFIG: &str = r#"
[model]
hidden = 32
intermediate = 48
layers = 2
heads = 2
vocab = 400
seq_len = 16

[train]
steps = 5
warmup = 2
batch = 4
micro_batch = 2
lr = 3e-3
log_interval = 1
eval_interval = 0
checkpoint_interval = 0

[method]
connectivity_sparsity = 0.7
rank = 2

[topology]
update_interval = 3
"#;
