//! `GET /v1/status`

use crate::{
    gateway::{
        access::{Access, Read},
        problem::Problem,
        state::GatewayState,
    },
    operations::status::{Snapshot, SnapshotCollector},
};
use axum::{Json, extract::State};
use std::{sync::Arc, time::Duration};

/// Maximum number of delayed jobs that are read for a snapshot.
const MOST_DELAYED: usize = 5_000;
/// Time over which rates are measured.
const OVER: Duration = Duration::from_secs(1);

/// The status of the queue, as the command `status --json` prints it. Rates are measured over one second.
#[utoipa::path(get, path = "/v1/status", tag = "queue", security(("token" = [])), responses((status = 200, description = "The status", body = Object)))]
pub(crate) async fn status(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
) -> Result<Json<Snapshot>, Problem> {
    principal.require_all_merchants()?;
    let mut backend = state.shared.backend_for_scans();
    let mut collector = SnapshotCollector::start(&mut backend, MOST_DELAYED).await?;
    tokio::time::sleep(OVER).await;
    Ok(Json(collector.collect(&mut backend).await?))
}
