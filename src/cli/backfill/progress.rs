//! Shows the progress of a run on stderr: a bar on a terminal, otherwise a line from time to time.

use crate::{
    cli::say,
    operations::{
        Progress,
        backfill::{BackfillProgress, BackfillState},
    },
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::VecDeque,
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The rate that is shown is the average over this time.
const RECENT: Duration = Duration::from_secs(10);

/// Shows only notes.
pub(super) struct Notes;

impl Progress for Notes {
    fn note(&self, text: &str) {
        say(text);
    }
}

/// Shows notes and the progress of the run.
#[derive(Default)]
pub(super) struct ProgressDisplay(Mutex<Display>);

#[derive(Default)]
struct Display {
    /// The progress bar. It is created when the run has begun, and is `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    /// The time at which the state is shown next. `None` if it has not been shown yet.
    next: Option<Instant>,
    recent: VecDeque<(Instant, u64)>,
    latest: BackfillState,
}

impl Progress for ProgressDisplay {
    fn note(&self, text: &str) {
        say(text);
    }
}

impl BackfillProgress for ProgressDisplay {
    fn show(&self, state: &BackfillState) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).show(state, Instant::now());
    }
}

impl ProgressDisplay {
    /// Removes the bar. If there is none, shows the last state.
    pub(super) fn end(&self) {
        let display = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &display.latest;
        match &display.bar {
            Some(bar) => bar.finish_and_clear(),
            None => say(&line(state, state.is_read.then_some(state.counts.valid), None)),
        }
    }
}

impl Display {
    fn show(&mut self, state: &BackfillState, now: Instant) {
        self.latest = *state;
        match self.next {
            None => self.bar = bar(),
            Some(next) if now < next => return,
            Some(_) => {}
        }
        self.next = Some(now + if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY });
        while self.recent.front().is_some_and(|(at, _)| now - *at > RECENT) && self.recent.len() > 1 {
            self.recent.pop_front();
        }
        let speed = speed(self.recent.front(), (now, state.ended));
        self.recent.push_back((now, state.ended));
        let expected = state.expected();
        let line = line(state, expected, speed);
        match &self.bar {
            Some(bar) => {
                bar.set_length(expected.unwrap_or(0));
                bar.set_position(state.ended);
                bar.set_message(line);
            }
            None if speed.is_some() => say(&line),
            None => {}
        }
    }
}

fn bar() -> Option<ProgressBar> {
    std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

/// Rows a second.
fn speed(before: Option<&(Instant, u64)>, (now, rows): (Instant, u64)) -> Option<f64> {
    let (at, before) = before?;
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rows = rows.saturating_sub(*before) as f64;
    Some(rows / (now - *at).as_secs_f64().max(0.001))
}

/// `1200 of about 200000 rows ended, 812/s, 3 without success, 12 rejected, 4 duplicates, 4m left`
fn line(state: &BackfillState, expected: Option<u64>, speed: Option<f64>) -> String {
    let BackfillState { counts, is_read, ended, unsuccessful, .. } = state;
    let about = if *is_read { "" } else { "about " };
    let of = expected.map_or_else(String::new, |expected| format!(" of {about}{expected}"));
    let mut parts = vec![format!("{ended}{of} rows ended")];
    parts.extend(speed.map(|speed| format!("{speed:.0}/s")));
    for (count, what) in
        [(*unsuccessful, "without success"), (counts.rejected, "rejected"), (counts.duplicates, "duplicates")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let left = expected.map(|expected| expected.saturating_sub(*ended)).filter(|left| *left > 0);
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
    use crate::operations::backfill::RowCounts;

    #[test]
    fn a_line_shows_all_that_is_known() {
        let counts = RowCounts { rows: 300, valid: 290, rejected: 6, duplicates: 4, lookalikes: 0 };
        let ended = BackfillState { ended: 100, unsuccessful: 2, ..BackfillState::default() };
        assert_eq!(
            line(&BackfillState { counts, ..ended }, Some(1100), Some(10.0)),
            "100 of about 1100 rows ended, 10/s, 2 without success, 6 rejected, 4 duplicates, 2m left"
        );
        assert_eq!(line(&BackfillState::default(), None, None), "0 rows ended");
        let state = BackfillState { is_read: true, ..ended };
        assert_eq!(line(&state, Some(100), Some(0.0)), "100 of 100 rows ended, 0/s, 2 without success");
    }
}
