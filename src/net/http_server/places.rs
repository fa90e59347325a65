//! The connected clients. Their number is bounded: when it is full, one client is disconnected to make room for a new one.

use super::limits::ServerLimits;
use parking_lot::Mutex;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};
use tokio_util::sync::CancellationToken;

/// All connected clients, oldest first.
#[derive(Debug, Clone)]
pub(super) struct Places {
    limits: ServerLimits,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    connected: BTreeMap<u64, Connected>,
    /// Number of connections of each address that are not trusted.
    untrusted: BTreeMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Connected {
    address: IpAddr,
    is_trusted: bool,
    /// Number of requests whose answer is not written yet.
    under_way: usize,
    leave: CancellationToken,
}

/// One connection's place. The place becomes free when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct ConnectionHandle(Arc<Place>);

#[derive(Debug)]
struct Place {
    number: u64,
    leave: CancellationToken,
    places: Places,
}

/// A request whose answer is not written yet.
pub(super) struct UnderWay(ConnectionHandle);

impl Places {
    pub(super) fn new(limits: ServerLimits) -> Self {
        Self { limits, inner: Arc::default() }
    }

    /// Takes a place for a new client. `None` if there is none, and nobody can be disconnected.
    pub(super) fn enter(&self, address: IpAddr) -> Option<ConnectionHandle> {
        let mut inner = self.inner.lock();
        let of_address = inner.untrusted.get(&address).copied().unwrap_or(0);
        if self.limits.max_per_address.is_some_and(|most| of_address >= most) && !inner.dismiss_idle_of(address) {
            return None;
        }
        while inner.connected.len() >= self.limits.max_connections.max(1) {
            if !inner.dismiss_one(self.limits.evicts_busy) {
                return None;
            }
        }
        inner.next += 1;
        let (number, leave) = (inner.next, CancellationToken::new());
        let connected = Connected { address, is_trusted: false, under_way: 0, leave: leave.clone() };
        inner.connected.insert(number, connected);
        *inner.untrusted.entry(address).or_default() += 1;
        Some(ConnectionHandle(Arc::new(Place { number, leave, places: self.clone() })))
    }

    /// Disconnects one client, in the order of [`Places::enter`].
    pub(super) fn make_room(&self) {
        self.inner.lock().dismiss_one(self.limits.evicts_busy);
    }

    /// Disconnects all clients that have no request under way.
    pub(super) fn dismiss_idle(&self) {
        for connected in self.inner.lock().connected.values().filter(|connected| connected.under_way == 0) {
            connected.leave.cancel();
        }
    }
}

impl Inner {
    /// Disconnects the oldest client without a request under way, else the oldest of all if busy ones count too.
    fn dismiss_one(&mut self, evicts_busy: bool) -> bool {
        let idle = self.connected.iter().find(|(_, connected)| connected.under_way == 0);
        let oldest = || if evicts_busy { self.connected.first_key_value() } else { None };
        let found = idle.or_else(oldest).map(|(number, _)| *number);
        found.is_some_and(|number| self.dismiss(number))
    }

    fn dismiss_idle_of(&mut self, address: IpAddr) -> bool {
        let is_idle =
            |connected: &Connected| connected.address == address && !connected.is_trusted && connected.under_way == 0;
        let found = self.connected.iter().find(|(_, connected)| is_idle(connected)).map(|(number, _)| *number);
        found.is_some_and(|number| self.dismiss(number))
    }

    fn dismiss(&mut self, number: u64) -> bool {
        self.remove(number).is_some_and(|connected| {
            connected.leave.cancel();
            true
        })
    }

    fn remove(&mut self, number: u64) -> Option<Connected> {
        let connected = self.connected.remove(&number)?;
        if !connected.is_trusted {
            self.no_more_untrusted(connected.address);
        }
        Some(connected)
    }

    fn no_more_untrusted(&mut self, address: IpAddr) {
        if let Some(count) = self.untrusted.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.untrusted.remove(&address);
            }
        }
    }
}

impl ConnectionHandle {
    /// Takes the connection out of the bound for one address, because it carried a valid credential. All clients behind a
    /// proxy have one address.
    pub fn trust(&self) {
        let mut inner = self.0.places.inner.lock();
        let Some(connected) = inner.connected.get_mut(&self.0.number).filter(|connected| !connected.is_trusted) else {
            return;
        };
        connected.is_trusted = true;
        let address = connected.address;
        inner.no_more_untrusted(address);
    }

    /// Records that a whole head has arrived. The request is under way until the result is dropped.
    pub(super) fn begin_request(&self) -> UnderWay {
        self.count(1);
        UnderWay(self.clone())
    }

    /// Returns when this client must be disconnected.
    pub(super) async fn dismissed(&self) {
        self.0.leave.cancelled().await;
    }

    fn count(&self, change: isize) {
        if let Some(connected) = self.0.places.inner.lock().connected.get_mut(&self.0.number) {
            connected.under_way = connected.under_way.saturating_add_signed(change);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.count(-1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.inner.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn places(max_connections: usize, max_per_address: Option<usize>, evicts_busy: bool) -> Places {
        Places::new(ServerLimits {
            max_connections,
            max_per_address,
            evicts_busy,
            write_timeout: Duration::from_secs(1),
            head_timeout: Duration::from_secs(1),
            max_head_bytes: 16 * 1024,
            connection_life: None,
            closing: Duration::from_secs(1),
        })
    }

    fn left(handles: &[ConnectionHandle]) -> Vec<u64> {
        handles.iter().filter(|handle| handle.0.leave.is_cancelled()).map(|handle| handle.0.number).collect()
    }

    #[test]
    fn the_oldest_without_a_request_makes_room_then_the_oldest() {
        let clients = places(3, None, true);
        let mut handles: Vec<_> = (0..3).map(|_| clients.enter(A).unwrap()).collect();
        assert_eq!(left(&handles), [0_u64; 0]);
        let first = handles[0].begin_request();
        handles.push(clients.enter(A).unwrap());
        assert_eq!(left(&handles), [2]);
        let _under_way = (handles[2].begin_request(), handles[3].begin_request());
        handles.push(clients.enter(A).unwrap());
        assert_eq!(left(&handles), [1, 2]);
        drop(first);
        // A free place costs no other client its own.
        drop(handles.pop());
        handles.push(clients.enter(A).unwrap());
        assert_eq!(left(&handles), [1, 2]);
    }

    #[test]
    fn a_request_under_way_is_not_cut_off_where_the_new_client_can_be_refused() {
        let clients = places(2, None, false);
        let handles = [clients.enter(A).unwrap(), clients.enter(A).unwrap()];
        let under_way = [handles[0].begin_request(), handles[1].begin_request()];
        assert!(clients.enter(B).is_none());
        drop(under_way);
        assert!(clients.enter(B).is_some());
        assert_eq!(left(&handles), [1]);
    }

    #[test]
    fn one_address_has_a_bound_of_its_own_until_it_is_trusted() {
        let clients = places(100, Some(2), false);
        let handles = [clients.enter(A).unwrap(), clients.enter(A).unwrap()];
        let under_way = [handles[0].begin_request(), handles[1].begin_request()];
        assert!(clients.enter(A).is_none() && clients.enter(B).is_some());
        handles[0].trust();
        handles[0].trust();
        let third = clients.enter(A).unwrap();
        // The idle third makes room for a fourth.
        assert!(clients.enter(A).is_some());
        assert!(third.0.leave.is_cancelled());
        drop((under_way, handles, third));
        assert!(clients.inner.lock().untrusted.is_empty());
    }
}
