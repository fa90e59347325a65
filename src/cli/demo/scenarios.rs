//! The scenarios of the demo, in their order.

use super::{
    customers::{Customer, Customers, mistyped},
    runner::{Runner, Step},
};
use crate::{
    contract::{Outcome, Status},
    sandbox::{Fault, Route},
};
use anyhow::Context as _;
use serde_json::json;
use std::time::Duration;

/// Calls that one caller may make in a second, and at once.
pub(super) const CALLER_RATE: u32 = 4;
/// Number of lookups that the impatient caller wants at once.
const IMPATIENT: u32 = 12;
/// Number of existing customers that the backfill brings: several times the calls at once.
const BACKFILL: u32 = 40;
const OUTAGE: Duration = Duration::from_secs(1);

/// Plays the whole sample.
pub(super) async fn play(runner: &mut Runner<'_>, customers: &mut Customers, signups: u32) -> anyhow::Result<()> {
    let known = sign_up(runner, customers, signups).await?;
    type_codes(runner, &known).await?;
    impatience(runner, customers).await?;
    too_many_requests(runner, customers).await?;
    outage(runner, customers).await?;
    mistakes(runner, customers).await?;
    backfill(runner, customers).await
}

/// Plays one more signup from start to end.
pub(super) async fn one_more(runner: &mut Runner<'_>, customers: &mut Customers) -> anyhow::Result<()> {
    let customer = customers.next();
    enter(runner, &customer);
    runner.play(vec![Step::now(customer.signup())]).await?;
    if customer.known {
        let code = code_of(runner, &customer)?;
        let id = format!("{}/consent", customer.id);
        runner.expect(&id, Outcome::Consented);
        runner.play(vec![Step::now(customer.consent(&id, &code))]).await?;
    }
    Ok(())
}

async fn sign_up(runner: &mut Runner<'_>, customers: &mut Customers, signups: u32) -> anyhow::Result<Vec<Customer>> {
    let customers: Vec<Customer> = (0..signups).map(|_| customers.next()).collect();
    let known = customers.iter().filter(|customer| customer.known).count();
    runner.narrator.begin(
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
        enter(runner, customer);
    }
    let pause = (Duration::from_millis(1500) / signups.max(1)).min(Duration::from_millis(75));
    runner.play(customers.iter().map(|customer| Step::after(customer.signup(), pause)).collect()).await?;
    Ok(customers.into_iter().filter(|customer| customer.known).collect())
}

/// Adds a known customer's account to the simulator, and tells the runner what to expect.
fn enter(runner: &mut Runner<'_>, customer: &Customer) {
    if customer.known {
        runner.sandbox.seed_user(&customer.account());
        runner.expect(&customer.id, Outcome::Exists);
        runner.expect(&format!("{}/exists", customer.id), Outcome::OtpSent);
    } else {
        runner.expect(&customer.id, Outcome::Absent);
        runner.expect(&format!("{}/absent", customer.id), Outcome::Created);
    }
}

fn code_of(runner: &Runner<'_>, customer: &Customer) -> anyhow::Result<String> {
    runner.sandbox.otp(&customer.email()).with_context(|| format!("no code was sent to {}", customer.id))
}

async fn type_codes(runner: &mut Runner<'_>, known: &[Customer]) -> anyhow::Result<()> {
    let Some((clumsy, others)) = known.split_first() else { return Ok(()) };
    runner.narrator.begin(
        "Known customers type their codes",
        &[
            "FinalizeConsent verifies the code, then creates the consent; a retry would never spend the code twice.",
            "One mistypes it: that job fails at once as `invalid_code`, and the shop asks again.",
        ],
    )?;
    let code = code_of(runner, clumsy)?;
    let (wrong, right) = (format!("{}/consent-1", clumsy.id), format!("{}/consent-2", clumsy.id));
    runner.expect_failure(&wrong, Status::Failed);
    let mut steps = vec![Step::now(clumsy.consent(&wrong, &mistyped(&code)))];
    for customer in others {
        let id = format!("{}/consent", customer.id);
        runner.expect(&id, Outcome::Consented);
        steps.push(Step::now(customer.consent(&id, &code_of(runner, customer)?)));
    }
    runner.play(steps).await?;
    runner.expect(&right, Outcome::Consented);
    runner.play(vec![Step::now(clumsy.consent(&right, &code))]).await
}

async fn impatience(runner: &mut Runner<'_>, customers: &mut Customers) -> anyhow::Result<()> {
    runner.narrator.begin(
        "One caller is impatient",
        &[
            &format!(
                "{IMPATIENT} lookups at once from one browser, where limits.caller allows {CALLER_RATE} a second:"
            ),
            "each waits for its own slot, outside of the worker. Three other customers, who come later, do not wait.",
        ],
    )?;
    let mut steps = Vec::new();
    for n in 1..=IMPATIENT {
        let customer = customers.customer(format!("impatient-{n:02}"), false);
        runner.expect(&customer.id, Outcome::Absent);
        steps.push(Step::now(customer.check("session-impatient")));
    }
    for n in 1..=3 {
        let customer = customers.customer(format!("patient-{n}"), false);
        runner.expect(&customer.id, Outcome::Absent);
        steps.push(Step::now(customer.check(&format!("session-patient-{n}"))));
    }
    runner.play(steps).await
}

async fn too_many_requests(runner: &mut Runner<'_>, customers: &mut Customers) -> anyhow::Result<()> {
    runner.narrator.begin(
        "XCO says 429 to another",
        &["`Retry-After: 1`. That caller alone is closed for a second, for every worker; no attempt is spent."],
    )?;
    let throttled = "session-throttled";
    let fault = Fault::status(429).retry_after("1").on(Route::Exists);
    runner.sandbox.order(Fault { caller_id: Some(throttled.to_owned()), ..fault });
    let mut steps = Vec::new();
    for (id, caller) in [("throttled", throttled), ("unaffected", "session-unaffected")] {
        let customer = customers.customer(id.to_owned(), false);
        runner.expect(&customer.id, Outcome::Absent);
        steps.push(Step::now(customer.check(caller)));
    }
    runner.play(steps).await
}

async fn outage(runner: &mut Runner<'_>, customers: &mut Customers) -> anyhow::Result<()> {
    runner.narrator.begin(
        "XCO is down for a second",
        &["Every call is answered 503. Jobs are tried again, later and later, each at a moment of its own."],
    )?;
    runner.sandbox.outage(503, Some(OUTAGE));
    let mut steps = Vec::new();
    for n in 1..=8 {
        let customer = customers.customer(format!("outage-{n}"), false);
        runner.expect(&customer.id, Outcome::Absent);
        steps.push(Step::now(customer.check(&format!("session-outage-{n}"))));
    }
    runner.play(steps).await
}

async fn mistakes(runner: &mut Runner<'_>, customers: &mut Customers) -> anyhow::Result<()> {
    runner.narrator.begin(
        "The shop makes three mistakes",
        &[
            "A malformed job is rejected with the place of each fault, and no call to XCO.",
            "A job that may be tried only once meets a 503: it fails, and an operator can replay its dead letter.",
            "A job enqueued twice under one id runs once: enqueueing again after a lost connection is safe.",
        ],
    )?;
    let malformed = json!({"id": "malformed", "type": "CheckUser", "caller_id": "session-malformed", "args": {
        "email": "nobody at example.com", "nickname": "nobody"}});
    runner.expect_failure("malformed", Status::Rejected);
    let once = customers.customer("tried-once".to_owned(), false);
    let hasty = "session-hasty";
    runner.sandbox.order(Fault { caller_id: Some(hasty.to_owned()), ..Fault::status(503).on(Route::Exists) });
    let mut tried_once = once.check(hasty);
    tried_once["max_attempts"] = 1.into();
    runner.expect_failure(&once.id, Status::Failed);
    let twice = customers.customer("enqueued-twice".to_owned(), false);
    runner.expect(&twice.id, Outcome::Absent);
    let job = || twice.check("session-twice");
    runner.play(vec![Step::now(malformed), Step::now(tried_once), Step::now(job()), Step::now(job())]).await
}

async fn backfill(runner: &mut Runner<'_>, customers: &mut Customers) -> anyhow::Result<()> {
    runner.narrator.begin(
        "A backfill in the bulk lane",
        &[
            &format!("{BACKFILL} existing customers, for whom no one waits, and behind them one customer at the checkout, whose job"),
            "is called `in-between`. Jobs of the interactive lane go first: watch where it ends.",
        ],
    )?;
    let mut steps = Vec::new();
    for n in 1..=BACKFILL {
        let customer = customers.customer(format!("backfill-{n:02}"), false);
        runner.expect(&customer.id, Outcome::Created);
        steps.push(Step::bulk(customer.create("backfill")));
    }
    let customer = customers.customer("in-between".to_owned(), false);
    runner.expect(&customer.id, Outcome::Absent);
    steps.push(Step::now(customer.check("session-in-between")));
    runner.play(steps).await?;
    let overtaken = runner.ended_after(&customer.id);
    runner.narrator.say("")?;
    runner.narrator.say(&format!(
        "Enqueued last, `in-between` ended before {overtaken} of the {BACKFILL}: it waited only for a free call."
    ))
}
