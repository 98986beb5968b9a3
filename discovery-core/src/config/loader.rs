//! Files, environment, URI and code, merged into one tree and read block by block.

use std::{
    ffi::{OsStr, OsString},
    fmt, fs,
    io::Read as _,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    EnvVar, ServiceUri,
    de::Fault,
    env, fill,
    text::{shorten, suggestion},
    tree::{self, Data, Node, Origin},
    yaml,
};
use crate::error::{Error, ErrorKind, Result};

/// One byte more than a file may have.
const READ_LIMIT: u64 = (1 << 20) + 1;

/// A top-level block that configuration may hold.
#[derive(Debug, Clone, Copy)]
pub struct KnownBlock {
    pub(super) name: &'static str,
    /// The cargo feature this build lacks for it.
    pub(super) missing: Option<&'static str>,
    pub(super) env: &'static [EnvVar],
    uri: Option<UriForm>,
    defaults: fn() -> Value,
    /// What a tree is read as: every value in force, defaults included.
    read: fn(&Node) -> Result<Value, Fault>,
    always: bool,
}

/// How a URI sets the fields of a block; all fields are dotted paths within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UriForm {
    /// The schemes that mean the block, the proper one first.
    pub schemes: &'static [&'static str],
    /// The field that takes the servers, as `host:port` with commas between them.
    pub endpoints: Option<&'static str>,
    /// The field that takes the path, if a path means anything.
    pub path: Option<&'static str>,
    /// Short query keys and their fields; other keys name their field themselves.
    pub params: &'static [(&'static str, &'static str)],
}

impl KnownBlock {
    /// A block read as a `T`, whose `Default` stands for what is not set.
    pub const fn of<T: Default + Serialize + DeserializeOwned>(name: &'static str) -> Self {
        Self {
            name,
            missing: None,
            env: &[],
            uri: None,
            defaults: || serde_json::to_value(T::default()).unwrap_or_default(),
            read: |tree| {
                let block = T::deserialize(tree)?;
                serde_json::to_value(block).map_err(|error| Fault::new(error.to_string()))
            },
            always: false,
        }
    }

    /// A block, and URI scheme, that needs a cargo feature this build lacks.
    pub const fn missing_feature(name: &'static str, feature: &'static str) -> Self {
        Self {
            name,
            missing: Some(feature),
            env: &[],
            uri: None,
            defaults: || Value::Null,
            read: |_| Ok(Value::Null),
            always: false,
        }
    }

    /// The same block, in force whether or not anything mentions it.
    #[must_use]
    pub const fn always(mut self) -> Self {
        self.always = true;
        self
    }

    /// The same block with these environment variables.
    #[must_use]
    pub const fn env(mut self, vars: &'static [EnvVar]) -> Self {
        self.env = vars;
        self
    }

    /// The same block with this URI form.
    #[must_use]
    pub const fn uri(mut self, form: UriForm) -> Self {
        self.uri = Some(form);
        self
    }

    fn fault(&self) -> Option<Fault> {
        let feature = self.missing?;
        let fault = Fault::new(format!("built without feature `{feature}`")).kind(ErrorKind::Unsupported);
        Some(fault.hint(rebuild(feature)))
    }

    /// The error for something at `place` that belongs to this block.
    pub(super) fn not_built(&self, place: &str) -> Error {
        let feature = self.missing.unwrap_or(self.name);
        Error::new(
            ErrorKind::Unsupported,
            format!("{place}: built without feature `{feature}`"),
        )
        .with_hint(rebuild(feature))
    }
}

fn rebuild(feature: &str) -> String {
    format!("rebuild with `--features {feature}`, or remove it")
}

/// A setting that is in force, and where it came from; prints as `path = value  (origin)`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Its path, with dots.
    pub path: String,
    /// Its value; a secret is `***`.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  ({})", self.path, self.value, self.origin)
    }
}

/// Collects configuration from all its sources and reads blocks from it.
///
/// Whatever the order of calls: defaults yield to files (a later file over an earlier one), files to the environment, and
/// that to the URI and the program (a later call over an earlier one). Mappings are joined key by key; everything else,
/// lists included, is replaced whole; a key without a value counts as not written.
///
/// ```
/// use discovery_core::config::{HighAvailability, Loader};
///
/// let loaded = Loader::new(&[HighAvailability::BLOCK])
///     .yaml("discovery.yaml", "high_availability: { service_registration: { retry_delay: 2s } }")?
///     .env([("DISCOVERY_HIGH_AVAILABILITY_RETRY_ATTEMPTS", "5")])?
///     .set("high_availability.discovery.circuit_breakers", false)?;
/// let block: HighAvailability = loaded.block("high_availability")?;
/// assert_eq!(block.retry_policy().attempts, 5);
/// # Ok::<(), discovery_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Loader {
    known: Vec<KnownBlock>,
    reserved: Vec<&'static str>,
    files: Node,
    env: Node,
    overrides: Node,
}

impl Loader {
    /// A loader without any source, which knows these blocks.
    pub fn new(known: &[KnownBlock]) -> Self {
        Self {
            known: known.to_vec(),
            reserved: Vec::new(),
            files: Node::empty(Origin::Default),
            env: Node::empty(Origin::Default),
            overrides: Node::empty(Origin::Default),
        }
    }

    /// The same loader, whose [`env`](Self::env) passes over these `DISCOVERY_…` variables of the program's own.
    #[must_use]
    pub fn reserve(mut self, names: &[&'static str]) -> Self {
        self.reserved.extend(names);
        self
    }

    /// Adds a YAML file. Blocks for as long as its read takes.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when it cannot be read, is larger than 1 MiB, is not YAML, or holds a block that is not
    /// known; [`ErrorKind::Unsupported`] when it holds one that is not built in.
    pub fn file(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = read(path).map_err(|error| {
            let message = format!("configuration file {} cannot be read: {error}", path.display());
            Error::new(ErrorKind::ConfigInvalid, message).with_source(error)
        })?;
        self.yaml(path, &text)
    }

    /// Adds YAML text; messages call it `name`.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn yaml(mut self, name: impl AsRef<Path>, text: &str) -> Result<Self> {
        let tree = yaml::parse(name.as_ref(), text)?;
        let Data::Map(map) = &tree.data else {
            let fault = Fault::new("expected a mapping of blocks at the top level");
            return Err(fault.at(&tree.origin).into_error(""));
        };
        // In the order of the file, so that the first fault is the one on top.
        let mut keys: Vec<_> = map.iter().collect();
        keys.sort_by_key(|(_, entry)| match &entry.origin {
            Origin::File(position) => (position.line(), position.column()),
            _ => (0, 0),
        });
        for (key, entry) in keys {
            self.known_block(key, &entry.origin)?;
        }
        self.files.merge(tree);
        Ok(self)
    }

    /// Adds environment variables: those that a block declares. Empty ones count as unset. Pass `std::env::vars_os()`.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] for a `DISCOVERY_…` variable that nobody declared, and for a declared one that is not
    /// UTF-8; [`ErrorKind::Unsupported`] for one of a block that is not built in.
    pub fn env<I, K, V>(mut self, vars: I) -> Result<Self>
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: Into<OsString>,
    {
        let tree = env::parse(&self.known, &self.reserved, vars)?;
        self.env.merge(tree);
        Ok(self)
    }

    /// Adds what a URI says to the block of its scheme.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] for a scheme nobody has or a part the block has no use for; [`ErrorKind::Unsupported`]
    /// for a block that is not built in.
    pub fn uri(mut self, uri: &ServiceUri) -> Result<Self> {
        let (block, form) = self.scheme(&uri.scheme)?;
        let no_use = |what: &str| {
            let message = format!("{}: a URI of this scheme takes no {what}", uri.scheme);
            Error::new(ErrorKind::ConfigInvalid, message)
        };
        let mut settings = Vec::new();
        if !uri.endpoints.is_empty() {
            let field = form.endpoints.ok_or_else(|| no_use("host"))?;
            let list: Vec<_> = uri.endpoints.iter().map(ToString::to_string).collect();
            settings.push((field, list.join(",")));
        }
        if !uri.path.is_empty() {
            settings.push((form.path.ok_or_else(|| no_use("path"))?, uri.path.clone()));
        }
        for (key, value) in &uri.query {
            let field = form.params.iter().find(|(short, _)| short == key);
            settings.push((field.map_or(key.as_str(), |(_, field)| field), value.clone()));
        }
        // An empty mapping, so that `consul://` alone asks for the block.
        self.overrides
            .merge(Node::empty(Origin::Uri).under(vec![block.to_owned()]));
        for (field, value) in settings {
            let mut path = vec![block.to_owned()];
            path.extend(tree::split(field)?);
            self.overrides
                .merge(Node::new(Data::Loose(value), Origin::Uri).under(path));
        }
        Ok(self)
    }

    /// Asks for the block that `scheme` means, from the program, and sets its servers where `list` is not empty: with commas
    /// between them, each in any form that the block's own field takes. Answers the name of the block.
    ///
    /// # Errors
    /// As [`uri`](Self::uri).
    pub fn servers(mut self, scheme: &str, list: &str) -> Result<(Self, &'static str)> {
        let (block, form) = self.scheme(scheme)?;
        let mut path = vec![block.to_owned()];
        let servers = if list.is_empty() {
            Node::empty(Origin::Code)
        } else {
            let field = form.endpoints.ok_or_else(|| {
                Error::new(
                    ErrorKind::ConfigInvalid,
                    format!("{block}: there are no servers to name"),
                )
            })?;
            path.extend(tree::split(field)?);
            Node::new(Data::Loose(list.to_owned()), Origin::Code)
        };
        self.overrides.merge(servers.under(path));
        Ok((self, block))
    }

    /// Sets one field, or a whole part of the tree, from the program or its command line. Text becomes whatever type the
    /// field has.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] for a malformed path or a block that is not known; [`ErrorKind::Unsupported`] for one
    /// that is not built in.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Result<Self> {
        let path = tree::split(path)?;
        self.known_block(&path[0], &Origin::Code)?;
        self.overrides
            .merge(Node::from_json(value.into(), &Origin::Code).under(path));
        Ok(self)
    }

    /// Puts what `value_of` answers in the place of every `{{ .name }}` in the texts of a block.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] with the place of a name that stands for nothing, or of braces that hold none;
    /// otherwise as [`set`](Self::set).
    pub fn fill(mut self, block: &str, value_of: impl Fn(&str) -> Option<String>) -> Result<Self> {
        self.known_block(block, &Origin::Code)?;
        for layer in [&mut self.files, &mut self.env, &mut self.overrides] {
            if let Some(tree) = layer.get_mut(block) {
                fill::fill(tree, &value_of).map_err(|fault| fault.into_error(block))?;
            }
        }
        Ok(self)
    }

    /// The blocks that some source mentions.
    pub fn blocks(&self) -> Vec<&'static str> {
        let mentioned = self.known.iter().filter(|block| self.mentions(block.name));
        mentioned.map(|block| block.name).collect()
    }

    fn mentions(&self, block: &str) -> bool {
        let layers = [&self.files, &self.env, &self.overrides];
        layers.iter().any(|layer| layer.get(block).is_some())
    }

    /// Reads every block that a file or the program mentions, so that a mistake shows in those, too, that nobody asks for.
    /// The environment is left out: a variable of a backend that nobody asks for is often there for other programs.
    ///
    /// # Errors
    /// As [`block`](Self::block).
    pub fn validate(&self) -> Result<()> {
        self.known.iter().try_for_each(|block| {
            let Some(tree) = merged([&self.files, &self.overrides], block.name) else {
                return Ok(());
            };
            let read = (block.read)(&tree).map(drop);
            read.map_err(|fault| fault.at(&tree.origin).into_error(block.name))
        })
    }

    /// What every source says of a block.
    fn tree(&self, block: &str) -> Node {
        let layers = [&self.files, &self.env, &self.overrides];
        merged(layers, block).unwrap_or_else(|| Node::empty(Origin::Default))
    }

    /// Reads a block; one that no source mentions is read as an empty one.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] with place, snippet and suggestion for an unknown key, a wrong type, or a value that
    /// `T` refuses; [`ErrorKind::Unsupported`] for a block that is not built in.
    pub fn block<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.known_block(name, &Origin::Code)?;
        let tree = self.tree(name);
        T::deserialize(&tree).map_err(|fault| fault.at(&tree.origin).into_error(name))
    }

    /// Every setting in force, defaults included, ordered by path: of the blocks that some source mentions, and of those
    /// that are always in force. Of a block with a mistake, what is written is shown all the same.
    pub fn explain(&self) -> Vec<Setting> {
        let mut tree = Node::empty(Origin::Default);
        let in_force = |block: &&KnownBlock| block.always || self.mentions(block.name);
        for block in self.known.iter().filter(in_force) {
            let written = self.tree(block.name);
            let read = (block.read)(&written).unwrap_or_else(|_| (block.defaults)());
            let mut effective = Node::from_json(read, &Origin::Default);
            effective.overlay(written);
            tree.merge(effective.under(vec![block.name.to_owned()]));
        }
        let mut settings = Vec::new();
        tree.leaves("", false, &mut |path, value, origin| {
            // A default of nothing is no setting.
            if *origin != Origin::Default || !value.is_null() {
                let origin = origin.clone();
                settings.push(Setting { path, value, origin });
            }
        });
        settings
    }

    /// The block called `name`, mentioned at `origin`.
    fn known_block(&self, name: &str, origin: &Origin) -> Result<&KnownBlock> {
        let Some(block) = self.known.iter().find(|block| block.name == name) else {
            let names: Vec<_> = self.known.iter().map(|block| block.name).collect();
            let mut fault = Fault::new("unknown block").at(origin).inside_key(name);
            if let Some(hint) = suggestion(name, &names, "blocks") {
                fault = fault.hint(hint);
            }
            return Err(fault.into_error(""));
        };
        match block.fault() {
            Some(fault) => Err(fault.at(origin).inside_key(name).into_error("")),
            None => Ok(block),
        }
    }

    fn scheme(&self, scheme: &str) -> Result<(&'static str, UriForm)> {
        let built = |block: &KnownBlock| block.uri.filter(|form| form.schemes.contains(&scheme));
        if let Some(found) = self
            .known
            .iter()
            .find_map(|block| Some((block.name, built(block)?)))
        {
            return Ok(found);
        }
        if let Some(block) = self.known.iter().find(|block| block.missing == Some(scheme)) {
            return Err(block.not_built(&format!("scheme `{scheme}`")));
        }
        let schemes: Vec<_> = self
            .known
            .iter()
            .flat_map(|block| {
                block
                    .uri
                    .map_or(&[][..], |form| form.schemes)
                    .iter()
                    .copied()
                    .chain(block.missing)
            })
            .collect();
        let error = Error::new(
            ErrorKind::ConfigInvalid,
            format!("unknown scheme `{}`", shorten(scheme, 40)),
        );
        Err(match suggestion(scheme, &schemes, "schemes") {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

/// What these layers say of a block, a later one over an earlier one; nothing where none mentions it.
fn merged<const N: usize>(layers: [&Node; N], block: &str) -> Option<Node> {
    let mut merged = None;
    for layer in layers {
        if let Some(block) = layer.get(block) {
            let tree = merged.get_or_insert_with(|| Node::empty(Origin::Default));
            tree.merge(block.clone());
        }
    }
    merged
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.explain().iter().map(ToString::to_string))
            .finish()
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(READ_LIMIT).read_to_string(&mut text)?;
    Ok(text)
}
