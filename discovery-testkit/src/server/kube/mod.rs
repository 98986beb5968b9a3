//! A real kube-apiserver on a real etcd: no nodes, no controllers, all of the API.
//!
//! `scripts/servers` gets the programs. Without controllers nothing but a test fills `EndpointSlice`s, collects garbage or
//! finishes the deletion of a namespace. `EndpointSlice`s refuse 127.0.0.0/8: use documentation addresses as data.
//!
//! ```no_run
//! # async fn example() -> discovery_core::Result<()> {
//! use discovery_testkit::server::{Server, kube::KubeApiserver};
//!
//! let kube = KubeApiserver::dev("/usr/bin/kube-apiserver", "/usr/bin/etcd")
//!     .user("reader", &["readers"])
//!     .build()
//!     .await?;
//! kube.start().await?;
//! let config = kube.kubeconfig("reader")?; // a client under this file may do nothing yet: RBAC
//! # Ok(())
//! # }
//! ```

mod builder;
mod http;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result, config::Secret};
use hyper::Method;
use serde_json::{Value, json};
use tokio::process::Command;

pub use self::builder::KubeBuilder;
use self::http::Http;
use super::{Authority, ChildServer, Identity, Place, Program, Recipe, Reply, Server, etcd::Etcd};

const NAME: &str = "kube-apiserver";
/// The user that may do everything.
const ADMIN: &str = "admin";
/// The file of tokens, in its place.
const TOKENS: &str = "tokens.csv";

/// The program that the tests run; it needs [`etcd::Age::New`](super::etcd::Age::New) as well.
pub const APISERVER: Program = Program::new(NAME, "DISCOVERY_KUBE_APISERVER");

/// How the server is run.
#[derive(Debug)]
struct Apiserver {
    binary: PathBuf,
    flags: Vec<String>,
    etcd: String,
    authority: Authority,
    identity: Identity,
    /// Signs the tokens of service accounts.
    signer: Identity,
    http: Http,
}

#[async_trait]
impl Recipe for Apiserver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn command(&self, place: &Place) -> Command {
        let file = |flag: &str, path: &Path| format!("--{flag}={}", path.display());
        let own = |name: &str| place.dir().join(name);
        let mut command = Command::new(&self.binary);
        command
            .arg(format!("--etcd-servers={}", self.etcd))
            .arg(format!("--secure-port={}", place.endpoints()[0].port()))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            // Its own address is no endpoint of the service `kubernetes`: 127.0.0.0/8 is refused.
            .args([
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.0.0.0/24",
            ])
            .arg(file("cert-dir", &own("certs")))
            .arg(file("tls-cert-file", &self.identity.cert))
            .arg(file("tls-private-key-file", &self.identity.key))
            .arg(file("client-ca-file", &self.authority.ca()))
            .arg(file("token-auth-file", &own(TOKENS)))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(file("service-account-key-file", &self.signer.cert))
            .arg(file("service-account-signing-key-file", &self.signer.key))
            .args([
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
            ])
            .args(&self.flags);
        command
    }

    /// Everything is ready, RBAC's own roles among it.
    async fn probe(&self, place: &Place) -> Result<()> {
        let reply = self
            .http
            .send(place.endpoints()[0], Method::GET, "/readyz", None)
            .await?;
        if reply.status.is_success() {
            return Ok(());
        }
        let text = format!("not ready: {}: {}", reply.status, reply.text());
        Err(Error::new(ErrorKind::Unavailable, text))
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let reply = self
            .http
            .send(place.endpoints()[0], Method::GET, "/version", None)
            .await?;
        let version = reply.json()?;
        version["gitVersion"]
            .as_str()
            .map(|version| version.trim_start_matches('v').to_owned())
            .ok_or_else(|| Error::new(ErrorKind::Protocol, "no version in /version"))
    }
}

/// A user of the token file.
#[derive(Debug, Clone)]
struct User {
    groups: Vec<String>,
    token: Secret,
}

/// One kube-apiserver with an etcd of its own, on loopback.
///
/// RBAC: `admin` may do everything, other users what a test binds them to. Its methods beside [`Server`] are admin's.
/// Starting it starts its etcd where that does not run; stopping or killing it leaves etcd running, so that it comes back
/// with all it knew. Dropping it ends both.
#[derive(Debug)]
pub struct KubeApiserver {
    // Dropped in this order: the server before what it stores in.
    server: ChildServer<Apiserver>,
    etcd: Etcd,
    users: BTreeMap<String, User>,
}

impl KubeApiserver {
    /// A server of these two programs; etcd from 3.5.13.
    ///
    /// The builder's options change what it is; nothing is run yet.
    pub fn dev(apiserver: impl Into<PathBuf>, etcd: impl Into<PathBuf>) -> KubeBuilder {
        KubeBuilder::new(apiserver.into(), etcd.into())
    }

    /// The etcd that it stores in: to be compacted, frozen or killed.
    pub fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Where clients find it: `https`, under a certificate of [`Self::authority`].
    pub fn url(&self) -> String {
        format!("https://{}", self.server.endpoint())
    }

    /// The authority of its certificate, and of those that it takes from clients: common name is user, organisation group.
    pub fn authority(&self) -> &Authority {
        &self.server.recipe().authority
    }

    /// The token of a user, `admin` or one that the builder was told of.
    pub fn token(&self, user: &str) -> Option<&Secret> {
        self.users.get(user).map(|user| &user.token)
    }

    /// Writes a kubeconfig under which this user's token is sent, to where it lives as long as the server.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a user that the builder was not told of.
    pub fn kubeconfig(&self, user: &str) -> Result<PathBuf> {
        let none = || Error::new(ErrorKind::NotFound, format!("there is no user {user:?}"));
        let token = self.token(user).ok_or_else(none)?;
        self.write_kubeconfig(user, &json!({ "token": token.expose() }))
    }

    /// As [`Self::kubeconfig`], with a client's certificate in place of a token; any user.
    pub async fn kubeconfig_with_certificate(&self, user: &str, groups: &[&str]) -> Result<PathBuf> {
        let Identity { cert, key } = self.authority().client(user, groups).await?;
        let credentials = json!({ "client-certificate": cert, "client-key": key });
        self.write_kubeconfig(&format!("{user}-certificate"), &credentials)
    }

    fn write_kubeconfig(&self, name: &str, credentials: &Value) -> Result<PathBuf> {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": { "server": self.url(), "certificate-authority": self.authority().ca() },
            }],
            "users": [{ "name": name, "user": credentials }],
            "contexts": [{
                "name": "test",
                "context": { "cluster": "test", "user": name, "namespace": "default" },
            }],
            "current-context": "test",
        });
        let path = self.server.place().dir().join(format!("kubeconfig-{name}.yaml"));
        // JSON is YAML.
        fs::write(&path, format!("{config:#}")).map_err(|source| {
            Error::new(ErrorKind::Unexpected, "cannot write a kubeconfig").with_source(source)
        })?;
        Ok(path)
    }

    /// Sends a request as this user, or as nobody; the answer is given whatever its status. At most 30 s.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a user that the builder was not told of, [`ErrorKind::Unavailable`] without an answer.
    pub async fn request(
        &self,
        user: Option<&str>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let token = match user {
            None => None,
            Some(user) => Some(
                self.token(user)
                    .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no user {user:?}")))?,
            ),
        };
        let http = &self.server.recipe().http;
        http.send_as(token, self.server.endpoint(), method, path, body)
            .await
    }

    /// `GET` as admin.
    ///
    /// # Errors
    /// Also for any status but 2xx; so do all methods below.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.request(Some(ADMIN), Method::GET, path, None).await?.json()
    }

    /// Creates an object in the collection at this path, as admin.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value> {
        self.request(Some(ADMIN), Method::POST, collection, Some(object))
            .await?
            .json()
    }

    /// Puts an object to its path, as admin.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value> {
        self.request(Some(ADMIN), Method::PUT, path, Some(object))
            .await?
            .json()
    }

    /// Merges into the object at this path (JSON merge patch), as admin.
    pub async fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.request(Some(ADMIN), Method::PATCH, path, Some(change))
            .await?
            .json()
    }

    /// Deletes the object, or the collection, at this path, as admin.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.request(Some(ADMIN), Method::DELETE, path, None)
            .await?
            .json()
            .map(drop)
    }

    /// Creates a namespace.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        self.create("/api/v1/namespaces", &json!({ "metadata": { "name": name } }))
            .await
            .map(drop)
    }

    /// Lets a user do this in a namespace: a role with these rules, and its binding, both named after the user.
    pub async fn allow(&self, namespace: &str, user: &str, rules: &Value) -> Result<()> {
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
        let metadata = json!({ "name": user });
        self.create(
            &format!("{rbac}/roles"),
            &json!({ "metadata": metadata, "rules": rules }),
        )
        .await?;
        self.create(&format!("{rbac}/rolebindings"), &Self::binding("Role", user))
            .await
            .map(drop)
    }

    /// As [`Self::allow`], in all namespaces and for what is in none.
    pub async fn allow_everywhere(&self, user: &str, rules: &Value) -> Result<()> {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let metadata = json!({ "name": user });
        self.create(
            &format!("{rbac}/clusterroles"),
            &json!({ "metadata": metadata, "rules": rules }),
        )
        .await?;
        self.create(
            &format!("{rbac}/clusterrolebindings"),
            &Self::binding("ClusterRole", user),
        )
        .await
        .map(drop)
    }

    fn binding(kind: &str, user: &str) -> Value {
        let group = "rbac.authorization.k8s.io";
        json!({
            "metadata": { "name": user },
            "roleRef": { "apiGroup": group, "kind": kind, "name": user },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        })
    }

    /// Makes etcd forget every revision before now. Watches from older ones end with 410, once the server does not have
    /// them in its own cache: see [`KubeBuilder::without_watch_cache`].
    pub async fn compact(&self) -> Result<()> {
        let revision = self.etcd.revision().await?;
        self.etcd.compact(revision).await
    }

    async fn before_start(&self) -> Result<()> {
        if self.etcd.pid().is_none() {
            self.etcd.start().await?;
        }
        Ok(())
    }
}

super::child_server!(KubeApiserver, before_start);
