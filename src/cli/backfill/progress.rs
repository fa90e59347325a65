//! Shows the progress of a run on stderr: a bar on a terminal, otherwise a line from time to time.

use crate::{
    cli::say,
    operations::{
        Progress,
        backfill::{BackfillProgress, BackfillState, Hindrance},
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
const RECENT: Duration = Duration::from_secs(60);

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
        match &self.0.lock().unwrap_or_else(PoisonError::into_inner).bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
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
            None => say(&line(state, None)),
        }
    }
}

impl Display {
    fn show(&mut self, state: &BackfillState, now: Instant) {
        self.latest = state.clone();
        match self.next {
            None => self.bar = bar(),
            Some(next) if now < next => return,
            Some(_) => {}
        }
        self.next = Some(now + if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY });
        while self.recent.front().is_some_and(|(at, _)| now - *at > RECENT) && self.recent.len() > 1 {
            self.recent.pop_front();
        }
        let calls = state.looked_up + state.ended;
        let speed = speed(self.recent.front(), (now, calls));
        self.recent.push_back((now, calls));
        let line = line(state, speed);
        match &self.bar {
            Some(bar) => {
                bar.set_length(state.counts.valid);
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
        let style = ProgressStyle::with_template("{bar:20} {percent:>3}%  {wide_msg}");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    })
}

/// Jobs a second: a row is looked up, and then it ends.
fn speed(before: Option<&(Instant, u64)>, (now, rows): (Instant, u64)) -> Option<f64> {
    let (at, before) = before?;
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rows = rows.saturating_sub(*before) as f64;
    Some(rows / (now - *at).as_secs_f64().max(0.001))
}

/// `1200 of 200000 rows ended, 2500 looked up, 4m left, limits.total is 20/s, burst 20, 3 without success, 12 rejected`: what
/// matters most comes first, because a bar cuts the end off.
fn line(state: &BackfillState, speed: Option<f64>) -> String {
    let BackfillState { counts, ended, unsuccessful, looked_up, hindrance } = state;
    let mut parts = vec![format!("{ended} of {} rows ended", counts.valid)];
    if looked_up > ended {
        parts.push(format!("{looked_up} looked up"));
    }
    // A row that is not looked up makes two more steps, one that is looked up makes one.
    let left = (2 * counts.valid).saturating_sub(looked_up + ended);
    if let Some(speed) = speed.filter(|speed| *speed > 0.0 && left > 0 && !hindrance.stops()) {
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let seconds = left as f64 / speed;
        parts.push(format!("{} left", rounded(seconds)));
    }
    if *hindrance != Hindrance::Nothing && *ended < counts.valid {
        parts.push(hindrance.to_string());
    }
    for (count, what) in
        [(*unsuccessful, "without success"), (counts.rejected, "rejected"), (counts.duplicates, "duplicates")]
    {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
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
        let counts = RowCounts { rows: 1110, valid: 1100, rejected: 6, duplicates: 4, ..RowCounts::default() };
        let state =
            BackfillState { counts, ended: 100, unsuccessful: 2, looked_up: 150, hindrance: Hindrance::Nothing };
        assert_eq!(
            line(&state, Some(10.0)),
            "100 of 1100 rows ended, 150 looked up, 3m left, 2 without success, 6 rejected, 4 duplicates"
        );
        assert_eq!(line(&BackfillState::default(), None), "0 of 0 rows ended");
        let paused = Hindrance::Paused { by: "ada".to_owned() };
        let state = BackfillState { hindrance: paused, unsuccessful: 0, ..state };
        assert_eq!(
            line(&state, Some(10.0)),
            "100 of 1100 rows ended, 150 looked up, paused by ada, 6 rejected, 4 duplicates"
        );
        let state =
            BackfillState { hindrance: Hindrance::Limit("20/s, burst 20".to_owned()), ..BackfillState::default() };
        let counts = RowCounts { rows: 10, valid: 10, ..RowCounts::default() };
        assert_eq!(
            line(&BackfillState { counts, ..state }, Some(2.0)),
            "0 of 10 rows ended, 10s left, limits.total is 20/s, burst 20"
        );
    }
}
