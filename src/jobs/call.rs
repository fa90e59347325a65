//! The next call of a job: what it is, whose limit it spends, and what an unknown effect of it means.

use crate::{
    contract::{JobType, MerchantId},
    limits::Spender,
    xco::Call,
};

/// What must never happen twice by accident, and therefore is marked in Redis before the call begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Harmless to repeat: no mark.
    Harmless,
    /// An effect that is unknown ends the job as `in_doubt`.
    Final,
    /// An effect that is unknown is looked into before the call is repeated.
    CheckFirst,
    /// The call is repeated; an answer that only fits a call which took effect ends the job as `in_doubt`.
    Repeat,
}

/// The next call of a job.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The call itself.
    pub call: Call<'a>,
    /// Whose bucket it spends.
    pub spender: Spender<'a>,
    /// Which type's rate and policy it falls under: that of the call, not of the job.
    pub rate_class: JobType,
    /// What to do when its effect is unknown.
    pub doubt: Doubt,
}

/// What a call needs beyond its job.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The job's merchant, else the configured one.
    pub merchant: &'a MerchantId,
}
