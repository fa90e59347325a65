//! How far a run is, for whoever watches: a bar on a terminal, else a line now and then. On stderr, as all talk.

use super::plan::Plan;
use crate::{backfill::Counts, cli::say, queue::backfill::Ended};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::VecDeque,
    io::IsTerminal,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate is that of so long.
const RECENT: Duration = Duration::from_secs(10);

/// How far it is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct State {
    /// Read so far.
    pub(super) counts: Counts,
    /// Whether that is all.
    pub(super) read_all: bool,
    /// Ended so far, in this run and before.
    pub(super) ended: Ended,
}

/// Shows it.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// Bytes read, of so many.
    read: Arc<AtomicU64>,
    bytes: u64,
    next: Instant,
    recent: VecDeque<(Instant, u64)>,
}

impl Progress {
    pub(super) fn start(plan: &Plan, read: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let mut bytes = 0;
        for file in &plan.files {
            bytes += std::fs::metadata(file)?.len();
        }
        say(&format!("batch {}", plan.batch));
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Ok(Self { bar, read, bytes, next: Instant::now(), recent: VecDeque::new() })
    }

    /// Shows the state, where it is time for it.
    pub(super) fn show(&mut self, state: &State) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        while self.recent.front().is_some_and(|(at, _)| now - *at > RECENT) && self.recent.len() > 1 {
            self.recent.pop_front();
        }
        let speed = speed(self.recent.front(), (now, state.ended.rows));
        self.recent.push_back((now, state.ended.rows));
        let expected = self.expected(state);
        let line = line(state, expected, speed);
        match &self.bar {
            Some(bar) => {
                bar.set_length(expected.unwrap_or(0));
                bar.set_position(state.ended.rows);
                bar.set_message(line);
            }
            None if speed.is_some() => say(&line),
            None => {}
        }
    }

    /// Valid rows in all: what was counted or, before the end, what may be expected of the bytes still to come.
    fn expected(&self, state: &State) -> Option<u64> {
        if state.read_all {
            return Some(state.counts.valid);
        }
        let read = self.read.load(Ordering::Relaxed);
        let expected = u128::from(state.counts.valid) * u128::from(self.bytes) / u128::from(read.max(1));
        u64::try_from(expected).ok().filter(|expected| *expected > 0)
    }

    /// Takes the bar away.
    pub(super) fn end(&self, state: &State) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None => say(&line(state, state.read_all.then_some(state.counts.valid), None)),
        }
    }
}

/// Rows a second.
fn speed(before: Option<&(Instant, u64)>, (now, rows): (Instant, u64)) -> Option<f64> {
    let (at, before) = before?;
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rows = rows.saturating_sub(*before) as f64;
    Some(rows / (now - *at).as_secs_f64().max(0.001))
}

/// `1200 of about 200000 rows ended, 812/s, 3 without success, 12 rejected, 4 duplicates, 4m left`
fn line(state: &State, expected: Option<u64>, speed: Option<f64>) -> String {
    let State { counts, read_all, ended } = state;
    let about = if *read_all { "" } else { "about " };
    let of = expected.map_or_else(String::new, |expected| format!(" of {about}{expected}"));
    let mut parts = vec![format!("{}{of} rows ended", ended.rows)];
    parts.extend(speed.map(|speed| format!("{speed:.0}/s")));
    for (count, what) in
        [(ended.unsuccessful, "without success"), (counts.rejected, "rejected"), (counts.duplicates, "duplicates")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let left = expected.map(|expected| expected.saturating_sub(ended.rows)).filter(|left| *left > 0);
    if let (Some(left), Some(speed)) = (left, speed.filter(|speed| *speed > 0.0)) {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let seconds = left as f64 / speed;
        parts.push(format!("{} left", rounded(seconds)));
    }
    parts.join(", ")
}

fn rounded(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0}s"),
        s if s < 5400.0 => format!("{:.0}m", s / 60.0),
        s => format!("{:.1}h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_there_is_to_tell() {
        let counts = Counts { rows: 300, valid: 290, rejected: 6, duplicates: 4, lookalikes: 0 };
        let ended = Ended { rows: 100, unsuccessful: 2 };
        let state = State { counts, read_all: false, ended };
        assert_eq!(
            line(&state, Some(1100), Some(10.0)),
            "100 of about 1100 rows ended, 10/s, 2 without success, 6 rejected, 4 duplicates, 2m left"
        );
        assert_eq!(line(&State::default(), None, None), "0 rows ended");
        let state = State { counts: Counts::default(), read_all: true, ended };
        assert_eq!(line(&state, Some(100), Some(0.0)), "100 of 100 rows ended, 0/s, 2 without success");
    }
}
