//! XCO: whether it is configured, gives an access token, and can be reached.

use super::HealthCheck;
use crate::{
    config::XcoConfig,
    xco::{CallFailure, XcoClient},
};
use std::time::Duration;
use tokio::time::timeout;

/// Whether none of the keys is set that a worker needs to call XCO.
pub(super) const fn is_unset(xco: &XcoConfig) -> bool {
    xco.base_url.is_none() && xco.token_url.is_none() && xco.client_id.is_none() && xco.client_secret.is_none()
}

/// The only check of a configuration where [`is_unset`] holds: enough to operate a queue whose workers run elsewhere.
pub(super) fn unset(running_workers: usize) -> HealthCheck {
    const NAME: &str = "xco configuration";
    if running_workers > 0 {
        let workers = if running_workers == 1 { "worker has its own" } else { "workers have their own" };
        let detail = format!("not set here, and not checked: the {running_workers} running {workers}");
        return HealthCheck::skip(NAME, detail);
    }
    HealthCheck::fail(
        NAME,
        "xco.base_url, xco.token_url, xco.client_id and xco.client_secret are not set, and no worker is running",
        "set them where the worker runs, to what Purse gave you: config/purse-sandbox.toml is an example",
    )
}

pub(super) async fn checks(xco: &XcoConfig) -> Vec<HealthCheck> {
    let client = match XcoClient::new(xco) {
        Ok(client) => client,
        Err(error) => {
            let mut checks: Vec<HealthCheck> =
                error.0.iter().map(|fault| HealthCheck::fail(fault.key, fault.problem, fault.remedy)).collect();
            checks.push(HealthCheck::skip("xco …", "token and API not looked at: the above comes first"));
            return checks;
        }
    };
    let host = |url: Option<&url::Url>| url.and_then(url::Url::host_str).unwrap_or("?").to_owned();
    let mut checks = vec![HealthCheck::ok("xco configuration", "base_url, token_url, client_id, client_secret")];
    checks.push(match &xco.merchant_id {
        Some(_) => HealthCheck::ok("xco.merchant_id", "set"),
        None => HealthCheck::warn(
            "xco.merchant_id",
            "not set: jobs that name no merchant_id fail",
            "set it to the UUID that Purse gave you, unless every job names its own",
        ),
    });
    // The client has timeouts of its own. This one covers what they do not, such as a slow resolver.
    let longest = xco.timeout + Duration::from_secs(2);
    let token = timeout(longest, client.check_token()).await;
    let token_host = host(xco.token_url.as_ref());
    checks.push(match token {
        Ok(Ok(life)) => HealthCheck::ok("xco token", format!("{token_host} gave one for {} s", life.as_secs())),
        Ok(Err(failure)) => failed(
            "xco token",
            &failure,
            "check xco.token_url, xco.client_id, xco.client_secret, and xco.token_auth (body or basic)",
        ),
        Err(_) => HealthCheck::fail("xco token", format!("{token_host} does not answer"), "check xco.token_url"),
    });
    let base_host = host(xco.base_url.as_ref());
    checks.push(match timeout(longest, client.ping()).await {
        Ok(Ok(took)) => HealthCheck::ok("xco reachable", format!("{base_host} answers in {} ms", took.as_millis())),
        Ok(Err(failure)) => {
            failed("xco reachable", &failure, "check xco.base_url, DNS, and what the firewall lets out")
        }
        Err(_) => HealthCheck::fail("xco reachable", format!("{base_host} does not answer"), "check xco.base_url"),
    });
    checks
}

/// A failed check. The failure's own remedy, which also stands at the end of its message, replaces `remedy`.
fn failed(name: &str, failure: &CallFailure, remedy: &str) -> HealthCheck {
    match failure.remedy {
        None => HealthCheck::fail(name, failure.message.clone(), remedy),
        Some(own) => {
            let message = failure.message.trim_end_matches(&format!(" ({own})"));
            HealthCheck::fail(name, message.to_owned(), own)
        }
    }
}
