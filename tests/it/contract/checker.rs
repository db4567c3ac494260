//! A strict checker of documents against OpenAPI 2.0 schemas: unknown properties are findings.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::document::{Contract, Schema};

/// Whether a document is a request, which must not contain read-only properties, or a response.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Request,
    Answer,
}

pub struct Checker<'a> {
    contract: &'a Contract,
    way: Way,
    pub findings: Vec<String>,
}

/// Merges the schemas of `allOf`.
#[derive(Default)]
struct Parts<'a> {
    properties: Vec<(&'a str, Schema<'a>)>,
    required: Vec<&'a str>,
    additional: Option<Schema<'a>>,
}

impl<'a> Checker<'a> {
    pub fn new(contract: &'a Contract, way: Way) -> Self {
        Self { contract, way, findings: Vec::new() }
    }

    fn find(&mut self, at: &str, what: impl std::fmt::Display) {
        self.findings.push(format!("{at}: {what}"));
    }

    pub fn check(&mut self, schema: Schema<'a>, value: &Value, at: &str) {
        if self.way == Way::Request && schema.value["readOnly"] == true {
            self.find(at, "is read-only");
        }
        let schema = self.contract.resolve(schema);
        match (schema.value["type"].as_str(), value) {
            (_, Value::Null) => self.find(at, "is null: what is absent is left out"),
            (Some("string"), Value::String(text)) => self.string(schema.value, text, at),
            (Some("boolean"), Value::Bool(_)) => {}
            (Some("integer"), Value::Number(number)) => {
                if schema.value["format"] == "int32" && number.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
                    self.find(at, format!("{number} is no int32"));
                }
            }
            (Some("number"), Value::Number(_)) => {}
            (Some("array"), Value::Array(items)) => {
                let inner = Schema { value: &schema.value["items"], ..schema };
                for (index, item) in items.iter().enumerate() {
                    self.check(inner, item, &format!("{at}[{index}]"));
                }
            }
            (Some("object") | None, Value::Object(object)) => self.object(schema, object, at),
            (wanted, _) => self.find(at, format!("{value} is no {}", wanted.unwrap_or("object"))),
        }
    }

    fn object(&mut self, schema: Schema<'a>, object: &Map<String, Value>, at: &str) {
        let mut parts = Parts::default();
        self.gather(schema, &mut parts);
        let free = parts.properties.is_empty() && parts.additional.is_none();
        for name in &parts.required {
            if !object.contains_key(*name) {
                self.find(at, format!("'{name}' is required"));
            }
        }
        for (name, value) in object {
            let at = format!("{at}.{name}");
            match (parts.properties.iter().find(|(known, _)| known == name), &parts.additional) {
                (Some((_, schema)), _) | (None, Some(schema)) => self.check(*schema, value, &at),
                (None, None) if free => {}
                (None, None) => self.find(&at, "is unknown to the schema"),
            }
        }
    }

    fn gather(&self, schema: Schema<'a>, parts: &mut Parts<'a>) {
        let schema = self.contract.resolve(schema);
        for base in schema.value["allOf"].as_array().into_iter().flatten() {
            self.gather(Schema { value: base, ..schema }, parts);
        }
        for (name, value) in schema.value["properties"].as_object().into_iter().flatten() {
            parts.properties.push((name, Schema { value, ..schema }));
        }
        parts.required.extend(schema.value["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        match &schema.value["additionalProperties"] {
            value @ Value::Object(_) => parts.additional = Some(Schema { value, ..schema }),
            Value::Null | Value::Bool(false) => {}
            other => panic!("additionalProperties {other} are not understood"),
        }
    }

    fn string(&mut self, schema: &Value, text: &str, at: &str) {
        if let Some(values) = schema["enum"].as_array()
            && !values.iter().any(|value| value == text)
        {
            self.find(at, format!("'{text}' is none of {values:?}"));
        }
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|min| length < min)
            || schema["maxLength"].as_u64().is_some_and(|max| length > max)
        {
            self.find(at, format!("'{text}' is too short or too long"));
        }
        if schema["pattern"].as_str().is_some_and(|pattern| !fits(pattern, text)) {
            self.find(at, format!("'{text}' does not fit {}", schema["pattern"]));
        }
        let sound = match schema["format"].as_str() {
            None => true,
            Some("date-time") => text.parse::<Timestamp>().is_ok(),
            Some("arm-id") => text.starts_with("/subscriptions/") || text.starts_with("/providers/"),
            Some("uuid") => uuid::Uuid::try_parse(text).is_ok(),
            Some("uri") => text.contains("://"),
            Some(other) => panic!("the format {other} is not understood"),
        };
        if !sound {
            self.find(at, format!("'{text}' is no {}", schema["format"]));
        }
    }
}

/// The patterns that occur in the contract; another one must be added here.
fn fits(pattern: &str, text: &str) -> bool {
    let name = |text: &str, upper: bool| {
        let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase() || (upper && b.is_ascii_uppercase());
        let bytes = text.as_bytes();
        bytes.first().is_some_and(|b| plain(*b))
            && bytes.last().is_some_and(|b| plain(*b))
            && bytes.iter().all(|b| plain(*b) || *b == b'-')
    };
    let count = |text: &str| text.parse::<u64>().is_ok_and(|n| n > 0) && !text.starts_with(['0', '+']);
    match pattern {
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" => name(text, false),
        "^[a-zA-Z0-9]$|^[a-zA-Z0-9][a-zA-Z0-9-]{0,52}[a-zA-Z0-9]$" => text.len() <= 54 && name(text, true),
        r"^(?:([1-9]\d*)|([1-9]\d?|100)%)$" => match text.strip_suffix('%') {
            Some(percent) => count(percent) && percent.parse::<u64>().is_ok_and(|n| n <= 100),
            None => count(text),
        },
        r"^(?:0|[1-9]\d*|(?:0|[1-9]\d?|100)%)$" => match text.strip_suffix('%') {
            Some(percent) => percent == "0" || (count(percent) && percent.parse::<u64>().is_ok_and(|n| n <= 100)),
            None => text == "0" || count(text),
        },
        "^([01][0-9]|2[0-3]):[0-5][0-9]$" => is_time(text, "23:59"),
        "^[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00)$" => {
            text.strip_prefix(['+', '-']).is_some_and(|time| is_time(time, "14:00"))
        }
        other => panic!("the pattern {other} is not understood"),
    }
}

/// `HH:mm`, up to a latest.
fn is_time(text: &str, latest: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    shape == "99:99" && text <= latest && text.get(3..).is_some_and(|minutes| minutes < "60")
}
