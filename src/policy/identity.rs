//! Who a client is: where it comes from, and the name under which it is known, if it has shown a certificate.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

/// A client as its server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where it comes from.
    pub address: IpAddr,
    /// Its name; `None` without a certificate.
    pub name: Option<Arc<str>>,
    /// Its inferences per hour, if they are not those of all.
    pub quota: Option<NonZeroU32>,
}

impl Default for Identity {
    /// Somebody, from nowhere.
    fn default() -> Self {
        IpAddr::from(Ipv4Addr::UNSPECIFIED).into()
    }
}

impl From<IpAddr> for Identity {
    fn from(address: IpAddr) -> Self {
        Self { address, name: None, quota: None }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}@{}", self.address),
            None => self.address.fmt(f),
        }
    }
}
