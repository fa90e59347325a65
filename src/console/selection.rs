//! The jobs that an action is about, as fields of a form: `lane`, `type`, `caller`, `customer`, `batch`, `id`.

use super::{error::ConsoleError, fields::Fields};
use crate::{
    contract::{JobType, Lane},
    operations::Selector,
};

/// The names of the fields.
const NAMES: [&str; 6] = ["lane", "type", "caller", "customer", "batch", "id"];

/// The fields of a selector that are set.
pub(super) fn fields_of(jobs: &Selector) -> Vec<(&'static str, String)> {
    let Selector { lane, job_type, caller, customer, batch, id } = jobs;
    let values = [
        lane.map(|lane| lane.as_str().to_owned()),
        job_type.map(|job_type| job_type.as_str().to_owned()),
        caller.clone(),
        customer.clone(),
        batch.clone(),
        id.clone(),
    ];
    NAMES.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The selector of a form.
pub(super) fn selector(fields: &Fields) -> Result<Selector, ConsoleError> {
    let invalid = |wrong: &str| ConsoleError::Invalid(wrong.to_owned());
    let text = |name| fields.get(name).map(str::to_owned);
    let lane = fields.get("lane").map(str::parse::<Lane>).transpose();
    let job_type =
        fields.get("type").map(|name| JobType::from_name(name).ok_or_else(|| invalid("there is no such job type")));
    let jobs = Selector {
        lane: lane.map_err(|_| invalid("a lane is interactive or bulk"))?,
        job_type: job_type.transpose()?,
        caller: text("caller"),
        customer: text("customer"),
        batch: text("batch"),
        id: text("id"),
    };
    if NAMES.iter().filter_map(|name| fields.get(name)).any(|value| value.len() > 256) {
        return Err(invalid("a caller has at most 256 bytes"));
    }
    Ok(jobs)
}
