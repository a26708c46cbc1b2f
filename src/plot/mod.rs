//! Pictures of runs: curves as SVG files and one HTML page that needs nothing else.
//!
//! | file | what |
//! |---|---|
//! | `run` | the rows of `metrics.jsonl` as curves |
//! | `chart` | curves to an SVG |
//! | `report` | which charts there are; the page |

pub mod chart;
pub mod report;
pub mod run;

pub use report::{Figure, figures, page};
pub use run::Run;
