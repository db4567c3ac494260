//! Azure's public regions, for `GET …/locations` and for what a provider lists.

/// A region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Name in resources, such as `westeurope`.
    pub name: &'static str,
    /// Display name.
    pub display_name: &'static str,
    /// Geography, such as `Europe`.
    pub geography_group: &'static str,
}

macro_rules! locations {
    ($($group:literal: $($name:literal $display:literal),*;)*) => {
        /// The regions in which fleets can be created.
        pub const LOCATIONS: &[Location] = &[$($(Location { name: $name, display_name: $display, geography_group: $group }),*),*];
    };
}

locations! {
    "US": "eastus" "East US", "eastus2" "East US 2", "southcentralus" "South Central US", "westus2" "West US 2",
        "westus3" "West US 3", "centralus" "Central US", "northcentralus" "North Central US", "westus" "West US",
        "westcentralus" "West Central US";
    "Canada": "canadacentral" "Canada Central", "canadaeast" "Canada East";
    "South America": "brazilsouth" "Brazil South", "brazilsoutheast" "Brazil Southeast", "chilecentral" "Chile Central";
    "Mexico": "mexicocentral" "Mexico Central";
    "Europe": "swedencentral" "Sweden Central", "uksouth" "UK South", "ukwest" "UK West", "westeurope" "West Europe",
        "northeurope" "North Europe", "francecentral" "France Central", "francesouth" "France South",
        "germanywestcentral" "Germany West Central", "germanynorth" "Germany North", "italynorth" "Italy North",
        "norwayeast" "Norway East", "norwaywest" "Norway West", "polandcentral" "Poland Central",
        "spaincentral" "Spain Central", "switzerlandnorth" "Switzerland North", "switzerlandwest" "Switzerland West",
        "austriaeast" "Austria East";
    "Asia Pacific": "australiaeast" "Australia East", "australiasoutheast" "Australia Southeast",
        "australiacentral" "Australia Central", "southeastasia" "Southeast Asia", "eastasia" "East Asia",
        "centralindia" "Central India", "southindia" "South India", "westindia" "West India",
        "japaneast" "Japan East", "japanwest" "Japan West", "koreacentral" "Korea Central", "koreasouth" "Korea South",
        "indonesiacentral" "Indonesia Central", "malaysiawest" "Malaysia West", "newzealandnorth" "New Zealand North";
    "Middle East": "uaenorth" "UAE North", "uaecentral" "UAE Central", "qatarcentral" "Qatar Central",
        "israelcentral" "Israel Central";
    "Africa": "southafricanorth" "South Africa North", "southafricawest" "South Africa West";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::arm::envelope::normalize_location;

    #[test]
    fn names_are_the_display_names_normalised() {
        let names: HashSet<&str> = LOCATIONS.iter().map(|location| location.name).collect();
        assert_eq!(names.len(), LOCATIONS.len());
        for location in LOCATIONS {
            assert_eq!(normalize_location(location.display_name), location.name);
        }
    }
}
