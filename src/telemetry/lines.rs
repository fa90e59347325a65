//! Writes log lines to stderr without blocking, even if the reader of stderr has stopped reading.
//!
//! A thread of its own writes them (`tracing-appender`). No other thread waits for it. Lines that find its queue full
//! are dropped and counted, and the count is logged once the reader has caught up.

use crate::contract::printable;
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

/// Maximum number of lines that wait to be written: a few megabytes.
const MAX_WAITING: usize = 8192;

/// Time for writing the last lines when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval at which a flush checks whether all lines are written.
const FLUSH_STEP: Duration = Duration::from_millis(1);

/// The log lines of this process, for [`flush_logs`].
static LINES: OnceLock<LogLines> = OnceLock::new();

/// Counters of the lines so far.
#[derive(Debug, Default)]
struct LineCounts {
    /// Lines given to the queue, including those that it dropped.
    offered: AtomicU64,
    /// Lines taken from the queue, whether stderr accepted or refused them.
    done: AtomicU64,
    /// Lines that stderr refused: it is closed, or it is non-blocking and full.
    refused: AtomicU64,
}

/// Makes the writers of the log layer. They never block.
#[derive(Debug, Clone)]
pub(super) struct LogLines {
    queue: NonBlocking,
    dropped: ErrorCounter,
    counts: Arc<LineCounts>,
}

/// When dropped, writes the lines that still wait, for at most a second.
#[derive(Debug)]
pub(super) struct LinesGuard {
    lines: LogLines,
    worker: Option<WorkerGuard>,
}

impl LogLines {
    /// Sets up lines for stderr.
    pub(super) fn to_stderr() -> (Self, LinesGuard) {
        let (lines, guard) = Self::to(io::stderr(), MAX_WAITING);
        // A second instance in a process belongs to a test. The first one is flushed when the process ends suddenly.
        let _ = LINES.set(lines.clone());
        (lines, guard)
    }

    fn to(out: impl Write + Send + 'static, max_waiting: usize) -> (Self, LinesGuard) {
        let counts = Arc::new(LineCounts::default());
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

    /// Number of lines lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        full(&self.dropped).saturating_add(self.counts.refused.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> u64 {
        let offered = self.counts.offered.load(Ordering::Acquire);
        offered.saturating_sub(full(&self.dropped)).saturating_sub(self.counts.done.load(Ordering::Acquire))
    }

    /// Waits at most `within` until every line is written. Returns whether all are.
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

impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.counts.offered.fetch_add(1, Ordering::AcqRel);
        self.queue.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogLines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for LinesGuard {
    fn drop(&mut self) {
        let worker = self.worker.take();
        if !self.lines.flush(FLUSH_TIMEOUT) {
            // Dropping it now would wait for another second and print to stdout, which is for data.
            std::mem::forget(worker);
        }
    }
}

/// The writing side, in the thread that may block on stderr.
struct Writer<W> {
    out: W,
    counts: Arc<LineCounts>,
    dropped: Arc<OnceLock<ErrorCounter>>,
    /// Number of dropped lines that have been reported.
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

    /// Called whenever the queue is empty. Reports newly dropped lines.
    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.dropped.get().map_or(0, full);
        let lines = dropped.saturating_sub(self.told);
        if lines > 0 {
            self.told = dropped;
            // Goes through the queue, which is empty now, and so has the format of all other lines.
            tracing::warn!(lines, "log lines were dropped, because stderr was not read fast enough");
        }
        Ok(())
    }
}

/// Waits at most `within` until the log lines so far are written. Returns whether they are. For a process that is about
/// to end without unwinding.
pub fn flush_logs(within: Duration) -> bool {
    LINES.get().is_none_or(|lines| lines.flush(within))
}

/// Writes a text to stderr, after the log lines so far. Waits at most a second if it cannot be written: the reader may
/// have stopped reading, or closed it.
pub fn say_at_end(text: &str) {
    let within = if flush_logs(FLUSH_TIMEOUT) { FLUSH_TIMEOUT } else { Duration::from_millis(100) };
    let (done, written) = mpsc::channel::<()>();
    // An error may quote a file or an argument.
    let lines: Vec<String> = text.lines().map(printable).collect();
    let text = format!("{}\n", lines.join("\n"));
    let writer = thread::Builder::new().name("last-words".to_owned()).spawn(move || {
        let _ = io::stderr().write_all(text.as_bytes());
        drop(done);
    });
    if writer.is_ok() {
        // Returns an error either way: the sender is dropped, or the time is over.
        let _ = written.recv_timeout(within);
    }
}

/// Makes panics appear as log lines. The default report writes to stderr directly and would block the panicking thread
/// until someone reads.
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

    /// Accepts nothing until it is opened.
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

    /// Refuses every write, as a closed pipe does.
    struct LinesClosed;

    impl Write for LinesClosed {
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
        let (mut lines, guard) = LogLines::to(pipe.clone(), 10);
        for n in 0..100 {
            lines.write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        // Ten lines wait; the writer may have taken one more.
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
        let (mut lines, guard) = LogLines::to(Pipe::default(), 10);
        for _ in 0..100 {
            lines.write_all(b"x\n").unwrap();
        }
        let begun = Instant::now();
        drop(guard);
        assert!(begun.elapsed() < FLUSH_TIMEOUT * 3, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_a_closed_pipe_refuses_is_counted_and_not_reported_to_it() {
        let (lines, guard) = LogLines::to(LinesClosed, 10);
        let subscriber =
            tracing_subscriber::registry().with(tracing_subscriber::fmt::layer().with_writer(lines.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!("one"));
        drop(guard);
        assert_eq!((lines.dropped(), lines.waiting()), (1, 0));
    }
}
