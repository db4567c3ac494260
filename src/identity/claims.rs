//! The claims of Microsoft Entra access tokens, v1.0 and v2.0 alike (Microsoft identity platform, access token claims
//! reference).

use serde::{Deserialize, de::IgnoredAny};
use uuid::Uuid;

use super::caller::{Caller, CallerKind};

/// The claims this service reads. Everything optional, so that what is missing gets a message of its own.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    pub(super) aud: Option<OneOrMany>,
    /// Seconds since 1970. RFC 7519 allows a fraction.
    pub(super) exp: Option<f64>,
    pub(super) nbf: Option<f64>,
    pub(super) tid: Option<String>,
    oid: Option<String>,
    sub: Option<String>,
    idtyp: Option<String>,
    /// v1.0.
    appid: Option<String>,
    /// v2.0.
    azp: Option<String>,
    upn: Option<String>,
    preferred_username: Option<String>,
    unique_name: Option<String>,
    name: Option<String>,
    /// Delegated permissions: a person is behind the application. A text in Entra, a list with others; only there or not.
    scp: Option<IgnoredAny>,
    /// The resource whose managed identity this is.
    xms_mirid: Option<String>,
    /// A text with issuers that leave out the list around one value.
    groups: Option<OneOrMany>,
}

/// One value, or several, as of audiences (RFC 7519 §4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn values(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Claims {
    /// The caller these claims name; `None` when there is no object ID. Entra's `sub` is another one for each application;
    /// elsewhere it is the principal, wherever it comes from.
    pub(super) fn caller(&self, tenant: Uuid, entra: bool) -> Option<Caller> {
        let subject = self.sub.as_deref().filter(|_| !entra);
        let object_id = self.oid.as_deref().or(subject)?.parse().ok()?;
        let login = self.upn.as_ref().or(self.preferred_username.as_ref()).or(self.unique_name.as_ref());
        let kind = if self.xms_mirid.is_some() {
            CallerKind::ManagedIdentity
        } else {
            match self.idtyp.as_deref() {
                Some("app") => CallerKind::Application,
                Some("user") => CallerKind::User,
                // The claim is optional in Entra: a person's token has a login name or delegated permissions.
                _ if login.is_some() || self.scp.is_some() => CallerKind::User,
                _ => CallerKind::Application,
            }
        };
        let groups = self.groups.as_ref().map_or(&[][..], OneOrMany::values);
        Some(Caller {
            object_id,
            app_id: self.appid.as_ref().or(self.azp.as_ref()).cloned(),
            name: login.or(self.name.as_ref()).cloned(),
            kind,
            tenant,
            groups: groups.iter().filter_map(|group| group.parse().ok()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OID: &str = "44444444-4444-4444-4444-444444444444";

    fn caller(claims: serde_json::Value) -> Option<Caller> {
        serde_json::from_value::<Claims>(claims).unwrap().caller(Uuid::nil(), true)
    }

    #[test]
    fn reads_both_versions_of_entra_tokens() {
        let v1_user = caller(json!({"oid": OID, "appid": "cli", "upn": "ann@contoso.com", "name": "Ann"})).unwrap();
        assert_eq!(
            (v1_user.kind, v1_user.display_name().as_str(), v1_user.app_id.as_deref()),
            (CallerKind::User, "ann@contoso.com", Some("cli"))
        );
        let v2_user = caller(json!({"oid": OID, "azp": "cli", "preferred_username": "ann@contoso.com"})).unwrap();
        assert_eq!(v2_user.name, v1_user.name);
        assert_eq!(v2_user.app_id, v1_user.app_id);
        let v1_app = caller(json!({"oid": OID, "appid": "robot"})).unwrap();
        assert_eq!((v1_app.kind, v1_app.display_name().as_str()), (CallerKind::Application, "robot"));
        let v2_app = caller(json!({"oid": OID, "azp": "robot", "idtyp": "app"})).unwrap();
        assert_eq!(v2_app, v1_app);
        let nameless_user = caller(json!({"oid": OID, "azp": "cli", "scp": "user_impersonation"})).unwrap();
        assert_eq!((nameless_user.kind, nameless_user.display_name().as_str()), (CallerKind::User, OID));
        let identity =
            caller(json!({"oid": OID, "appid": "id", "idtyp": "app", "xms_mirid": "/subscriptions/s"})).unwrap();
        assert_eq!(identity.kind, CallerKind::ManagedIdentity);
    }

    #[test]
    fn needs_an_object_id_and_passes_over_odd_groups() {
        assert_eq!(caller(json!({"appid": "robot"})), None);
        assert_eq!(caller(json!({"oid": "root"})), None);
        assert_eq!(caller(json!({"sub": OID})), None, "Entra's sub is no object ID");
        let elsewhere: Claims = serde_json::from_value(json!({"sub": OID})).unwrap();
        assert_eq!(elsewhere.caller(Uuid::nil(), false).unwrap().object_id.to_string(), OID);
        for groups in [json!(["x", OID]), json!(OID)] {
            assert_eq!(caller(json!({"oid": OID, "groups": groups})).unwrap().groups, [OID.parse::<Uuid>().unwrap()]);
        }
        assert!(caller(json!({"oid": OID, "groups": null})).unwrap().groups.is_empty());
    }

    #[test]
    fn permissions_may_be_a_list() {
        for scp in [json!("user_impersonation"), json!(["openid", "fleet"])] {
            assert_eq!(caller(json!({"oid": OID, "scp": scp})).unwrap().kind, CallerKind::User);
        }
    }
}
