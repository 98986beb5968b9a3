//! Configuration: the field types that every block is made of.

pub mod duration;
mod secret;
mod text;
mod tls;

pub use duration::{format_duration, parse_duration};
pub use secret::{Secret, SecretSource};
pub use tls::TlsConfig;
