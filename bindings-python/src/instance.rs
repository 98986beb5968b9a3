//! `ServiceInstance` and what it is made of.

use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use discovery::{CheckResult, Instance, InstanceId, InstanceKey, Locality, ServiceName};
use foldhash::fast::FoldHasher;
use pyo3::{
    IntoPyObjectExt as _,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyMappingProxy, PyTuple},
};

use crate::{errors::OrRaise, values};

/// One instance of a service, as the registry shows it.
///
/// Frozen, hashable and pickleable. Two are equal when everything the registry shows of them is.
///
/// Attributes:
///     id: Its id.
///     service: The service it is an instance of.
///     address: Its IP address or host name.
///     port: Its port; zero where the service has none.
///     tags: Its tags, in the registry's order.
///     meta: Its metadata, read-only.
///     status: `passing`, `warning`, `starting`, `unknown` or `critical`.
///     weight: How much traffic it should get beside its siblings.
#[pyclass(frozen, eq, module = "system_control.discovery")]
pub(crate) struct ServiceInstance {
    pub(crate) instance: Arc<Instance>,
    tags: PyOnceLock<Py<PyTuple>>,
    meta: PyOnceLock<Py<PyMappingProxy>>,
}

impl PartialEq for ServiceInstance {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.instance, &other.instance) || self.instance == other.instance
    }
}

pub(crate) fn hash_of(value: impl Hash) -> u64 {
    let mut hasher = FoldHasher::with_seed(0, foldhash::SharedSeed::global_fixed());
    value.hash(&mut hasher);
    hasher.finish()
}

impl ServiceInstance {
    pub(crate) fn of(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            tags: PyOnceLock::new(),
            meta: PyOnceLock::new(),
        }
    }

    pub(crate) fn hash_value(instance: &Instance) -> u64 {
        hash_of((&instance.key, &instance.host, instance.port, instance.status))
    }
}

/// Where an instance was seen, so that a pickled one comes back whole:
/// `(source, (datacenter, namespace, node) of the key, (datacenter, zone, node) of the place)`.
type Place = (String, [Option<String>; 3], [Option<String>; 3]);

#[pymethods]
impl ServiceInstance {
    #[new]
    #[pyo3(signature = (id, service, address, port, *, tags=Vec::new(), meta=None, status="passing", weight=1, priority=0, draining=false, datacenter=None, zone=None, node=None, namespace=None, ports=None, checks=Vec::new(), _place=None))]
    #[expect(clippy::too_many_arguments, reason = "what Python calls by keyword")]
    fn new(
        py: Python<'_>,
        id: &str,
        service: &str,
        address: &str,
        port: u16,
        tags: Vec<String>,
        meta: Option<BTreeMap<String, String>>,
        status: &str,
        weight: u16,
        priority: u16,
        draining: bool,
        datacenter: Option<String>,
        zone: Option<String>,
        node: Option<String>,
        namespace: Option<String>,
        ports: Option<BTreeMap<String, (u16, bool)>>,
        checks: Vec<(String, String, String)>,
        _place: Option<Place>,
    ) -> PyResult<Self> {
        let (source, [key_datacenter, key_namespace, key_node], [datacenter, zone, node]) = _place
            .unwrap_or_else(|| {
                let key = [datacenter.clone(), namespace, node.clone()];
                ("python".to_owned(), key, [datacenter, zone, node])
            });
        let mut key = InstanceKey::new(source, ServiceName::observed(service), InstanceId::observed(id));
        key.datacenter = key_datacenter.map(Into::into);
        key.namespace = key_namespace.map(Into::into);
        key.node = key_node.map(Into::into);
        let checks = checks
            .into_iter()
            .map(|(name, status, output)| Ok(CheckResult::new(name, status.parse()?, output)))
            .collect::<discovery::Result<Vec<_>>>()
            .or_raise(py)?;
        let mut builder = Instance::builder(key, address, port)
            .tags(tags)
            .meta(meta.unwrap_or_default())
            .status(status.parse().or_raise(py)?)
            .weight(weight)
            .priority(priority)
            .draining(draining)
            .locality(Locality::new(
                datacenter.map(Into::into),
                zone.map(Into::into),
                node.map(Into::into),
            ))
            .checks(checks);
        for (name, (number, secure)) in ports.unwrap_or_default() {
            builder = builder.port(name, number, secure);
        }
        Ok(Self::of(Arc::new(builder.build())))
    }

    /// Its id.
    #[getter]
    fn id(&self) -> &str {
        self.instance.key.id.as_str()
    }

    /// The service it is an instance of.
    #[getter]
    fn service(&self) -> &str {
        self.instance.key.service.as_str()
    }

    /// Its IP address or host name.
    #[getter]
    fn address(&self) -> &str {
        &self.instance.host
    }

    /// Its port; zero where the service has none.
    #[getter]
    fn port(&self) -> u16 {
        self.instance.port
    }

    /// `address:port`, with an IPv6 address in brackets.
    #[getter]
    fn endpoint(&self) -> String {
        self.instance.address()
    }

    /// Its tags, in the registry's order.
    #[getter]
    fn tags<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyTuple>> {
        let tags = self.tags.get_or_try_init(py, || {
            PyResult::Ok(PyTuple::new(py, &self.instance.tags)?.unbind())
        })?;
        Ok(tags.bind(py))
    }

    /// Its metadata, read-only.
    #[getter]
    fn meta<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyMappingProxy>> {
        let meta = self.meta.get_or_try_init(py, || {
            let meta = (&self.instance.meta).into_pyobject(py)?;
            PyResult::Ok(PyMappingProxy::new(py, meta.as_mapping()).unbind())
        })?;
        Ok(meta.bind(py))
    }

    /// How it is: `passing`, `warning`, `starting`, `unknown` or `critical`.
    #[getter]
    fn status(&self) -> &'static str {
        self.instance.status.as_str()
    }

    /// How much traffic it should get beside its siblings.
    #[getter]
    fn weight(&self) -> u16 {
        self.instance.weight.0
    }

    /// Its priority group: lower is used first.
    #[getter]
    fn priority(&self) -> u16 {
        self.instance.priority
    }

    /// Whether it should get no new traffic although it may work.
    #[getter]
    fn draining(&self) -> bool {
        self.instance.draining
    }

    /// Whether new traffic may go to it: it passes or warns, and is not draining.
    #[getter]
    fn is_available(&self) -> bool {
        self.instance.is_available()
    }

    /// Its datacenter or region, where the registry says.
    #[getter]
    fn datacenter(&self) -> Option<&str> {
        let place = &self.instance.locality.datacenter;
        place.as_deref().or(self.instance.key.datacenter.as_deref())
    }

    /// Its zone, where the registry says.
    #[getter]
    fn zone(&self) -> Option<&str> {
        self.instance.locality.zone.as_deref()
    }

    /// Its node, where the registry says.
    #[getter]
    fn node(&self) -> Option<&str> {
        let place = &self.instance.locality.node;
        place.as_deref().or(self.instance.key.node.as_deref())
    }

    /// Its namespace, where the registry has them.
    #[getter]
    fn namespace(&self) -> Option<&str> {
        self.instance.key.namespace.as_deref()
    }

    /// Further ports by name, each as `(number, whether it speaks TLS)`.
    #[getter]
    fn ports(&self) -> BTreeMap<&str, (u16, bool)> {
        let ports = self.instance.ports.iter();
        ports
            .map(|port| (port.name.as_str(), (port.number, port.secure)))
            .collect()
    }

    /// The results of its checks, where they were asked for: `health()` does.
    #[getter]
    fn checks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let checks = self.instance.checks.iter().map(|check| {
            values::make(
                py,
                "HealthCheckResult",
                (&check.name, check.status.as_str(), &check.output),
            )
        });
        PyTuple::new(py, checks.collect::<PyResult<Vec<_>>>()?)
    }

    /// The instance as a dict of plain values.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let instance = &*self.instance;
        let dict = PyDict::new(py);
        dict.set_item("id", self.id())?;
        dict.set_item("service", self.service())?;
        dict.set_item("address", self.address())?;
        dict.set_item("port", self.port())?;
        dict.set_item("tags", &instance.tags)?;
        dict.set_item("meta", &instance.meta)?;
        dict.set_item("status", self.status())?;
        dict.set_item("weight", self.weight())?;
        dict.set_item("priority", self.priority())?;
        dict.set_item("draining", self.draining())?;
        dict.set_item("datacenter", self.datacenter())?;
        dict.set_item("zone", self.zone())?;
        dict.set_item("node", self.node())?;
        dict.set_item("namespace", self.namespace())?;
        dict.set_item("ports", self.ports())?;
        let checks = instance.checks.iter();
        let checks: Vec<_> = checks
            .map(|check| (&check.name, check.status.as_str(), &check.output))
            .collect();
        dict.set_item("checks", checks)?;
        Ok(dict)
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let (key, place) = (&self.instance.key, &self.instance.locality);
        let named = self.to_dict(py)?;
        let place = (
            &*key.source,
            [&key.datacenter, &key.namespace, &key.node].map(Option::as_deref),
            [&place.datacenter, &place.zone, &place.node].map(Option::as_deref),
        );
        named.set_item("_place", place.into_py_any(py)?)?;
        Ok((PyTuple::empty(py), named))
    }

    fn __hash__(&self) -> u64 {
        Self::hash_value(&self.instance)
    }

    fn __repr__(&self) -> String {
        format!(
            "ServiceInstance(id={:?}, service={:?}, address={:?}, port={}, status={:?})",
            self.id(),
            self.service(),
            self.address(),
            self.port(),
            self.status()
        )
    }
}
