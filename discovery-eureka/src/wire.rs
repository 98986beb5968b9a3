//! What goes over the wire, read as leniently as servers of all ages and their proxies need.

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

/// The answer to `/apps`, `/apps/delta`, `/vips/…`.
#[derive(Debug, Deserialize)]
pub(crate) struct Root<'a> {
    #[serde(borrow)]
    pub(crate) applications: Applications<'a>,
}

/// Applications, all or those that changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Applications<'a> {
    /// U-6: the escape of `_` is configurable.
    #[serde(borrow, rename = "versions__delta", alias = "versions_delta")]
    pub(crate) version: Text<'a>,
    #[serde(borrow, rename = "apps__hashcode", alias = "apps_hashcode")]
    pub(crate) hashcode: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) application: Many<Application<'a>>,
}

/// The answer to `/apps/{APP}`.
#[derive(Debug, Deserialize)]
pub(crate) struct OneApplication<'a> {
    #[serde(borrow)]
    pub(crate) application: Application<'a>,
}

/// An application.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Application<'a> {
    #[serde(borrow)]
    pub(crate) name: Text<'a>,
    #[serde(borrow)]
    pub(crate) instance: Many<Instance<'a>>,
}

/// The answer to `/apps/{APP}/{id}`.
#[derive(Debug, Deserialize)]
pub(crate) struct OneInstance<'a> {
    #[serde(borrow)]
    pub(crate) instance: Instance<'a>,
}

/// An instance, as far as it is read.
#[expect(clippy::struct_field_names, reason = "the names are Eureka's")]
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Instance<'a> {
    #[serde(borrow)]
    pub(crate) instance_id: Text<'a>,
    #[serde(borrow)]
    pub(crate) app: Text<'a>,
    #[serde(borrow)]
    pub(crate) host_name: Text<'a>,
    #[serde(borrow)]
    pub(crate) ip_addr: Text<'a>,
    #[serde(borrow)]
    pub(crate) status: Text<'a>,
    /// U-7
    #[serde(borrow, alias = "overriddenstatus")]
    pub(crate) overridden_status: Text<'a>,
    pub(crate) port: Port,
    pub(crate) secure_port: Port,
    #[serde(borrow)]
    pub(crate) data_center_info: DataCenter<'a>,
    #[serde(borrow)]
    pub(crate) metadata: Metadata<'a>,
    #[serde(borrow)]
    pub(crate) vip_address: Text<'a>,
    #[serde(borrow)]
    pub(crate) secure_vip_address: Text<'a>,
    #[serde(borrow)]
    pub(crate) last_dirty_timestamp: Text<'a>,
    #[serde(borrow)]
    pub(crate) action_type: Text<'a>,
}

/// Where an instance runs; Amazon's has metadata.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DataCenter<'a> {
    #[serde(borrow)]
    pub(crate) metadata: Metadata<'a>,
}

impl Instance<'_> {
    /// U-8: what the server takes for its id.
    pub(crate) fn id(&self) -> &str {
        let amazon = || {
            let id = self.data_center_info.metadata.0.get("instance-id");
            id.map(|id| &*id.0).filter(|id| !id.is_empty())
        };
        match &*self.instance_id.0 {
            "" => amazon().unwrap_or(&self.host_name.0),
            id => id,
        }
    }
}

/// The body of a registration. A server takes what follows the metadata of a data centre for its end: that comes last.
pub(crate) fn registration(instance: &Map<String, Value>) -> String {
    const DATA_CENTER: &str = "dataCenterInfo";
    const METADATA: &str = "metadata";
    let field = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        (DATA_CENTER, Value::Object(center)) => {
            let (last, first): (Vec<_>, Vec<_>) = center.iter().partition(|(key, _)| *key == METADATA);
            let fields = first.into_iter().chain(last);
            let fields: Vec<_> = fields
                .map(|(key, value)| format!("{}:{value}", json_text(key)))
                .collect();
            format!("{}:{{{}}}", json_text(key), fields.join(","))
        }
        _ => format!("{}:{value}", json_text(key)),
    };
    let fields: Vec<_> = instance.iter().map(field).collect();
    format!("{{\"instance\":{{{}}}}}", fields.join(","))
}

/// A text as JSON writes it.
fn json_text(text: &str) -> Value {
    Value::from(text)
}

/// Text, whatever it was written as (U-3); nested values are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Text<'_> {
    pub(crate) fn number(&self) -> Option<u64> {
        self.0.trim().parse().ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(text.into()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(text.to_owned().into()))
            }

            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Text(text.into()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
                Ok(Text(value.to_string().into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Text(value.to_string().into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Text(value.to_string().into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Text(value.to_string().into()))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_map(map)?;
                Ok(Text::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_seq(seq)?;
                Ok(Text::default())
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// U-1: `{"$": 80, "@enabled": "true"}`, or a bare number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) number: u16,
    pub(crate) enabled: bool,
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow, rename = "$", default)]
            number: Text<'a>,
            #[serde(borrow, rename = "@enabled", default)]
            enabled: Option<Text<'a>>,
        }
        let number = |text: &str| text.trim().parse().unwrap_or_default();
        Ok(match Lenient::<Fields<'de>>::deserialize(deserializer)? {
            Lenient::Map(fields) => Self {
                number: number(&fields.number.0),
                enabled: fields.enabled.is_none_or(|enabled| enabled.0 == "true"),
            },
            Lenient::Text(text) => Self {
                number: number(&text.0),
                enabled: number(&text.0) > 0,
            },
        })
    }
}

/// Names and texts; U-4: names that start with `@` are none of ours.
#[derive(Debug, Default)]
pub(crate) struct Metadata<'a>(pub(crate) BTreeMap<Cow<'a, str>, Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Metadata<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Lenient::<BTreeMap<Text<'de>, Text<'de>>>::deserialize(deserializer)? {
            Lenient::Map(mut map) => {
                map.retain(|key, _| !key.0.starts_with('@'));
                Ok(Self(map.into_iter().map(|(key, value)| (key.0, value)).collect()))
            }
            Lenient::Text(_) => Ok(Self::default()),
        }
    }
}

/// An object, or what stands in its place.
enum Lenient<'de, T> {
    Map(T),
    Text(Text<'de>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<'de, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Lenient<'de, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or text")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Lenient::Map)
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Lenient::Text(Text(text.to_owned().into())))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Lenient::Text(Text(value.to_string().into())))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Lenient::Text(Text(value.to_string().into())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Lenient::Text(Text::default()))
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}

/// U-5 and A-13: a list, its only item by itself, or nothing.
#[derive(Debug)]
pub(crate) struct Many<T>(pub(crate) Vec<T>);

impl<T> Default for Many<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Read<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or an object")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Many(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|item| Many(vec![item]))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Many::default())
            }

            /// An empty element of XML.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text.trim().is_empty() {
                    return Ok(Many::default());
                }
                Err(E::invalid_type(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Read(PhantomData))
    }
}
