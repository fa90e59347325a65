//! Invalid jobs from Redis: rejected with a reason, kept, counted, and harmless.

use super::support::{Setup, check, create, start, verify, with};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A code at every place that may have one. Afterwards it must be nowhere.
const CODE: &str = "918273";

struct Case {
    raw: Vec<u8>,
    kind: &'static str,
    pointers: Vec<&'static str>,
    /// Whether its id can be read.
    named: bool,
}

fn case(raw: impl Into<Vec<u8>>, pointers: &[&'static str]) -> Case {
    Case { raw: raw.into(), kind: "invalid_job", pointers: pointers.to_vec(), named: false }
}

fn named(job: &Value, pointers: &[&'static str]) -> Case {
    Case { named: true, ..case(job.to_string(), pointers) }
}

fn nested(depth: usize) -> String {
    let mut text = String::from("{\"type\":\"CheckUser\",\"args\":");
    for _ in 0..depth {
        text.push_str("{\"a\":");
    }
    text.push('1');
    for _ in 0..=depth {
        text.push('}');
    }
    text
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn cases() -> Vec<Case> {
    let args = |args: Value| with(check("id", "ip"), "args", args);
    let user = |user: Value| {
        let mut job = create("id", "a@example.com");
        job["args"]["user"] = user;
        job
    };
    let mut invalid_utf8 = check("id", "ip").to_string().into_bytes();
    let at = invalid_utf8.windows(2).position(|pair| pair == b"ip").unwrap();
    invalid_utf8[at] = 0xff;
    let mut finalize = json!({"id": "id", "type": "FinalizeConsent", "caller_id": "ip", "args": {
        "customer_reference": "r", "email": "a@example.com", "verification_code": CODE,
        "consent_challenge_id": "6a3f1f0e-7c53-4d4b-9f3c-2f4c7f0f3b11"}});
    let both = finalize.clone();
    finalize["args"] = json!({"customer_reference": "r", "consent_challenge_id": "no uuid"});
    vec![
        case("", &[""]),
        case("{", &[""]),
        case("nonsense", &[""]),
        case("null", &[""]),
        case("[]", &[""]),
        case("\"CheckUser\"", &[""]),
        case("{} {}", &[""]),
        case(invalid_utf8, &[""]),
        case(format!("{}{}", check("id", "ip"), " ".repeat(64 * 1024)), &[""]),
        case(nested(100), &[""]),
        case(nested(20_000), &[""]),
        case("[".repeat(60_000), &[""]),
        case(format!("{{\"verification_code\":\"{CODE}\""), &[""]),
        case("{}", &["/type", "/args"]),
        case(
            "{\"id\":\"a\",\"id\":\"a\",\"type\":\"CheckUser\",\"caller_id\":\"ip\",\"args\":{\"email\":\"a@example.com\"}}",
            &["/id"],
        ),
        case("\u{feff}{}", &[""]),
        case("{\"id\":\"\\ud800\"}", &[""]),
        named(&with(check("id", "ip"), "type", "checkuser"), &["/type"]),
        named(&with(check("id", "ip"), "type", 7), &["/type"]),
        named(&with(check("id", "ip"), "tpye", "x"), &["/tpye"]),
        named(&with(check("id", "ip"), "a/b~c", "x"), &["/a~1b~0c"]),
        named(&args(json!({})), &["/args"]),
        named(&args(json!([])), &["/args"]),
        named(&args(Value::Null), &["/args"]),
        named(&args(json!({"email": ""})), &["/args/email"]),
        named(&args(json!({"email": "a@b@c"})), &["/args/email"]),
        named(&args(json!({"email": 7})), &["/args/email"]),
        named(&args(json!({"phone_number": "0612345678"})), &["/args/phone_number"]),
        named(
            &args(json!({"email": "a@example.com", "phone_number": "+33612345678"})),
            &["/args/email", "/args/phone_number"],
        ),
        named(&args(json!({"email": "a@example.com", "verification_code": CODE})), &["/args/verification_code"]),
        named(&with(start("id", "ip", "a@example.com"), "otp", CODE), &["/otp"]),
        named(&verify("id", "ip", "no address", CODE), &["/args/email"]),
        named(&both, &["/args/email", "/args/verification_code"]),
        named(&finalize, &["/args/consent_challenge_id"]),
        named(&user(json!({})), &["/args/user/email"]),
        named(
            &user(json!({"email": "x", "phone_number": "1", "gender": "f", "birthdate": "1990-02-30", "nick": "n",
                "first_name": "", "addresses": [{"address_type": "home", "street_adress": "x"}, 7]})),
            &[
                "/args/user/email",
                "/args/user/phone_number",
                "/args/user/gender",
                "/args/user/birthdate",
                "/args/user/nick",
                "/args/user/first_name",
                "/args/user/addresses/0/address_type",
                "/args/user/addresses/0/street_adress",
                "/args/user/addresses/1",
            ],
        ),
        case(with(check("id", "ip"), "id", "").to_string(), &["/id"]),
        case(with(check("id", "ip"), "id", "a b").to_string(), &["/id"]),
        case(with(check("id", "ip"), "id", "x".repeat(129)).to_string(), &["/id"]),
        case(with(check("id", "ip"), "id", 7).to_string(), &["/id"]),
        named(&with(check("id", "ip"), "caller_id", ""), &["/caller_id"]),
        named(&with(check("id", "ip"), "caller_id", "x".repeat(257)), &["/caller_id"]),
        named(&with(check("id", "ip"), "merchant_id", "acme"), &["/merchant_id"]),
        named(&with(check("id", "ip"), "ttl_ms", 0), &["/ttl_ms"]),
        named(&with(check("id", "ip"), "ttl_ms", 2_592_000_001_u64), &["/ttl_ms"]),
        named(&with(check("id", "ip"), "ttl_ms", "5"), &["/ttl_ms"]),
        named(&with(check("id", "ip"), "ttl_ms", 1.5), &["/ttl_ms"]),
        named(&with(check("id", "ip"), "run_at", "tomorrow"), &["/run_at"]),
        named(&with(check("id", "ip"), "max_attempts", 0), &["/max_attempts"]),
        named(&with(check("id", "ip"), "max_attempts", 101), &["/max_attempts"]),
        named(&with(check("id", "ip"), "reply", "yes"), &["/reply"]),
        named(&with(check("id", "ip"), "batch", ""), &["/batch"]),
        named(&with(check("id", "ip"), "meta", json!({"k": [1]})), &["/meta/k"]),
        named(&with(check("id", "ip"), "meta", json!({"verification_code": CODE})), &["/meta/verification_code"]),
        named(&with(check("id", "ip"), "meta", json!({"k": "x".repeat(2048)})), &["/meta"]),
        Case { kind: "unsupported_version", ..named(&with(check("id", "ip"), "v", 2), &["/v"]) },
        Case {
            kind: "missing_caller_id",
            ..named(&json!({"id": "id", "type": "StartOtp", "args": {"email": "a@example.com"}}), &["/caller_id"])
        },
        Case {
            kind: "missing_caller_id",
            ..named(
                &json!({"id": "id", "type": "VerifyOtp",
                    "args": {"email": "a@example.com", "verification_code": CODE}}),
                &["/caller_id"],
            )
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_rejected_by_name_kept_and_harmless() {
    let mut rig = Setup::default().start().await;
    let key = rig.key("jobs:interactive");
    let cases = cases();
    let mut complaints = String::new();
    for (index, case) in cases.iter().enumerate() {
        let entry: String = rig.connection.xadd(&key, "*", &[("job", case.raw.as_slice())]).await.unwrap();
        rig.wait_for(index + 1).await;
        let event = &rig.completions[index];
        let shown = String::from_utf8_lossy(&case.raw).chars().take(120).collect::<String>();
        let id = if case.named { "id".to_owned() } else { format!("interactive:0:{entry}") };
        let mut found: Vec<&str> = event["error"]["fields"]
            .as_array()
            .map(|fields| fields.iter().filter_map(|field| field["pointer"].as_str()).collect())
            .unwrap_or_default();
        let mut wanted = case.pointers.clone();
        found.sort_unstable();
        wanted.sort_unstable();
        let details = event["error"]["fields"].as_array().is_some_and(|fields| {
            fields.iter().all(|field| field["detail"].as_str().is_some_and(|detail| !detail.is_empty()))
        });
        let fine = event["id"] == id.as_str()
            && event["status"] == "rejected"
            && event["error"]["kind"] == case.kind
            && event["error"]["retryable"] == false
            && event["attempts"] == 0
            && event["dead_lettered"] == true
            && found == wanted
            && details;
        if !fine {
            writeln!(complaints, "{shown}\n  wanted {id} {} {wanted:?}, got {event:#}", case.kind).unwrap();
        }
    }
    assert!(complaints.is_empty(), "{complaints}");
    assert!(rig.routes().is_empty(), "no call to XCO");

    let letters = rig.letters().await;
    assert_eq!(letters.len(), cases.len());
    for (letter, event) in letters.iter().zip(&rig.completions) {
        let fields: Vec<&str> = letter.keys().map(String::as_str).collect();
        assert_eq!(fields, ["at", "error", "id", "job", "replayable", "state", "type"]);
        assert_eq!(letter["replayable"], "false");
        assert_eq!(event["id"], letter["id"]);
        assert_eq!(event["type"].as_str().unwrap_or(""), letter["type"]);
        assert_eq!(serde_json::from_str::<Value>(&letter["error"]).unwrap(), event["error"]);
        letter["at"].parse::<jiff::Timestamp>().unwrap();
        assert!(!format!("{letter:?}").contains(CODE), "{letter:#?}");
        assert!(!event.to_string().contains(CODE), "{event:#}");
    }

    // None of them reserved the id that most of them contain.
    rig.completions.clear();
    let done = rig.complete(check("id", "ip")).await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_a_job_and_fields_beside_a_job() {
    let mut rig = Setup::default().start().await;
    let key = rig.key("jobs:interactive");
    let empty: String = rig.connection.xadd(&key, "*", &[("payload", "{}")]).await.unwrap();
    let rejected = rig.completion(&format!("interactive:0:{empty}")).await;
    assert_eq!(rejected["status"], "rejected", "{rejected:#}");

    let job = check("beside", "ip").to_string();
    let fields: [(&str, &[u8]); 5] = [
        ("note", b"for me"),
        ("job", job.as_bytes()),
        ("state", b"\xff\n{}"),
        ("generation", b"many"),
        ("parent", b"\xff\xfe"),
    ];
    let _: String = rig.connection.xadd(&key, "*", &fields).await.unwrap();
    let done = rig.completion("beside").await;
    assert_eq!(done["status"], "succeeded", "{done:#}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_kibibytes_are_a_job_and_one_byte_more_is_not() {
    let mut rig = Setup::default().start().await;
    for (id, size, status) in [("most", 64 * 1024, "succeeded"), ("over", 64 * 1024 + 1, "rejected")] {
        let job = check(id, "ip").to_string();
        let padded = format!("{job}{}", " ".repeat(size - job.len()));
        assert_eq!(padded.len(), size);
        let before = rig.completions.len();
        rig.enqueue_text("interactive", &padded).await;
        rig.wait_for(before + 1).await;
        assert_eq!(rig.completions[before]["status"], status);
    }
    let letter = rig.letters().await.remove(0);
    let kept: Value = serde_json::from_str(&letter["job"]).expect("it is JSON, so its letter is");
    assert_eq!(kept["id"], "over");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_job_with_a_reserved_id_is_rejected() {
    let mut rig = Setup::default().start().await;
    rig.complete(check("taken", "ip")).await;
    rig.completions.clear();
    let rejected = rig.complete(with(check("taken", "ip"), "ttl_ms", -1)).await;
    assert_eq!(rejected["status"], "rejected", "{rejected:#}");
    assert_eq!(rig.sandbox.stats().calls, 1);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_rubbish_stops_nothing() {
    let mut rig = Setup::default().start().await;
    let key = rig.key("jobs:interactive");
    for number in 0..200_u32 {
        let rubbish: Vec<u8> = (0..number).map(|byte| u8::try_from((byte * 31 + number) % 256).unwrap()).collect();
        let _: String = rig.connection.xadd(&key, "*", &[("job", rubbish)]).await.unwrap();
    }
    let done = rig.complete(check("after", "ip")).await;
    assert_eq!(done["status"], "succeeded");
    rig.wait_for(201).await;
    assert_eq!(rig.letters().await.len(), 200);
    rig.end().await;
}
