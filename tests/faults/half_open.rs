//! A network that silently forgets connections: pooled connections are dead, and nothing reports it.

use super::{
    proxy::{Chances, Network, Proxy},
    support::{Setup, check},
};
use futures::future::join_all;
use std::time::Duration;
use xco_worker::{
    contract::{Args, Job, ParseContext, parse_job},
    sandbox::{Fault, FaultKind},
    xco::{Answer, Call, CallContext, FailureKind, XcoApi, XcoClient},
};

fn call(job: &Job) -> Call<'_> {
    match &job.args {
        Args::CheckUser { contact } => Call::CheckUser { contact, caller: job.caller_id.as_ref() },
        other => panic!("not a check: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_finds_out_that_the_pooled_connections_are_dead() {
    let rig = Setup::default().without_worker().await;
    let proxy = Proxy::start(&rig.sandbox.addr().to_string(), Chances::default(), 1).await;
    let mut config = rig.config.xco.clone();
    config.base_url = Some(format!("http://{}/", proxy.address()).parse().unwrap());
    config.timeout = Duration::from_millis(500);
    let client = XcoClient::new(&config).unwrap();
    let context = ParseContext { allow_missing_caller_id: false, default_id: "t", generation: 0 };
    let job = parse_job(check("c", "192.0.2.1").to_string().as_bytes(), context).unwrap();
    client.check_token().await.unwrap();
    // This number of connections: no call is answered before the last one has arrived.
    rig.sandbox.order(Fault::new(FaultKind::Delay(200)).times(8));
    for report in join_all((0..8).map(|_| client.call(call(&job), CallContext::default()))).await {
        assert!(matches!(report.result, Ok(Answer::Exists { .. })), "{report:?}");
    }
    proxy.set(Network::HalfOpen);
    let unanswered = client.call(call(&job), CallContext::default()).await.result.unwrap_err();
    assert_eq!(unanswered.kind, FailureKind::Timeout);
    proxy.calm();
    let next = client.call(call(&job), CallContext::default()).await.result;
    assert!(matches!(next, Ok(Answer::Exists { .. })), "{next:?}");
}
