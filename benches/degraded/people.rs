//! Customers at a signup page: they arrive steadily, whatever happens, and wait for their completion.

use crate::jobs::{COMPLETIONS, LANE};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Reads all completions while it exists.
pub(crate) struct Watcher {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) at: Instant,
    pub(crate) succeeded: bool,
    pub(crate) attempts: u64,
}

impl Watcher {
    /// Reads from the stream's start. Keeps only completions whose id begins with `prefix`.
    pub(crate) fn start(url: &str, prefix: &'static str) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let reader = {
            let (seen, stop, url) = (Arc::clone(&seen), Arc::clone(&stop), url.to_owned());
            std::thread::spawn(move || read(&url, prefix, &seen, &stop))
        };
        Self { seen, stop, reader: Some(reader) }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until `count` completions were seen.
    pub(crate) fn wait_for(&self, count: usize, within: Duration) {
        let deadline = Instant::now() + within;
        while self.count() < count {
            assert!(Instant::now() < deadline, "{} of {count} completions within {within:?}", self.count());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(url: &str, prefix: &str, seen: &Mutex<Vec<Seen>>, stop: &AtomicBool) {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut last = "0-0".to_owned();
    while !stop.load(Ordering::Relaxed) {
        let reply: Option<redis::streams::StreamReadReply> = redis::cmd("XREAD")
            .arg("COUNT")
            .arg(500)
            .arg("BLOCK")
            .arg(200)
            .arg("STREAMS")
            .arg(COMPLETIONS)
            .arg(&last)
            .query(&mut connection)
            .unwrap();
        let at = Instant::now();
        for entry in reply.into_iter().flat_map(|reply| reply.keys).flat_map(|stream| stream.ids) {
            let field = |name: &str| -> String { redis::from_redis_value(entry.map[name].clone()).unwrap() };
            let id = field("id");
            if id.starts_with(prefix) {
                let event: serde_json::Value = serde_json::from_str(&field("event")).unwrap();
                let attempts = event["attempts"].as_u64().unwrap();
                seen.lock().unwrap().push(Seen { id, at, succeeded: event["status"] == "succeeded", attempts });
            }
            last = entry.id;
        }
    }
}

/// Sends `per_s` checks a second for `lasting`, each for another customer. Returns when each was sent.
pub(crate) fn send(url: &str, prefix: &str, per_s: u32, lasting: Duration) -> HashMap<String, Instant> {
    let mut producer = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut sent = HashMap::new();
    let every = Duration::from_secs(1) / per_s;
    let start = Instant::now();
    for number in 0.. {
        let due = start + every * number;
        if due >= start + lasting {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let id = format!("{prefix}{number}");
        // A customer returns after twenty seconds, which is below any limit.
        let caller = format!("person-{}", number % (per_s * 20));
        let job = format!(
            r#"{{"type":"CheckUser","id":"{id}","caller_id":"{caller}","args":{{"email":"person-{number}@example.com"}}}}"#
        );
        let began = Instant::now();
        redis::cmd("XADD").arg(LANE).arg("*").arg("job").arg(job).exec(&mut producer).unwrap();
        sent.insert(id, began);
    }
    sent
}

/// Waiting times of customers, sorted.
#[derive(Debug)]
pub(crate) struct Waits(Vec<f64>);

impl Waits {
    /// The waiting times of the jobs in `sent`, without the first second (warm-up). Panics if a job did not succeed.
    pub(crate) fn of(sent: &HashMap<String, Instant>, seen: &[Seen], from: Option<Instant>) -> Self {
        let first = sent.values().min().copied().unwrap();
        let from = from.unwrap_or(first + Duration::from_secs(1));
        let mut ms: Vec<f64> = seen
            .iter()
            .filter_map(|seen| {
                let sent = sent.get(&seen.id)?;
                assert!(seen.succeeded, "{} did not succeed", seen.id);
                (*sent >= from).then(|| (seen.at - *sent).as_secs_f64() * 1e3)
            })
            .collect();
        ms.sort_by(f64::total_cmp);
        Self(ms)
    }

    pub(crate) fn rank(&self, permille: usize) -> f64 {
        self.0[(self.0.len() - 1) * permille / 1000]
    }

    pub(crate) fn line(&self, what: &str) -> String {
        let (p50, p99, max) = (self.rank(500), self.rank(990), self.rank(1000));
        format!("  {what:<52} p50 {p50:7.2} ms   p99 {p99:7.2} ms   max {max:8.2} ms   ({} people)", self.0.len())
    }
}
