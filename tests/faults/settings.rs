//! Workers of one queue whose settings differ.

use super::{
    kills::rig,
    process::{Process, Settings},
    support::Rig,
};
use serde_json::Value;
use std::process::Command;

fn command(rig: &Rig, arguments: &[&str], total: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_xco-worker"))
        .args(arguments)
        .env("XCO_WORKER__REDIS__URL", rig.redis.url_as("operator"))
        .env("XCO_WORKER__REDIS__NAMESPACE", &rig.config.redis.namespace)
        .env("XCO_WORKER__XCO__BASE_URL", rig.sandbox.base_url().as_str())
        .env("XCO_WORKER__LIMITS__TOTAL__RATE", total)
        .env("XCO_WORKER__LIMITS__LEARN", "false")
        .env("XCO_WORKER__WORKER__LEASE", "1s")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn of_doctor(text: &str) -> Value {
    let mut checks = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    checks.find(|check| check["check"] == "workers").unwrap_or_else(|| panic!("no such check in {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn different_settings_are_named_by_status_doctor_and_once_in_the_log() {
    let mut rig = rig().await;
    let log = [("TELEMETRY__LOG", "warn")];
    let fast = [("LIMITS__TOTAL__RATE", "20/s"), log[0]];
    let first = Settings::new(&rig, &fast).into_a_pipe().spawn().once_ready().await;
    assert_eq!(of_doctor(&command(&rig, &["--json", "doctor"], "20/s"))["status"], "ok");
    let mut same = Process::ready(&rig, &fast).await;
    let mut status: Value = serde_json::from_str(&command(&rig, &["--json", "status"], "20/s")).unwrap();
    assert_eq!(status["differing_settings"], serde_json::json!([]), "{status:#}");
    same.stop().await;

    let mut second = Settings::new(&rig, &[("LIMITS__TOTAL__RATE", "5/s"), log[0]]).into_a_pipe().spawn();
    second = second.once_ready().await;
    rig.eventually("both are listed", async |rig| {
        status = serde_json::from_str(&command(rig, &["--json", "status"], "20/s")).unwrap();
        status["differing_settings"] != serde_json::json!([])
    })
    .await;
    let differing = &status["differing_settings"][0];
    assert_eq!(status["differing_settings"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(differing["setting"], "limits.total");
    for value in ["20/s, burst 20", "5/s, burst 5"] {
        assert_eq!(differing["values"][value].as_array().map(Vec::len), Some(1), "{differing:#}");
    }
    let text = command(&rig, &["status"], "20/s");
    assert!(text.contains("workers differ: limits.total is 20/s, burst 20 ("), "{text}");
    let told = of_doctor(&command(&rig, &["--json", "doctor"], "20/s"));
    assert_eq!(told["status"], "warn");
    assert!(told["detail"].as_str().unwrap().contains("limits.total is 20/s"), "{told:#}");
    // The comparison happens once in ten beats, the first time soon after the start.
    tokio::time::sleep(std::time::Duration::from_secs(13)).await;
    let mut lines = Vec::new();
    for mut worker in [first, second] {
        worker.stop().await;
        lines.push(worker.log().lines().filter(|line| line.contains("different settings")).count());
    }
    assert_eq!(lines, [1, 1]);
}
