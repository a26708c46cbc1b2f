//! The CUDA device of this machine, where there is one and the build has kernels.

use std::sync::OnceLock;

use chtsl::backend::Cuda;
use chtsl::backend::cuda::Strategy;
use chtsl::config::Precision;

use super::emulated::counterpart;

/// Backends on the device: default and naive kernels, links walked and scattered. Empty without one.
pub fn backends(precision: Precision) -> &'static [Cuda] {
    static ALL: [OnceLock<Vec<Cuda>>; 2] = [OnceLock::new(), OnceLock::new()];
    ALL[usize::from(precision == Precision::Bf16Pure)].get_or_init(|| {
        let open = || Cuda::open(counterpart(precision));
        if let Err(reason) = open() {
            println!("cuda: skipped, {reason}");
            return vec![];
        }
        let all = [0, 1, 2]
            .map(|v| (Strategy::Links, v))
            .into_iter()
            .chain([0, 1].map(|v| (Strategy::Dense, v)));
        let backend = |(strategy, version)| {
            open().expect("it opened before").with_strategy(strategy).with_version(version)
        };
        all.map(backend).collect()
    })
}
