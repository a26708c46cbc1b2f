//! How fast a run goes and where its time goes.

use std::time::{Duration, Instant};

use crate::backend::{Activity, Times};

/// Speed is averaged over about this long.
const SMOOTHING_S: f64 = 10.0;

/// "12 s", "3 min 05 s", "2 h 05 min", "4 d 02 h": coarse enough not to flicker.
pub fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => format!("{} d {:02} h", s / 86_400, s / 3600 % 24),
    }
}

/// The clocks of a run.
pub(super) struct Clock {
    started: Instant,
    /// Since the last metrics row.
    since: Instant,
    paused: Duration,
    updates: u64,
    tokens: u64,
    /// Since the start.
    all_paused: Duration,
    all_updates: u64,
    all_tokens: u64,
    /// End of the last update, pauses moved out.
    last: Instant,
    /// Smoothed seconds and tokens of recent updates.
    recent: (f64, f64),
    /// The backend's account as of the last look, and what has been made of it.
    seen: Times,
    times: Times,
    /// What belongs to the current lap.
    lap_from: Times,
}

/// Speed since the last metrics row.
pub(super) struct Lap {
    /// Milliseconds per update.
    pub step_ms: f64,
    /// Target tokens per second.
    pub tokens_per_s: f64,
    /// Time by activity.
    pub times: Times,
}

impl Clock {
    /// `seen` is the backend's account so far, which does not belong to this run.
    pub fn new(seen: Times) -> Self {
        let now = Instant::now();
        Clock {
            started: now,
            since: now,
            paused: Duration::ZERO,
            updates: 0,
            tokens: 0,
            all_paused: Duration::ZERO,
            all_updates: 0,
            all_tokens: 0,
            last: now,
            recent: (0.0, 0.0),
            seen,
            times: Times::default(),
            lap_from: Times::default(),
        }
    }

    /// Counts an update of `tokens` targets that has just ended.
    pub fn updated(&mut self, tokens: u64) {
        self.updates += 1;
        self.tokens += tokens;
        self.all_updates += 1;
        self.all_tokens += tokens;
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        let keep = (-seconds / SMOOTHING_S).exp();
        self.recent.0 = keep * self.recent.0 + seconds;
        self.recent.1 = keep * self.recent.1 + tokens as f64;
    }

    /// Leaves out the time since `from`.
    pub fn pause(&mut self, from: Instant) {
        let pause = from.elapsed();
        self.paused += pause;
        self.all_paused += pause;
        self.last += pause;
    }

    /// Takes the backend's account up to here; `all_to` says that the stretch since the last call was
    /// one activity, whatever it was made of.
    pub fn settle(&mut self, now: Times, all_to: Option<Activity>) {
        let stretch = now.since(&self.seen);
        self.seen = now;
        match all_to {
            Some(activity) => self.times.add(activity.into(), stretch.total()),
            None => self.times.add_all(&stretch),
        }
    }

    /// Speed since the last lap.
    pub fn lap(&mut self, now: Times) -> Lap {
        self.settle(now, None);
        let seconds = self.since.elapsed().saturating_sub(self.paused).as_secs_f64();
        let lap = Lap {
            step_ms: 1e3 * seconds / self.updates.max(1) as f64,
            tokens_per_s: self.tokens as f64 / seconds.max(1e-9),
            times: self.times.since(&self.lap_from),
        };
        (self.since, self.paused) = (Instant::now(), Duration::ZERO);
        (self.updates, self.tokens) = (0, 0);
        self.lap_from = self.times;
        lap
    }

    /// Target tokens per second over the last updates.
    pub fn speed(&self) -> f64 {
        self.recent.1 / self.recent.0.max(1e-9)
    }

    /// Target tokens per second since the start.
    pub fn mean_speed(&self) -> f64 {
        let seconds = self.started.elapsed().saturating_sub(self.all_paused).as_secs_f64();
        self.all_tokens as f64 / seconds.max(1e-9)
    }

    /// How long `updates` more will take, pauses included.
    pub fn remaining(&self, updates: u64) -> Duration {
        let each = self.started.elapsed().as_secs_f64() / self.all_updates.max(1) as f64;
        Duration::from_secs_f64(each * updates as f64)
    }

    /// Updates since the start.
    pub fn own_updates(&self) -> u64 {
        self.all_updates
    }

    /// Wall-clock time of this process.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Time by activity since the start.
    pub fn times(&self) -> &Times {
        &self.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        let text = |s| span(Duration::from_secs(s));
        assert_eq!([text(0), text(61), text(7500)], ["0 s", "1 min 01 s", "2 h 05 min"]);
        assert_eq!(text(3 * 86_400 + 7200), "3 d 02 h");
    }
}
