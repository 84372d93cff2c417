//! What a server allows its clients: what it reveals, how many inferences in an hour, and none under a key past its lifetime.
//!
//! Decided when a slot is prepared, or at a direct inference: then the lattice work is done and the inference counts, whether or
//! not the slot is used. A refusal is an abort frame; the session is over and others go on.

mod allow;
mod identity;
mod quota;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime};

use crate::error::Result;
use crate::plan::Reveal;
use crate::store::Uses;

pub use crate::abort::Refusal;
pub use allow::{AllowError, AllowList};
pub use identity::Identity;
pub(crate) use quota::Counted;
pub use quota::Quota;

/// What a server allows.
#[derive(Debug, Default)]
pub struct Policy {
    /// Logits are refused.
    pub class_only: bool,
    /// Inferences per client and hour.
    pub quota: Quota,
    /// The clients that are answered; all, if there is no list.
    pub allow: RwLock<Option<AllowList>>,
    /// Where inferences under the server's key are counted.
    pub uses: Option<Uses>,
}

impl Policy {
    /// At most so many inferences per client and hour.
    pub fn with_quota(per_hour: NonZeroU32) -> Self {
        Self { quota: Quota::new(per_hour), ..Self::default() }
    }

    /// Who a client is that has shown this certificate, verified by the handshake, in DER form.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if it is not on the list.
    pub(crate) fn identify(&self, address: IpAddr, certificate: Option<&[u8]>) -> Result<Identity, Refusal> {
        let allow = self.allow.read().unwrap_or_else(PoisonError::into_inner);
        match (&*allow, certificate) {
            (None, None) => Ok(address.into()),
            (None, Some(certificate)) => Ok(Identity { name: Some(allow::own_name(certificate)), ..address.into() }),
            (Some(_), None) => Err(Refusal::Unknown),
            (Some(list), Some(certificate)) => {
                let (name, quota) = list.find(certificate).ok_or(Refusal::Unknown)?;
                Ok(Identity { address, name: Some(name), quota })
            }
        }
    }

    /// Whether one more inference is allowed; if so, it counts.
    fn admit(&self, client: &Identity, reveal: Reveal, (now, date): (Instant, SystemTime)) -> Result<()> {
        self.welcome(client, reveal, now)?;
        self.count(date)
    }

    /// The same, but for the count under the server's key.
    fn welcome(&self, client: &Identity, reveal: Reveal, now: Instant) -> Result<()> {
        if self.class_only && reveal != Reveal::Class {
            return Err(Refusal::ClassOnly.into());
        }
        Ok(self.quota.take(client, now)?)
    }

    /// One more under the server's key.
    fn count(&self, date: SystemTime) -> Result<()> {
        match &self.uses {
            Some(uses) => Ok(uses.count(date)?),
            None => Ok(()),
        }
    }
}

/// One client before a policy; the default is allowed everything.
#[derive(Clone, Debug)]
pub struct Visitor {
    policy: Arc<Policy>,
    client: Identity,
}

impl Visitor {
    /// The client at an address, or of a name.
    pub fn new(policy: Arc<Policy>, client: impl Into<Identity>) -> Self {
        Self { policy, client: client.into() }
    }

    /// Whether one more inference is allowed; if so, it counts.
    ///
    /// # Errors
    /// A [`Refusal`], [`StoreError::SpentKey`](crate::store::StoreError::SpentKey), or the count cannot be kept.
    pub(crate) fn admit(&self, reveal: Reveal) -> Result<()> {
        self.policy.admit(&self.client, reveal, (Instant::now(), SystemTime::now()))
    }

    /// What it is shown at most.
    pub(crate) fn shown(&self) -> Reveal {
        if self.policy.class_only { Reveal::Class } else { Reveal::Logits }
    }

    /// Who it is.
    pub(crate) fn client(&self) -> &Identity {
        &self.client
    }

    /// Whether one more inference is allowed, for which slots are prepared that each [count](Self::count) under the key.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub(crate) fn welcome(&self, reveal: Reveal) -> Result<()> {
        self.policy.welcome(&self.client, reveal, Instant::now())
    }

    /// One more slot under the server's key.
    ///
    /// # Errors
    /// [`StoreError::SpentKey`](crate::store::StoreError::SpentKey), or the count cannot be kept.
    pub(crate) fn count(&self) -> Result<()> {
        self.policy.count(SystemTime::now())
    }
}

impl Default for Visitor {
    fn default() -> Self {
        Self::new(Arc::default(), Identity::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::Store;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn what_is_refused_does_not_count() {
        let now = (Instant::now(), SystemTime::now());
        let one = NonZeroU32::new(1).unwrap();
        let policy = Policy { class_only: true, ..Policy::with_quota(one) };
        assert!(matches!(policy.admit(&HERE.into(), Reveal::Logits, now), Err(Error::Declined(Refusal::ClassOnly))));
        policy.admit(&HERE.into(), Reveal::Class, now).unwrap();
        let refused = policy.admit(&HERE.into(), Reveal::Class, now);
        assert!(matches!(refused, Err(Error::Declined(Refusal::Quota { wait_minutes: 60 }))), "{refused:?}");
    }

    #[test]
    fn who_is_on_no_list() {
        let certificate = b"of somebody";
        let open = Policy::default();
        assert_eq!(open.identify(HERE, None), Ok(HERE.into()));
        assert!(open.identify(HERE, Some(certificate)).unwrap().name.is_some());
        let closed = Policy { allow: RwLock::new(Some(AllowList::default())), ..Policy::default() };
        assert_eq!(closed.identify(HERE, None), Err(Refusal::Unknown));
        assert_eq!(closed.identify(HERE, Some(certificate)), Err(Refusal::Unknown));
    }

    #[test]
    fn inferences_count_under_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().into())).unwrap();
        let now = (Instant::now(), SystemTime::now());
        let uses = store.uses(&[1; 32].into(), now.1).unwrap();
        let policy = Policy { uses: Some(uses), ..Policy::with_quota(NonZeroU32::new(3).unwrap()) };
        (0..3).for_each(|_| policy.admit(&HERE.into(), Reveal::Logits, now).unwrap());
        policy.admit(&HERE.into(), Reveal::Logits, now).unwrap_err();
        drop(policy);
        assert_eq!(store.uses(&[1; 32].into(), now.1).unwrap().record().unwrap().inferences, 3);
    }
}
