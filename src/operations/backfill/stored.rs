//! What Redis keeps of a backfill.

use crate::{
    backfill::{Identity, IdentityError, Reason, RowCounts},
    contract::Partitions,
    queue::backfill::Stored,
};
use serde::{Deserialize, Serialize};

/// What the files of a backfill hold, as Redis keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredCounts {
    #[serde(flatten)]
    pub(super) counts: RowCounts,
    #[serde(default)]
    pub(super) reasons: Vec<Reason>,
}

/// The identity of a batch that Redis knows, with its corrections. Reads every file once.
pub(super) fn restore(batch: &str, stored: &Stored, partitions: Partitions) -> Result<Identity, IdentityError> {
    let mut identity = Identity::restore(batch, &stored.identity.json, &stored.identity.fingerprint, partitions)?;
    for correction in &stored.corrections {
        identity.restore_correction(&correction.json, &correction.fingerprint)?;
    }
    Ok(identity)
}
