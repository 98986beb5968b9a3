//! The `acl_policies:` block: rights, by name. Loaded and validated; not acted on in this release.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::KnownBlock;

/// The `acl_policies:` block: Consul's policies, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct AclPolicies(pub BTreeMap<String, AclPolicy>);

impl AclPolicies {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("acl_policies");
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AclPolicy {
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Its rules, in Consul's language.
    pub rules: String,
}
