//! Role definitions: which actions each role grants (Azure built-in roles, documentation of Azure RBAC).

use uuid::Uuid;

/// A role: the actions that match one of `actions` and none of `not_actions`. A `*` stands for any characters; case does not
/// count.
#[derive(Debug, PartialEq, Eq)]
pub struct Role {
    /// The same as in Azure, so that scripts find it.
    pub id: Uuid,
    /// Its name.
    pub name: &'static str,
    /// What it is for, for people.
    pub description: &'static str,
    /// Granted.
    pub actions: &'static [&'static str],
    /// Taken out again.
    pub not_actions: &'static [&'static str],
    /// Granted in the Kubernetes API of a hub.
    pub data_actions: &'static [&'static str],
}

impl Role {
    /// Whether the role grants an action, such as `Microsoft.ContainerService/fleets/write`.
    #[must_use]
    pub fn permits(&self, action: &str) -> bool {
        permits(self.actions, self.not_actions, action)
    }

    /// The role with this ID.
    #[must_use]
    pub fn with_id(id: Uuid) -> Option<&'static Self> {
        BUILT_IN.iter().find(|role| role.id == id)
    }
}

/// Whether an action matches one of `actions` and none of `not_actions`.
#[must_use]
pub fn permits<S: AsRef<str>>(actions: &[S], not_actions: &[S], action: &str) -> bool {
    let among = |patterns: &[S]| patterns.iter().any(|pattern| matches(pattern.as_ref().as_bytes(), action.as_bytes()));
    among(actions) && !among(not_actions)
}

/// Whether a text matches a pattern in which `*` stands for any characters. Linear but for the last `*`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if wanted.eq_ignore_ascii_case(byte) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_none_or(|rest| rest.iter().all(|byte| *byte == b'*'))
}

/// What the hub's Kubernetes roles grant in ARM.
const HUB_USER: &[&str] = &[
    "Microsoft.Authorization/*/read",
    "Microsoft.Resources/subscriptions/operationresults/read",
    "Microsoft.Resources/subscriptions/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.ContainerService/fleets/read",
    "Microsoft.ContainerService/fleets/listCredentials/action",
];

/// Everything, and giving roles to others.
pub const OWNER: &Role = &BUILT_IN[0];

/// The roles that there are.
pub const BUILT_IN: &[Role] = &[
    Role {
        id: Uuid::from_u128(0x8e3af657_a8ff_443c_a75c_2fe8c4bcb635),
        name: "Owner",
        description: "Grants full access to manage all resources, including the ability to assign roles in Azure RBAC.",
        actions: &["*"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0xb24988ac_6180_42a0_ab88_20f7382dd24c),
        name: "Contributor",
        description: "Grants full access to manage all resources, but does not allow you to assign roles in Azure RBAC.",
        actions: &["*"],
        not_actions: &[
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0xacdd72a7_3385_48ef_bd42_f606fba81ae7),
        name: "Reader",
        description: "View all resources, but does not allow you to make any changes.",
        actions: &["*/read"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0x18d7d88d_d35e_4fb5_a5c3_7773c20a72d9),
        name: "User Access Administrator",
        description: "Lets you manage user access to Azure resources.",
        actions: &["*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0xf58310d9_a9f6_439a_9e8d_f62e7b41a168),
        name: "Role Based Access Control Administrator",
        description: "Manage access to Azure resources by assigning roles using Azure RBAC.",
        actions: &[
            "Microsoft.Authorization/roleAssignments/write",
            "Microsoft.Authorization/roleAssignments/delete",
            "*/read",
            "Microsoft.Support/*",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0x63bb64ad_9799_4770_b5c3_24ed299a07bf),
        name: "Azure Kubernetes Fleet Manager Contributor Role",
        description: "Grants read/write access to fleets, fleet members, update strategies, update runs and the rest of a fleet.",
        actions: &["Microsoft.ContainerService/fleets/*", "Microsoft.Resources/deployments/*"],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0x850c5848_fc51_4a9a_8823_f220370626e3),
        name: "Azure Kubernetes Fleet Manager Hub Cluster User Role",
        description: "Grants read access to fleets, and the Kubernetes config file to connect to a fleet's hub cluster.",
        actions: &[
            "Microsoft.ContainerService/fleets/read",
            "Microsoft.ContainerService/fleets/listCredentials/action",
        ],
        not_actions: &[],
        data_actions: &[],
    },
    Role {
        id: Uuid::from_u128(0x30b27cfc_9c84_438e_b0ce_70e35255df80),
        name: "Azure Kubernetes Fleet Manager RBAC Reader",
        description: "Grants read-only access to most Kubernetes objects in a namespace of a fleet's hub cluster.",
        actions: HUB_USER,
        not_actions: &[],
        data_actions: &["Microsoft.ContainerService/fleets/*/read"],
    },
    Role {
        id: Uuid::from_u128(0x5af6afb3_c06c_4fa4_8848_71a8aee05683),
        name: "Azure Kubernetes Fleet Manager RBAC Writer",
        description: "Grants read/write access to most Kubernetes objects in a namespace of a fleet's hub cluster.",
        actions: HUB_USER,
        not_actions: &[],
        data_actions: &["Microsoft.ContainerService/fleets/*"],
    },
    Role {
        id: Uuid::from_u128(0x434fb43a_c01c_447e_9f67_c3ad923cfaba),
        name: "Azure Kubernetes Fleet Manager RBAC Admin",
        description: "Grants read/write access to Kubernetes objects in a namespace of a fleet's hub cluster, but for quotas and the namespace itself.",
        actions: HUB_USER,
        not_actions: &[],
        data_actions: &["Microsoft.ContainerService/fleets/*"],
    },
    Role {
        id: Uuid::from_u128(0x18ab4d3d_a1bf_4477_8ad9_8359bc988f69),
        name: "Azure Kubernetes Fleet Manager RBAC Cluster Admin",
        description: "Grants read/write access to all Kubernetes objects in a fleet's hub cluster.",
        actions: HUB_USER,
        not_actions: &[],
        data_actions: &["Microsoft.ContainerService/fleets/*"],
    },
    Role {
        id: Uuid::from_u128(0xed7f3fbd_7b88_4dd4_9017_9adb7ce333f8),
        name: "Azure Kubernetes Service Contributor Role",
        description: "Grants access to read and write Azure Kubernetes Service clusters.",
        actions: &[
            "Microsoft.ContainerService/locations/*",
            "Microsoft.ContainerService/managedClusters/*",
            "Microsoft.ContainerService/managedclustersnapshots/*",
            "Microsoft.ContainerService/snapshots/*",
            "Microsoft.Resources/deployments/*",
        ],
        not_actions: &[],
        data_actions: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str) -> &'static Role {
        BUILT_IN.iter().find(|role| role.name == name).unwrap()
    }

    #[test]
    fn patterns_match_as_azures_do() {
        for (pattern, text, fits) in [
            ("*", "a/b", true),
            ("*/read", "Microsoft.X/y/read", true),
            ("*/read", "Microsoft.X/y/readAll", false),
            ("microsoft.x/*", "Microsoft.X/y/write", true),
            ("Microsoft.Authorization/*/Delete", "Microsoft.Authorization/roleAssignments/delete", true),
            ("Microsoft.Authorization/*/Delete", "Microsoft.Authorization/delete", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*b*c", "axxbyybc", true),
            ("", "", true),
            ("", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn roles_grant_what_their_names_say() {
        let (write, assign) =
            ("Microsoft.ContainerService/fleets/write", "Microsoft.Authorization/roleAssignments/write");
        for (name, may_write, may_assign) in [
            ("Owner", true, true),
            ("Contributor", true, false),
            ("Reader", false, false),
            ("User Access Administrator", false, true),
            ("Role Based Access Control Administrator", false, true),
            ("Azure Kubernetes Fleet Manager Contributor Role", true, false),
            ("Azure Kubernetes Service Contributor Role", false, false),
        ] {
            assert_eq!((role(name).permits(write), role(name).permits(assign)), (may_write, may_assign), "{name}");
        }
        assert_eq!(OWNER.name, "Owner");
    }

    #[test]
    fn each_role_is_one() {
        let mut ids: Vec<Uuid> = BUILT_IN.iter().map(|role| role.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), BUILT_IN.len());
    }
}
