//! The schema of completions, held against those that workers really write.

use serde_json::Value;
use std::{path::Path, sync::LazyLock};

struct CompletionSchema {
    schema: Value,
    validator: jsonschema::Validator,
}

static SCHEMA: LazyLock<CompletionSchema> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/completion.schema.json");
    let schema = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    CompletionSchema { schema, validator }
});

/// Fails if `event` is not as `docs/completion.schema.json` describes it, or has a field that is not described there.
pub(crate) fn assert_completion(event: &Value) {
    let faults: Vec<_> = SCHEMA.validator.iter_errors(event).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "not as its schema says: {faults:#?}\n{event:#}");
    for name in event.as_object().unwrap().keys() {
        assert!(SCHEMA.schema["properties"].get(name).is_some(), "{name} is missing in docs/completion.schema.json");
    }
}
