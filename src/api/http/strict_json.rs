//! JSON in which no object has a name twice. Readers disagree on which of the values counts (RFC 8259 §4), so that a proxy or
//! a policy may have judged another one than the service would act on.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Most characters of a name that a message repeats.
const MOST_SHOWN: usize = 100;
/// Longest path that is told, in bytes.
const MOST_TOLD: usize = 1000;

/// What was wrong.
#[derive(Debug)]
pub(super) struct Invalid {
    /// In words, with line and column.
    pub(super) reason: String,
    /// The path of the name that is there twice, unless it is too long to tell.
    pub(super) target: Option<String>,
}

/// Reads one JSON value.
///
/// # Errors
/// When it is none, is nested too deep, or has an object with a name twice, at any depth.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Invalid> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Unique(value) = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        // Of what is no JSON at all, the place says enough.
        let target = error.inner().is_data().then(|| error.path().to_string()).filter(|path| path.len() <= MOST_TOLD);
        Invalid { reason: error.inner().to_string(), target }
    })?;
    reader.end().map_err(|error| Invalid { reason: error.to_string(), target: None })?;
    Ok(value)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = items.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = pairs.next_key::<String>()? {
            if object.contains_key(&name) {
                // As an error of the value, so that the name is in its path.
                pairs.next_value_seed(Refuse(&name))?;
            }
            let Unique(value) = pairs.next_value()?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

struct Refuse<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Refuse<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> Result<(), D::Error> {
        let shown: String = self.0.chars().take(MOST_SHOWN).collect();
        Err(D::Error::custom(format!("an object has the name '{shown}' twice")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((".{0,4}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(value in any_json()) {
            let text = value.to_string();
            let plain: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(parse(text.as_bytes()).unwrap(), plain);
        }
    }

    #[test]
    fn names_what_is_there_twice() {
        for (text, target) in [
            (r#"{"a": 1, "a": 1}"#, "a"),
            (r#"{"a": 1, "b": 2, "\u0061": null}"#, "a"),
            (r#"{"x": [0, {"y": {"z": 1, "z": {}}}]}"#, "x[1].y.z"),
        ] {
            let wrong = parse(text.as_bytes()).unwrap_err();
            assert_eq!(wrong.target.as_deref(), Some(target), "{text}");
            assert!(wrong.reason.contains("twice") && wrong.reason.contains("line 1"), "{}", wrong.reason);
        }
        assert!(parse(br#"{"a": {"b": 1}, "c": {"b": 1}, "A": 1}"#).is_ok());
        for text in ["", "{", "{} {}", "{\"a\":}", "nul", "\"\\ud800\"", "1e999", &"[".repeat(100_000)] {
            assert!(parse(text.as_bytes()).unwrap_err().target.is_none(), "{}", &text[..text.len().min(20)]);
        }
    }
}
