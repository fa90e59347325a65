//! Fingerprints of the customer that backfills keep.

use super::customer::CustomerToErase;
use crate::{
    backfill::{Fingerprints, stored_merchant},
    operations::Backend,
    queue::backfill::{self, customers},
};
use redis::RedisResult;

/// Fingerprints that one step reads.
const STEP: u64 = 16 * 1024;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct InBackfills {
    pub(super) found: u64,
    pub(super) erased: u64,
    /// Some backfill keeps fingerprints, and without both reference and email nobody can tell which one is the customer's.
    pub(super) is_unknown: bool,
}

/// Finds the customer's fingerprints, and erases them if asked to.
pub(super) async fn find(
    backend: &mut Backend<'_>,
    customer: &CustomerToErase,
    deletes: bool,
) -> RedisResult<InBackfills> {
    let first = backend.common_keys();
    let link = &mut backend.link;
    let mut found = InBackfills::default();
    for (batch, _) in backfill::begun(link, &first).await? {
        let Some(salt) = customers::salt(link, &first, &batch).await? else { continue };
        let Some(stored) = backfill::stored(link, &first, &batch).await? else { continue };
        let (Some(reference), Some(email)) = (&customer.reference, &customer.email) else {
            found.is_unknown = true;
            return Ok(found);
        };
        let merchant = stored_merchant(&stored.identity.json);
        let wanted = Fingerprints::new(&salt, merchant.as_deref()).of(reference, email);
        let mut from = 0;
        loop {
            let page = customers::fingerprints(link, &first, &batch, from, STEP).await?;
            if page.is_empty() {
                break;
            }
            for (_, row) in page.iter().zip(from..).filter(|(fingerprint, _)| **fingerprint == wanted) {
                found.found += 1;
                if deletes {
                    customers::record(link, &first, &batch, &[(row, customers::ERASED)]).await?;
                    found.erased += 1;
                }
            }
            from += STEP;
        }
    }
    Ok(found)
}
