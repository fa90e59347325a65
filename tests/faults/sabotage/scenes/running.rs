//! Runs of replays and discards: `run_claim.lua`, `run_beat.lua`.

use super::{Facts, Scene, Snapshot, Stage};
use rand::Rng;
use xco_worker::queue::{
    Link,
    runs::{self, Beat, Claim, ClaimRequest},
};

const NAME: &str = "r-night";

async fn known_run(stage: &Stage, status: &str, owner: &str) {
    let mut set = redis::cmd("HSET");
    set.arg(stage.keys.run(NAME)).arg("digest").arg("d").arg("state").arg(status).arg("owner").arg(owner);
    stage.run::<()>(set.arg("done").arg(7).arg("by").arg("ada")).await;
    stage.run::<()>(redis::cmd("EXPIRE").arg(stage.keys.run(NAME)).arg(600)).await;
}

/// A process takes a run that is new, or one that was given back.
#[derive(Debug)]
pub(crate) struct Claiming {
    answer: Option<Claim>,
}

impl Scene for Claiming {
    async fn prepare(stage: &mut Stage) -> Self {
        if stage.rng.random_bool(0.5) {
            known_run(stage, "interrupted", "former").await;
        }
        // One that went on long ago, and the list of it.
        stage.run::<()>(redis::cmd("ZADD").arg(stage.keys.live_runs()).arg(7).arg("r-gone")).await;
        Self { answer: None }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let always = [("done", "7".to_owned())];
        let new = [("by", "ada".to_owned())];
        let request = ClaimRequest { name: NAME, digest: "d", token: "mine", always: &always, new: &new };
        let answer = runs::claim(link, &stage.keys, request).await.map_err(|error| error.to_string())?;
        self.answer = Some(answer);
        Ok(true)
    }

    fn more_facts(&self, _snapshot: &Snapshot, facts: &mut Facts) {
        let is_mine = matches!(self.answer, Some(Claim::Begun | Claim::TakenOver));
        facts.note("", "the run is mine", &is_mine);
    }

    fn may_run_ahead(fact: &str) -> bool {
        // A name in a list is harmless alone: it is not counted for long.
        fact == "the run is mine" || fact.contains("runs")
    }

    fn may_be_lost(fact: &str) -> bool {
        fact.starts_with("expires")
    }

    fn check(&self, calm: &Facts) {
        let run = calm.get("", &format!("run:{NAME}"));
        assert!(run.contains(r#""owner": "mine""#) && run.contains(r#""state": "running""#), "{run}");
        assert!(run.contains(r#""by": "ada""#) && calm.get("", "runs:live") == r#"["r-night"]"#, "{calm:?}");
    }
}

/// A process reports how far its run is.
#[derive(Debug)]
pub(crate) struct Beating {
    state: &'static str,
    answer: Option<Beat>,
}

impl Scene for Beating {
    async fn prepare(stage: &mut Stage) -> Self {
        let status = if stage.rng.random_bool(0.5) { "running" } else { "done" };
        known_run(stage, "running", "mine").await;
        stage.run::<()>(redis::cmd("ZADD").arg(stage.keys.live_runs()).arg(7).arg(NAME)).await;
        stage.run::<()>(redis::cmd("EXPIRE").arg(stage.keys.live_runs()).arg(600)).await;
        Self { state: status, answer: None }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let fields = [("done", "9".to_owned())];
        let answer = runs::beat(link, &stage.keys, (NAME, "mine"), self.state, &fields).await;
        self.answer = Some(answer.map_err(|error| error.to_string())?);
        Ok(true)
    }

    fn more_facts(&self, _snapshot: &Snapshot, facts: &mut Facts) {
        facts.note("", "recorded", &(self.answer == Some(Beat::GoesOn)));
    }

    fn may_run_ahead(fact: &str) -> bool {
        fact == "recorded" || fact.contains("runs:live")
    }

    fn may_be_lost(fact: &str) -> bool {
        fact.starts_with("expires")
    }

    fn check(&self, calm: &Facts) {
        let run = calm.get("", &format!("run:{NAME}"));
        assert!(run.contains(r#""done": "9""#) && run.contains(self.state), "{run}");
    }
}
