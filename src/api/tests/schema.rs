//! Holds a value against a JSON Schema, as far as `resources/openapi.json` uses the language.
//!
//! A keyword that this does not know is an error: a schema that says more than is checked would be a lie.

use serde_json::{Map, Value};

/// Says where `value` is not what `schema` describes.
pub(super) fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = schema.as_object().ok_or_else(|| format!("{at}: the schema is no object"))?;
    for (keyword, rule) in schema {
        let holds = match keyword.as_str() {
            "description" | "default" => true,
            "$ref" => {
                check(document, resolve(document, rule), value, at)?;
                true
            }
            "oneOf" => {
                let fits = |schema: &&Value| check(document, schema, value, at).is_ok();
                list(rule).iter().filter(fits).count() == 1
            }
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is(name, value)),
                name => is(name, value),
            },
            "enum" => list(rule).contains(value),
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(document, rule, item, &format!("{at}[{i}]"))?;
                }
                true
            }
            "required" => list(rule).iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" | "additionalProperties" => {
                properties(document, schema, value, at)?;
                true
            }
            other => return Err(format!("{at}: this test does not know the keyword {other:?}")),
        };
        if !holds {
            return Err(format!("{at}: {value} is not {keyword} {rule}"));
        }
    }
    Ok(())
}

fn properties(document: &Value, schema: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
    let named = schema.get("properties").and_then(Value::as_object);
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (named.and_then(|named| named.get(name)), schema.get("additionalProperties")) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                check(document, schema, field, &at)?;
            }
            (None, Some(Value::Bool(false))) => return Err(format!("{at} is not described")),
            (None, _) => {}
        }
    }
    Ok(())
}

/// What a reference within the document names.
pub(super) fn resolve<'a>(document: &'a Value, reference: &Value) -> &'a Value {
    let pointer = reference.as_str().and_then(|text| text.strip_prefix('#')).unwrap();
    document.pointer(pointer).unwrap_or_else(|| panic!("{reference} names nothing"))
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().unwrap()
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    }
}

#[test]
fn the_checker_finds_what_is_wrong() {
    use serde_json::json;
    let schema = json!({
        "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {
            "a": { "type": "integer", "minimum": 0 }, "b": { "type": ["string", "null"], "enum": ["x", null] },
            "c": { "type": "array", "items": { "oneOf": [{ "type": "boolean" }, { "type": "integer" }] } }
        }
    });
    let fits = |value: Value| check(&schema, &schema, &value, "").is_ok();
    for good in
        [json!({"a": 1}), json!({"a": 0, "b": null, "c": [true, 1]}), json!({"a": 0, "b": "x", "c": []})]
    {
        assert!(fits(good.clone()), "{good}");
    }
    for bad in [
        json!({}),
        json!([]),
        json!({"a": "1"}),
        json!({"a": -1}),
        json!({"a": 1, "b": "y"}),
        json!({"a": 1, "b": 1}),
        json!({"a": 1, "c": ["1"]}),
        json!({"a": 1, "d": 1}),
    ] {
        assert!(!fits(bad.clone()), "{bad}");
    }
    assert!(check(&schema, &json!({ "maximum": 1 }), &json!(0), "").is_err());
}
