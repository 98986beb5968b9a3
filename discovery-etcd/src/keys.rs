//! Where things are: keys, prefixes and their ends.

use std::sync::Arc;

use discovery_core::{InstanceId, InstanceKey, ServiceName, Target};

use crate::{config::EtcdConfig, error::SCHEME};

/// A range of keys: from the first on, up to but without the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Range {
    /// Every key that starts with `prefix`.
    pub(crate) fn prefix(prefix: &str) -> Self {
        let from = prefix.as_bytes();
        Self {
            // The empty key is none.
            from: if from.is_empty() { vec![0] } else { from.to_vec() },
            end: prefix_end(from),
        }
    }
}

/// The first key after all that start with `prefix`; `\0` stands for "no end".
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// Which of our records: its key follows from that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    service: ServiceName,
    id: InstanceId,
}

impl From<&InstanceKey> for Name {
    fn from(key: &InstanceKey) -> Self {
        let (service, id) = (key.service.clone(), key.id.clone());
        Self { service, id }
    }
}

impl PartialEq<InstanceKey> for Name {
    fn eq(&self, key: &InstanceKey) -> bool {
        // Of two ids that are one text in one place, the text is not read.
        self.id == key.id && self.service == key.service
    }
}

/// The keys of services: `<namespace><prefix><service>/<id>`.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: Arc<str>,
    source: Arc<str>,
}

impl Keys {
    pub(crate) fn services(config: &EtcdConfig) -> Self {
        Self {
            prefix: format!("{}{}", config.namespace, config.service_registration.key_prefix).into(),
            source: SCHEME.into(),
        }
    }

    /// The key of a record.
    pub(crate) fn of(&self, service: &ServiceName, id: &InstanceId) -> String {
        [&*self.prefix, service.as_str(), "/", id.as_str()].concat()
    }

    /// Where the records of a target are. The slash at the end keeps `web` apart from `web2`.
    pub(crate) fn range(&self, target: &Target) -> Range {
        match target {
            Target::Service(service) => Range::prefix(&format!("{}{service}/", self.prefix)),
            Target::All => Range::prefix(&self.prefix),
        }
    }

    /// Whose record a key holds; nothing where it is none. An id may have slashes, a service none.
    pub(crate) fn read(&self, key: &[u8]) -> Option<InstanceKey> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&*self.prefix)?;
        let (service, id) = rest.split_once('/')?;
        if service.is_empty() || id.is_empty() {
            return None;
        }
        Some(InstanceKey::new(
            self.source.clone(),
            ServiceName::observed(service),
            InstanceId::observed(id),
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys(namespace: &str, prefix: &str) -> Keys {
        let mut config = EtcdConfig {
            namespace: namespace.to_owned(),
            ..EtcdConfig::default()
        };
        config.service_registration.key_prefix = prefix.to_owned();
        Keys::services(&config)
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        let rows: [(&[u8], &[u8]); 5] = [
            (b"/services/", b"/services0"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ];
        for (prefix, end) in rows {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn e_30_no_empty_key_is_ever_asked_for() {
        let everything = Range::prefix("");
        assert_eq!((everything.from, everything.end), (vec![0], vec![0]));
    }

    #[test]
    fn a_service_is_not_its_neighbour() {
        let keys = keys("/tenant", "/services/");
        let web = keys.range(&Target::Service(ServiceName::observed("web")));
        let own = keys.of(&ServiceName::observed("web"), &InstanceId::observed("1"));
        let other = keys.of(&ServiceName::observed("web2"), &InstanceId::observed("1"));
        assert_eq!(own, "/tenant/services/web/1");
        assert!(web.from.as_slice() <= own.as_bytes() && own.as_bytes() < web.end.as_slice());
        assert!(other.as_bytes() >= web.end.as_slice());
    }

    #[test]
    fn what_is_no_record_is_left_out() {
        let keys = keys("", "/services/");
        for other in [
            "/services/",
            "/services/web",
            "/services/web/",
            "/services//1",
            "/other/web/1",
        ] {
            assert_eq!(keys.read(other.as_bytes()), None, "{other}");
        }
        assert_eq!(keys.read(b"/services/web/\xff"), None);
        let odd = keys.read(b"/services/web/a/b").unwrap();
        assert_eq!((odd.service.as_str(), odd.id.as_str()), ("web", "a/b"));
    }

    proptest! {
        /// every name that can be registered comes back whole.
        #[test]
        fn a_7_names_come_back_whole(service in "[a-zA-Z0-9 ?#%+äöü服]{1,20}", id in "[a-zA-Z0-9 ?#%+&=:ß]{1,20}") {
            let keys = keys("", "/services/");
            let (Ok(service), Ok(id)) = (ServiceName::new(&service), InstanceId::new(&id)) else { return Ok(()) };
            let read = keys.read(keys.of(&service, &id).as_bytes()).unwrap();
            prop_assert_eq!((read.service, read.id), (service, id));
        }
    }
}
