//! The real binary compared with the published contract: the official OpenAPI document, its examples, and recorded exchanges
//! with the real service. They are not part of this repository: without them these tests print a warning and pass.

mod checker;
mod document;
mod examples;
mod observed;
mod openapi;
mod preview;
mod protocol;
mod schema;

/// Deliberate deviations from the contract: (a part of the finding's text, the reason).
type Deviations = &'static [(&'static str, &'static str)];

/// Fails on findings that are no known deviation, and on deviations that no longer occur.
fn judge(what: &str, findings: &[String], deviations: Deviations) {
    let known = |finding: &&String| deviations.iter().any(|(part, _)| finding.contains(part));
    for (part, reason) in deviations {
        let count = findings.iter().filter(|finding| finding.contains(part)).count();
        assert!(count > 0, "{what}: the deviation '{part}' no longer occurs: take it out of the table");
        println!("{what}: deviates {count} times: {part}: {reason}");
    }
    let unknown: Vec<&String> = findings.iter().filter(|finding| !known(finding)).collect();
    assert!(unknown.is_empty(), "{what}: {} findings:\n{unknown:#?}", unknown.len());
}
