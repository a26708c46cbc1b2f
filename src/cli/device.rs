//! Choice of the backend.

use clap::ValueEnum;

use crate::backend::cuda::driver;
use crate::backend::{Backend, Cpu, Cuda};
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

/// The backend that was opened.
pub enum Opened {
    /// The CPU.
    Cpu(Box<Cpu>),
    /// A CUDA device.
    Cuda(Box<Cuda>),
}

/// Evaluates a body with the opened backend, whatever its type.
macro_rules! on_backend {
    ($opened:expr, |$backend:ident| $body:expr) => {
        match &$opened {
            $crate::cli::device::Opened::Cpu(cpu) => {
                let $backend = &**cpu;
                $body
            }
            $crate::cli::device::Opened::Cuda(device) => {
                let $backend = &**device;
                $body
            }
        }
    };
}
pub(super) use on_backend;

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
    /// Opens the backend that `--device` asks for; `auto` takes CUDA where it works and says why when
    /// it does not.
    ///
    /// Errors: [`Error::Device`] when `--device cuda` cannot be had.
    pub fn open(&self, precision: Precision) -> Result<Opened> {
        let opened = self.choose(precision)?;
        on_backend!(opened, |backend| {
            tracing::debug!("backend: {}, {}", backend.describe(), backend.precision());
        });
        Ok(opened)
    }

    fn choose(&self, precision: Precision) -> Result<Opened> {
        match self.device {
            Device::Cuda => Cuda::open(precision).map_err(asked).map(|c| Opened::Cuda(Box::new(c))),
            Device::Cpu => self.cpu(precision),
            Device::Auto => match Cuda::open(precision) {
                Ok(cuda) => Ok(Opened::Cuda(Box::new(cuda))),
                Err(why) => {
                    // In a CPU build the CPU is what one expects, unless there is a GPU to miss.
                    if cfg!(chtsl_cuda) || driver::present() {
                        tracing::info!("computing on the CPU: {why}");
                    } else {
                        tracing::debug!("computing on the CPU: {why}");
                    }
                    self.cpu(precision)
                }
            },
        }
    }

    /// Number of threads that `--threads` means.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        }
    }

    fn cpu(&self, precision: Precision) -> Result<Opened> {
        if self.threads > 1 << 12 {
            let text = format!("--threads {}: must be at most 4096", self.threads);
            return Err(Error::Config(text));
        }
        Cpu::new(self.threads, precision).map(|cpu| Opened::Cpu(Box::new(cpu)))
    }
}

/// Names the flag that cannot be met.
fn asked(e: Error) -> Error {
    match e {
        Error::Device(why) => Error::Device(format!("--device cuda: {why}")),
        e => e,
    }
}
