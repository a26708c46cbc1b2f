//! Choice of the backend.

use clap::ValueEnum;

use crate::backend::Cpu;
use crate::config::Precision;
use crate::error::{Error, Result};

/// `--device`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// The best that works.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// Where to compute.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct DeviceArgs {
    /// Device to compute on.
    #[arg(long, value_enum, default_value = "auto", global = false)]
    pub device: Device,
    /// CPU threads; 0 = all cores. Results do not depend on it.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
}

impl DeviceArgs {
    /// Opens the CPU backend.
    ///
    /// Errors: [`Error::Device`] for `--device cuda`, which this version does not have.
    pub fn cpu(&self, precision: Precision) -> Result<Cpu> {
        if self.device == Device::Cuda {
            return Err(Error::Device(
                "--device cuda: this build has no CUDA backend; use --device cpu".into(),
            ));
        }
        if self.threads > 1 << 12 {
            let text = format!("--threads {}: must be at most 4096", self.threads);
            return Err(Error::Config(text));
        }
        Cpu::new(self.threads, precision)
    }
}
