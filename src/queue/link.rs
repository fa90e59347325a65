//! A link: one user's way to Redis. It makes its connection when it needs one, or shares one with other links.

use super::{
    connection::{Connection, Made, SharedConnection, SharedState, needs_new_connection},
    connector::Connector,
};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use std::sync::Arc;
use tokio::time::Instant;

impl Connector {
    /// Returns a link with its own connection, which is made when first used. With `blocking`, replies have no timeout,
    /// so the caller must bound its waits.
    pub fn link(&self, blocking: bool) -> Link {
        Link::new(self.clone(), None, blocking)
    }

    /// Returns a link on a connection that is shared with other links of its `kind`. It must not send blocking
    /// commands. Replies have no timeout only if it is `patient`.
    pub fn shared_link(&self, kind: &'static str, number: usize, patient: bool) -> Link {
        Link::new(self.clone(), Some(self.shared_connection(kind, number)), patient)
    }
}

/// A connection that is made when needed and dropped when it is broken. The next command then makes a new one.
///
/// It never retries a command, because only the caller knows whether the command can be repeated.
pub struct Link {
    connector: Connector,
    /// The shared connection. `None` if the link has its own.
    shared: Option<Arc<SharedConnection>>,
    /// Replies have no timeout.
    patient: bool,
    made: Option<Made>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connected", &self.made.is_some()).finish_non_exhaustive()
    }
}

impl Link {
    fn new(connector: Connector, shared: Option<Arc<SharedConnection>>, patient: bool) -> Self {
        Self { connector, shared, patient, made: None }
    }

    /// Runs one command.
    pub async fn query<T: FromRedisValue>(&mut self, cmd: &Cmd) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let result = cmd.query_async(&mut connection).await;
        self.conclude(result).await
    }

    /// Runs a pipeline. If commands in it were refused, the error is that of the first.
    pub async fn pipeline<T: FromRedisValue>(&mut self, pipeline: &Pipeline) -> RedisResult<T> {
        let mut connection = self.connection().await?;
        let result = pipeline.query_async(&mut connection).await.map_err(first_refusal);
        self.conclude(result).await
    }

    /// Runs two commands in one round trip. A refusal of the second does not affect the result of the first.
    pub(super) async fn query_with(&mut self, first: &Cmd, second: &Cmd) -> RedisResult<(Value, RedisResult<Value>)> {
        let mut both = redis::pipe();
        both.ignore_errors().add_command(first.clone()).add_command(second.clone());
        let mut connection = self.connection().await?;
        let result = match both.query_async::<[RedisResult<Value>; 2]>(&mut connection).await {
            Ok([first, second]) => first.map(|first| (first, second)),
            Err(error) => Err(error),
        };
        self.conclude(result).await
    }

    async fn connection(&mut self) -> RedisResult<Connection> {
        if let Some(made) = self.made.as_ref().filter(|made| made.serves(self.connector.generation())) {
            return Ok(made.connection.clone());
        }
        self.made = None;
        let made = match &self.shared {
            None => self.connector.connect(self.patient).await?,
            Some(shared) => shared_connection(&self.connector, shared, self.patient).await?,
        };
        let connection = made.connection.clone();
        self.made = Some(made);
        Ok(connection)
    }

    /// Drops the connection. The next command makes a new one.
    pub fn reset(&mut self) {
        if let Some(made) = self.made.take() {
            made.give_up();
        }
    }

    async fn conclude<T>(&mut self, result: RedisResult<T>) -> RedisResult<T> {
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !needs_new_connection(&error) {
            return Err(error);
        }
        let made_at = self.made.as_ref().map(|made| made.at);
        self.reset();
        Err(match made_at {
            Some(at) => self.connector.cause_of(error, at).await,
            None => error,
        })
    }
}

/// Returns the first server error of a pipeline. The pipeline's own error has no code if redis-rs does not know the
/// server's code (`NOGROUP`, `OOM`), and callers decide by the code.
fn first_refusal(error: RedisError) -> RedisError {
    match error.clone().into_server_errors() {
        Some(refusals) => refusals.first().map_or(error, |(_, refusal)| refusal.clone().into()),
        None => error,
    }
}

/// The shared connection, which the first link that needs it makes for all: the links that waited while that failed have
/// failed, too.
async fn shared_connection(connector: &Connector, shared: &SharedConnection, patient: bool) -> RedisResult<Made> {
    let began = Instant::now();
    let mut state = shared.0.lock().await;
    if let Some(made) = state.made.as_ref().filter(|made| made.serves(connector.generation())) {
        return Ok(made.clone());
    }
    state.made = None;
    if let Some((_, error)) = state.failed.as_ref().filter(|(at, _)| *at >= began) {
        return Err(error.clone());
    }
    match connector.connect(patient).await {
        Ok(made) => {
            *state = SharedState { made: Some(made.clone()), failed: None };
            Ok(made)
        }
        Err(error) => {
            state.failed = Some((Instant::now(), error.clone()));
            Err(error)
        }
    }
}
