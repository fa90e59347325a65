//! A simulator, a client for it, and calls from the contract's JSON.

use secrecy::SecretString;
use serde_json::{Value, json};
use std::time::Duration;
use xco_worker::{
    config::XcoConfig,
    contract::{Args, ConsentProof, Job, ParseContext, parse_job},
    sandbox::{NewSandboxUser, Sandbox, SandboxConfig},
    xco::{Answer, Call, CallContext, CallFailure, CallReport, FailureKind, XcoApi, XcoClient},
};

pub(crate) const MERCHANT: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";
pub(crate) const EMAIL: &str = "john@example.com";
pub(crate) const CALLER: &str = "198.51.100.7";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) client: XcoClient,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, |_| {}).await
    }

    /// A world with changes to the simulator's and the client's configuration.
    pub(crate) async fn with(sandbox: impl FnOnce(&mut SandboxConfig), client: impl FnOnce(&mut XcoConfig)) -> Self {
        let mut sandbox_config = SandboxConfig::default();
        sandbox(&mut sandbox_config);
        let sandbox = Sandbox::start(sandbox_config).await.unwrap();
        let mut config = config(&sandbox);
        client(&mut config);
        Self { client: XcoClient::new(&config).unwrap(), sandbox }
    }

    /// Adds a customer who has an account.
    pub(crate) fn known(self) -> Self {
        let user = NewSandboxUser {
            email: EMAIL.to_owned(),
            phone_number: Some("+33612345678".to_owned()),
            token_count: 2,
            ..NewSandboxUser::default()
        };
        self.sandbox.seed_user(&user);
        self
    }

    pub(crate) async fn call(&self, job: &Job) -> CallReport {
        self.client.call(call_of(job), CallContext::default()).await
    }

    pub(crate) async fn ok(&self, job: &Job) -> Answer {
        self.call(job).await.result.unwrap()
    }

    pub(crate) async fn fails(&self, job: &Job) -> (CallFailure, u32) {
        let report = self.call(job).await;
        (report.result.unwrap_err(), report.calls)
    }

    pub(crate) async fn fails_as(&self, job: &Job, kind: FailureKind) -> CallFailure {
        let (failure, _) = self.fails(job).await;
        assert_eq!(failure.kind, kind, "{failure:?}");
        failure
    }

    pub(crate) fn token_calls(&self) -> usize {
        self.sandbox.calls_of(xco_worker::sandbox::Route::Token).len()
    }
}

pub(crate) fn config(sandbox: &Sandbox) -> XcoConfig {
    XcoConfig {
        base_url: Some(sandbox.base_url()),
        token_url: Some(sandbox.token_url()),
        client_id: Some("sandbox-client".to_owned()),
        client_secret: Some(SecretString::from("sandbox-secret")),
        timeout: Duration::from_secs(5),
        ..XcoConfig::default()
    }
}

pub(crate) fn job(job: &Value) -> Job {
    let context = ParseContext { allow_missing_caller_id: true, default_id: "t", generation: 0 };
    parse_job(job.to_string().as_bytes(), context).unwrap()
}

fn typed(job_type: &str, args: &Value) -> Job {
    job(&json!({"type": job_type, "args": args, "caller_id": CALLER, "merchant_id": MERCHANT}))
}

pub(crate) fn check() -> Job {
    typed("CheckUser", &json!({"email": EMAIL}))
}

pub(crate) fn create(reference: &str) -> Job {
    typed("CreateUser", &json!({"customer_reference": reference, "user": {"email": EMAIL, "first_name": "John"}}))
}

pub(crate) fn start() -> Job {
    typed("StartOtp", &json!({"email": EMAIL}))
}

pub(crate) fn verify(code: &str) -> Job {
    typed("VerifyOtp", &json!({"email": EMAIL, "verification_code": code}))
}

pub(crate) fn consent(reference: &str, challenge: &str) -> Job {
    typed("FinalizeConsent", &json!({"customer_reference": reference, "consent_challenge_id": challenge}))
}

pub(crate) fn call_of(job: &Job) -> Call<'_> {
    let caller = job.caller_id.as_ref();
    let merchant = job.merchant_id.as_ref().unwrap();
    match &job.args {
        Args::CheckUser { contact } => Call::CheckUser { contact, caller },
        Args::CreateUser { customer_reference, user, .. } => Call::CreateUser { merchant, customer_reference, user },
        Args::StartOtp { contact } => Call::StartOtp { merchant, contact, caller },
        Args::VerifyOtp { contact, code } => Call::VerifyOtp { merchant, contact, code, caller },
        Args::FinalizeConsent { customer_reference, proof: ConsentProof::Challenge(challenge_id) } => {
            Call::CreateConsent { merchant, customer_reference, challenge_id }
        }
        Args::FinalizeConsent { .. } => panic!("not one call"),
    }
}
