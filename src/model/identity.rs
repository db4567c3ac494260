//! The managed identity of a tracked resource (common-types v4): as a client writes it, and as the service keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::arm::{Problems, ResourceId};

const USER_ASSIGNED: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";

/// Kind of managed identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum IdentityType {
    /// None.
    None,
    /// Created with the resource.
    SystemAssigned,
    /// Created by the user.
    UserAssigned,
    /// Both.
    #[serde(rename = "SystemAssigned, UserAssigned", alias = "SystemAssigned,UserAssigned")]
    Both,
}

impl IdentityType {
    fn has_system_assigned(self) -> bool {
        matches!(self, Self::SystemAssigned | Self::Both)
    }

    fn has_user_assigned(self) -> bool {
        matches!(self, Self::UserAssigned | Self::Both)
    }
}

/// `identity` of a body. Read-only fields are typed, so that a body of the wrong types is refused, and ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityBody {
    #[serde(rename = "type")]
    identity_type: IdentityType,
    user_assigned_identities: Option<BTreeMap<String, UserAssignedBody>>,
    #[serde(rename = "principalId")]
    _principal_id: Option<String>,
    #[serde(rename = "tenantId")]
    _tenant_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserAssignedBody {
    #[serde(rename = "principalId")]
    _principal_id: Option<String>,
    #[serde(rename = "clientId")]
    _client_id: Option<String>,
}

/// `identity` of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedServiceIdentity {
    #[serde(rename = "type")]
    identity_type: IdentityType,
    /// The principal of the system-assigned identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal_id: Option<Uuid>,
    /// The tenant of that principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_id: Option<Uuid>,
    /// User-assigned identities by resource ID. Their principals are known to Azure only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_assigned_identities: Option<BTreeMap<String, UserAssigned>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UserAssigned {}

impl IdentityBody {
    /// Checks that type and identities fit together. Identities beside a type that has none mean nothing: the official example of a
    /// fleet sends some beside `None`.
    pub fn check(&self, problems: &mut Problems) {
        let at = "identity.userAssignedIdentities";
        if !self.identity_type.has_user_assigned() {
            return;
        }
        let identities = self.user_assigned_identities.iter().flatten();
        if identities.clone().next().is_none() {
            problems.add(at, "Name at least one identity for the type UserAssigned.");
        }
        for (id, _) in identities {
            if !id.parse::<ResourceId>().is_ok_and(|id| id.is_type(USER_ASSIGNED)) {
                problems.add(at, format!("'{id}' is not the resource ID of a {USER_ASSIGNED}."));
            }
        }
    }

    /// The identity that a resource with the identity `stored` has after this body. A system-assigned identity keeps its principal
    /// for as long as the resource has one; `new_principal` is for a new one.
    #[must_use]
    pub fn applied(
        self,
        stored: Option<&ManagedServiceIdentity>,
        tenant: Uuid,
        new_principal: Uuid,
    ) -> ManagedServiceIdentity {
        let system = self.identity_type.has_system_assigned();
        let principal = stored.and_then(|identity| identity.principal_id).unwrap_or(new_principal);
        let user = self.user_assigned_identities.filter(|_| self.identity_type.has_user_assigned());
        ManagedServiceIdentity {
            identity_type: self.identity_type,
            principal_id: system.then_some(principal),
            tenant_id: system.then_some(tenant),
            user_assigned_identities: user.map(|ids| ids.into_keys().map(|id| (id, UserAssigned {})).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TENANT: Uuid = Uuid::from_u128(1);
    const ID: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i";

    fn applied(body: Value, stored: Option<&Value>, principal: u128) -> Value {
        let stored = stored.map(|value| serde_json::from_value(value.clone()).unwrap());
        let body: IdentityBody = serde_json::from_value(body).unwrap();
        serde_json::to_value(body.applied(stored.as_ref(), TENANT, Uuid::from_u128(principal))).unwrap()
    }

    #[test]
    fn a_principal_is_the_services_own_and_stays() {
        let body = json!({"type": "SystemAssigned", "principalId": "mine", "tenantId": "mine", "other": 1});
        let first = applied(body.clone(), None, 7);
        assert_eq!(first, json!({"type": "SystemAssigned", "principalId": Uuid::from_u128(7), "tenantId": TENANT}));
        assert_eq!(applied(body.clone(), Some(&first), 8), first);
        let none = applied(json!({"type": "None"}), Some(&first), 8);
        assert_eq!(none, json!({"type": "None"}));
        assert_ne!(applied(body, Some(&none), 8), first, "another identity is another principal");
        let both = applied(
            json!({"type": "SystemAssigned,UserAssigned", "userAssignedIdentities": {ID: {}}}),
            Some(&first),
            9,
        );
        assert_eq!((&both["principalId"], &both["userAssignedIdentities"]), (&first["principalId"], &json!({ID: {}})));
    }

    #[test]
    fn user_assigned_identities_are_resource_ids_of_their_type() {
        let problems = |body: Value| {
            let mut problems = Problems::default();
            serde_json::from_value::<IdentityBody>(body).unwrap().check(&mut problems);
            problems.into_result().map_err(|error| error.to_string())
        };
        let with = |ids: Value| json!({"type": "UserAssigned", "userAssignedIdentities": ids});
        assert_eq!(problems(with(json!({ID: {"clientId": "c"}}))), Ok(()));
        for ids in [json!({}), json!(null), json!({"x": {}}), json!({ID.replace("userAssigned", "other"): {}})] {
            assert!(problems(with(ids.clone())).is_err(), "{ids}");
        }
        assert_eq!(problems(json!({"type": "None", "userAssignedIdentities": {"key126": {}}})), Ok(()));
    }

    #[test]
    fn wrong_types_are_refused() {
        for body in [
            json!({}),
            json!({"type": "Mine"}),
            json!({"type": "SystemAssigned", "tenantId": {}}),
            json!({"type": "SystemAssigned", "principalId": [1]}),
            json!({"type": "SystemAssigned", "userAssignedIdentities": {"x": [1]}}),
            json!({"type": "SystemAssigned", "userAssignedIdentities": []}),
            json!({"type": "UserAssigned", "userAssignedIdentities": {ID: {"clientId": 5}}}),
            json!({"type": "UserAssigned", "userAssignedIdentities": {ID: {"secret": "x"}}}),
        ] {
            assert!(serde_json::from_value::<IdentityBody>(body.clone()).is_err(), "{body}");
        }
    }
}
