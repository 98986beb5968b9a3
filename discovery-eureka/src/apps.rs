//! All there is, as one moment shows it: shared where nothing changed, so that a look at what did is cheap.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
    sync::Arc,
};

use discovery_core::{Instance, InstanceKey};

use crate::{
    config::{EurekaConfig, LookUp},
    convert::{self, Word},
    wire,
};

/// An instance and what of it is no part of the model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) instance: Arc<Instance>,
    word: Word,
    vip: Box<str>,
    secure_vip: Box<str>,
}

impl Entry {
    fn new(found: &wire::Instance<'_>, app: &str, config: &EurekaConfig) -> Self {
        let (instance, word) = convert::instance(found, app, config);
        Self {
            instance: Arc::new(instance),
            word,
            vip: (*found.vip_address.0).into(),
            secure_vip: (*found.secure_vip_address.0).into(),
        }
    }
}

/// What a name in a query means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    /// Everything.
    All,
    /// The instances of an application.
    App(String),
    /// The instances under a VIP address.
    Vip(String),
    /// The instances under a secure VIP address.
    SecureVip(String),
}

impl Which {
    pub(crate) fn new(look_up: LookUp, name: &str) -> Self {
        match look_up {
            LookUp::App => Self::App(convert::app(name)),
            LookUp::Vip => Self::Vip(name.to_owned()),
            LookUp::SecureVip => Self::SecureVip(name.to_owned()),
        }
    }

    fn accepts(&self, entry: &Entry) -> bool {
        let among = |list: &str, name: &str| list.split(',').any(|part| part == name);
        match self {
            Self::All | Self::App(_) => true,
            Self::Vip(name) => among(&entry.vip, name),
            Self::SecureVip(name) => among(&entry.secure_vip, name),
        }
    }
}

type App = BTreeMap<Box<str>, Arc<Entry>>;

/// Every application and its instances.
#[derive(Debug, Clone, Default)]
pub(crate) struct Apps(HashMap<Box<str>, Arc<App>>);

/// What is new or changed, and what is gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) upserts: Vec<Arc<Instance>>,
    pub(crate) removals: Vec<InstanceKey>,
}

impl Difference {
    pub(crate) fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }
}

impl Apps {
    /// A complete answer, sharing with `before` what is the same.
    pub(crate) fn read(all: &[wire::Application<'_>], config: &EurekaConfig, before: &Self) -> Self {
        let mut apps: HashMap<Box<str>, App> = HashMap::new();
        for application in all {
            for found in &application.instance.0 {
                let name = convert::app(&application.name.0);
                let entry = Entry::new(found, &application.name.0, config);
                let known = before.0.get(&*name).and_then(|app| app.get(found.id()));
                let entry = match known {
                    Some(known) if **known == entry => known.clone(),
                    _ => Arc::new(entry),
                };
                apps.entry(name.into())
                    .or_default()
                    .insert(found.id().into(), entry);
            }
        }
        let shared = apps.into_iter().map(|(name, app)| match before.0.get(&name) {
            Some(known) if **known == app => (name, known.clone()),
            _ => (name, Arc::new(app)),
        });
        Self(shared.collect())
    }

    /// U-21: takes in what changed. Applying the same twice changes nothing.
    pub(crate) fn apply(&mut self, changes: &[wire::Application<'_>], config: &EurekaConfig) {
        for application in changes {
            let name = convert::app(&application.name.0);
            let mut app = self.0.get(&*name).cloned().unwrap_or_default();
            for found in &application.instance.0 {
                if found.action_type.0 == "DELETED" {
                    if app.contains_key(found.id()) {
                        Arc::make_mut(&mut app).remove(found.id());
                    }
                    continue;
                }
                let entry = Entry::new(found, &application.name.0, config);
                if app.get(found.id()).is_none_or(|known| **known != entry) {
                    Arc::make_mut(&mut app).insert(found.id().into(), Arc::new(entry));
                }
            }
            if app.is_empty() {
                self.0.remove(&*name);
            } else {
                self.0.insert(name.into(), app);
            }
        }
    }

    /// U-22: how many instances there are of each status, as servers say it.
    pub(crate) fn hashcode(&self) -> String {
        let mut counts = [0_usize; Word::ALL.len()];
        for entry in self.0.values().flat_map(|app| app.values()) {
            for (count, word) in counts.iter_mut().zip(Word::ALL) {
                *count += usize::from(entry.word == word);
            }
        }
        let mut hashcode = String::new();
        for (count, word) in counts.into_iter().zip(Word::ALL) {
            if count > 0 {
                // Writing to a string cannot fail.
                let _ = write!(hashcode, "{}_{count}_", word.as_str());
            }
        }
        hashcode
    }

    /// How many instances there are.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(|app| app.len()).sum()
    }

    /// How many of these are not in `other`.
    pub(crate) fn missing_in(&self, other: &Self) -> usize {
        let mut missing = 0;
        for (name, app) in &self.0 {
            missing += match other.0.get(name) {
                Some(there) if Arc::ptr_eq(app, there) => 0,
                Some(there) => app.keys().filter(|id| !there.contains_key(*id)).count(),
                None => app.len(),
            };
        }
        missing
    }

    /// The instances that are meant, those of each application sorted by id.
    pub(crate) fn select<'a>(&'a self, which: &'a Which) -> impl Iterator<Item = &'a Arc<Instance>> {
        let one = match which {
            Which::App(name) => self.0.get(&**name),
            _ => None,
        };
        let all = (!matches!(which, Which::App(_))).then(|| self.0.values());
        one.into_iter()
            .chain(all.into_iter().flatten())
            .flat_map(|app| app.values())
            .filter(|entry| which.accepts(entry))
            .map(|entry| &entry.instance)
    }

    /// What is different among those that are meant, `before` and here.
    pub(crate) fn since(&self, before: &Self, which: &Which) -> Difference {
        let mut difference = Difference::default();
        let names: HashSet<&str> = match which {
            Which::App(name) => HashSet::from([&**name]),
            _ => self.0.keys().chain(before.0.keys()).map(AsRef::as_ref).collect(),
        };
        let none = Arc::<App>::default();
        for name in names {
            let (old, new) = (
                before.0.get(name).unwrap_or(&none),
                self.0.get(name).unwrap_or(&none),
            );
            if Arc::ptr_eq(old, new) {
                continue;
            }
            let shown = |app: &App, id: &str| {
                let entry = app.get(id).filter(|entry| which.accepts(entry));
                entry.map(|entry| entry.instance.clone())
            };
            for (id, entry) in new.iter().filter(|(_, entry)| which.accepts(entry)) {
                let known = shown(old, id);
                if known.as_ref() != Some(&entry.instance) {
                    // One whose service is written otherwise now is another to those who knew it.
                    difference.removals.extend(
                        known
                            .map(|known| known.key.clone())
                            .filter(|key| *key != entry.instance.key),
                    );
                    difference.upserts.push(entry.instance.clone());
                }
            }
            for (id, entry) in old.iter().filter(|(_, entry)| which.accepts(entry)) {
                if shown(new, id).is_none() {
                    difference.removals.push(entry.instance.key.clone());
                }
            }
        }
        difference
    }
}

#[cfg(test)]
#[path = "apps_tests.rs"]
mod tests;
