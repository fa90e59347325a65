#![allow(clippy::unwrap_used)]

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::sleep;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const SECOND: Duration = Duration::from_secs(1);

fn addresses(text: &[&str]) -> Vec<IpAddr> {
    text.iter().map(|one| one.parse().unwrap()).collect()
}

/// A resolver whose n-th lookup takes `takes(n)` and then returns `answers(n)`, together with the number of its
/// lookups.
fn resolver(
    takes: impl Fn(usize) -> Duration + Send + Sync + 'static,
    answers: impl Fn(usize) -> Looked + Send + Sync + 'static,
) -> (Names, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, answers) = (Arc::clone(&asked), Arc::new(answers));
    let names = Names::new(LookupPace::default(), move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let (takes, answers) = (takes(number), Arc::clone(&answers));
        async move {
            sleep(takes).await;
            answers(number)
        }
        .boxed()
    });
    (names, asked)
}

#[tokio::test(start_paused = true)]
async fn a_lookup_outlives_its_caller() {
    let (names, asked) = resolver(|_| 5 * SECOND, |_| Ok(addresses(&[A])));
    for _ in 0..2 {
        assert!(timeout(2 * SECOND, names.addresses("cache")).await.is_err(), "nothing is known yet");
    }
    assert_eq!(timeout(2 * SECOND, names.addresses("cache")).await.unwrap().unwrap(), addresses(&[A]));
    assert_eq!(names.addresses("cache").await.unwrap(), addresses(&[A]));
    assert_eq!(asked.load(Ordering::Relaxed), 1, "all of them wait for one lookup");
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_serves_while_a_lookup_is_slow_and_after_it_fails() {
    let slow = |number| if number == 0 { Duration::ZERO } else { 30 * SECOND };
    let (names, asked) = resolver(slow, |number| match number {
        0 => Ok(addresses(&[A])),
        1 => Err(io::Error::other("the nameserver is gone")),
        _ => Ok(addresses(&[B])),
    });
    assert_eq!(names.addresses("xco").await.unwrap(), addresses(&[A]));
    sleep(11 * SECOND).await;
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(names.addresses("xco").await.unwrap(), addresses(&[A]));
        assert!(began.elapsed() < SECOND);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    sleep(31 * SECOND).await;
    assert_eq!(names.addresses("xco").await.unwrap(), addresses(&[A]), "the second lookup failed, the third is slow");
    sleep(31 * SECOND).await;
    assert_eq!(names.addresses("xco").await.unwrap(), addresses(&[B]));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn an_answer_does_not_serve_for_ever() {
    let (names, _) = resolver(
        |_| Duration::ZERO,
        |number| if number == 0 { Ok(addresses(&[A])) } else { Err(io::Error::other("x")) },
    );
    names.addresses("xco").await.unwrap();
    sleep(25 * 3600 * SECOND).await;
    assert!(names.addresses("xco").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_no_answer_to_keep() {
    let (names, asked) = resolver(
        |_| SECOND,
        |number| match number {
            0 => Ok(Vec::new()),
            1 => Err(io::Error::other("no such name")),
            _ => Ok(addresses(&[A, B])),
        },
    );
    assert_eq!(names.addresses("late").await.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(names.addresses("late").await.is_err());
    assert_eq!(names.addresses("late").await.unwrap(), addresses(&[A, B]));
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn an_address_is_not_looked_up_and_memory_is_bounded() {
    let (names, asked) = resolver(|_| Duration::ZERO, |_| Ok(addresses(&[A; 100])));
    for text in ["127.0.0.1", "::1", "[::1]"] {
        assert_eq!(names.addresses(text).await.unwrap().len(), 1, "{text}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    for number in 0..MAX_NAMES + 50 {
        assert_eq!(names.addresses(&format!("host{number}")).await.unwrap().len(), MAX_ADDRESSES);
    }
    assert!(names.known().len() <= MAX_NAMES);
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let found = Names::shared().addresses("localhost").await.unwrap();
    assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
}
