//! What is played.

use super::{
    people::{Customer, People, mistyped},
    stage::{Cue, Stage},
};
use crate::{
    contract::{Outcome, Status},
    sandbox::{Fault, Route},
};
use anyhow::Context as _;
use serde_json::json;
use std::time::Duration;

/// Calls a second that one caller may make in the demo, and at once after a pause.
pub(super) const CALLER_RATE: u32 = 4;
/// How many lookups the impatient caller wants at once.
const IMPATIENT: u32 = 12;
const OUTAGE: Duration = Duration::from_secs(1);

/// The whole sample.
pub(super) async fn play(stage: &mut Stage<'_>, people: &mut People, signups: u32) -> anyhow::Result<()> {
    let known = sign_up(stage, people, signups).await?;
    type_codes(stage, &known).await?;
    impatience(stage, people).await?;
    too_many_requests(stage, people).await?;
    outage(stage, people).await?;
    mistakes(stage, people).await?;
    backfill(stage, people).await
}

/// One more customer, all the way through.
pub(super) async fn one_more(stage: &mut Stage<'_>, people: &mut People) -> anyhow::Result<()> {
    let customer = people.next();
    enter(stage, &customer);
    stage.play(vec![Cue::now(customer.signup())]).await?;
    if customer.known {
        let code = code_of(stage, &customer)?;
        let id = format!("{}/consent", customer.id);
        stage.expect(&id, Outcome::Consented);
        stage.play(vec![Cue::now(customer.consent(&id, &code))]).await?;
    }
    Ok(())
}

async fn sign_up(stage: &mut Stage<'_>, people: &mut People, signups: u32) -> anyhow::Result<Vec<Customer>> {
    let customers: Vec<Customer> = (0..signups).map(|_| people.next()).collect();
    let known = customers.iter().filter(|customer| customer.known).count();
    stage.teller.act(
        &format!("{signups} customers sign up"),
        &[
            "The shop enqueues one CheckUser each. Its `next` says what follows, without the shop asking again:",
            &format!(
                "CreateUser for the {} whom XCO does not know, a one-time code for the {known} whom it knows.",
                customers.len() - known
            ),
        ],
    )?;
    for customer in &customers {
        enter(stage, customer);
    }
    let pause = (Duration::from_millis(1500) / signups.max(1)).min(Duration::from_millis(75));
    stage.play(customers.iter().map(|customer| Cue::after(customer.signup(), pause)).collect()).await?;
    Ok(customers.into_iter().filter(|customer| customer.known).collect())
}

/// Tells the simulator about a known customer, and the stage what to expect.
fn enter(stage: &mut Stage<'_>, customer: &Customer) {
    if customer.known {
        stage.sandbox.seed_user(&customer.account());
        stage.expect(&customer.id, Outcome::Exists);
        stage.expect(&format!("{}/exists", customer.id), Outcome::OtpSent);
    } else {
        stage.expect(&customer.id, Outcome::Absent);
        stage.expect(&format!("{}/absent", customer.id), Outcome::Created);
    }
}

fn code_of(stage: &Stage<'_>, customer: &Customer) -> anyhow::Result<String> {
    stage.sandbox.otp(&customer.email()).with_context(|| format!("no code was sent to {}", customer.id))
}

async fn type_codes(stage: &mut Stage<'_>, known: &[Customer]) -> anyhow::Result<()> {
    let Some((clumsy, others)) = known.split_first() else { return Ok(()) };
    stage.teller.act(
        "Known customers type their codes",
        &[
            "FinalizeConsent verifies the code, then creates the consent; a retry would never spend the code twice.",
            "One mistypes it: that job fails at once as `invalid_code`, and the shop asks again.",
        ],
    )?;
    let code = code_of(stage, clumsy)?;
    let (wrong, right) = (format!("{}/consent-1", clumsy.id), format!("{}/consent-2", clumsy.id));
    stage.expect_failure(&wrong, Status::Failed);
    let mut cues = vec![Cue::now(clumsy.consent(&wrong, &mistyped(&code)))];
    for customer in others {
        let id = format!("{}/consent", customer.id);
        stage.expect(&id, Outcome::Consented);
        cues.push(Cue::now(customer.consent(&id, &code_of(stage, customer)?)));
    }
    stage.play(cues).await?;
    stage.expect(&right, Outcome::Consented);
    stage.play(vec![Cue::now(clumsy.consent(&right, &code))]).await
}

async fn impatience(stage: &mut Stage<'_>, people: &mut People) -> anyhow::Result<()> {
    stage.teller.act(
        "One caller is impatient",
        &[
            &format!(
                "{IMPATIENT} lookups at once from one browser, where limits.caller allows {CALLER_RATE} a second:"
            ),
            "each waits for its own slot, outside of the worker. Three other customers, who come later, do not wait.",
        ],
    )?;
    let mut cues = Vec::new();
    for n in 1..=IMPATIENT {
        let customer = people.customer(format!("impatient-{n:02}"), false);
        stage.expect(&customer.id, Outcome::Absent);
        cues.push(Cue::now(customer.check("session-impatient")));
    }
    for n in 1..=3 {
        let customer = people.customer(format!("patient-{n}"), false);
        stage.expect(&customer.id, Outcome::Absent);
        cues.push(Cue::now(customer.check(&format!("session-patient-{n}"))));
    }
    stage.play(cues).await
}

async fn too_many_requests(stage: &mut Stage<'_>, people: &mut People) -> anyhow::Result<()> {
    stage.teller.act(
        "XCO says 429 to another",
        &["`Retry-After: 1`. That caller alone is closed for a second, for every worker; no attempt is spent."],
    )?;
    let throttled = "session-throttled";
    let fault = Fault::status(429).retry_after("1").on(Route::Exists);
    stage.sandbox.order(Fault { caller_id: Some(throttled.to_owned()), ..fault });
    let mut cues = Vec::new();
    for (id, caller) in [("throttled", throttled), ("unaffected", "session-unaffected")] {
        let customer = people.customer(id.to_owned(), false);
        stage.expect(&customer.id, Outcome::Absent);
        cues.push(Cue::now(customer.check(caller)));
    }
    stage.play(cues).await
}

async fn outage(stage: &mut Stage<'_>, people: &mut People) -> anyhow::Result<()> {
    stage.teller.act(
        "XCO is down for a second",
        &["Every call is answered 503. Jobs are tried again, later and later, each at a moment of its own."],
    )?;
    stage.sandbox.outage(503, Some(OUTAGE));
    let mut cues = Vec::new();
    for n in 1..=8 {
        let customer = people.customer(format!("outage-{n}"), false);
        stage.expect(&customer.id, Outcome::Absent);
        cues.push(Cue::now(customer.check(&format!("session-outage-{n}"))));
    }
    stage.play(cues).await
}

async fn mistakes(stage: &mut Stage<'_>, people: &mut People) -> anyhow::Result<()> {
    stage.teller.act(
        "The shop makes two mistakes",
        &[
            "A malformed job is rejected with the place of each fault, and no call to XCO.",
            "A job enqueued twice under one id runs once: enqueueing again after a lost connection is safe.",
        ],
    )?;
    let malformed = json!({"id": "malformed", "type": "CheckUser", "caller_id": "session-malformed", "args": {
        "email": "nobody at example.com", "nickname": "nobody"}});
    stage.expect_failure("malformed", Status::Rejected);
    let twice = people.customer("enqueued-twice".to_owned(), false);
    stage.expect(&twice.id, Outcome::Absent);
    let job = || twice.check("session-twice");
    stage.play(vec![Cue::now(malformed), Cue::now(job()), Cue::now(job())]).await
}

async fn backfill(stage: &mut Stage<'_>, people: &mut People) -> anyhow::Result<()> {
    stage
        .teller
        .act("A backfill in the bulk lane", &["Nobody waits for these: customers go first, whatever the backlog."])?;
    let mut cues = Vec::new();
    for n in 1..=10 {
        let customer = people.customer(format!("backfill-{n:02}"), false);
        stage.expect(&customer.id, Outcome::Created);
        cues.push(Cue::bulk(customer.create("backfill")));
    }
    let customer = people.customer("in-between".to_owned(), false);
    stage.expect(&customer.id, Outcome::Absent);
    cues.push(Cue::now(customer.check("session-in-between")));
    stage.play(cues).await
}
