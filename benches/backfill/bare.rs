//! Capacity of the sandbox: the two calls of each customer, by a client that does nothing else.

use crate::MERCHANT;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use xco_worker::sandbox::{Sandbox, SandboxConfig};

/// The worker's default concurrency.
const CONCURRENCY: usize = 64;

pub(crate) async fn customers_per_second(sandbox: &Sandbox, customers: usize) -> f64 {
    xco_worker::xco::install_tls_provider();
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
    let credentials = SandboxConfig::default();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &credentials.client_id),
        ("client_secret", &credentials.client_secret),
        ("scope", "xco-api"),
    ];
    let answer = client.post(sandbox.token_url()).form(&form).send().await.unwrap();
    let token: serde_json::Value = answer.json().await.unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let base = sandbox.base_url().to_string();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONCURRENCY {
        let (client, base, bearer, next) = (client.clone(), base.clone(), bearer.clone(), Arc::clone(&next));
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= customers {
                    return;
                }
                let check = format!("{base}v1/users/exists?email=bare.{n}%40example.com&caller_id=bare-{n}");
                let answer = client.get(check).header("authorization", &bearer).send().await.unwrap();
                assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["exists"], false);
                let user = json!({"customer_reference": format!("bare-{n}"),
                    "user": {"email": format!("bare.{n}@example.com")}});
                let create = client.post(format!("{base}v1/merchants/{MERCHANT}/users")).json(&user);
                let answer = create.header("authorization", &bearer).send().await.unwrap();
                assert!(answer.status().is_success());
                answer.bytes().await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    customers as f64 / began.elapsed().as_secs_f64()
}
