//! The task that does a run.

use super::{
    counting::{Removed, sum},
    name::RunName,
    record::{Counts, RunState},
    request::{RunKind, RunRequest},
};
use crate::{
    config::Config,
    operations::{
        Actor, Backend, Error, NoProgress,
        dead_letters::{
            discard,
            outcomes::Outcomes,
            replay::{self, ReplayRequest},
            replayer::{Replayer, StepCounts},
            scan::{Patience, Scope},
        },
    },
    queue::{
        IdIndex, Keys, Link, clock,
        dead_letters::ReplayRun,
        runs::{self, Beat},
    },
};
use redis::RedisError;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// How often a run reports how far it is.
const BEAT: Duration = Duration::from_secs(1);
/// After the last dead letter, the replayed jobs are followed at most this long.
const FOLLOW: Duration = Duration::from_secs(900);

/// One process's work on a run.
pub(super) struct Task {
    config: Arc<Config>,
    actor: Actor,
    name: RunName,
    token: String,
    request: RunRequest,
    scope: Scope,
    /// How many dead letters may be taken.
    left: u64,
    /// What former processes did.
    before: Counts,
    /// The steps of a replay.
    replay: ReplayRun,
}

/// How the work ended.
struct Ended {
    counts: StepCounts,
    outcomes: Option<Outcomes>,
    result: Result<(), Error>,
}

impl Task {
    pub(super) fn new(
        config: Arc<Config>,
        actor: Actor,
        name: RunName,
        request: RunRequest,
        scope: Scope,
        left: u64,
        before: Counts,
    ) -> Self {
        let token = format!("{:032x}", rand::random::<u128>());
        let replay = ReplayRun::new(actor.name().to_owned(), IdIndex::of(&config.queue));
        Self { config, actor, name, token, request, scope, left, before, replay }
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) const fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// For the audit stream.
    pub(super) fn recorded(&self) -> Value {
        self.request.recorded(self.scope.as_of_ms)
    }

    /// The fields that this process sets when it takes the run.
    pub(super) fn always(&self) -> Vec<(&'static str, String)> {
        let leg = match self.request.kind() {
            RunKind::Replay => self.replay.name().to_string(),
            RunKind::Discard => String::new(),
        };
        let mut fields = self.before.fields();
        fields.extend([
            ("leg", leg),
            ("base", self.before.done.to_string()),
            ("ended", String::new()),
            ("problem", String::new()),
        ]);
        fields
    }

    /// Does the work, and reports about it. `what` is for the audit stream.
    pub(super) async fn run(self, shut_down: CancellationToken, what: Value) {
        // Without a connection the heartbeat stays silent, and the run is interrupted.
        let Ok(mut backend) = Backend::connect(&self.config.redis).await else { return };
        let mut reporter = Reporter {
            keys: backend.common_keys(),
            link: backend.another_link(),
            name: self.name.as_str().to_owned(),
            token: self.token.clone(),
        };
        let halt = shut_down.child_token();
        let (to, counts) = watch::channel(StepCounts::default());
        let (mut is_stopped, mut is_lost) = (false, false);
        let ended = {
            let work = self.work(&backend, &to, &halt);
            tokio::pin!(work);
            let mut ticks = interval(BEAT);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    ended = &mut work => break ended,
                    _ = ticks.tick() => {}
                }
                let so_far = sum(&self.before, &counts.borrow().clone());
                // A heartbeat that fails is made up for by the next.
                match reporter.beat(RunState::Running, so_far.fields()).await {
                    Ok(Beat::Stop) => is_stopped = true,
                    Ok(Beat::Lost) => is_lost = true,
                    Ok(Beat::GoesOn) | Err(_) => {}
                }
                if is_stopped || is_lost {
                    halt.cancel();
                }
            }
        };
        if is_lost {
            return;
        }
        let Ended { counts, outcomes, result } = ended;
        let (state, problem) = match result {
            Err(error) => (RunState::Interrupted, error.to_string()),
            Ok(()) if is_stopped => (RunState::Stopped, String::new()),
            Ok(()) if halt.is_cancelled() => (RunState::Interrupted, "its process was told to stop".to_owned()),
            Ok(()) => (RunState::Done, String::new()),
        };
        reporter.end(state, problem, sum(&self.before, &counts)).await;
        let action = self.request.kind().ended();
        // Where Redis is gone, the run stays interrupted and is recorded when it is continued.
        let _ = backend.record(&self.actor, action, &what, counts.tally.replayed).await;
        if let Some(outcomes) = outcomes.filter(|_| state != RunState::Interrupted) {
            self.follow(&mut reporter, state, counts, outcomes, &shut_down).await;
        }
    }

    async fn work(&self, backend: &Backend<'_>, to: &watch::Sender<StepCounts>, halt: &CancellationToken) -> Ended {
        match &self.request {
            RunRequest::Replay(request) => self.replay(backend, request, to, halt).await,
            RunRequest::Discard(filter) => {
                let removed = Removed::publishing_to(to.clone());
                let mut count = 0;
                let what = (filter, &self.scope, self.left);
                let result = discard::remove(backend, what, &removed, halt, &mut count).await;
                let counts = to.borrow().clone();
                Ended { counts, outcomes: None, result }
            }
        }
    }

    async fn replay(
        &self,
        backend: &Backend<'_>,
        request: &ReplayRequest,
        to: &watch::Sender<StepCounts>,
        halt: &CancellationToken,
    ) -> Ended {
        let outcomes = match Outcomes::follow(backend.redis()).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let result = Err(Error::queue(backend.redis(), error));
                return Ended { counts: StepCounts::default(), outcomes: None, result };
            }
        };
        let way = (backend.another_link(), backend.keys());
        let mut replayer = Replayer::new(way, self.replay.clone(), request.rate, Some(outcomes), &NoProgress, halt)
            .publish_to(to.clone());
        let asked = (request, request.allowed(&self.config));
        let result = replay::move_letters(backend, asked, &self.scope, self.left, &mut replayer).await;
        let (_, outcomes) = replayer.finish();
        let counts = to.borrow().clone();
        Ended { counts, outcomes, result }
    }

    /// Follows the replayed jobs to their end.
    async fn follow(
        &self,
        reporter: &mut Reporter,
        state: RunState,
        mut counts: StepCounts,
        mut outcomes: Outcomes,
        shut_down: &CancellationToken,
    ) {
        let until = Instant::now() + FOLLOW;
        while outcomes.outstanding() > 0 && Instant::now() < until && !shut_down.is_cancelled() {
            let before = outcomes.outstanding();
            tokio::select! {
                () = outcomes.wait(BEAT) => {}
                () = shut_down.cancelled() => {}
            }
            if outcomes.outstanding() != before {
                counts.outcomes.clone_from(outcomes.counts());
                counts.outstanding = outcomes.outstanding();
                // What fails is in the next report, or missing at the end.
                let _ = reporter.beat(state, sum(&self.before, &counts).fields()).await;
            }
        }
    }
}

/// Writes how far the run is.
struct Reporter {
    keys: Keys,
    link: Link,
    name: String,
    token: String,
}

impl Reporter {
    async fn beat(&mut self, state: RunState, fields: Vec<(&'static str, String)>) -> Result<Beat, RedisError> {
        let run = (self.name.as_str(), self.token.as_str());
        runs::beat(&mut self.link, &self.keys, run, state.as_str(), &fields).await
    }

    /// Records the end. The request is no longer needed unless the run can be continued.
    async fn end(&mut self, state: RunState, problem: String, counts: Counts) {
        let ended_ms = clock::now_ms(&mut self.link).await.unwrap_or(0);
        let mut fields = counts.fields();
        fields.extend([("problem", problem), ("ended", ended_ms.to_string())]);
        if state != RunState::Interrupted {
            fields.push(("request", String::new()));
        }
        let mut patience = Patience::default();
        while let Err(error) = self.beat(state, fields.clone()).await {
            if patience.after(error).await.is_err() {
                return;
            }
        }
    }
}
