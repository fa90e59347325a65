//! The jobs: where each is, and what it is about. A job's number says everything.

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Ended,
    Delayed,
    Running,
    Waiting,
}

/// Batches, of which each has a thousandth of the jobs.
const BATCHES: u64 = 1_000;
/// Jobs of a pipeline.
const AT_ONCE: usize = 10_000;

/// How many jobs are where.
pub(crate) struct Plan {
    /// By place, in the order of [`Place`]: the first number, and the number after the last.
    places: [(u64, u64); 4],
}

/// What a job is about.
pub(crate) struct Example {
    pub(crate) id: String,
    pub(crate) customer: String,
    pub(crate) email: String,
    pub(crate) batch: String,
}

impl Example {
    fn of(number: u64) -> Self {
        Self {
            id: format!("job-{number:08}"),
            customer: format!("customer-{number:08}"),
            email: format!("Customer.{number:08}@example.com"),
            batch: format!("batch-{:03}", number % BATCHES),
        }
    }
}

impl Plan {
    pub(crate) fn new(count: u64) -> Self {
        let (fourth, running) = (count / 4, (count / 20).clamp(2, 1_000));
        let ends = [fourth, 2 * fourth, 2 * fourth + running, count];
        let mut from = 0;
        Self { places: ends.map(|end| (std::mem::replace(&mut from, end), end)) }
    }

    pub(crate) fn count(&self, place: Place) -> u64 {
        let (from, end) = self.places[place as usize];
        end - from
    }

    /// How many of the ended jobs have a dead letter.
    pub(crate) fn dead(&self) -> u64 {
        self.count(Place::Ended) / 20
    }

    /// How many of them one page of a list has.
    pub(crate) fn listed_dead(&self) -> usize {
        usize::try_from(self.dead().min(1_000)).unwrap()
    }

    /// A job in the middle of those of a place.
    pub(crate) fn example(&self, place: Place) -> Example {
        let (from, end) = self.places[place as usize];
        Example::of(from.midpoint(end))
    }

    /// The job that waits last.
    pub(crate) fn last(&self) -> Example {
        Example::of(self.places[Place::Waiting as usize].1 - 1)
    }

    /// How many jobs a batch has, in all places.
    pub(crate) fn in_batch(&self, batch: &str) -> usize {
        let all = 0..self.places[Place::Waiting as usize].1;
        all.filter(|number| Example::of(*number).batch == batch).count()
    }

    pub(crate) fn describe(&self) -> String {
        let [ended, delayed, running, waiting] =
            [Place::Ended, Place::Delayed, Place::Running, Place::Waiting].map(|place| self.count(place));
        let dead = self.dead();
        format!("{ended} ended ({dead} with a dead letter), {delayed} delayed, {running} running, {waiting} waiting")
    }

    /// Adds the jobs of a place to their lanes: every fifth is interactive.
    pub(crate) fn add(&self, connection: &mut redis::Connection, place: Place) {
        let (from, end) = self.places[place as usize];
        let numbers: Vec<u64> = (from..end).collect();
        for chunk in numbers.chunks(AT_ONCE) {
            let mut adds = redis::pipe();
            for number in chunk {
                let lane = if number % 5 == 0 { "interactive" } else { "bulk" };
                let job = job(*number, place);
                adds.cmd("XADD").arg(format!("{{xco:0}}:jobs:{lane}")).arg("*").arg("job").arg(job).ignore();
            }
            adds.exec(connection).unwrap();
        }
    }
}

fn job(number: u64, place: Place) -> String {
    let Example { id, customer, email, batch } = Example::of(number);
    let run_at = if place == Place::Delayed { r#""run_at":"2099-01-01T00:00:00Z","# } else { "" };
    let (job_type, args) = if number.is_multiple_of(2) {
        ("CheckUser", format!(r#"{{"email":"{email}"}}"#))
    } else {
        let address = r#"[{"address_type":"billing","street_address":"12 rue de la Paix","locality":"Paris","postal_code":"75002"}]"#;
        let user = format!(
            r#"{{"email":"{email}","first_name":"Ada","last_name":"Byron","phone_number":"+33612345678","addresses":{address}}}"#
        );
        ("CreateUser", format!(r#"{{"customer_reference":"{customer}","user":{user}}}"#))
    };
    format!(
        r#"{{"id":"{id}","type":"{job_type}","caller_id":"{customer}","customer_reference":"{customer}","batch":"{batch}",{run_at}"args":{args}}}"#
    )
}
