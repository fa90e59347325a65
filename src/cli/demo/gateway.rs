//! The gateway of the demo, in this process.

use crate::{
    config::Config,
    gateway::{Gateway, GatewayError},
    telemetry::Metrics,
};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) struct RunningGateway {
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl RunningGateway {
    /// Starts it on its usual port, or on any free one. Without tokens it serves this machine alone.
    pub(super) async fn start(config: &Config, metrics: Metrics) -> Result<Self, GatewayError> {
        let mut config = config.clone();
        "demo".clone_into(&mut config.gateway.environment);
        let gateway = match Gateway::bind(config.clone(), metrics.clone()).await {
            Err(GatewayError::Listen { .. }) => {
                config.gateway.listen = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
                Gateway::bind(config, metrics).await?
            }
            bound => bound?,
        };
        let (address, stop) = (gateway.address(), CancellationToken::new());
        let serving = tokio::spawn(gateway.serve(stop.clone()));
        Ok(Self { address, stop, serving })
    }

    /// Stops it at once: nobody else waits for it.
    pub(super) fn stop(self) {
        self.stop.cancel();
        self.serving.abort();
    }
}
