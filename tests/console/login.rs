//! Logins, sessions, and forms of other sites.

use super::{Console, cookie, read};
use redis::AsyncCommands;

#[tokio::test(flavor = "multi_thread")]
async fn a_login_becomes_a_session_and_a_logout_ends_it() {
    let mut console = Console::start().await;
    let answer = console.get("/console/jobs?q=a%20b").send().await.unwrap();
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/console/login?next=%2Fconsole%2Fjobs%3Fq%3Da%2520b");

    for (path, login) in
        [("/console", "/console/login"), ("/console?range=7d", "/console/login?next=%2Fconsole%3Frange%3D7d")]
    {
        assert_eq!(console.get(path).send().await.unwrap().headers()["location"], login);
    }
    let fields = [("token", "operator"), ("person", "ada"), ("next", "/console/audit")];
    let answer = console.post("/console/login", &fields).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, "/console/audit"));
    let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["xco=", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(set.contains(part), "{set}");
    }
    let session = cookie(answer.headers()).unwrap();
    let secret = session.strip_prefix("xco=").unwrap();

    // Redis keeps a hash of the secret, for eight hours.
    let keys: Vec<String> = console.rig.connection.keys("*:session:*").await.unwrap();
    assert!(keys.len() == 1 && !keys[0].contains(secret), "{keys:?}");
    let stored: String = console.rig.connection.get(&keys[0]).await.unwrap();
    let life: i64 = console.rig.connection.pttl(&keys[0]).await.unwrap();
    assert!(!stored.contains(secret) && !stored.contains("operator\""), "{stored}");
    assert!((28_700_000..=28_800_000).contains(&life), "{life}");

    let (status, page) = console.page("/console/audit", &session).await;
    assert!(status == 200 && page.contains("ada (operators)") && page.contains("staging"), "{page}");

    let csrf = console.csrf(&session).await;
    let out = console.post("/console/logout", &[("csrf", &csrf)]).header("cookie", &session).send().await.unwrap();
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(console.page("/console/audit", &session).await.0, 303, "the old cookie opens nothing");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_everywhere_ends_the_other_sessions_too() {
    let console = Console::start().await;
    let (here, there) = (console.log_in("operator").await, console.log_in("operator").await);
    let csrf = console.csrf(&here).await;
    let fields = [("csrf", csrf.as_str()), ("everywhere", "yes")];
    console.post("/console/logout", &fields).header("cookie", &here).send().await.unwrap();
    assert_eq!(console.page("/console/audit", &there).await.0, 303);
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_token_gets_one_sentence_and_ten_tries() {
    let console = Console::start().await;
    let attempt = |secret: &'static str| console.post("/console/login", &[("token", secret), ("person", "ada")]).send();
    for secret in ["wrong", "shop", ""] {
        let answer = attempt(secret).await.unwrap();
        assert!(answer.headers().get("set-cookie").is_none());
        let (status, page) = read(answer).await;
        assert!(status == 403 && page.contains("This token does not open the console."), "{secret}: {page}");
    }
    // A missing name is no wrong token, but a try.
    for _ in 0..7 {
        let answer = console.post("/console/login", &[("token", "operator")]).send().await.unwrap();
        assert_eq!(answer.status(), 400);
    }
    assert_eq!(attempt("operator").await.unwrap().status(), 429, "even the right one");
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_with_its_token() {
    let console = Console::start().await;
    let session = console.log_in("operator").await;
    let mut config = console.rig.config.clone();
    let redis = console.rig.redis_as("operator");
    config.redis = redis;
    config.gateway.listen = Some("127.0.0.1:0".parse().unwrap());
    config.gateway.tokens = vec![super::token("another", &[xco_worker::config::GatewayRole::Read])];
    let other = xco_worker::gateway::Gateway::bind(config, xco_worker::telemetry::Metrics::default()).await.unwrap();
    let (address, stop) = (other.address(), tokio_util::sync::CancellationToken::new());
    let serving = tokio::spawn(other.serve(stop.clone()));
    let answer = console.client.get(format!("http://{address}/console/audit")).header("cookie", &session).send().await;
    assert_eq!(answer.unwrap().status(), 303);
    stop.cancel();
    serving.await.unwrap();
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_other_sites_and_of_other_sessions_are_refused() {
    let console = Console::start().await;
    let session = console.log_in("operator").await;
    let (csrf, theirs) = (console.csrf(&session).await, console.csrf(&console.log_in("operator").await).await);
    let post = |csrf: &str| {
        let fields = [("csrf", csrf.to_owned()), ("theme", "dark".to_owned())];
        console.client.post(console.url("/console/theme")).header("cookie", &session).form(&fields)
    };
    let host = console.url("");
    for (request, status) in [
        (post(&csrf).header("sec-fetch-site", "same-origin"), 303),
        (post(&csrf).header("origin", &host), 303),
        (post(&csrf), 403),
        (post(&csrf).header("sec-fetch-site", "cross-site"), 403),
        (post(&csrf).header("sec-fetch-site", "same-site"), 403),
        (post(&csrf).header("origin", "https://evil.example"), 403),
        (post(&csrf).header("origin", "null"), 403),
        (post(&theirs).header("sec-fetch-site", "same-origin"), 403),
        (post("").header("sec-fetch-site", "same-origin"), 403),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{}", answer.text().await.unwrap());
    }
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_another_site_asks_once_more_before_the_login() {
    let console = Console::start().await;
    let (status, page) =
        read(console.get("/console/audit").header("sec-fetch-site", "cross-site").send().await.unwrap()).await;
    assert!(status == 200 && page.contains("http-equiv=\"refresh\" content=\"0\""), "{page}");
    let again = console.get("/console/audit").header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!(again.status(), 303);
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_only_this_machine_looks_and_needs_no_login() {
    let console = Console::with(|config| config.gateway.tokens.clear()).await;
    let (status, page) = console.page("/console/audit", "").await;
    assert!(status == 200 && page.contains("this machine"), "{page}");
    let foreign = console.get("/console/audit").header("host", "rebound.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    console.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_of_colours_leads_back_to_the_page_and_holds_for_errors() {
    let console = Console::start().await;
    let session = console.log_in("reader").await;
    let csrf = console.csrf(&session).await;
    let (_, page) = console.page("/console/jobs?q=batch%3Aspring", &session).await;
    let next = "<input type=\"hidden\" name=\"next\" value=\"/console/jobs?q=batch%3Aspring\">";
    assert!(page.contains(next), "{page}");
    for (next, location) in
        [("/console/jobs?q=batch%3Aspring", "/console/jobs?q=batch%3Aspring"), ("//evil.example", "/console")]
    {
        let fields = [("csrf", csrf.as_str()), ("theme", "dark"), ("next", next)];
        let answer = console.post("/console/theme", &fields).header("cookie", &session).send().await.unwrap();
        assert_eq!(answer.headers()["location"], location);
    }
    // The answer to a form cannot be asked for again: the choice leads to its list.
    let operator = console.log_in("operator").await;
    let csrf = console.csrf(&operator).await;
    let fields = [("csrf", csrf.as_str()), ("type", "CreateUser"), ("for", "10m")];
    let plan = console.post("/console/rules/plan", &fields).header("cookie", &operator).send().await.unwrap();
    let (_, plan) = read(plan).await;
    assert!(plan.contains("name=\"next\" value=\"/console/rules\""), "{plan}");
    let (status, page) = console.page("/console/nothing", &format!("{session}; xco-theme=dark")).await;
    assert!(status == 404 && page.contains("data-theme=\"dark\""), "{page}");
    console.end().await;
}
