//! Measures the time from before the `XADD` until a subscriber has the completion.

use crate::{
    jobs::{self, COMPLETIONS, LANE, NoOp, Running},
    server,
    table::Table,
};
use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

const JOBS: usize = 1600;
const WARM_UP: usize = 50;
const EVERY: Duration = Duration::from_millis(20);

pub(crate) fn measure(table: &mut Table) {
    let (server, mut producer) = server::start();
    let url = server.url().to_owned();
    let running = Running::start(jobs::config(&url, 64), |_| NoOp);
    let (seen, arrivals) = mpsc::channel();
    let subscriber = std::thread::spawn(move || {
        // Its own connection, blocked in XREAD, as a web tier waits.
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let mut last = "0-0".to_owned();
        let mut count = 0;
        while count < JOBS {
            let reply: redis::streams::StreamReadReply = redis::cmd("XREAD")
                .arg("BLOCK")
                .arg(30_000)
                .arg("STREAMS")
                .arg(COMPLETIONS)
                .arg(&last)
                .query(&mut connection)
                .unwrap();
            let now = Instant::now();
            for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
                let id: String = redis::from_redis_value(entry.map["id"].clone()).unwrap();
                seen.send((id, now)).unwrap();
                last = entry.id;
                count += 1;
            }
        }
    });
    let mut sent = Vec::with_capacity(JOBS);
    let start = Instant::now();
    for number in 0..JOBS {
        let due = start + EVERY * u32::try_from(number).unwrap();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let job = jobs::check_user("late", number);
        let began = Instant::now();
        redis::cmd("XADD").arg(LANE).arg("*").arg("job").arg(job).exec(&mut producer).unwrap();
        sent.push(began);
    }
    subscriber.join().unwrap();
    running.stop();
    jobs::check_all_succeeded(&mut producer, JOBS);
    let mut took: Vec<f64> = arrivals
        .into_iter()
        .map(|(id, at)| (id["late-".len()..].parse::<usize>().unwrap(), at))
        .filter(|(number, _)| *number >= WARM_UP)
        .map(|(number, at)| (at - sent[number]).as_secs_f64() * 1e3)
        .collect();
    took.sort_by(f64::total_cmp);
    let rank = |permille: usize| took[(took.len() - 1) * permille / 1000];
    table.at_most(&format!("latency, 50 jobs/s, {} jobs: p99", took.len()), rank(990), "ms", 1.5);
    table.figure("  p50", rank(500), "ms");
    table.figure("  max", rank(1000), "ms");
}
