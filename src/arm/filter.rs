//! `$filter`: the part of OData's grammar that ARM's lists accept, comparisons joined by `and`.

use super::ArmError;

/// Longest accepted filter, in bytes.
const MAX_LENGTH: usize = 2048;

/// One comparison: `name eq 'value'`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The property, without the prefix `properties/` that some clients send.
    pub name: String,
    /// The value that the property must equal.
    pub value: String,
}

/// Parses a filter: `state eq 'Pending' and gateType eq Approval`. Values may be quoted, with `''` for a quote inside; keywords
/// compare without case. An absent or empty filter has no comparisons.
///
/// # Errors
/// 400 `InvalidFilterInQueryString` that says at which character what was expected.
pub fn parse(text: Option<&str>) -> Result<Vec<Comparison>, ArmError> {
    let mut reader = Reader { text: text.unwrap_or_default(), at: 0 };
    if reader.text.len() > MAX_LENGTH {
        return Err(reader.wrong(&format!("at most {MAX_LENGTH} characters")));
    }
    let mut comparisons = Vec::new();
    reader.skip_space();
    while !reader.is_at_end() {
        let name = reader.word("the name of a property")?;
        reader.keyword("eq")?;
        let value = reader.value()?;
        comparisons.push(Comparison { name: name.rsplit('/').next().unwrap_or_default().to_owned(), value });
        if reader.is_at_end() {
            break;
        }
        reader.keyword("and")?;
        if reader.is_at_end() {
            return Err(reader.wrong("a comparison after 'and'"));
        }
    }
    Ok(comparisons)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn word(&mut self, expected: &str) -> Result<&'a str, ArmError> {
        let rest = self.rest();
        let length = rest.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '(' | ')')).unwrap_or(rest.len());
        let word = rest.get(..length).filter(|word| !word.is_empty()).ok_or_else(|| self.wrong(expected))?;
        self.at += length;
        self.skip_space();
        Ok(word)
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), ArmError> {
        let before = self.at;
        match self.word(keyword) {
            Ok(word) if word.eq_ignore_ascii_case(keyword) => Ok(()),
            _ => {
                self.at = before;
                Err(self.wrong(&format!("'{keyword}'")))
            }
        }
    }

    fn value(&mut self) -> Result<String, ArmError> {
        let Some(quoted) = self.rest().strip_prefix('\'') else { return self.word("a value").map(str::to_owned) };
        let mut value = String::new();
        let mut characters = quoted.char_indices().peekable();
        while let Some((at, c)) = characters.next() {
            if c != '\'' {
                value.push(c);
            } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
                value.push('\'');
            } else {
                self.at += 1 + at + 1;
                self.skip_space();
                return Ok(value);
            }
        }
        Err(self.wrong("a quote at the end of the value"))
    }

    fn wrong(&self, expected: &str) -> ArmError {
        let at = self.text.get(..self.at).unwrap_or_default().chars().count() + 1;
        ArmError::bad_request(
            "InvalidFilterInQueryString",
            format!(
                "$filter is not understood at character {at}: expected {expected}. It has comparisons such as \"name eq 'value'\", joined by 'and'."
            ),
        )
        .at("$filter")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Option<Vec<(String, String)>> {
        parse(Some(text)).ok().map(|all| all.into_iter().map(|c| (c.name, c.value)).collect())
    }

    #[test]
    fn filters_of_clients_are_parsed() {
        let one = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse(None).unwrap(), []);
        assert_eq!(pairs("  "), Some(vec![]));
        assert_eq!(pairs("state eq Pending"), Some(vec![one("state", "Pending")]));
        assert_eq!(
            pairs("properties/gateType EQ 'Approval' And state eq 'it''s'"),
            Some(vec![one("gateType", "Approval"), one("state", "it's")])
        );
        assert_eq!(pairs("resourceType eq 'a/b/c'"), Some(vec![one("resourceType", "a/b/c")]));
    }

    #[test]
    fn the_error_names_the_character() {
        for (text, at) in
            [("state", 6), ("state ne x", 7), ("state eq", 9), ("a eq b and", 11), ("a eq 'b", 6), ("a eq b c eq d", 8)]
        {
            let message = parse(Some(text)).unwrap_err().to_string();
            assert!(message.contains(&format!("character {at}:")), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn any_value_can_be_quoted(value in "\\PC{0,30}") {
            let text = format!("n eq '{}' and m eq x", value.replace('\'', "''"));
            prop_assert_eq!(pairs(&text), Some(vec![("n".to_owned(), value), ("m".to_owned(), "x".to_owned())]));
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = parse(Some(&text));
        }
    }
}
