//! Inferences per client and hour.
//!
//! A client is its name, where it has shown a certificate; or else an IPv4 address or an IPv6 network of 64 bits, which is what one
//! subscriber has. Its port does not matter, nor its sessions. Its hour begins with its first inference, and the next one with the first
//! after that: at most N in each of them, and so at most 2 N in any 60 minutes. Who has no limit is not counted. Counts live as long as
//! the process and are its own.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Identity, Refusal};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Most clients that are counted at once: 4 MB. Beyond them, the one whose hour ends first is forgotten, so that many addresses
/// cannot lock others out; with so many of them its owner has had that many quotas.
const MOST_CLIENTS: usize = 1 << 16;

/// Counts inferences by client. By default nobody is limited but those with a limit of their own.
#[derive(Debug, Default)]
pub struct Quota {
    per_hour: Option<NonZeroU32>,
    counts: Mutex<Counts>,
}

/// Both hold the same clients.
#[derive(Debug, Default)]
struct Counts {
    hours: HashMap<Counted, Hour>,
    /// By the beginning of their hours.
    begun: VecDeque<Counted>,
}

#[derive(Clone, Copy, Debug)]
struct Hour {
    begins: Instant,
    inferences: u32,
}

/// What counts as one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    Name(Arc<str>),
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl From<&Identity> for Counted {
    fn from(client: &Identity) -> Self {
        if let Some(name) = &client.name {
            return Self::Name(name.clone());
        }
        match client.address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl Quota {
    /// At most so many inferences per client and hour, but for clients with a limit of their own.
    pub fn new(per_hour: NonZeroU32) -> Self {
        Self { per_hour: Some(per_hour), ..Self::default() }
    }

    /// Counts one inference of a client, if it has a limit.
    ///
    /// # Errors
    /// When the client's inferences of this hour are used up; nothing is counted then.
    pub(crate) fn take(&self, client: &Identity, now: Instant) -> Result<(), Refusal> {
        let Some(per_hour) = client.quota.or(self.per_hour) else { return Ok(()) };
        let client = Counted::from(client);
        let mut counts = self.counts.lock().unwrap_or_else(|broken| broken.into_inner());
        counts.forget_past_hours(now);
        let hour = counts.hour(client, now);
        if hour.inferences >= per_hour.get() {
            let left = HOUR.saturating_sub(now.saturating_duration_since(hour.begins));
            let minutes = left.as_secs_f64() / 60.0;
            return Err(Refusal::Quota { wait_minutes: minutes.ceil().max(1.0) as u8 });
        }
        hour.inferences += 1;
        Ok(())
    }
}

impl Counts {
    /// The hour of a client, which begins now if there is none.
    fn hour(&mut self, client: Counted, now: Instant) -> &mut Hour {
        if !self.hours.contains_key(&client) {
            if self.hours.len() >= MOST_CLIENTS {
                self.forget_first();
            }
            self.begun.push_back(client.clone());
        }
        self.hours.entry(client).or_insert(Hour { begins: now, inferences: 0 })
    }

    fn forget_past_hours(&mut self, now: Instant) {
        let is_over = |hour: &Hour| now.saturating_duration_since(hour.begins) >= HOUR;
        while self.begun.front().and_then(|client| self.hours.get(client)).is_some_and(is_over) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(client) = self.begun.pop_front() {
            self.hours.remove(&client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(per_hour: u32) -> Quota {
        Quota::new(NonZeroU32::new(per_hour).unwrap())
    }

    fn address(text: &str) -> Identity {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn minutes(minutes: u64) -> Duration {
        Duration::from_secs(60 * minutes)
    }

    #[test]
    fn so_many_in_an_hour() {
        let (quota, start, client) = (quota(3), Instant::now(), address("192.0.2.1"));
        for minute in [0, 10, 20] {
            quota.take(&client, start + minutes(minute)).unwrap();
        }
        let refused = |at: Duration| match quota.take(&client, start + at) {
            Err(Refusal::Quota { wait_minutes }) => wait_minutes,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(minutes(20)), 40);
        assert_eq!(refused(minutes(59)), 1);
        assert_eq!(refused(HOUR - Duration::from_millis(1)), 1);
        // What was refused has not made it longer, and the next hour is as good as the first.
        (0..3).for_each(|_| quota.take(&client, start + HOUR).unwrap());
        assert_eq!(refused(minutes(61)), 59);
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        let (quota, now) = (quota(1), Instant::now());
        let taken = |client| quota.take(&address(client), now).is_err();
        assert!(!taken("192.0.2.1") && taken("192.0.2.1"));
        assert!(taken("::ffff:192.0.2.1"), "the same in the notation of IPv6");
        assert!(!taken("192.0.2.2"));
        assert!(!taken("2001:db8:0:1::1") && taken("2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!taken("2001:db8:0:2::1"));
    }

    /// A name counts from wherever it comes, and its own quota is its limit.
    #[test]
    fn a_client_is_a_name() {
        let (quota, now) = (quota(1), Instant::now());
        let named = |name: &str, from: &str, own| Identity { name: Some(name.into()), quota: own, ..address(from) };
        let taken = |client: Identity| quota.take(&client, now).is_err();
        assert!(!taken(named("alice", "192.0.2.1", None)) && taken(named("alice", "192.0.2.2", None)));
        assert!(!taken(named("bob", "192.0.2.1", None)), "another at the same address");
        assert!(!taken(address("192.0.2.1")), "and one without a name");
        let carol = || named("carol", "192.0.2.1", NonZeroU32::new(3));
        assert!((0..3).all(|_| !taken(carol())) && taken(carol()));
        let open = Quota::default();
        assert!((0..9).all(|_| open.take(&address("192.0.2.1"), now).is_ok()), "nobody is limited");
        assert!((0..3).all(|_| open.take(&carol(), now).is_ok()) && open.take(&carol(), now).is_err(), "but by name");
        assert_eq!(open.counts.lock().unwrap().hours.len(), 1);
    }

    #[test]
    fn the_table_does_not_grow_without_bound() {
        let (quota, start) = (quota(1), Instant::now());
        let nth = |n: usize| Identity::from(IpAddr::from(Ipv4Addr::from_bits(n as u32)));
        for n in 0..MOST_CLIENTS + 10 {
            quota.take(&nth(n), start + Duration::from_millis(n as u64)).unwrap();
        }
        let size = || {
            let counts = quota.counts.lock().unwrap();
            assert_eq!(counts.hours.len(), counts.begun.len());
            counts.begun.len()
        };
        assert_eq!(size(), MOST_CLIENTS);
        let end = start + Duration::from_millis(MOST_CLIENTS as u64 + 10);
        quota.take(&nth(MOST_CLIENTS), end).unwrap_err();
        quota.take(&nth(0), end).unwrap();
        assert_eq!(size(), MOST_CLIENTS, "the first was forgotten and is a newcomer");
        quota.take(&nth(0), end + HOUR).unwrap();
        assert_eq!(size(), 1, "past hours are forgotten");
    }

    #[test]
    fn clients_at_the_same_time() {
        let (quota, now) = (quota(100), Instant::now());
        let allowed: usize = std::thread::scope(|scope| {
            let client = || (0..50).filter(|_| quota.take(&address("::1"), now).is_ok()).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 100);
    }
}
