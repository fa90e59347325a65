//! How often an address may try to log in.

use parking_lot::Mutex;
use std::{collections::HashMap, net::IpAddr, time::Duration};
use tokio::time::Instant;

/// Tries of one address in [`WINDOW`].
const IN_WINDOW: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted. Beyond it, those whose minute is over are forgotten.
const MOST: usize = 10_000;

/// Counts tries to log in, by address.
#[derive(Debug, Default)]
pub(super) struct LoginTries(Mutex<HashMap<IpAddr, (u32, Instant)>>);

impl LoginTries {
    /// Counts one more try. `false`: it is one too many.
    pub(super) fn count(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut tries = self.0.lock();
        if tries.len() >= MOST && !tries.contains_key(&address) {
            tries.retain(|_, (_, began)| now.duration_since(*began) < WINDOW);
            if tries.len() >= MOST {
                return false;
            }
        }
        let (count, began) = tries.entry(address).or_insert((0, now));
        if now.duration_since(*began) >= WINDOW {
            (*count, *began) = (0, now);
        }
        *count += 1;
        *count <= IN_WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test(start_paused = true)]
    async fn ten_a_minute_and_address() {
        let tries = LoginTries::default();
        let (ours, theirs) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([192, 0, 2, 7]));
        assert!((0..10).all(|_| tries.count(ours)));
        assert!(!tries.count(ours) && tries.count(theirs));
        tokio::time::advance(WINDOW).await;
        assert!(tries.count(ours));
    }
}
