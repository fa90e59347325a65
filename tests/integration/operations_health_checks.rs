//! Health checks through `operations`, without the binary.

use super::support::{RedisServer, Rig, Setup, check, free_port};
use secrecy::SecretString;
use serde_json::json;
use std::time::{Duration, SystemTime};
use xco_worker::{
    config::Config,
    operations::health_checks::{self, HealthCheck, HealthReport, HealthStatus, Host, configuration_warnings},
};

/// A machine whose clock is right, and which found nothing wrong with itself.
fn host() -> Host {
    Host { clock: SystemTime::now, checks: Vec::new() }
}

/// The configuration of an operator, who may look for stray keys.
fn configuration(rig: &Rig) -> Config {
    Config { redis: rig.redis_as("operator"), ..rig.config.clone() }
}

fn found<'r>(report: &'r HealthReport, name: &str) -> &'r HealthCheck {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name}: {report:#?}"))
}

/// The names of the checks that are not as they should be, each with its status.
fn faults(report: &HealthReport) -> Vec<(&str, HealthStatus)> {
    let faults = report.checks.iter().filter(|check| check.status != HealthStatus::Ok);
    faults.map(|check| (check.name.as_str(), check.status)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_setup_has_no_fault_and_repeats_what_the_host_found() {
    let setup = Setup { redis: RedisServer::own(&["--save", "", "--appendonly", "yes"]), ..Setup::default() };
    let mut rig = setup.start().await;
    let config = configuration(&rig);
    rig.eventually("the worker is ready", async |_: &mut Rig| {
        let report = health_checks::run(&config, host()).await;
        found(&report, "workers").detail == "1 running, with the same settings"
    })
    .await;
    let of_host = HealthCheck::warn("open files", "few\u{7}", "allow more");
    let report = health_checks::run(&config, Host { clock: SystemTime::now, checks: vec![of_host] }).await;
    assert_eq!(faults(&report), [("open files", HealthStatus::Warn)], "{report:#?}");
    assert_eq!((report.count(HealthStatus::Warn), report.count(HealthStatus::Fail)), (1, 0));
    let listed = json!(report);
    let of_host = listed.as_array().unwrap().iter().find(|check| check["check"] == "open files").unwrap();
    assert_eq!((&of_host["status"], &of_host["remedy"]), (&json!("warn"), &json!("allow more")));
    assert!(!of_host["detail"].as_str().unwrap().contains('\u{7}'), "{of_host:#}");
    assert_eq!(
        listed[0],
        json!({"check": "configuration", "status": "ok", "detail": "read, and every value is valid"})
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_a_result_with_a_remedy() {
    let mut rig = Setup::default().without_worker().await;
    rig.enqueue(&check("waits", "c")).await;
    let mut config = configuration(&rig);
    config.xco.client_secret = Some(SecretString::from("not-the-secret"));
    let an_hour_ahead = || SystemTime::now() + Duration::from_secs(3600);
    let report = health_checks::run(&config, Host { clock: an_hour_ahead, checks: Vec::new() }).await;
    for (name, status, detail) in [
        ("clock", HealthStatus::Warn, ""),
        ("queue", HealthStatus::Warn, "1 waiting, 0 in flight, 0 parked, 0 dead letters, 0 workers"),
        ("workers", HealthStatus::Ok, "none is running"),
        ("xco token", HealthStatus::Fail, ""),
        ("xco reachable", HealthStatus::Ok, ""),
    ] {
        let check = found(&report, name);
        assert_eq!((check.status, check.remedy.is_some()), (status, status != HealthStatus::Ok), "{check:#?}");
        assert!(check.detail.contains(detail), "{check:#?}");
    }
    assert!(!json!(report).to_string().contains("not-the-secret"));
    rig.start_worker();
    rig.wait_for(1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xco_is_checked_also_where_redis_is_not_reached() {
    let rig = Setup::default().without_worker().await;
    let mut config = configuration(&rig);
    config.redis.url = vec![SecretString::from(format!("redis://:hunter2@127.0.0.1:{}", free_port()))];
    let report = health_checks::run(&config, host()).await;
    assert_eq!(faults(&report), [("redis", HealthStatus::Fail), ("redis …", HealthStatus::Skip)], "{report:#?}");
    assert_eq!(found(&report, "xco token").status, HealthStatus::Ok);
    assert!(!json!(report).to_string().contains("hunter2"));

    // Without anything of XCO, only the workers can have it, and there are none.
    config.xco = Config::default().xco;
    let report = health_checks::run(&config, host()).await;
    assert_eq!(found(&report, "xco configuration").status, HealthStatus::Fail, "{report:#?}");
    assert!(report.checks.iter().all(|check| check.name != "xco token"), "{report:#?}");
    rig.end().await;
}

#[test]
fn a_configuration_is_warned_of_without_a_connection() {
    let mut config = Config::default();
    assert_eq!(configuration_warnings(&config), []);
    config.gateway.listen = Some(([0, 0, 0, 0], 0).into());
    let warnings = configuration_warnings(&config);
    assert_eq!(
        warnings.iter().map(|check| (check.name.as_str(), check.status)).collect::<Vec<_>>(),
        [("gateway", HealthStatus::Warn)]
    );
}
