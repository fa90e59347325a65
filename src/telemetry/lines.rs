//! Log lines on their way to stderr, which somebody may have stopped reading.
//!
//! A thread of its own writes them (`tracing-appender`). Nothing that works waits for it: lines that find its queue full are
//! dropped, counted, and reported once the reader has caught up.

use std::{
    io::{self, Write},
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

/// The most lines that wait to be written: some megabytes.
const MAX_WAITING: usize = 8192;

/// How long the last lines may take to go out when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a flush looks whether everything is written.
const FLUSH_STEP: Duration = Duration::from_millis(1);

/// The lines of this process, for [`flush_logs`].
static LINES: OnceLock<Lines> = OnceLock::new();

/// What became of lines so far.
#[derive(Debug, Default)]
struct Counts {
    /// Given to the queue, or dropped at it.
    offered: AtomicU64,
    /// Taken from the queue, and written or refused by stderr.
    done: AtomicU64,
    /// Refused by stderr: it is closed, or has no room and does not block.
    refused: AtomicU64,
}

/// Makes the writers of the log layer. None of them ever waits.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    queue: NonBlocking,
    dropped: ErrorCounter,
    counts: Arc<Counts>,
}

/// Writes what is still waiting when it is dropped, for at most a second.
#[derive(Debug)]
pub(super) struct LinesGuard {
    lines: Lines,
    worker: Option<WorkerGuard>,
}

impl Lines {
    /// Lines for stderr.
    pub(super) fn to_stderr() -> (Self, LinesGuard) {
        let (lines, guard) = Self::to(io::stderr(), MAX_WAITING);
        // A second set of lines in a process is a test's; the first is flushed at a sudden end.
        let _ = LINES.set(lines.clone());
        (lines, guard)
    }

    fn to(out: impl Write + Send + 'static, max_waiting: usize) -> (Self, LinesGuard) {
        let counts = Arc::new(Counts::default());
        let dropped = Arc::new(OnceLock::new());
        let writer = Writer { out, counts: Arc::clone(&counts), dropped: Arc::clone(&dropped), told: 0 };
        let (queue, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(max_waiting)
            .thread_name("log-writer")
            .finish(writer);
        let lines = Self { dropped: queue.error_counter(), queue, counts };
        let _ = dropped.set(lines.dropped.clone());
        let guard = LinesGuard { lines: lines.clone(), worker: Some(worker) };
        (lines, guard)
    }

    /// Lines that nobody will read, since the start.
    pub(super) fn dropped(&self) -> u64 {
        full(&self.dropped).saturating_add(self.counts.refused.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> u64 {
        let offered = self.counts.offered.load(Ordering::Acquire);
        offered.saturating_sub(full(&self.dropped)).saturating_sub(self.counts.done.load(Ordering::Acquire))
    }

    /// Waits until every line is written, but no longer than `within`; tells whether it is.
    fn flush(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.waiting() > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(FLUSH_STEP);
        }
        true
    }
}

fn full(counter: &ErrorCounter) -> u64 {
    counter.dropped_lines() as u64
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.counts.offered.fetch_add(1, Ordering::AcqRel);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        let worker = self.worker.take();
        if !self.lines.flush(FLUSH_TIMEOUT) {
            // Dropped now, it would wait for another second, and complain on stdout, which is data.
            std::mem::forget(worker);
        }
    }
}

/// The writing side, in the thread that may wait for stderr.
struct Writer<W> {
    out: W,
    counts: Arc<Counts>,
    dropped: Arc<OnceLock<ErrorCounter>>,
    /// So many dropped lines are reported.
    told: u64,
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        if self.out.write_all(line).is_err() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
        self.counts.done.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Called whenever no line waits any more.
    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.dropped.get().map_or(0, full);
        let lines = dropped.saturating_sub(self.told);
        if lines > 0 {
            self.told = dropped;
            // To the queue, which is empty now, and in the format of all lines.
            tracing::warn!(lines, "log lines were dropped, because stderr was not read fast enough");
        }
        Ok(())
    }
}

/// Waits until the log lines so far are written, at most for `within`; for a process that is about to end without unwinding.
/// Tells whether they are.
pub fn flush_logs(within: Duration) -> bool {
    LINES.get().is_none_or(|lines| lines.flush(within))
}

/// Writes a text to stderr, behind the log lines so far, and waits for at most a second if it cannot be written: somebody
/// may have stopped reading, or closed it.
pub fn say_at_end(text: &str) {
    let within = if flush_logs(FLUSH_TIMEOUT) { FLUSH_TIMEOUT } else { Duration::from_millis(100) };
    let (done, written) = mpsc::channel::<()>();
    let text = format!("{text}\n");
    let writer = thread::Builder::new().name("last-words".to_owned()).spawn(move || {
        let _ = io::stderr().write_all(text.as_bytes());
        drop(done);
    });
    if writer.is_ok() {
        // Ends with an error either way: the sender is dropped, or the time is up.
        let _ = written.recv_timeout(within);
    }
}

/// Reports panics as log lines. The usual report writes to stderr itself, and would hold the thread that panicked for as long
/// as nobody reads.
pub(super) fn report_panics_as_lines() {
    panic::set_hook(Box::new(|info| {
        let thread = thread::current();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("");
        tracing::error!(thread = thread.name().unwrap_or(""), place, message, "panic");
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Mutex;
    use tracing_subscriber::layer::SubscriberExt;

    /// Takes nothing until it is opened.
    #[derive(Clone, Default)]
    struct Pipe {
        text: Arc<Mutex<Vec<u8>>>,
        open: Arc<OnceLock<()>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.wait();
            self.text.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Refuses everything, as a closed pipe does.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let pipe = Pipe::default();
        let (mut lines, guard) = Lines::to(pipe.clone(), 10);
        for n in 0..100 {
            lines.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        // Ten wait; one more may be in the writer's hands.
        let dropped = lines.dropped();
        assert!((89..=90).contains(&dropped), "{dropped}");
        assert!(!lines.flush(Duration::from_millis(20)));
        pipe.open.set(()).unwrap();
        assert!(lines.flush(Duration::from_secs(10)));
        drop(guard);
        let text = String::from_utf8(pipe.text.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count() as u64, 100 - dropped);
        assert!(text.starts_with("0\n1\n"), "{text}");
    }

    #[test]
    fn a_reader_that_never_comes_does_not_hold_the_end() {
        let (mut lines, guard) = Lines::to(Pipe::default(), 10);
        for _ in 0..100 {
            lines.write_all(b"x\n").unwrap();
        }
        let begun = Instant::now();
        drop(guard);
        assert!(begun.elapsed() < FLUSH_TIMEOUT * 3, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_a_closed_pipe_refuses_is_counted_and_not_reported_to_it() {
        let (lines, guard) = Lines::to(Closed, 10);
        let subscriber =
            tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_writer(lines.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!("one"));
        drop(guard);
        assert_eq!((lines.dropped(), lines.waiting()), (1, 0));
    }
}
