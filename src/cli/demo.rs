//! The built-in demonstration: a corpus from a grammar, a tokenizer trained on it, and a closing
//! report that holds the model against a bigram model and against the grammar itself.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::backend::Backend;
use crate::checkpoint;
use crate::cli::logging::Log;
use crate::cli::prepare::prepare;
use crate::cli::say;
use crate::config::Config;
use crate::data::{
    Dataset, DatasetOptions, NO_TARGET, Order, PrepareOptions, Split, TokenizerChoice, Validation,
};
use crate::demo::{Acceptor, Bigram, DemoCorpus, accepted_share, corpus};
use crate::error::Result;
use crate::generate::{Sampling, generate};
use crate::train::{RunSummary, load_model};

/// Folder of the texts.
const CORPUS: &str = "corpus";
/// Ids of the demonstration's tokenizer.
const VOCAB: usize = 1024;
/// Documents sampled for the report.
const SAMPLES: usize = 16;

/// The corpus of a run, in the folders `corpus` and `data` inside it.
pub struct Demo {
    corpus: DemoCorpus,
    data: PathBuf,
}

impl Demo {
    /// Whether a run folder has a corpus of its own.
    pub fn is_in(run: &Path) -> bool {
        run.join(CORPUS).is_dir()
    }

    /// Makes or finds corpus and shards.
    pub fn make(out: &Path, config: &Config, stop: &AtomicBool, log: &Log) -> Result<Self> {
        let folder = out.join(CORPUS);
        let made = match DemoCorpus::open(&folder) {
            Ok(found) => found,
            Err(_) => {
                tracing::info!("no --data: making a small corpus of simple English");
                let (train, valid) = (corpus::TRAIN_DOCUMENTS, corpus::VALID_DOCUMENTS);
                DemoCorpus::write(&folder, config.train.seed, train, valid)?
            }
        };
        let data = Self::folder(out);
        let options = PrepareOptions {
            validation: Validation::Inputs(vec![made.valid.clone()]),
            ..PrepareOptions::new(
                vec![made.train.clone()],
                TokenizerChoice::Train(VOCAB.min(config.model.vocab)),
                data.clone(),
            )
        };
        let done = prepare(&options, stop, log)?;
        if !done.already_complete {
            tracing::info!(
                "trained a tokenizer of {} ids, {} training tokens",
                done.manifest.vocab_size,
                done.manifest.split(Split::Train).map_or(0, |s| s.tokens)
            );
        }
        Ok(Demo { corpus: made, data })
    }

    /// Folder of the shards of the run in `run`.
    pub fn folder(run: &Path) -> PathBuf {
        run.join("data")
    }

    /// Perplexities side by side, and a sample judged by the grammar.
    pub fn report<B: Backend>(
        &self,
        backend: &B,
        out: &Path,
        config: &Config,
        summary: &RunSummary,
        stop: &AtomicBool,
    ) -> Result<()> {
        let options = DatasetOptions::from_config(config);
        let open = |split| Dataset::open(std::slice::from_ref(&self.data), split, &options);
        let (train, valid) = (open(Split::Train)?, open(Split::Val)?);
        let bigram = bigram_perplexity(&train, &valid, config.model.vocab)?;
        // The text fixes its tokens, so the grammar's own nats spread over the validation tokens are
        // what no model can beat on average.
        let bound = (self.corpus.info.valid_nats / valid.tokens() as f64).exp();
        if let Some(e) = &summary.evaluation {
            say(format!(
                "on the same validation tokens: model {:.3}, bigram {bigram:.3}, the grammar's own \
                 entropy bound {bound:.3}",
                e.ppl()
            ))?;
        }
        let found = checkpoint::find(out)?;
        let model = load_model(backend, &found, false)?;
        let tokenizer = valid.tokenizer()?.expect("prepared with a tokenizer");
        let (_, eos) = tokenizer.eos(None)?;
        let sampling = Sampling {
            max_tokens: config.model.seq_len - 1,
            temperature: 1.0,
            top_p: 0.95,
            seed: config.train.seed,
            eos: Some(eos),
        };
        let documents = generate(backend, &model, &[eos], SAMPLES, &sampling, stop)?;
        let acceptor = Acceptor::new();
        let (mut accepted, mut total) = (0, 0);
        say("sample (temperature 1, top-p 0.95):")?;
        for ids in &documents {
            let text = tokenizer.decode(ids)?;
            // A document cut by the length limit ends in the middle of a sentence.
            let (a, n) = accepted_share(&acceptor, &text, true);
            accepted += a;
            total += n;
            say(format!("  {text}"))?;
        }
        say(format!(
            "the grammar accepts {accepted} of {total} sampled sentences ({:.1} %)",
            100.0 * accepted as f64 / total.max(1) as f64
        ))
    }
}

/// Perplexity of an interpolated bigram model trained on the training tokens, on the targets that the
/// model is scored on.
fn bigram_perplexity(train: &Dataset, valid: &Dataset, vocab: usize) -> Result<f64> {
    let pairs = |data: &Dataset| -> Result<Vec<(u32, u32)>> {
        let mut batch = data.batch(1);
        let mut pairs = Vec::new();
        for row in 0..data.rows() {
            data.fill(Order::Natural, row..row + 1, &mut batch)?;
            let both = batch.ids.iter().copied().zip(batch.targets.iter().copied());
            pairs.extend(both.filter(|(_, target)| *target != NO_TARGET));
        }
        Ok(pairs)
    };
    let tokens = pairs(train)?.into_iter().map(|(id, _)| id);
    let bigram = Bigram::train(vocab, tokens);
    Ok(bigram.mean_nats(pairs(valid)?).exp())
}
