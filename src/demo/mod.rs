//! The built-in demonstration corpus: short stories in simple English, drawn from a grammar whose
//! entropy is known exactly, so that a trained model can be placed between a bigram and the bound.
//!
//! `tables` holds the rules and words, `grammar` compiles and samples them, `orthography` turns
//! words into text and back, `story` fixes what the sentences of one document share, `corpus`
//! writes the files, `accept` judges a model's sentences, `bigram` is the model to beat.
//!
//! # Why the entropy is exact
//!
//! A story is drawn by a sequence of independent choices, and its `nats` is the sum of `-ln p` over
//! them. That sum is `-ln p(text)` when a text has one sequence of choices only:
//!
//! 1. `.` and `?` occur only at the end of a sentence, so a text splits into sentences in one way,
//!    and their number is a choice of the story. [`orthography`] is invertible.
//! 2. The first sentence contains one name (the hero's), the hero's kind and a verb that shows the
//!    tense; the second names the friend and the pet. So the cast can be read off the text.
//! 3. Given the cast and its place in the story, a sentence has one derivation. Attachment is
//!    decided by the shape of the rules: objects and landmarks carry no prepositional phrase, a
//!    relative clause holds no noun phrase with a modifier, a clause joined to another is simple,
//!    and nothing is empty or recursive.
//!
//! Tests count the derivations of every sentence of a large sample, and the casts that fit.
pub mod accept;
pub mod bigram;
pub mod corpus;
pub mod grammar;
pub mod orthography;
pub mod story;
mod tables;

pub use accept::{Acceptor, accepted_share};
pub use bigram::Bigram;
pub use corpus::{DemoCorpus, DemoInfo, generate};
pub use story::Document;
