//! Paths into a JSON document, as in the table of API versions: `properties.strategy.stages[].maxConcurrency`.

use serde_json::Value;

/// Removes the property at the path, in every element of the arrays along the path.
pub fn remove(document: &mut Value, path: &str) {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let (name, array) = head.strip_suffix("[]").map_or((head, false), |name| (name, true));
    let Value::Object(object) = document else { return };
    match (rest, array) {
        (None, _) => {
            object.remove(name);
        }
        (Some(rest), false) => {
            if let Some(inner) = object.get_mut(name) {
                remove(inner, rest);
            }
        }
        (Some(rest), true) => {
            if let Some(Value::Array(items)) = object.get_mut(name) {
                items.iter_mut().for_each(|item| remove(item, rest));
            }
        }
    }
}

/// Copies the property at the path from one document into another, where the parents of the property exist. Elements of arrays
/// correspond when they have the same `name` or, without names, the same `type`.
pub fn carry(into: &mut Value, from: &Value, path: &str) {
    let (head, rest) = path.split_once('.').map_or((path, None), |(head, rest)| (head, Some(rest)));
    let (name, array) = head.strip_suffix("[]").map_or((head, false), |name| (name, true));
    let (Value::Object(object), Some(source)) = (into, from.get(name)) else { return };
    match (rest, array) {
        (None, _) => {
            object.insert(name.to_owned(), source.clone());
        }
        (Some(rest), false) => {
            if let Some(inner) = object.get_mut(name) {
                carry(inner, source, rest);
            }
        }
        (Some(rest), true) => {
            let (Some(Value::Array(items)), Value::Array(sources)) = (object.get_mut(name), source) else { return };
            for item in items {
                let identity =
                    |item: &Value| ["name", "type"].into_iter().find_map(|key| Some((key, item.get(key)?.clone())));
                let Some(wanted) = identity(item) else { continue };
                if let Some(source) = sources.iter().find(|source| identity(source).as_ref() == Some(&wanted)) {
                    carry(item, source, rest);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn removes_in_every_element() {
        let mut document = json!({"p": {"s": [{"g": [{"x": 1, "y": 2}], "x": 3}, {"g": []}, 7]}, "x": 4});
        remove(&mut document, "p.s[].g[].x");
        assert_eq!(document, json!({"p": {"s": [{"g": [{"y": 2}], "x": 3}, {"g": []}, 7]}, "x": 4}));
        remove(&mut document, "p.none.x");
        remove(&mut document, "x");
        assert_eq!(document, json!({"p": {"s": [{"g": [{"y": 2}], "x": 3}, {"g": []}, 7]}}));
    }
}
