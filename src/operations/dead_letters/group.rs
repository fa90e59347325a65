//! Counting dead letters by what they have in common.

use super::scan::{Scope, scan, scope};
use crate::{
    dead_letters::{Filter, GroupBy, GroupCounts, Groups},
    operations::{Backend, Error},
    queue::dead_letters::ReadOrder,
};
use std::{convert::Infallible, ops::ControlFlow};

/// Counts all dead letters that fit, and names the `limit` largest groups. Groups by caller or customer reference are personal
/// data. O(dead letters in the filter's time).
///
/// # Errors
/// [`Error::Redis`].
pub async fn group(
    backend: &mut Backend<'_>,
    filter: &Filter,
    by: Vec<GroupBy>,
    limit: usize,
) -> Result<Groups, Error> {
    let scope = scope(backend, filter).await?;
    let mut counts = GroupCounts::new(by);
    let mut scan = scan(backend, &scope, ReadOrder::OldestFirst);
    let _: ControlFlow<Infallible> = scan
        .for_each(filter, |view| {
            counts.count(view);
            ControlFlow::Continue(())
        })
        .await?;
    Ok(counts.largest(limit))
}

/// Whether any dead letter in `scope` fits. Reads until the first.
pub(super) async fn any_fits(backend: &Backend<'_>, filter: &Filter, scope: &Scope) -> Result<bool, Error> {
    let mut scan = scan(backend, scope, ReadOrder::OldestFirst);
    let found = scan.for_each(filter, |_| ControlFlow::Break(())).await?;
    Ok(found.is_break())
}
