//! A signal between pieces of work.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Fails with [`Error::Interrupted`] once `stop` is set.
pub fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted(
            "stopped by a signal before the dataset was complete; run the same command again"
                .into(),
        ));
    }
    Ok(())
}
