//! Answers of the gateway, held against the description that it serves.

use super::gateway::Answer;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};
use xco_worker::gateway::openapi_document;

/// The operations of the description, as `GET /v1/jobs`.
pub(crate) fn documented() -> BTreeSet<(String, String)> {
    let paths = openapi_document()["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        operations.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    operations.collect()
}

/// Fails if an answer is not as the description says: its status, its content type, and each value of its JSON. What is no operation
/// is not looked at.
pub(crate) fn assert_documented(method: &Method, path: &str, answer: &Answer) {
    let Some(template) = template_of(path) else { return };
    let operation = &openapi_document()["paths"][&template][method.as_str().to_ascii_lowercase()];
    if operation.is_null() {
        return;
    }
    let status = answer.status.to_string();
    let response = &operation["responses"][&status];
    assert!(response.is_object(), "{method} {template}: {status} is not documented: {answer:?}");
    let kind = answer.header("content-type").split(';').next().unwrap().to_owned();
    let schema = &response["content"][&kind]["schema"];
    assert!(schema.is_object(), "{method} {template}: {status} with {kind} is not documented: {answer:?}");
    let check = |schema: &Value, name: &str, value: &Value| {
        let validator = validator(&format!("{method} {template} {status} {name}"), schema);
        let faults: Vec<_> =
            validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{method} {template} {status} is not as documented: {faults:#?}\n{value:#}");
    };
    if kind == "application/json" || kind.ends_with("+json") {
        check(schema, &kind, &answer.json());
    } else if template == "/v1/jobs" {
        let line = json!({"$ref": "#/components/schemas/ResultLine"});
        answer.lines().iter().for_each(|value| check(&line, &kind, value));
    }
}

/// The path of the description that fits, such as `/v1/jobs/{id}`.
fn template_of(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &&String| {
        let (parts, wanted) = (path.split('/'), template.split('/'));
        parts.clone().count() == wanted.clone().count()
            && parts.zip(wanted).all(|(part, wanted)| part == wanted || wanted.starts_with('{') && !part.is_empty())
    };
    let templates = openapi_document()["paths"].as_object().unwrap().keys().filter(fits);
    // `/v1/jobs/search` is nearer than `/v1/jobs/{id}`.
    templates.min_by_key(|template| template.matches('{').count()).cloned()
}

fn validator(name: &str, schema: &Value) -> Arc<jsonschema::Validator> {
    static KNOWN: LazyLock<Mutex<HashMap<String, Arc<jsonschema::Validator>>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock();
    let new = || {
        let mut schema = schema.clone();
        schema["components"] = openapi_document()["components"].clone();
        Arc::new(jsonschema::draft202012::new(&schema).unwrap())
    };
    Arc::clone(known.entry(name.to_owned()).or_insert_with(new))
}
