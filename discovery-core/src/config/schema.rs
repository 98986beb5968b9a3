//! What a JSON Schema says of durations.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// What schemas call a duration; `schemars` has another form in mind, which [`duration_schema`] takes the place of.
pub const DURATION: &str = "Duration";

/// A duration as [`parse_duration`](super::parse_duration) reads it.
pub fn duration_schema() -> Schema {
    json_schema!({
        "description": "Whole numbers with units, largest first: \"500ms\", \"10s\", \"1h30m\", \"2d\".",
        "type": "string",
        "minLength": 2,
        "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?([0-9]+ns)?$",
    })
}

/// A duration, or a whole number of seconds: what [`duration::or_seconds`](super::duration::or_seconds) reads.
#[derive(Debug)]
pub struct DurationOrSeconds;

impl JsonSchema for DurationOrSeconds {
    fn schema_name() -> Cow<'static, str> {
        "DurationOrSeconds".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            generator.subschema_for::<Duration>(),
            { "description": "Seconds.", "type": "integer", "minimum": 0 },
        ] })
    }
}
