//! `GET /openapi.json`
//!
//! The routes and their parameters stand beside the handlers. What bodies hold stands in `openapi/details.json`, which is laid over
//! them; jobs and completions are described by the schemas of the contract.

use super::routes;
use axum::Json;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components,
        security::{Http, HttpAuthScheme, SecurityScheme},
    },
};

const DETAILS: &str = include_str!("openapi/details.json");
const JOB: &str = include_str!("../../docs/job.schema.json");
const COMPLETION: &str = include_str!("../../docs/completion.schema.json");

/// Errors that every operation may answer.
const ANYWHERE: &[(&str, &str)] = &[
    ("400", "The request is not valid"),
    ("408", "The request or its answer took too long"),
    ("500", "Internal error"),
    (
        "503",
        "Redis cannot be used, the lane is full, or the gateway is stopping; `Retry-After` says when to come again",
    ),
];
/// Errors that an operation with a token may answer.
const WITH_TOKEN: &[(&str, &str)] = &[
    ("401", "A valid token is required"),
    ("403", "The token does not allow this"),
    ("429", "The token has used its rate; `Retry-After` says when to come again"),
];
/// Errors that an operation with a body may answer.
const WITH_BODY: &[(&str, &str)] = &[("413", "The body is too large"), ("415", "The content type is not supported")];
/// What parameters mean that need no text of their own, by name.
const PARAMETERS: &[(&str, &str)] = &[
    ("id", "The id of a job"),
    ("run", "The name of a run, from the `Location` of the answer that started it"),
    ("type", "Job types; several with commas"),
    ("lane", "interactive or bulk"),
    ("status", "How the job ended: succeeded, failed, expired, cancelled or rejected"),
    ("error", "Kinds of error, such as upstream; several with commas"),
    ("http_status", "The status of XCO's last answer, such as 503 or 5xx"),
    ("problem", "The type of XCO's problem document, or its last part"),
    ("batch", "The name of a batch"),
    ("caller", "The caller: the `caller_id`, else the customer's reference"),
    ("caller_id", "The caller: the `caller_id`, else the customer's reference"),
    ("customer_reference", "The customer's reference"),
    ("since", "From this time on: RFC 3339, or an age such as 2h"),
    ("until", "Up to this time: RFC 3339, or an age such as 2h"),
    ("replayable", "true: those that can be replayed as they are"),
    ("limit", "Maximum number of an answer"),
    ("cursor", "From the answer before: the next page"),
    ("reveal", "Show personal data. Needs the role operate and a reason, and is audited"),
    ("reason", "Why personal data is shown, for the audit"),
    ("all", "true: every pause"),
];
/// Routes outside of the API, whose errors are no problems.
const PROBES: &[&str] = &["/healthz", "/readyz", "/openapi.json"];

#[derive(OpenApi)]
#[openapi(
    info(title = "xco-worker gateway", description = "Jobs, completions and operations over HTTP. Errors are application/problem+json (RFC 9457)."),
    modifiers(&Security),
    paths(
        routes::enqueue::enqueue, routes::jobs::list, routes::jobs::search, routes::jobs::one, routes::jobs::cancel,
        routes::dead_letters::list, routes::dead_letters::one, routes::runs::replay, routes::runs::replays,
        routes::runs::progress, routes::runs::stop, routes::runs::discard, routes::runs::discards, routes::wait::wait,
        routes::completions::follow, routes::status::status, routes::audit::list, routes::backfills::list,
        routes::backfills::one, routes::backfills::results, routes::pauses::list, routes::pauses::pause, routes::pauses::resume,
        routes::limits::list, routes::limits::change, routes::callers::list, routes::callers::one, routes::batches::list,
        routes::batches::one,
    )
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_with(Components::new).add_security_scheme("token", bearer);
    }
}

/// The description of the gateway's routes, as an `OpenAPI` 3.1 document.
pub fn openapi_document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        // Tests parse these texts; one that could not be parsed would be left out.
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
        lay_over(&mut document, parsed(DETAILS));
        let schemas = &mut document["components"]["schemas"];
        schemas["Job"] = embedded(parsed(JOB), "Job");
        // `lane` is the gateway's own member, beside the job's.
        if let Some(parts) = schemas["Job"]["$defs"]["root"]["allOf"].as_array_mut() {
            parts.push(json!({"properties": {"lane": {"enum": ["interactive", "bulk", null]}}}));
        }
        schemas["Completion"] = embedded(parsed(COMPLETION), "Completion");
        describe_parameters(&mut document);
        add_problems(&mut document);
        document
    });
    &DOCUMENT
}

/// Lays one JSON value over another: members of objects are added, everything else is replaced.
fn lay_over(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                lay_over(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A schema as a component: what it refers to in itself is now found in the document.
fn embedded(mut schema: Value, name: &str) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.remove("$id");
        members.remove("$schema");
    }
    refer_to(&mut schema, &format!("#/components/schemas/{name}/"));
    schema
}

fn refer_to(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::String(target) if name == "$ref" => {
                        if let Some(rest) = target.strip_prefix("#/") {
                            *target = format!("{prefix}{rest}");
                        }
                    }
                    value => refer_to(value, prefix),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| refer_to(value, prefix)),
        _ => {}
    }
}

/// Describes the parameters that have no description of their own.
fn describe_parameters(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    let operations = paths.filter_map(Value::as_object_mut).flat_map(Map::values_mut);
    let parameters = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
    for parameter in parameters.filter(|parameter| parameter["description"].is_null()) {
        let known = PARAMETERS.iter().find(|(name, _)| parameter["name"] == *name);
        if let Some((_, description)) = known {
            parameter["description"] = (*description).into();
        }
    }
}

/// Describes the errors of each operation.
fn add_problems(document: &mut Value) {
    let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, operations) in paths.filter(|(path, _)| !PROBES.contains(&path.as_str())) {
        for operation in operations.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let mut possible = ANYWHERE.to_vec();
            if !operation["security"].is_null() || path.ends_with("/wait") {
                possible.extend(WITH_TOKEN);
            }
            if !operation["requestBody"].is_null() {
                possible.extend(WITH_BODY);
            }
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            for (status, description) in possible {
                responses.entry(status).or_insert_with(|| json!({"description": description}));
            }
            for (_, response) in responses.iter_mut().filter(|(status, _)| status.as_str() >= "4") {
                response["content"] = content.clone();
            }
        }
    }
}

/// Serves the description.
pub(super) async fn serve() -> Json<&'static Value> {
    Json(openapi_document())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    /// Every `$ref` of the document.
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value {
                        Value::String(target) if name == "$ref" => found.push(target.clone()),
                        value => references(value, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn the_parts_are_json_and_refer_to_what_is_there() {
        for text in [DETAILS, JOB, COMPLETION] {
            serde_json::from_str::<Value>(text).unwrap();
        }
        let document = openapi_document();
        let mut found = Vec::new();
        references(document, &mut found);
        assert!(found.len() > 50);
        for target in found {
            assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
    }

    #[test]
    fn every_error_is_a_problem_and_every_answer_is_described() {
        for (path, operations) in openapi_document()["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    assert!(response["description"].is_string(), "{method} {path} {status}");
                    assert!(response["content"].is_object(), "{method} {path} {status}");
                    let is_problem = response["content"]["application/problem+json"].is_object();
                    let is_error = status.as_str() >= "4" && !PROBES.contains(&path.as_str());
                    assert_eq!(is_problem, is_error, "{method} {path} {status}");
                }
            }
        }
    }

    /// The operations of the router, from its source. The probes come from elsewhere, an `OPTIONS` is none, and the console has
    /// pages, not operations.
    fn routed() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for route in include_str!("routes/mod.rs").split(".route(").skip(1) {
            let route = route.split("\n        .").next().unwrap();
            let (path, handlers) = route.trim_start().trim_start_matches('"').split_once('"').unwrap();
            if path.starts_with("/console/") {
                continue;
            }
            for method in ["get", "post", "put", "delete", "patch"] {
                let call = format!("{method}(");
                if handlers.contains(&format!(" {call}")) || handlers.contains(&format!(".{call}")) {
                    found.insert(format!("{method} {path}"));
                }
            }
        }
        found
    }

    #[test]
    fn every_operation_of_the_router_is_described() {
        let mut described = BTreeSet::new();
        for (path, operations) in openapi_document()["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                described.insert(format!("{method} {path}"));
            }
        }
        for probe in ["get /healthz", "get /readyz", "get /metrics"] {
            assert!(described.remove(probe), "{probe}");
        }
        assert_eq!(routed(), described);
    }

    /// Whether a schema says more than that there is an object.
    fn is_detailed(schema: &Value) -> bool {
        let refers = |schema: &Value| schema["$ref"].is_string();
        let any = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
        refers(schema) || any.is_some_and(|any| any.iter().any(refers)) || schema["type"] == "string"
    }

    #[test]
    fn every_operation_has_its_details() {
        for (path, operations) in openapi_document()["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(operation["summary"].is_string() || operation["description"].is_string(), "{name}");
                assert!(operation["tags"].is_array(), "{name}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert!(parameter["description"].is_string(), "{name}: {parameter}");
                }
                let body = operation["requestBody"]["content"].as_object();
                let answers = operation["responses"].as_object().unwrap().iter();
                let answers = answers.filter(|(status, _)| status.starts_with('2') && path != "/openapi.json");
                let contents = answers.map(|(_, answer)| answer["content"].as_object().unwrap()).chain(body);
                for (kind, content) in contents.flatten() {
                    assert!(is_detailed(&content["schema"]), "{name} {kind}: {content}");
                }
            }
        }
    }
}
