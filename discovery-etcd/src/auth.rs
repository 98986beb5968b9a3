//! The token: got when there is a user, and again when the server no longer knows it.

use discovery_core::{ErrorKind, Result};
use etcd_client::{AuthClient, Error as ClientError};
use http::HeaderValue;
use tonic::Code;

use crate::{
    config::Credentials,
    connect::{SharedToken, header},
    error::{self, Fault},
};

/// Gets tokens, one request at a time for all who want one (E-32).
#[derive(Debug)]
pub(crate) struct Auth {
    credentials: Option<Credentials>,
    token: SharedToken,
    state: tokio::sync::Mutex<State>,
}

/// What is known of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Unasked,
    /// There is a token, or there was.
    On,
    /// It asks nobody who they are; that may change at any time (E-33).
    Off,
}

/// Why there is no token.
pub(crate) type NoToken = (Fault, discovery_core::Error);

impl Auth {
    pub(crate) fn new(credentials: Option<Credentials>, token: SharedToken) -> Self {
        Self {
            credentials,
            token,
            state: tokio::sync::Mutex::new(State::Unasked),
        }
    }

    /// The token in force, to be named in [`Self::renew`].
    pub(crate) fn current(&self) -> Option<HeaderValue> {
        self.token.read().ok().and_then(|token| token.clone())
    }

    /// Gets the first token, where there is a user and it has not been asked for yet.
    pub(crate) async fn ready(&self, client: AuthClient) -> Result<(), NoToken> {
        let (Some(credentials), None) = (&self.credentials, self.current()) else {
            return Ok(());
        };
        let mut state = self.state.lock().await;
        if *state == State::Unasked {
            *state = self.authenticate(credentials, client).await?;
        }
        Ok(())
    }

    /// Gets another token instead of `known`, unless somebody has done so by now. Answers whether there is anything new to
    /// try with: nobody can renew what they never had (E-38).
    pub(crate) async fn renew(
        &self,
        known: Option<&HeaderValue>,
        client: AuthClient,
    ) -> Result<bool, NoToken> {
        let Some(credentials) = &self.credentials else {
            return Ok(false);
        };
        let mut state = self.state.lock().await;
        if self.current().as_ref() == known {
            *state = self.authenticate(credentials, client).await?;
        }
        Ok(true)
    }

    async fn authenticate(
        &self,
        credentials: &Credentials,
        mut client: AuthClient,
    ) -> Result<State, NoToken> {
        let unreadable = |failed: discovery_core::Error| (Fault::Answer, failed.with_backend(error::SCHEME));
        let name = credentials.name.read().map_err(unreadable)?;
        let password = credentials.password.read().map_err(unreadable)?;
        let (state, token) = match client
            .authenticate(name.expose().to_owned(), password.expose().to_owned())
            .await
        {
            Ok(answer) => (State::On, Some(header(answer.token()).map_err(unreadable)?)),
            Err(ClientError::GRpcStatus(status))
                if status.code() == Code::FailedPrecondition
                    && status.message().contains("authentication is not enabled") =>
            {
                (State::Off, None)
            }
            Err(failed) => {
                let (fault, failed) = error::of_call(failed);
                let fault = if failed.kind() == ErrorKind::Unauthenticated {
                    Fault::Answer
                } else {
                    fault
                };
                return Err((fault, failed));
            }
        };
        if let Ok(mut current) = self.token.write() {
            *current = token;
        }
        Ok(state)
    }
}
