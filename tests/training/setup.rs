//! A model and a dataset small enough to train hundreds of updates in a second.

use std::sync::atomic::AtomicBool;

use chtsl::backend::cpu::Level;
use chtsl::backend::{Backend, Cpu};
use chtsl::config::{Config, Layout, Precision, layers};
use chtsl::data::{Dataset, DatasetOptions};
use chtsl::model::Llama;
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;

pub const VOCAB: usize = 61;
pub const EOS: u32 = 1;

/// Configuration from `--set` style lines over a very small model.
pub fn config(sets: &[&str]) -> Config {
    let base = [
        "model.hidden=48",
        "model.intermediate=80",
        "model.layers=2",
        "model.heads=2",
        "model.vocab=61",
        "model.seq_len=24",
        "train.steps=24",
        "train.warmup=6",
        "train.batch=8",
        "train.micro_batch=4",
        "train.log_interval=1",
        "train.checkpoint_interval=5",
        "train.eval_interval=10",
        "method.connectivity_sparsity=0.75",
        "method.rank=3",
        "topology.update_interval=4",
    ];
    let sets: Vec<String> = base.iter().chain(sets).map(|s| s.to_string()).collect();
    layers::resolve(None, None, &sets).unwrap()
}

/// Text of a small Markov chain, so that there is something to learn; documents end with EOS.
pub fn dataset(config: &Config, tokens: usize, seed: u64) -> Dataset {
    let s = Stream::new(seed, Purpose::Corpus, 0, 0);
    let mut state = 7u64;
    let ids = (0..tokens as u64)
        .map(|i| {
            if s.below(2 * i, 19) == 0 {
                return EOS;
            }
            state = (state * 3 + s.below(2 * i + 1, 4)) % (VOCAB as u64 - 2);
            state as u32 + 2
        })
        .collect();
    let options = DatasetOptions { eos: Some(EOS), ..DatasetOptions::from_config(config) };
    Dataset::from_tokens(ids, &options).unwrap()
}

pub fn backend(threads: usize) -> Cpu {
    Cpu::new(threads, Precision::F32).unwrap()
}

pub fn portable() -> Cpu {
    Cpu::with_level(2, Precision::F32, Level::Portable).unwrap()
}

pub fn never() -> &'static AtomicBool {
    static NEVER: AtomicBool = AtomicBool::new(false);
    &NEVER
}

/// Links of all sparse projections.
pub fn links<B: Backend>(model: &Llama<B>) -> Vec<Pattern> {
    let projections = model.blocks.iter().flat_map(|b| &b.projections);
    projections.filter_map(|p| p.links()).map(|s| s.csr.pattern.clone()).collect()
}

/// The methods whose loops differ: both branches and events, replaced updates and per-micro-batch
/// scaling on documents, one matrix.
pub fn variants() -> Vec<(&'static str, Config)> {
    let chtsl = config(&[]);
    let mut paper = config(&[
        "train.recipe=paper",
        "train.precision=f32",
        "method.align=frobenius",
        "train.rewarmup=2",
    ]);
    paper.data.layout = Layout::DocPad;
    let dense = config(&["method.name=dense", "data.document_mask=true"]);
    let chts = config(&["method.name=chts", "topology.regrow_select=topk"]);
    vec![("chtsl", chtsl), ("paper", paper), ("dense", dense), ("chts", chts)]
}
