//! Where the time of a run goes: a clock that is told what begins.
//!
//! The layers above call [`Backend::mark`](crate::backend::Backend::mark) when another kind of work
//! begins; the time until the next mark belongs to it. Both branches of a projection run in one fused
//! pass on the CPU, so such a stretch is divided between them by their multiply-adds: their sum is
//! measured, each of them is an estimate.

use std::sync::Mutex;
use std::time::Instant;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Products with links.
    Sparse,
    /// The low-rank branch.
    LowRank,
    /// Products with full projection matrices.
    Dense,
    /// Attention.
    Attention,
    /// Output head and cross-entropy.
    Head,
    /// Removal and regrowth of links.
    Topology,
    /// Gradient norm, update, packing.
    Optimizer,
    /// Reading batches.
    Data,
    /// Scoring validation data.
    Evaluation,
    /// Writing checkpoints.
    Saving,
    /// Embedding, norms, SwiGLU, residuals, reports.
    Rest,
}

impl Activity {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Activity; 11] = [
        Activity::Sparse,
        Activity::LowRank,
        Activity::Dense,
        Activity::Attention,
        Activity::Head,
        Activity::Topology,
        Activity::Optimizer,
        Activity::Data,
        Activity::Evaluation,
        Activity::Saving,
        Activity::Rest,
    ];

    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Sparse => "sparse products",
            Activity::LowRank => "low-rank",
            Activity::Dense => "dense projections",
            Activity::Attention => "attention",
            Activity::Head => "head and loss",
            Activity::Topology => "topology",
            Activity::Optimizer => "optimizer",
            Activity::Data => "data",
            Activity::Evaluation => "evaluation",
            Activity::Saving => "saving",
            Activity::Rest => "rest",
        }
    }
}

/// What a stretch of time is spent on: one activity, or two that cannot be told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    main: Activity,
    other: Activity,
    /// Share of `other`.
    share: f64,
}

impl From<Activity> for Work {
    fn from(activity: Activity) -> Self {
        Work { main: activity, other: activity, share: 0.0 }
    }
}

impl Work {
    /// A fused pass over `links` links and low-rank factors of `low_rank` elements in all.
    pub fn branches(links: usize, low_rank: usize) -> Self {
        let share = low_rank as f64 / (links + low_rank).max(1) as f64;
        Work { main: Activity::Sparse, other: Activity::LowRank, share }
    }
}

/// Seconds by activity.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    seconds: [f64; Activity::ALL.len()],
    divided: f64,
}

impl Times {
    /// Seconds of one activity.
    pub fn of(&self, activity: Activity) -> f64 {
        self.seconds[activity as usize]
    }

    /// Seconds of stretches that two activities share, each of which is an estimate.
    pub fn divided(&self) -> f64 {
        self.divided
    }

    /// Seconds of all.
    pub fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// Adds a stretch.
    pub fn add(&mut self, work: Work, seconds: f64) {
        self.seconds[work.main as usize] += (1.0 - work.share) * seconds;
        self.seconds[work.other as usize] += work.share * seconds;
        if work.share > 0.0 && work.share < 1.0 {
            self.divided += seconds;
        }
    }

    /// Adds another account.
    pub fn add_all(&mut self, other: &Times) {
        self.seconds.iter_mut().zip(other.seconds).for_each(|(a, b)| *a += b);
        self.divided += other.divided;
    }

    /// What has been added since `before`.
    pub fn since(&self, before: &Times) -> Times {
        let mut difference = *self;
        difference.seconds.iter_mut().zip(before.seconds).for_each(|(a, b)| *a -= b);
        difference.divided -= before.divided;
        difference
    }
}

/// The host's clock, for backends whose operations are done when they return.
#[derive(Debug, Default)]
pub struct HostMeter(Mutex<(Option<(Instant, Work)>, Times)>);

impl HostMeter {
    /// Ends the current stretch and begins one of `work`.
    pub fn mark(&self, work: Work) {
        let mut state = self.0.lock().expect("nothing panics here");
        let (current, times) = &mut *state;
        let now = Instant::now();
        if let Some((since, work)) = current.take() {
            times.add(work, (now - since).as_secs_f64());
        }
        *current = Some((now, work));
    }

    /// The account until now.
    pub fn times(&self) -> Times {
        let mut state = self.0.lock().expect("nothing panics here");
        let (current, times) = &mut *state;
        if let Some((since, work)) = current {
            let now = Instant::now();
            times.add(*work, (now - *since).as_secs_f64());
            *since = now;
        }
        *times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_belong_to_what_was_marked_and_add_up() {
        let meter = HostMeter::default();
        assert_eq!(meter.times().total(), 0.0, "no time before the first mark");
        let start = Instant::now();
        meter.mark(Work::branches(30, 10));
        std::thread::sleep(std::time::Duration::from_millis(20));
        meter.mark(Activity::Head.into());
        let times = meter.times();
        let wall = start.elapsed().as_secs_f64();
        let (sparse, low) = (times.of(Activity::Sparse), times.of(Activity::LowRank));
        assert!((sparse - 3.0 * low).abs() < 1e-9 && sparse + low >= 0.02, "{times:?}");
        assert!((times.divided() - sparse - low).abs() < 1e-9, "{times:?}");
        assert!(times.total() <= wall && times.of(Activity::Attention) == 0.0);
        let later = meter.times().since(&times);
        assert_eq!((later.of(Activity::Sparse), later.divided()), (0.0, 0.0));
        let mut whole = Times::default();
        whole.add(Work::branches(30, 0), 2.0);
        assert_eq!((whole.of(Activity::Sparse), whole.divided()), (2.0, 0.0), "one branch alone");
    }
}
