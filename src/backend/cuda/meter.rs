//! Where the time of a run goes, by the device's own clock: a mark puts an event on the stream, and the
//! time between two events belongs to what was marked at the first.

use std::sync::Mutex;

use super::runtime::{Moment, Runtime};
use crate::backend::meter::{HostMeter, Times, Work};
use crate::error::Result;

/// Marks that are kept before they are added up; adding up waits for the device.
const MOST: usize = 1 << 14;

/// A clock for work that is still going on when a call returns.
#[derive(Default)]
pub(super) struct Meter {
    /// For machines without events.
    host: HostMeter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    marks: Vec<(Moment, Work)>,
    times: Times,
}

impl Meter {
    /// Ends the current stretch and begins one of `work`. A failure is left to the call that follows:
    /// it meets the same broken device and says so.
    pub fn mark(&self, runtime: &dyn Runtime, work: Work) {
        let Ok(moment) = runtime.record() else { return };
        let Some(moment) = moment else { return self.host.mark(work) };
        let mut state = self.state.lock().expect("not poisoned");
        state.marks.push((moment, work));
        if state.marks.len() >= MOST {
            let _ = state.add_up(runtime);
        }
    }

    /// The account until now; waits for the device.
    pub fn times(&self, runtime: &dyn Runtime) -> Result<Times> {
        let mut state = self.state.lock().expect("not poisoned");
        let Some(work) = state.marks.last().map(|(_, work)| *work) else {
            return Ok(self.host.times());
        };
        if let Some(moment) = runtime.record()? {
            state.marks.push((moment, work));
        }
        state.add_up(runtime)?;
        Ok(state.times)
    }

    /// Gives the marks back, on a thread that has the device.
    pub fn clear(&self, runtime: &dyn Runtime) {
        let _ = runtime.synchronize();
        if let Ok(mut state) = self.state.lock() {
            state.marks.clear();
        }
    }
}

impl State {
    /// Turns all marks but the last into seconds.
    fn add_up(&mut self, runtime: &dyn Runtime) -> Result<()> {
        runtime.synchronize()?;
        let last = self.marks.pop();
        let ends = self.marks.iter().skip(1).chain(&last);
        let mut added = Ok(());
        for ((from, work), (to, _)) in self.marks.iter().zip(ends) {
            match runtime.between(from, to) {
                Ok(time) => self.times.add(*work, time.as_secs_f64()),
                Err(e) => added = Err(e),
            }
        }
        self.marks.clear();
        self.marks.extend(last);
        added
    }
}
