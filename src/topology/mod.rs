//! Topology: where links are, how they start and how they evolve.
//!
//! | file | what |
//! |---|---|
//! | [`init`] | initial links: [`init::er`], [`init::brf`], and the counts of links |
//! | [`schedule`] | removed fraction, removal exponent, event times |
//! | [`removal`] | rules that score existing links: `magnitude`, `soft_magnitude` |
//! | [`regrowth`] | rules that score missing links: `ch2_l3n` |
//! | [`select`] | the k largest keys under one total order |
//! | [`event`](mod@event) | one remove-regrow event of one matrix, returned as a [`LinkChange`]; [`evolve`] has the backend do it |
//! | [`itop`] | positions that were ever active |
//!
//! The room works on [`Pattern`](crate::sparse::Pattern)s and host copies of the weights; a backend may
//! do the same on a device, from the same [`EvolveRules`](crate::backend::EvolveRules). It moves
//! nothing: the owners of values and moments apply a [`LinkChange`] with
//! [`Backend::migrate`](crate::backend::Backend::migrate). Every draw is addressed by (seed, purpose, matrix, update, row-major flat
//! index), every sum is one of integers, every selection has a strict order: equal inputs give equal
//! links on any number of threads and in any storage order.

pub mod event;
pub mod init;
pub mod itop;
pub mod regrowth;
pub mod removal;
pub mod schedule;
pub mod select;

pub use crate::sparse::{LinkChange, NEW};
pub use event::{EventInput, event, evolve, rules};
pub use init::{initial, initial_nnz, target_nnz};
pub use itop::Itop;
