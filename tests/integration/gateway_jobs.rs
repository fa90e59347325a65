//! `POST /v1/jobs` with one job, and what can be learned about jobs afterwards.

use crate::support::{MERCHANT, Setup, account, check, create, gateway::TestGateway};
use redis::AsyncCommands;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_accepted_and_found() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let answer = gateway.post("/v1/jobs", "sender", &check("a/b", "c")).await;
    assert_eq!((answer.status, answer.header("location")), (202, "/v1/jobs/a%2Fb"), "{answer:?}");
    let accepted = answer.json();
    assert_eq!(
        (&accepted["id"], &accepted["lane"], &accepted["partition"]),
        (&json!("a/b"), &json!("interactive"), &json!(0))
    );
    assert_eq!(accepted.get("duplicate"), None);
    let wait_url = accepted["wait_url"].as_str().unwrap();
    let base = format!("http://{}/v1/jobs/a%2Fb/wait?ticket=x1.", gateway.address);
    assert!(wait_url.starts_with(&base), "{wait_url}");
    let entry = accepted["entry_id"].as_str().unwrap();
    let lane = rig.key("jobs:interactive");
    let entries: redis::streams::StreamRangeReply = rig.connection.xrange(&lane, entry, entry).await.unwrap();
    let job: String = redis::from_redis_value(entries.ids[0].map["job"].clone()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&job).unwrap(), check("a/b", "c"));

    // The member goes before the parameter, and is not of the job.
    let mut bulk = check("bulk", "c");
    bulk["lane"] = "bulk".into();
    assert_eq!(gateway.post("/v1/jobs?lane=interactive", "sender", &bulk).await.json()["lane"], "bulk");
    assert_eq!(gateway.post("/v1/jobs?lane=bulk", "sender", &check("bulk2", "c")).await.json()["lane"], "bulk");
    let fault = gateway.post("/v1/jobs?lane=fast", "sender", &check("x", "c")).await.problem(422, "invalid-job");
    assert_eq!(fault["errors"][0]["pointer"], "/lane");
    gateway.post("/v1/jobs?lan=bulk", "sender", &check("x", "c")).await.problem(400, "bad-request");

    let found = gateway.get("/v1/jobs/a%2Fb", "reader").await;
    assert_eq!((found.status, &found.json()["place"]), (200, &json!("waiting")), "{found:?}");
    assert_eq!(gateway.get("/v1/jobs?id=a/b", "reader").await.json()["id"], "a/b");
    gateway.get("/v1/jobs/unknown", "reader").await.problem(404, "not-found");
    // Without the worker these would never end.
    rig.start_worker();
    rig.wait_for(3).await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_refused_and_not_enqueued() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    let bad = json!({"id": "bad", "type": "CreateUser", "args": {"customer_reference": "", "user": {"email": "x"}}, "colour": 1});
    let document = gateway.post("/v1/jobs", "sender", &bad).await.problem(422, "invalid-job");
    let pointers: Vec<_> =
        document["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    for wanted in ["/colour", "/args/customer_reference", "/args/user/email"] {
        assert!(pointers.contains(&wanted), "{document}");
    }
    for body in ["", "{", "nonsense", "[", "{\"a\":}"] {
        gateway.post_text("/v1/jobs", "sender", "application/json", body).await.problem(400, "invalid-json");
    }
    gateway
        .post_text("/v1/jobs", "sender", "application/json", vec![b'"', 0xff, b'"'])
        .await
        .problem(400, "invalid-json");
    for body in ["1", "null", "\"x\"", "{}"] {
        gateway.post_text("/v1/jobs", "sender", "application/json", body).await.problem(422, "invalid-job");
    }
    for kind in ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""] {
        gateway
            .post_text("/v1/jobs", "sender", kind, check("x", "c").to_string())
            .await
            .problem(415, "unsupported-type");
    }
    let accepted = gateway
        .post_text("/v1/jobs", "sender", "Application/JSON; charset=utf-8", check("typed", "c").to_string())
        .await;
    assert_eq!(accepted.status, 202);
    let mut big = check("big", "c");
    big["args"]["email"] = format!("{}@example.com", "x".repeat(70 * 1024)).into();
    gateway.post("/v1/jobs", "sender", &big).await.problem(413, "too-large");
    let huge = format!("[{}]", " ".repeat(2 << 20));
    gateway.post_text("/v1/jobs", "sender", "application/json", huge).await.problem(413, "too-large");
    let length: u64 = rig.connection.xlen(rig.key("jobs:interactive")).await.unwrap();
    assert_eq!(length, 1);
    rig.start_worker();
    rig.wait_for(1).await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idempotency_key_is_the_id_of_a_job_without_one() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let mut anonymous = check("x", "c");
    anonymous.as_object_mut().unwrap().remove("id");
    let post = |key: &'static str, job: &Value| {
        gateway.send(gateway.request(Method::POST, "/v1/jobs", "sender").header("idempotency-key", key).json(job))
    };
    assert_eq!(post("bare-key", &anonymous).await.json()["id"], "bare-key");
    assert_eq!(post("\"quoted-key\"", &anonymous).await.json()["id"], "quoted-key");
    assert_eq!(post("same", &check("same", "c")).await.json()["id"], "same");
    let conflict = post("key", &check("other", "c")).await.problem(422, "id-conflict");
    assert_eq!(conflict["errors"][0]["pointer"], "/id");
    let fault = post("no key", &anonymous).await.problem(422, "invalid-job");
    assert_eq!(fault["errors"][0]["pointer"], "/id");
    post("", &anonymous).await.problem(422, "invalid-job");
    let generated = gateway.post("/v1/jobs", "sender", &anonymous).await.json();
    assert!(generated["id"].as_str().unwrap().starts_with("gw-"), "{generated}");
    rig.wait_for(4).await;
    // A new job is no duplicate, even if a worker has admitted it before the gateway looks.
    for number in 0..100 {
        let accepted = gateway.post("/v1/jobs", "sender", &check(&format!("new-{number}"), "c")).await.json();
        assert_eq!(accepted.get("duplicate"), None, "{accepted}");
    }
    rig.wait_for(104).await;
    // The same key again: a hint, and no second completion.
    let again = post("bare-key", &anonymous).await;
    assert_eq!((again.status, &again.json()["duplicate"]), (202, &json!(true)));
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_wait_for_the_completion() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let post = |job: Value, prefer: &'static str| {
        gateway.send(gateway.request(Method::POST, "/v1/jobs", "sender").header("prefer", prefer).json(&job))
    };
    let answer = post(check("waited", "c"), "wait=20").await;
    assert_eq!((answer.status, answer.header("preference-applied")), (200, "wait=20"), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json(), rig.completion("waited").await);
    // The completion is whole: whoever waits has sent the data.
    assert_eq!(answer.json()["caller_id"], "c");
    // A duplicate of a job that has ended is answered at once, from another gateway too.
    let second = TestGateway::start(&rig).await;
    for gateway in [&gateway, &second] {
        let request =
            gateway.request(Method::POST, "/v1/jobs", "sender").header("prefer", "wait=60").json(&check("waited", "c"));
        let again = tokio::time::timeout(Duration::from_secs(20), gateway.send(request)).await.expect("at once");
        assert_eq!((again.status, &again.json()["id"]), (200, &json!("waited")));
    }
    // Not in time: as without the preference.
    let mut later = check("later", "c");
    later["run_at"] = "2999-01-01T00:00:00Z".into();
    let answer = post(later, "wait=1").await;
    assert_eq!(
        (answer.status, answer.header("preference-applied"), answer.header("location")),
        (202, "", "/v1/jobs/later")
    );
    for ignored in ["wait=x", "respond-async"] {
        let answer = post(check(&format!("ignored-{}", ignored.len()), "c"), ignored).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (202, ""), "{ignored}");
    }
    let faulty = post(json!({"type": "CheckUser"}), "wait=20").await;
    faulty.problem(422, "invalid-job");
    let cancelled = gateway.delete("/v1/jobs/later", "ops").await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    rig.completion("later").await;
    second.end().await;
    gateway.end().await;
    rig.wait_for(4).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_alone_sees_no_personal_data() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let mut job = create("made", "ada@example.com");
    job["args"]["customer_reference"] = "ref-4711".into();
    job["args"]["user"]["first_name"] = "Adalovelace".into();
    job["caller_id"] = "203.0.113.9".into();
    job["meta"] = json!({"cart": "Sesamkringel"});
    job["batch"] = "spring".into();
    assert_eq!(gateway.post("/v1/jobs", "sender", &job).await.status, 202);
    let completion = rig.completion("made").await;
    assert_eq!(completion["status"], "succeeded", "{completion}");
    let whole = gateway.get("/v1/jobs/made", "both").await;
    assert_eq!(whole.json()["completion"], completion);
    let masked = gateway.get("/v1/jobs/made", "reader").await;
    assert_eq!(masked.json()["completion"]["outcome"], "created");
    let by_reference = gateway.get("/v1/jobs?customer_reference=ref-4711", "reader").await;
    let by_email = gateway.post("/v1/jobs/search", "reader", &json!({"email": "ada@example.com"})).await;
    for answer in [&by_reference, &by_email] {
        let list = answer.json();
        assert_eq!(list["jobs"][0]["id"], "made", "{list}");
        assert!(list["looked_at"].is_u64() && list["complete"].is_boolean());
    }
    for answer in [masked, by_reference, by_email] {
        for personal in ["ada@", "Adalovelace", "203.0.113.9", "ref-4711", "Sesamkringel"] {
            assert!(!answer.text.contains(personal), "{personal}: {answer:?}");
        }
    }
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_searched() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    for n in 0..5 {
        let mut job = check(&format!("s{n}"), &format!("caller-{}", n % 2));
        job["batch"] = "spring".into();
        assert_eq!(gateway.post("/v1/jobs", "sender", &job).await.status, 202);
    }
    let list = gateway
        .get("/v1/jobs?state=waiting&type=CheckUser&lane=interactive&batch=spring&caller_id=caller-1", "reader")
        .await
        .json();
    assert_eq!((list["jobs"].as_array().unwrap().len(), &list["complete"]), (2, &json!(true)), "{list}");
    // Pages, by cursor.
    let mut ids = Vec::new();
    let mut cursor = String::new();
    for _ in 0..10 {
        let body = if cursor.is_empty() { json!({"limit": 2}) } else { json!({"limit": 2, "cursor": cursor}) };
        let page = gateway.post("/v1/jobs/search", "reader", &body).await.json();
        ids.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(ids, ["s0", "s1", "s2", "s3", "s4"]);
    // A URL ends in the logs of proxies.
    for person in ["email=ada@example.com", "phone_number=%2B33612345678"] {
        let document = gateway.get(&format!("/v1/jobs?{person}"), "reader").await.problem(400, "bad-request");
        assert!(!document.to_string().contains("ada@"));
    }
    for bad in ["state=odd", "type=Odd", "lane=odd", "since=odd", "cursor=odd", "limit=-1", "odd=1"] {
        gateway.get(&format!("/v1/jobs?{bad}"), "reader").await.problem(400, "bad-request");
    }
    for bad in [json!({"odd": 1}), json!({"limit": "x"}), json!([]), json!({"state": 1})] {
        gateway.post("/v1/jobs/search", "reader", &bad).await.problem(400, "bad-request");
    }
    gateway.post_text("/v1/jobs/search", "reader", "text/plain", "{}").await.problem(415, "unsupported-type");
    gateway.post_text("/v1/jobs/search", "reader", "application/json", "{").await.problem(400, "invalid-json");
    let huge = json!({"batch": "x".repeat(300 * 1024)});
    gateway.post("/v1/jobs/search", "reader", &huge).await.problem(413, "too-large");
    rig.start_worker();
    rig.wait_for(5).await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_cancelled() {
    let mut rig = Setup::default().without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    gateway.delete("/v1/jobs/unknown", "ops").await.problem(404, "not-found");
    assert_eq!(gateway.post("/v1/jobs", "sender", &check("waits", "c")).await.status, 202);
    let answer = gateway.delete("/v1/jobs/waits", "ops").await;
    assert_eq!((answer.status, &answer.json()["cancelled"]), (202, &json!(true)), "{answer:?}");
    rig.start_worker();
    assert_eq!(rig.completion("waits").await["status"], "cancelled");
    gateway.delete("/v1/jobs/waits", "ops").await.problem(409, "ended");
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lane_says_when_to_come_again() {
    let mut setup = Setup::default();
    setup.config.queue.max_pending = 2;
    let mut rig = setup.without_worker().await;
    let gateway = TestGateway::start(&rig).await;
    rig.enqueue(&check("f1", "c")).await;
    rig.enqueue(&check("f2", "c")).await;
    let answer = gateway.post("/v1/jobs", "sender", &check("f3", "c")).await;
    let document = answer.problem(503, "queue-full");
    assert_eq!(document["lane"], "interactive");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // Other lanes are free, and so is this one later.
    assert_eq!(gateway.post("/v1/jobs?lane=bulk", "sender", &check("f4", "c")).await.status, 202);
    let results = gateway.post("/v1/jobs", "sender", &json!([check("f5", "c")])).await.lines();
    assert_eq!((&results[0]["status"], &results[0]["problem"]["lane"]), (&json!(503), &json!("interactive")));
    rig.start_worker();
    rig.wait_for(3).await;
    rig.eventually("the lane is free", async |_| {
        gateway.post("/v1/jobs", "sender", &check("f3", "c")).await.status == 202
    })
    .await;
    rig.completion("f3").await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_url_begins_a_wait_url() {
    let mut rig = Setup::default().start().await;
    rig.sandbox.seed_user(&account("x@example.com"));
    let gateway = TestGateway::start_with(&rig, &crate::support::gateway::gateway_toml(), |config| {
        config.gateway.public_url = Some("https://jobs.shop.example".to_owned());
    })
    .await;
    let mut job = check("p", "c");
    job["merchant_id"] = MERCHANT.into();
    let answer = gateway.post("/v1/jobs", "sender", &job).await;
    let wait_url = answer.json()["wait_url"].as_str().unwrap().to_owned();
    assert!(wait_url.starts_with("https://jobs.shop.example/v1/jobs/p/wait?ticket=x1."), "{wait_url}");
    assert!(answer.header("strict-transport-security").starts_with("max-age="));
    rig.completion("p").await;
    gateway.end().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_alone_does_not_see_whose_pause_a_job_waits_for() {
    let mut rig = Setup::default().start().await;
    let gateway = TestGateway::start(&rig).await;
    let pause = serde_json::json!({"jobs": {"caller": "ada@example.com"}});
    assert_eq!(gateway.post("/v1/pauses", "ops", &pause).await.status, 201);
    rig.enqueue(&check("held", "ada@example.com")).await;
    rig.eventually("it is delayed", async |_| {
        gateway.get("/v1/jobs/held", "reader").await.json()["waits_for"] == "paused"
    })
    .await;
    let (alone, both) = (gateway.get("/v1/jobs/held", "reader").await, gateway.get("/v1/jobs/held", "both").await);
    assert!(!format!("{alone:?}").contains("ada@"), "{alone:?}");
    assert_eq!(alone.json()["words"].as_array().map(Vec::len), Some(1));
    assert!(both.json()["because"].as_str().is_some_and(|because| because.contains("ada@")), "{both:?}");
    assert_eq!(gateway.delete("/v1/pauses?all=true", "ops").await.status, 200);
    rig.completion("held").await;
    gateway.end().await;
    rig.end().await;
}
