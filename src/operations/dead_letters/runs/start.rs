//! Starting a run, or continuing one.

use super::{
    error::RunError,
    name::RunName,
    plan::{self, Plan},
    record::{Counts, Record, RunReport, RunState},
    request::{RunKind, RunRequest, forced, nothing_fits},
    work::Task,
};
use crate::{
    config::{Config, format_rate},
    dead_letters::Filter,
    operations::{
        Actor, Backend, Error, MerchantScope,
        dead_letters::{
            group,
            replay::{self, ReplayRequest},
        },
    },
    queue::{
        clock,
        runs::{self, Claim, ClaimRequest, Fields},
    },
};
use serde_json::json;
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// What is to be started. No `Debug`: an edit may be about a person.
#[derive(Clone)]
pub struct StartRequest {
    /// What to do.
    pub work: Work,
    /// What the run is called. `None`: the name that belongs to the plan, or a new one.
    pub name: Option<RunName>,
    /// The merchants to whom the user is restricted. They replace those of the filter.
    pub merchants: MerchantScope,
}

/// What a run is to do.
#[derive(Clone)]
pub enum Work {
    /// What a plan counted.
    Plan {
        /// The id of the plan.
        id: String,
        /// What the plan must be of.
        kind: RunKind,
    },
    /// A replay, planned now.
    Replay(ReplayRequest),
    /// A discard, planned now.
    Discard(Filter),
    /// The rest of an interrupted run, which must be named.
    Rest(RunKind),
}

/// The runs of this process. They stop when it is told to shut down, and are then `interrupted`.
#[derive(Debug, Clone)]
pub struct Runs {
    config: Arc<Config>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Runs {
    /// `config` must hold the limits that the workers have.
    pub fn new(config: Arc<Config>) -> Self {
        Self { config, tasks: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Stops all runs of this process and waits until that is recorded. Another process can continue them at once.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts a run in a task of this process. Where a run with this name is known, and was asked the same: continues it if it is
    /// interrupted, with the dead letters that are left of those that it began with; otherwise returns how far it is.
    ///
    /// The actor is recorded in the audit stream before and after.
    ///
    /// # Errors
    /// [`RunError::PlanOutdated`], [`RunError::TooManyRuns`], [`RunError::NameTaken`], [`RunError::UnknownRun`] for the rest of a run
    /// that is not there, [`RunError::TooLarge`], [`RunError::Operation`].
    pub async fn start(
        &self,
        backend: &mut Backend<'_>,
        actor: &Actor,
        request: StartRequest,
    ) -> Result<RunReport, RunError> {
        let StartRequest { work, name, merchants } = request;
        let work = force(work, &merchants);
        let name = match (&work, name) {
            (_, Some(name)) => name,
            (Work::Plan { id, .. }, None) => RunName::of_plan(id),
            (_, None) => RunName::random(),
        };
        let (keys, failed) = (backend.common_keys(), backend.failed());
        let known = runs::read(&mut backend.link, &keys, name.as_str()).await.map_err(&failed)?;
        if known.is_empty() {
            let plan = self.plan(backend, &work, &merchants).await?;
            let plan_id = if let Work::Plan { id, .. } = &work { id } else { "" };
            return self.begin(backend, actor, name, plan, plan_id).await;
        }
        let now_ms = clock::now_ms(&mut backend.link).await.map_err(failed)?;
        let record = Record::new(name.as_str(), &known, now_ms);
        if !record.is_visible_to(&merchants) || !is_same(&record, &work)? {
            return Err(if matches!(work, Work::Rest(_)) { RunError::UnknownRun } else { RunError::NameTaken });
        }
        if record.state() != RunState::Interrupted {
            return Ok(record.report());
        }
        self.take_over(backend, actor, name.clone(), &record).await
    }

    async fn plan(&self, backend: &mut Backend<'_>, work: &Work, merchants: &MerchantScope) -> Result<Plan, RunError> {
        let plan = match work {
            Work::Rest(_) => return Err(RunError::UnknownRun),
            Work::Plan { id, kind } => {
                let plan = plan::find(backend, id, *kind).await?;
                let is_theirs = plan.request.filter().merchants == *merchants;
                if !is_theirs || plan.of == 0 || !self.fits(backend, &plan).await? {
                    return Err(RunError::PlanOutdated);
                }
                plan
            }
            Work::Replay(request) => plan::count_replay(backend, &self.config, request.clone()).await?.0,
            Work::Discard(filter) => plan::count_discard(backend, filter.clone()).await?.0,
        };
        if plan.of == 0 { Err(nothing_fits()) } else { Ok(plan) }
    }

    /// Whether anything is left of what a plan counted.
    async fn fits(&self, backend: &Backend<'_>, plan: &Plan) -> Result<bool, Error> {
        match &plan.request {
            RunRequest::Replay(request) => {
                replay::any_fits(backend, (request, request.allowed(&self.config)), &plan.scope).await
            }
            RunRequest::Discard(filter) => group::any_fits(backend, filter, &plan.scope).await,
        }
    }

    async fn begin(
        &self,
        backend: &mut Backend<'_>,
        actor: &Actor,
        name: RunName,
        plan: Plan,
        plan_id: &str,
    ) -> Result<RunReport, RunError> {
        let Plan { request, scope, of } = plan;
        let what = request.recorded(scope.as_of_ms);
        let rate = if let RunRequest::Replay(request) = &request { format_rate(request.rate) } else { String::new() };
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        let new = [
            ("kind", request.kind().as_str().to_owned()),
            ("by", actor.name().to_owned()),
            ("of", of.to_string()),
            ("rate", rate),
            ("plan", plan_id.to_owned()),
            ("filter", what["filter"].to_string()),
            ("request", request.to_json()?),
            ("scope", json(serde_json::to_string(&scope))),
            ("merchants", json(serde_json::to_string(&request.filter().merchants))),
        ];
        let digest = request.digest()?;
        let task = Task::new(Arc::clone(&self.config), actor.clone(), name, request, scope, of, Counts::default());
        self.claim(backend, task, &digest, &new).await
    }

    /// Continues an interrupted run.
    async fn take_over(
        &self,
        backend: &mut Backend<'_>,
        actor: &Actor,
        name: RunName,
        record: &Record<'_>,
    ) -> Result<RunReport, RunError> {
        let (Some(request), Some(scope)) = (record.request(), record.scope()) else {
            return Err(RunError::UnknownRun);
        };
        let mut counts = record.counts();
        let scope = match counts.at {
            Some((partition, entry)) => scope.after(partition, entry),
            None => scope,
        };
        if let (Some(leg), before) = record.leg() {
            // The last second of the former process is in no heartbeat, but in the receipts of its steps.
            counts.done = counts.done.max(before.saturating_add(moved_by(backend, leg).await?));
        }
        counts.outstanding = 0;
        let left = record.of().saturating_sub(counts.taken());
        let task = Task::new(Arc::clone(&self.config), actor.clone(), name, request, scope, left, counts);
        self.claim(backend, task, record.digest(), &[]).await
    }

    async fn claim(
        &self,
        backend: &mut Backend<'_>,
        task: Task,
        digest: &str,
        new: &[(&str, String)],
    ) -> Result<RunReport, RunError> {
        let (keys, failed) = (backend.common_keys(), backend.failed());
        let always = task.always();
        let request = ClaimRequest { name: task.name(), digest, token: task.token(), always: &always, new };
        let claim = runs::claim(&mut backend.link, &keys, request).await.map_err(&failed)?;
        match claim {
            Claim::TooMany => return Err(RunError::TooManyRuns),
            Claim::Different => return Err(RunError::NameTaken),
            Claim::Known => return report(backend, task.name()).await,
            Claim::Begun | Claim::TakenOver => {}
        }
        let report = report(backend, task.name()).await?;
        let mut what = task.recorded();
        what["run"] = json!(task.name());
        if claim == Claim::TakenOver {
            what["continued"] = true.into();
        }
        if let Err(error) = backend.record(task.actor(), report.kind.action(), &what, task.left()).await {
            // An action that cannot be recorded must not begin.
            let (name, state) = ((task.name(), task.token()), RunState::Interrupted.as_str());
            let _ = runs::beat(&mut backend.link, &keys, name, state, &[]).await;
            return Err(error.into());
        }
        self.tasks.spawn(task.run(self.stop.clone(), what));
        Ok(report)
    }
}

async fn report(backend: &mut Backend<'_>, name: &str) -> Result<RunReport, RunError> {
    let (keys, failed) = (backend.common_keys(), backend.failed());
    let fields: Fields = runs::read(&mut backend.link, &keys, name).await.map_err(&failed)?;
    let now_ms = clock::now_ms(&mut backend.link).await.map_err(failed)?;
    Ok(Record::new(name, &fields, now_ms).report())
}

fn force(work: Work, merchants: &MerchantScope) -> Work {
    match work {
        Work::Replay(request) => {
            Work::Replay(ReplayRequest { filter: forced(request.filter.clone(), merchants), ..request })
        }
        Work::Discard(filter) => Work::Discard(forced(filter, merchants)),
        work @ (Work::Plan { .. } | Work::Rest(_)) => work,
    }
}

/// Whether a run was asked to do this work.
fn is_same(record: &Record<'_>, work: &Work) -> Result<bool, RunError> {
    Ok(match work {
        Work::Plan { id, kind } => record.plan() == id && record.kind() == *kind,
        Work::Replay(request) => record.digest() == RunRequest::Replay(request.clone()).digest()?,
        Work::Discard(filter) => record.digest() == RunRequest::Discard(filter.clone()).digest()?,
        Work::Rest(kind) => record.kind() == *kind,
    })
}

/// How many dead letters a replay moved, over the partitions.
async fn moved_by(backend: &mut Backend<'_>, replay: u32) -> Result<u64, Error> {
    let failed = backend.failed();
    let mut moved = 0_u64;
    for keys in backend.keys() {
        moved = moved.saturating_add(runs::moved_by(&mut backend.link, &keys, replay).await.map_err(&failed)?);
    }
    Ok(moved)
}
