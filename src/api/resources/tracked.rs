//! Location, tags and identity: what resources in a resource group have besides their properties.

use serde_json::{Value, json};
use uuid::Uuid;

use super::resource_type::Change;
use crate::{
    api::http::{body, error::ApiResult},
    arm::{
        ArmError, Problems,
        envelope::{Tags, check_tags, normalize_location},
        patch,
    },
    model::identity::{IdentityBody, ManagedServiceIdentity},
    store::resources::{Draft, Resource},
};

/// The draft of a PUT, without properties.
pub(super) fn draft(change: &Change<'_>, problems: &mut Problems) -> ApiResult<Draft> {
    let location = location(change, problems)?;
    let tags = body::optional::<Tags>(change.body, "tags")?;
    if let Some(tags) = &tags {
        check_tags(tags, problems);
    }
    let identity = body::optional::<IdentityBody>(change.body, "identity")?;
    let identity = identity.map(|given| applied(given, change, change.existing, problems));
    let identity = identity.map(serde_json::to_value).transpose()?;
    Ok(Draft { location, tags, identity, ..Draft::default() })
}

/// The draft of a PATCH, without properties.
pub(super) fn patched_draft(change: &Change<'_>, row: &Resource, problems: &mut Problems) -> ApiResult<Draft> {
    let mut draft = Draft {
        location: row.location.clone(),
        tags: row.tags.clone(),
        identity: row.identity.clone(),
        ..Draft::default()
    };
    if change.body.get("tags").is_some() {
        draft.tags = body::optional::<Tags>(change.body, "tags")?;
    }
    if let Some(tags) = &draft.tags {
        check_tags(tags, problems);
    }
    if let Some(given) = change.body.get("identity").filter(|given| !given.is_null()) {
        let mut identity = row.identity.clone().unwrap_or_else(|| json!({}));
        patch::merge(&mut identity, given.clone());
        let given: IdentityBody = body::part(&json!({"identity": identity}), "identity")?;
        draft.identity = Some(serde_json::to_value(applied(given, change, Some(row), problems))?);
    }
    // As Azure does: the type None is kept as it was sent by a PUT, and is gone after a PATCH.
    draft.identity = draft.identity.filter(|identity| identity.get("type").and_then(Value::as_str) != Some("None"));
    Ok(draft)
}

/// The identity that a resource has after a body. A stored identity of an older version that does not read counts as none.
fn applied(
    given: IdentityBody,
    change: &Change<'_>,
    row: Option<&Resource>,
    problems: &mut Problems,
) -> ManagedServiceIdentity {
    given.check(problems);
    let stored = row.and_then(|row| row.identity.clone()).and_then(|identity| serde_json::from_value(identity).ok());
    given.applied(stored.as_ref(), change.request.principal.caller.tenant, Uuid::new_v4())
}

fn location(change: &Change<'_>, problems: &mut Problems) -> ApiResult<Option<String>> {
    let given = body::optional::<String>(change.body, "location")?.map(|text| normalize_location(&text));
    let given = given.filter(|text| !text.is_empty());
    match (given, change.existing.and_then(|row| row.location.as_deref())) {
        (Some(new), Some(old)) if new != old => Err(ArmError::conflict(
            "InvalidResourceLocation",
            format!(
                "The resource '{}' already exists in location '{old}'. A resource with the same name cannot be created in location '{new}'.",
                change.request.id.name()
            ),
        )
        .at("location")
        .into()),
        (Some(new), _) if is_location(&new) => Ok(Some(new)),
        (Some(new), _) => {
            let message = format!("'{new}' is not a region's name.");
            problems.add_coded("LocationNotAvailableForResourceType", "location", message);
            Ok(None)
        }
        (None, Some(old)) => Ok(Some(old.to_owned())),
        (None, None) => {
            let message = "The location property is required for this definition.";
            problems.add_coded("LocationRequired", "location", message);
            Ok(None)
        }
    }
}

fn is_location(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
