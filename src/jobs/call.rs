//! The next call of a job: what it is, whose limit it spends, and what an unknown effect of it means.

use crate::{
    contract::{JobType, MerchantId},
    limits::Spender,
    xco::Call,
};

/// How safe it is to repeat a call. A call that is not harmless sets a marker in Redis before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepeatSafety {
    /// Harmless to repeat. The call sets no marker.
    Safe,
    /// Never repeated. If its effect is unknown, the job ends as `in_doubt`.
    Never,
    /// If the effect is unknown, a check is made before the call is repeated.
    CheckFirst,
    /// The call is repeated. If the answer suggests that an earlier call took effect, the job ends as `in_doubt`.
    RepeatThenReport,
}

/// The next call of a job.
#[derive(Debug, Clone, Copy)]
pub struct NextCall<'a> {
    /// The call to make.
    pub call: Call<'a>,
    /// The bucket that the call uses.
    pub spender: Spender<'a>,
    /// The job type whose rate and policy apply. It is that of the call, not of the job.
    pub rate_class: JobType,
    /// What to do if the effect of the call is unknown.
    pub repeat_safety: RepeatSafety,
}

/// What a call needs in addition to its job.
#[derive(Debug, Clone, Copy)]
pub struct CallInputs<'a> {
    /// The job's merchant, or else the configured one.
    pub merchant: &'a MerchantId,
}
