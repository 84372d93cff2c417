//! When the frames of several circuits are sent, one after the other: what the counters of a channel will say.

use crate::party::Party;

/// The flights so far of a stage, at each party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flights {
    /// The latest frame that the client and the server have received.
    received: [u32; 2],
    latest: u32,
}

impl Flights {
    /// Flights to the arrival of the latest frame.
    #[must_use]
    pub fn count(self) -> u32 {
        self.latest
    }

    /// One frame: returns the flights before it.
    pub(super) fn send(&mut self, sender: Party) -> u32 {
        let before = self.received[sender as usize];
        self.arrive(sender, before + 1);
        before
    }

    /// A frame of each party, neither of which waits for the other's: the flights before the client's and the server's.
    pub(super) fn exchange(&mut self) -> [u32; 2] {
        let before = self.received;
        self.arrive(Party::Client, before[0] + 1);
        self.arrive(Party::Server, before[1] + 1);
        before
    }

    fn arrive(&mut self, sender: Party, depth: u32) {
        let at = &mut self.received[sender.other() as usize];
        *at = depth.max(*at);
        self.latest = depth.max(self.latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_behind_a_single_frame_overlap() {
        let mut flights = Flights::default();
        assert_eq!(flights.exchange(), [0, 0]);
        assert_eq!((flights.exchange(), flights.count()), ([1, 1], 2));
        assert_eq!(flights.send(Party::Client), 2);
        // The client does not wait for its own frame, the server does.
        assert_eq!((flights.exchange(), flights.count()), ([2, 3], 4));
        assert_eq!((flights.exchange(), flights.count()), ([4, 3], 5));
        assert_eq!((flights.send(Party::Server), flights.count()), (5, 6));
    }
}
