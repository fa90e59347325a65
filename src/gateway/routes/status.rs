//! `GET /v1/status`

use crate::{
    gateway::{
        access::{Access, Read},
        problem::Problem,
        state::GatewayState,
    },
    operations::status::Snapshot,
};
use axum::{Json, extract::State};
use std::{sync::Arc, time::Duration};

/// A look at the queue is answered to everybody who asks within this time.
const FRESH: Duration = Duration::from_secs(2);

/// The status of the queue, as the command `status --json` prints it. It is up to two seconds old: one look at Redis serves everybody
/// who asks meanwhile, and the console. `at` is its time, and `rates.over_ms` is the time over which the rates are measured.
#[utoipa::path(get, path = "/v1/status", tag = "queue", security(("token" = [])), responses((status = 200, description = "The status", body = Object)))]
pub(crate) async fn status(
    State(state): State<Arc<GatewayState>>,
    Access(principal, _): Access<Read>,
) -> Result<Json<Snapshot>, Problem> {
    principal.require_all_merchants()?;
    let look = state.board.look(&state.shared, FRESH).await?;
    Ok(Json(look.snapshot.clone()))
}
