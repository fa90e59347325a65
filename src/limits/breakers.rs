//! The circuit breakers of one worker: one for each route, and one for all calls.
//!
//! A route is named by the job type of its calls. An answer from XCO, or a missing one, concerns only its route:
//! failing creations must not stop checks. A failed connection, or a refusal of this client, concerns all calls. While
//! the breaker of all calls is not closed, no jobs are read (or one at a time). While a route's breaker is not closed,
//! its jobs are delayed, except for one at a time that probes the route. An interactive job is preferred as the probe.

use super::{Breaker, BreakerPolicy, BreakerState, CallEnd};
use crate::contract::{JobType, Lane};

const ROUTES: usize = JobType::ALL.len();

/// After a breaker becomes half-open, only interactive jobs may probe the route for this time.
const INTERACTIVE_FIRST_MS: u64 = 300;

/// A half-open route without any call for this time counts as working again, because there is no job to probe it with.
const QUIET_MS: u64 = 60_000;

/// What a breaker covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BreakerScope {
    /// All calls, on every route.
    All,
    /// The calls of one route.
    Route(JobType),
}

impl BreakerScope {
    /// Returns every scope, starting with all calls.
    pub fn every() -> impl Iterator<Item = Self> {
        std::iter::once(Self::All).chain(JobType::ALL.into_iter().map(Self::Route))
    }

    /// The name for messages and labels, such as `all` or `CreateUser`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Route(route) => route.as_str(),
        }
    }
}

/// How a call ended, as far as the breakers are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteEnd {
    /// XCO accepted this client. Its answer is about the job.
    Accepted,
    /// XCO answered with a failure of its own.
    Failed,
    /// XCO did not answer in time, or the connection broke.
    Unanswered,
    /// No connection to XCO could be made.
    Unreached,
    /// XCO refused this client.
    Refused {
        /// Number of refusals in a row that opens the breaker of all calls.
        in_a_row: u32,
    },
    /// XCO answered, but the answer does not show whether XCO accepts this client.
    Answered,
}

impl RouteEnd {
    /// Whether the call failed because of XCO or the network.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Unanswered | Self::Unreached)
    }

    const fn of_all(self) -> Option<CallEnd> {
        match self {
            Self::Accepted => Some(CallEnd::Accepted),
            Self::Unreached => Some(CallEnd::Failed),
            Self::Refused { in_a_row } => Some(CallEnd::Refused { in_a_row }),
            Self::Failed | Self::Answered => Some(CallEnd::Answered),
            Self::Unanswered => None,
        }
    }

    const fn of_route(self) -> Option<CallEnd> {
        match self {
            Self::Accepted => Some(CallEnd::Accepted),
            Self::Failed | Self::Unanswered => Some(CallEnd::Failed),
            Self::Refused { .. } | Self::Answered => Some(CallEnd::Answered),
            Self::Unreached => None,
        }
    }
}

/// Whether a job may make its call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// The job may make its call.
    Go,
    /// The job may make its call as a probe. Until it ends, no other job of its route may.
    Probe,
    /// The job must wait.
    Wait,
}

/// All breakers of one worker. Times are milliseconds on a monotonic clock.
#[derive(Debug, Clone)]
pub struct Breakers {
    all: Breaker,
    routes: [Breaker; ROUTES],
    /// For each route, whether a probe is in flight.
    probing: [bool; ROUTES],
}

impl Breakers {
    /// Creates closed breakers.
    pub fn new(policy: BreakerPolicy) -> Self {
        let routes = JobType::ALL.map(|_| Breaker::new(policy));
        Self { all: Breaker::new(policy), routes, probing: [false; ROUTES] }
    }

    /// Returns the breaker of a scope.
    pub const fn of(&mut self, scope: BreakerScope) -> &mut Breaker {
        match scope {
            BreakerScope::All => &mut self.all,
            BreakerScope::Route(route) => &mut self.routes[route as usize],
        }
    }

    /// Returns the state of a scope's breaker at `now_ms`.
    pub const fn state(&mut self, scope: BreakerScope, now_ms: u64) -> BreakerState {
        self.of(scope).state(now_ms)
    }

    /// Whether XCO currently fails for calls of this route: the breaker of the route or of all calls is not closed.
    pub fn is_outage(&mut self, route: JobType, now_ms: u64) -> bool {
        [BreakerScope::All, BreakerScope::Route(route)]
            .into_iter()
            .any(|scope| self.state(scope, now_ms) != BreakerState::Closed)
    }

    /// Whether any route's breaker is not closed. First closes half-open breakers whose route had no call for a while.
    pub fn any_route(&mut self, now_ms: u64) -> bool {
        for (breaker, probing) in self.routes.iter_mut().zip(self.probing) {
            let half_open = breaker.state(now_ms) == BreakerState::HalfOpen;
            if half_open && !probing && now_ms.saturating_sub(breaker.half_open_since_ms()) >= QUIET_MS {
                breaker.close(now_ms);
            }
        }
        self.routes.iter_mut().any(|breaker| breaker.state(now_ms) != BreakerState::Closed)
    }

    /// Records a call that ended. Returns the breakers whose state changed.
    pub fn observe(&mut self, route: JobType, end: RouteEnd, now_ms: u64) -> [Option<(BreakerScope, BreakerState)>; 2] {
        let mut changes = [None; 2];
        let ends = [(BreakerScope::All, end.of_all()), (BreakerScope::Route(route), end.of_route())];
        for (change, (scope, end)) in changes.iter_mut().zip(ends) {
            if let Some(end) = end
                && self.of(scope).observe(end, now_ms)
            {
                *change = Some((scope, self.state(scope, now_ms)));
            }
        }
        changes
    }

    /// Returns the permit that a job of this route and lane would get now, without starting a probe.
    pub fn look(&mut self, route: JobType, lane: Lane, now_ms: u64) -> Permit {
        let breaker = &mut self.routes[route as usize];
        match breaker.state(now_ms) {
            BreakerState::Closed => Permit::Go,
            BreakerState::Open { .. } => Permit::Wait,
            BreakerState::HalfOpen if self.probing[route as usize] => Permit::Wait,
            BreakerState::HalfOpen => {
                let turn = lane == Lane::Interactive
                    || now_ms.saturating_sub(breaker.half_open_since_ms()) >= INTERACTIVE_FIRST_MS;
                if turn { Permit::Probe } else { Permit::Wait }
            }
        }
    }

    /// Asks for the permit of a job of this route and lane. After [`Permit::Probe`], a probe is in flight until
    /// [`end_probe`](Self::end_probe).
    pub fn ask(&mut self, route: JobType, lane: Lane, now_ms: u64) -> Permit {
        let permit = self.look(route, lane, now_ms);
        self.probing[route as usize] |= permit == Permit::Probe;
        permit
    }

    /// Ends the probe of a route, whether or not it made its call.
    pub const fn end_probe(&mut self, route: JobType) {
        self.probing[route as usize] = false;
    }

    /// Whether the route is half-open and no probe is in flight.
    pub fn wants_probe(&mut self, route: JobType, now_ms: u64) -> bool {
        self.look(route, Lane::Interactive, now_ms) == Permit::Probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: BreakerScope = BreakerScope::Route(JobType::CreateUser);

    fn breakers() -> Breakers {
        Breakers::new(BreakerPolicy::default())
    }

    fn fail(breakers: &mut Breakers, route: JobType, end: RouteEnd, times: u32) {
        for _ in 0..times {
            breakers.observe(route, end, 0);
        }
    }

    #[test]
    fn a_route_that_fails_closes_no_other() {
        for end in [RouteEnd::Failed, RouteEnd::Unanswered] {
            let mut breakers = breakers();
            fail(&mut breakers, JobType::CreateUser, end, 20);
            assert!(matches!(breakers.state(CREATE, 0), BreakerState::Open { .. }));
            assert_eq!(breakers.state(BreakerScope::All, 0), BreakerState::Closed);
            assert_eq!(breakers.look(JobType::CheckUser, Lane::Bulk, 0), Permit::Go);
            assert_eq!(breakers.look(JobType::CreateUser, Lane::Interactive, 0), Permit::Wait);
            assert!(breakers.is_outage(JobType::CreateUser, 0) && !breakers.is_outage(JobType::CheckUser, 0));
        }
    }

    #[test]
    fn what_all_share_opens_for_all() {
        for (end, times) in [(RouteEnd::Unreached, 20), (RouteEnd::Refused { in_a_row: 5 }, 5)] {
            let mut breakers = breakers();
            fail(&mut breakers, JobType::CreateUser, end, times);
            assert!(matches!(breakers.state(BreakerScope::All, 0), BreakerState::Open { .. }));
            assert_eq!(breakers.state(CREATE, 0), BreakerState::Closed);
            assert!(breakers.is_outage(JobType::CheckUser, 0));
        }
    }

    #[test]
    fn a_route_that_nobody_calls_closes_by_itself() {
        let mut breakers = breakers();
        fail(&mut breakers, JobType::CreateUser, RouteEnd::Failed, 20);
        assert!(breakers.any_route(60_999));
        assert_eq!(breakers.ask(JobType::CreateUser, Lane::Bulk, 60_999), Permit::Probe);
        assert!(breakers.any_route(61_000), "somebody finds out");
        breakers.end_probe(JobType::CreateUser);
        assert!(!breakers.any_route(61_000));
    }

    #[test]
    fn one_job_at_a_time_finds_out_and_people_go_first() {
        let mut breakers = breakers();
        fail(&mut breakers, JobType::CreateUser, RouteEnd::Failed, 20);
        assert!(!breakers.wants_probe(JobType::CreateUser, 999));
        assert!(breakers.wants_probe(JobType::CreateUser, 1_000));
        assert_eq!(breakers.ask(JobType::CreateUser, Lane::Bulk, 1_299), Permit::Wait);
        assert_eq!(breakers.ask(JobType::CreateUser, Lane::Interactive, 1_299), Permit::Probe);
        assert_eq!(breakers.ask(JobType::CreateUser, Lane::Interactive, 1_400), Permit::Wait);
        breakers.end_probe(JobType::CreateUser);
        assert_eq!(breakers.ask(JobType::CreateUser, Lane::Bulk, 1_400), Permit::Probe, "nobody else came");
        for _ in 0..3 {
            breakers.observe(JobType::CreateUser, RouteEnd::Accepted, 1_400);
        }
        assert_eq!(breakers.ask(JobType::CreateUser, Lane::Bulk, 1_400), Permit::Go);
    }
}
