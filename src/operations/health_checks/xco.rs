//! XCO: whether it is configured, gives an access token, and can be reached.

use super::HealthCheck;
use crate::{
    config::XcoConfig,
    xco::{CallFailure, XcoClient},
};
use std::time::Duration;
use tokio::time::timeout;

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
