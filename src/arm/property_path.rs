//! Paths into a JSON document, as tables of versions write them: `properties.strategy.stages[].maxConcurrency`.

use serde_json::Value;

/// Removes what the path points at, in every element of the arrays on its way.
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
