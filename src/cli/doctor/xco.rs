//! XCO: configured, a token to be had, reachable.

use super::check::Check;
use crate::{
    config::XcoConfig,
    xco::{CallFailure, XcoClient},
};
use std::time::Duration;
use tokio::time::timeout;

pub(super) async fn checks(xco: &XcoConfig) -> Vec<Check> {
    let client = match XcoClient::new(xco) {
        Ok(client) => client,
        Err(error) => {
            let mut checks: Vec<Check> =
                error.0.iter().map(|fault| Check::fail(fault.key, fault.problem, fault.remedy)).collect();
            checks.push(Check::skip("xco …", "token and API not looked at: the above comes first"));
            return checks;
        }
    };
    let host = |url: Option<&url::Url>| url.and_then(url::Url::host_str).unwrap_or("?").to_owned();
    let mut checks = vec![Check::ok("xco configuration", "base_url, token_url, client_id, client_secret")];
    checks.push(match &xco.merchant_id {
        Some(_) => Check::ok("xco.merchant_id", "set"),
        None => Check::warn(
            "xco.merchant_id",
            "not set: jobs that name no merchant_id fail",
            "set it to the UUID that Purse gave you, unless every job names its own",
        ),
    });
    // The client keeps its own time; this is for what it cannot.
    let longest = xco.timeout + Duration::from_secs(2);
    let token = timeout(longest, client.check_token()).await;
    let token_host = host(xco.token_url.as_ref());
    checks.push(match token {
        Ok(Ok(life)) => Check::ok("xco token", format!("{token_host} gave one for {} s", life.as_secs())),
        Ok(Err(failure)) => failed(
            "xco token",
            &failure,
            "check xco.token_url, xco.client_id, xco.client_secret, and xco.token_auth (body or basic)",
        ),
        Err(_) => Check::fail("xco token", format!("{token_host} does not answer"), "check xco.token_url"),
    });
    let base_host = host(xco.base_url.as_ref());
    checks.push(match timeout(longest, client.ping()).await {
        Ok(Ok(took)) => Check::ok("xco reachable", format!("{base_host} answers in {} ms", took.as_millis())),
        Ok(Err(failure)) => {
            failed("xco reachable", &failure, "check xco.base_url, DNS, and what the firewall lets out")
        }
        Err(_) => Check::fail("xco reachable", format!("{base_host} does not answer"), "check xco.base_url"),
    });
    checks
}

/// A failure with its own remedy, where it has one: it stands at the end of its message, too.
fn failed(name: &str, failure: &CallFailure, remedy: &str) -> Check {
    match failure.remedy {
        None => Check::fail(name, failure.message.clone(), remedy),
        Some(own) => {
            let message = failure.message.trim_end_matches(&format!(" ({own})"));
            Check::fail(name, message.to_owned(), own)
        }
    }
}
