//! `replay.lua`: dead letters go back into the bulk lane.

use super::{Facts, Job, Scene, Snapshot, Stage, is_counter};
use rand::{Rng, seq::IndexedRandom};
use xco_worker::{
    contract::Lane,
    queue::{
        Link, Source,
        dead_letters::{Replay, ReplayRun, Replayed},
    },
};

pub(crate) struct Replaying {
    jobs: Vec<Job>,
    letters: Vec<Replay>,
    run: ReplayRun,
    answers: Vec<Replayed>,
}

impl Scene for Replaying {
    async fn prepare(stage: &mut Stage) -> Self {
        let (mut jobs, mut letters) = (Vec::new(), Vec::new());
        for n in 0..stage.rng.random_range(1..5) {
            let lane = stage.lane();
            let job = stage.job(lane, Source::Jobs);
            // One of them has been removed, and the id of another belongs to a different job.
            if n != 2 {
                let mut add = redis::cmd("XADD");
                add.arg(&stage.keys.dead).arg(job.entry.to_string()).arg("id").arg(&job.id).arg("job").arg(&job.text);
                stage.run::<String>(&add).await;
            }
            let holder = if n == 3 { format!("interactive:0:{}-9", stage.base_ms) } else { job.origin.clone() };
            if stage.rng.random_bool(0.7) {
                stage.reserve(&job.id, &Stage::holder(&holder)).await;
            } else {
                stage.reserve_as_before(&job.id, &holder).await;
            }
            let status = *["failed", "rejected", "new"].choose(&mut stage.rng).unwrap();
            let batch = stage.rng.random_bool(0.6).then(|| (format!("b{}", n % 2), status));
            if let Some((batch, "failed" | "rejected")) = &batch {
                let key = stage.keys.batch(batch);
                stage.run::<()>(redis::cmd("HINCRBY").arg(&key).arg(status).arg(1)).await;
                stage.run::<()>(redis::cmd("EXPIRE").arg(&key).arg(600)).await;
            }
            let original = stage.rng.random_bool(0.4).then(|| r#"{"id":"as it was"}"#.to_owned());
            letters.push(Replay {
                entry: job.entry,
                id: job.id.clone(),
                job: job.text.clone(),
                state: job.state.clone(),
                held_by: job.origin.clone(),
                batch,
                original,
            });
            jobs.push(job);
        }
        let mut run = ReplayRun::new("ada".to_owned(), Stage::index());
        run.next_step();
        Self { jobs, letters, run, answers: Vec::new() }
    }

    async fn call(&mut self, stage: &Stage, link: &mut Link) -> Result<bool, String> {
        let replayed = self.run.replay(link, &stage.keys, &self.letters).await;
        self.answers = replayed.map_err(|error| error.to_string())?;
        Ok(true)
    }

    fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    fn more_facts(&self, snapshot: &Snapshot, facts: &mut Facts) {
        for (job, answer) in self.jobs.iter().zip(&self.answers) {
            facts.note(&job.id, "answer", &format!("{answer:?}"));
        }
        // Replayed jobs come from the bulk lane.
        let strays = snapshot.entries(&format!("due:{}", Lane::Interactive)).len();
        facts.note("", "in the interactive lane", &strays);
    }

    fn may_run_ahead(fact: &str) -> bool {
        fact == "answer"
    }

    fn may_be_lost(fact: &str) -> bool {
        is_counter(fact)
    }

    fn check(&self, calm: &Facts) {
        let moved = self.jobs.len().min(2);
        assert_eq!(calm.jobs_with("times back in its lane", "1"), moved);
        assert_eq!(calm.jobs_with("its id is held by", "its replay"), moved);
        assert_eq!(calm.jobs_with("letters", "1"), usize::from(self.jobs.len() > 3));
    }
}
