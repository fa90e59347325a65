//! The callers connected to the HTTP endpoint. Their number is bounded: when it is full, one caller is disconnected to
//! make room for a new one.

use parking_lot::{Mutex, MutexGuard};
use std::{collections::BTreeMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// All connected callers, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Callers {
    most: usize,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    connected: BTreeMap<u64, Connected>,
}

#[derive(Debug)]
struct Connected {
    leave: CancellationToken,
    /// Whether a whole request has arrived.
    asked: bool,
}

/// One caller's place. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    number: u64,
    leave: CancellationToken,
    callers: Callers,
}

impl Callers {
    /// Room for `most` callers, and for at least one.
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), inner: Arc::default() }
    }

    /// Takes a place for a new caller. If all are taken, one caller is disconnected: see [`Callers::dismiss_one`].
    pub(super) fn enter(&self) -> ConnectionSlot {
        let mut inner = self.lock();
        while inner.connected.len() >= self.most && inner.dismiss_one() {}
        inner.next += 1;
        let (number, leave) = (inner.next, CancellationToken::new());
        inner.connected.insert(number, Connected { leave: leave.clone(), asked: false });
        ConnectionSlot { number, leave, callers: self.clone() }
    }

    /// Disconnects one caller: the oldest that has not sent a whole request. If all have, the oldest, which is slow to
    /// read its answer.
    pub(super) fn dismiss_one(&self) {
        self.lock().dismiss_one();
    }

    /// Disconnects all callers that have not sent a whole request.
    pub(super) fn dismiss_silent(&self) {
        for connected in self.lock().connected.values().filter(|connected| !connected.asked) {
            connected.leave.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Inner {
    fn dismiss_one(&mut self) -> bool {
        let silent = self.connected.iter().find(|(_, connected)| !connected.asked);
        let Some(number) = silent.or_else(|| self.connected.first_key_value()).map(|(number, _)| *number) else {
            return false;
        };
        if let Some(connected) = self.connected.remove(&number) {
            connected.leave.cancel();
        }
        true
    }
}

impl ConnectionSlot {
    /// Records that a whole request has arrived.
    pub(super) fn asked(&self) {
        if let Some(connected) = self.callers.lock().connected.get_mut(&self.number) {
            connected.asked = true;
        }
    }

    /// Returns when this caller must be disconnected.
    pub(super) async fn dismissed(&self) {
        self.leave.cancelled().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.callers.lock().connected.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(places: &[ConnectionSlot]) -> Vec<u64> {
        places.iter().filter(|place| place.leave.is_cancelled()).map(|place| place.number).collect()
    }

    #[test]
    fn the_oldest_without_a_request_makes_room_then_the_oldest() {
        let callers = Callers::new(3);
        let mut places: Vec<_> = (0..3).map(|_| callers.enter()).collect();
        assert_eq!(left(&places), [0_u64; 0]);
        places[0].asked();
        places.push(callers.enter());
        assert_eq!(left(&places), [2]);
        places[2].asked();
        places[3].asked();
        places.push(callers.enter());
        assert_eq!(left(&places), [1, 2]);
        // A free place costs no other caller its own.
        drop(places.pop());
        places.push(callers.enter());
        assert_eq!(left(&places), [1, 2]);
    }
}
