//! Kubernetes label selectors (`labels.Parse` of apimachinery): `env=production,tier in (web,api),!retired`.

use std::{collections::BTreeSet, iter::Peekable, str::CharIndices};

use serde::{Deserialize, Serialize};

use super::label;

/// Longest selector, in characters (API definition, `MemberSelector.byLabel`).
pub const MAX_LENGTH: usize = 512;

/// Which members of a fleet a stage or group has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberSelector {
    /// A Kubernetes label selector over the members' labels, the automatic ones included.
    pub by_label: String,
}

/// A parsed selector. It matches labels that meet all of its requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector {
    /// At least one.
    pub requirements: Vec<Requirement>,
}

/// A requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The condition on its value.
    pub condition: Condition,
}

/// A condition on the value of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// `=`, `==`, `in`: the label exists and has one of these values.
    In(BTreeSet<String>),
    /// `!=`, `notin`: the label does not exist, or has none of these values.
    NotIn(BTreeSet<String>),
    /// The label exists.
    Exists,
    /// `!`: the label does not exist.
    DoesNotExist,
}

/// Why a selector is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {problem}")]
pub struct SelectorError {
    /// Position of the error in characters, from 1.
    pub at: usize,
    /// What was expected.
    pub problem: String,
}

impl LabelSelector {
    /// Parses a selector. An empty selector, which matches everything in Kubernetes, is refused: a strategy that means all members
    /// leaves the selector out.
    ///
    /// # Errors
    /// [`SelectorError`] for the first error.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut reader = Reader::new(text);
        let mut requirements = Vec::new();
        loop {
            requirements.push(reader.requirement()?);
            match reader.take() {
                (_, Token::End) => return Ok(Self { requirements }),
                (_, Token::Comma) => {}
                (at, found) => return Err(expected(at, &found, "',' or the end")),
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    NotEquals,
    /// Refuses comparisons of numbers, which node affinities have and member selectors do not.
    Compares(&'a str),
    End,
}

/// Splits the text into tokens with their positions in characters, from 1.
struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    at: usize,
    ahead: Option<(usize, Token<'a>)>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, rest: text.char_indices().peekable(), at: 1, ahead: None }
    }

    fn bump_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<(usize, char)> {
        let found = self.rest.next_if(|(_, c)| wanted(*c));
        self.at += usize::from(found.is_some());
        found
    }

    fn take(&mut self) -> (usize, Token<'a>) {
        if let Some(ahead) = self.ahead.take() {
            return ahead;
        }
        while self.bump_if(is_space).is_some() {}
        let at = self.at;
        let Some((from, first)) = self.bump_if(|_| true) else { return (at, Token::End) };
        let token = match first {
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '=' => {
                self.bump_if(|c| c == '=');
                Token::Equals
            }
            '!' if self.bump_if(|c| c == '=').is_some() => Token::NotEquals,
            '!' => Token::Not,
            '<' => Token::Compares("<"),
            '>' => Token::Compares(">"),
            _ => {
                while self.bump_if(|c| !is_space(c) && !is_special(c)).is_some() {}
                let to = self.rest.peek().map_or(self.text.len(), |(to, _)| *to);
                Token::Word(self.text.get(from..to).unwrap_or_default())
            }
        };
        (at, token)
    }

    fn peek(&mut self) -> &(usize, Token<'a>) {
        let ahead = self.take();
        self.ahead.insert(ahead)
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek().1 == Token::Not;
        if absent {
            self.take();
        }
        let key = match self.take() {
            (at, Token::Word(word)) => checked(at, word, "key", label::is_key(word), label::KEY_RULE)?,
            (at, found) if absent => return Err(expected(at, &found, "the key of a label after '!'")),
            (at, found) => return Err(expected(at, &found, "the key of a label, or '!' and one")),
        };
        if absent {
            return Ok(Requirement { key, condition: Condition::DoesNotExist });
        }
        if matches!(self.peek().1, Token::End | Token::Comma) {
            return Ok(Requirement { key, condition: Condition::Exists });
        }
        let condition = match self.take() {
            (_, Token::Equals) => Condition::In(self.value()?),
            (_, Token::NotEquals) => Condition::NotIn(self.value()?),
            (_, Token::Word("in")) => Condition::In(self.values()?),
            (_, Token::Word("notin")) => Condition::NotIn(self.values()?),
            (at, Token::Compares(sign)) => {
                return Err(SelectorError { at, problem: format!("members are not selected by '{sign}'") });
            }
            (at, found) => return Err(expected(at, &found, "'=', '==', '!=', 'in', 'notin', ',' or the end")),
        };
        Ok(Requirement { key, condition })
    }

    /// Returns the value after `=`; without text it is empty.
    fn value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let value = match self.peek() {
            (_, Token::End | Token::Comma) => String::new(),
            _ => match self.take() {
                (at, Token::Word(word)) => value(at, word)?,
                (at, found) => return Err(expected(at, &found, "a value")),
            },
        };
        Ok(BTreeSet::from([value]))
    }

    /// Returns the values after `in`: `(a,b)`. `(a,)` contains the empty value, `()` has no value.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.take() {
            (_, Token::Open) => {}
            (at, found) => return Err(expected(at, &found, "'('")),
        }
        if let (at, Token::Close) = self.peek() {
            return Err(SelectorError {
                at: *at,
                problem: "expected at least one value between the parentheses".into(),
            });
        }
        let mut values = BTreeSet::new();
        loop {
            if let (at, Token::Word(word)) = *self.peek() {
                values.insert(value(at, word)?);
                self.take();
            } else {
                values.insert(String::new());
            }
            match self.take() {
                (_, Token::Comma) => {}
                (_, Token::Close) => return Ok(values),
                (at, found) => return Err(expected(at, &found, "',' or ')'")),
            }
        }
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_special(c: char) -> bool {
    matches!(c, ',' | '(' | ')' | '=' | '!' | '<' | '>')
}

fn value(at: usize, word: &str) -> Result<String, SelectorError> {
    checked(at, word, "value", label::is_value(word), label::VALUE_RULE)
}

fn checked(at: usize, word: &str, what: &str, sound: bool, rule: &str) -> Result<String, SelectorError> {
    if sound {
        return Ok(word.to_owned());
    }
    let quotes =
        if word.contains(['"', '\'', '`']) { " Kubernetes' selectors have no quotes: leave them out." } else { "" };
    Err(SelectorError { at, problem: format!("'{word}' is not the {what} of a label: {rule}.{quotes}") })
}

fn expected(at: usize, found: &Token<'_>, what: &str) -> SelectorError {
    let found = match found {
        Token::Word(word) => *word,
        Token::Comma => ",",
        Token::Open => "(",
        Token::Close => ")",
        Token::Not => "!",
        Token::Equals => "=",
        Token::NotEquals => "!=",
        Token::Compares(sign) => sign,
        Token::End => return SelectorError { at, problem: format!("expected {what}, and the selector ends here") },
    };
    SelectorError { at, problem: format!("expected {what}, found '{found}'") }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*, sample::select};

    use super::*;

    fn requirement(key: &str, condition: Condition) -> Requirement {
        Requirement { key: key.to_owned(), condition }
    }

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn selectors_are_parsed_as_in_kubernetes() {
        use Condition::{DoesNotExist, Exists, In, NotIn};
        // From the tests of apimachinery's labels.Parse.
        let cases: &[(&str, &[Requirement])] = &[
            ("x=a,y=b,z=c", &[("x", "a"), ("y", "b"), ("z", "c")].map(|(k, v)| requirement(k, In(set(&[v]))))),
            ("x!=a,y=b", &[requirement("x", NotIn(set(&["a"]))), requirement("y", In(set(&["b"])))]),
            ("x= a", &[requirement("x", In(set(&["a"])))]),
            ("x=,z= ", &[requirement("x", In(set(&[""]))), requirement("z", In(set(&[""])))]),
            ("x==a", &[requirement("x", In(set(&["a"])))]),
            ("!x", &[requirement("x", DoesNotExist)]),
            ("x , ! y", &[requirement("x", Exists), requirement("y", DoesNotExist)]),
            ("x in (abc,def)", &[requirement("x", In(set(&["abc", "def"])))]),
            ("x notin (abc,def)", &[requirement("x", NotIn(set(&["abc", "def"])))]),
            ("x in (,abc)", &[requirement("x", In(set(&["", "abc"])))]),
            ("x in (abc,,def)", &[requirement("x", In(set(&["", "abc", "def"])))]),
            ("x in (abc, )", &[requirement("x", In(set(&["", "abc"])))]),
            ("x in (,)", &[requirement("x", In(set(&[""])))]),
            ("x in(a),y notin(b)", &[requirement("x", In(set(&["a"]))), requirement("y", NotIn(set(&["b"])))]),
            // Keywords are keys and values as well.
            ("in in (in,notin)", &[requirement("in", In(set(&["in", "notin"])))]),
            ("notin=in", &[requirement("notin", In(set(&["in"])))]),
            ("a.b/c_D in (1.5)", &[requirement("a.b/c_D", In(set(&["1.5"])))]),
        ];
        for (text, requirements) in cases {
            assert_eq!(LabelSelector::parse(text).map(|s| s.requirements).as_deref(), Ok(*requirements), "{text}");
        }
    }

    #[test]
    fn the_error_names_the_position() {
        let cases = [
            ("", 1, "ends"),
            ("  ", 3, "ends"),
            ("x,", 3, "ends"),
            (",x", 1, "','"),
            ("x=a b", 5, "'b'"),
            ("x=a||y=b", 3, "value"),
            ("x==a==b", 5, "'='"),
            ("x===a", 4, "'='"),
            ("!x=a", 3, "'='"),
            ("!!x", 2, "'!'"),
            ("x ! y", 3, "'!'"),
            ("x in a", 6, "'('"),
            ("x in ()", 7, "at least one"),
            ("x in (a b)", 9, "',' or ')'"),
            ("x in (a", 8, "ends"),
            ("x in (a)b", 9, "'b'"),
            ("x IN (a)", 3, "'IN'"),
            ("x>1", 2, "'>'"),
            ("env='production'", 5, "quotes"),
            ("env = \"x\"", 7, "quotes"),
            ("-x", 1, "key"),
            ("A.b/x", 1, "key"),
            ("é=x", 1, "key"),
            ("x=é,y>2", 3, "value"),
            ("ü", 1, "key"),
        ];
        for (text, at, problem) in cases {
            let error = LabelSelector::parse(text).unwrap_err();
            assert!(error.at == at && error.problem.contains(problem), "{text}: {error}");
        }
    }

    const SPACES: &[&str] = &["", "", " ", "\t", "  ", "\r\n"];

    /// A requirement, and a text of it.
    fn any_requirement() -> impl Strategy<Value = (Requirement, String)> {
        let word = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?";
        let key = (option::of("[a-z0-9]{1,4}(\\.[a-z0-9]{1,4}){0,2}"), word)
            .prop_map(|(prefix, name)| prefix.map_or(name.clone(), |prefix| format!("{prefix}/{name}")));
        let value = prop_oneof![6 => word.prop_map(String::from), 1 => Just(String::new()), 1 => Just("in".to_owned())];
        (key, 0..6_u8, vec(value, 2..5), vec(select(SPACES), 6)).prop_map(|(key, kind, values, s)| {
            let one = values[0].clone();
            let list = values.join(&format!("{},{}", s[0], s[1]));
            let all = BTreeSet::from_iter(values);
            let (text, condition) = match kind {
                0 => (format!("{key}{}={}{one}", s[2], s[3]), Condition::In(BTreeSet::from([one]))),
                1 => (format!("{key}{}=={}{one}", s[2], s[3]), Condition::In(BTreeSet::from([one]))),
                2 => (format!("{key}{}!={}{one}", s[2], s[3]), Condition::NotIn(BTreeSet::from([one]))),
                3 => (format!("{key} {}in{}({}{list}{})", s[2], s[3], s[4], s[5]), Condition::In(all)),
                4 => (format!("{key} {}notin{}({}{list}{})", s[2], s[3], s[4], s[5]), Condition::NotIn(all)),
                _ if s[2].is_empty() => (key.clone(), Condition::Exists),
                _ => (format!("!{}{key}", s[2]), Condition::DoesNotExist),
            };
            (Requirement { key, condition }, format!("{}{text}{}", s[4], s[5]))
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_spaced(all in vec(any_requirement(), 1..5)) {
            let text: Vec<&str> = all.iter().map(|(_, text)| text.as_str()).collect();
            let requirements: Vec<Requirement> = all.iter().map(|(requirement, _)| requirement.clone()).collect();
            prop_assert_eq!(LabelSelector::parse(&text.join(",")), Ok(LabelSelector { requirements }));
        }

        #[test]
        fn never_panics_and_points_into_the_text(text in "([a-z/. ]|[=!,()<>'\\t]|in|notin|\\PC){0,24}") {
            if let Err(error) = LabelSelector::parse(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&error.at), "{}", error);
            }
        }
    }
}
