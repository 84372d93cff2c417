//! What a protocol costs: messages per lane, frames and bytes for a number of lanes, and what it spends of the correlations.

use super::time::Time;
use crate::correlation::demand::Demand;
use crate::party::{Party, Stage};
use crate::transport::channel::HEADER_BYTES;
use std::collections::BTreeMap;

/// Bits per lane: which party sends how many at which time, and what is spent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bits that the client and the server send at each time: what is sent at one time by one party is a frame.
    frames: BTreeMap<Time, [usize; 2]>,
    /// Random OTs, and whatever else it spends.
    pub demand: Demand,
}

/// The parties, in the order in which their frames of one time are listed.
const PARTIES: [Party; 2] = [Party::Client, Party::Server];

impl Tally {
    pub(super) fn message(&mut self, sender: Party, planes: usize, time: Time) {
        self.frames.entry(time).or_default()[usize::from(sender == Party::Server)] += planes;
    }

    pub(super) fn correction(&mut self, receiver: Party, time: Time) {
        self.message(receiver, 1, time);
        self.demand += Demand::ots_received_by(receiver, 1);
    }

    /// Every frame, in the order of sending: when, who, and its bits per lane.
    pub fn frames(&self) -> impl Iterator<Item = (Time, Party, usize)> {
        let all = self.frames.iter().flat_map(|(time, planes)| {
            PARTIES.into_iter().zip(planes).map(|(sender, planes)| (*time, sender, *planes))
        });
        all.filter(|(_, _, planes)| *planes > 0)
    }

    /// Bits per lane that `party` sends in `stage`.
    #[must_use]
    pub fn bits(&self, stage: Stage, party: Party) -> usize {
        let of = self.frames().filter(|(time, sender, _)| time.stage() == stage && *sender == party);
        of.map(|(_, _, planes)| planes).sum()
    }

    /// Flights of the online stage, counted from its start to the arrival of the last frame.
    #[must_use]
    pub fn flights(&self) -> u32 {
        self.frames().map(|(time, _, _)| flights_to_arrival(time)).max().unwrap_or(0)
    }

    /// Bits per lane, where a random OT is worth `ot_price` bits.
    #[must_use]
    pub fn price(&self, ot_price: f64) -> f64 {
        let bits: usize = self.frames.values().flatten().sum();
        bits as f64 + self.demand.price(ot_price)
    }
}

/// A frame of a program, for a number of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCost {
    /// When it is sent; it arrives at [`Time::arrival`].
    pub time: Time,
    /// Who sends it.
    pub sender: Party,
    /// Its payload in bytes, without the frame header.
    pub bytes: usize,
}

/// What a program costs for a number of lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Every frame, in the order of sending; of two frames of one time the client's first.
    pub frames: Vec<FrameCost>,
    /// What is spent, all lanes together.
    pub demand: Demand,
}

impl Cost {
    /// Payload bytes that `party` sends in `stage`.
    #[must_use]
    pub fn bytes(&self, stage: Stage, party: Party) -> usize {
        let frames = self.frames.iter().filter(|frame| frame.time.stage() == stage && frame.sender == party);
        frames.map(|frame| frame.bytes).sum()
    }

    /// Bytes that `party` sends in `stage` as a channel counts them, frame headers included.
    #[must_use]
    pub fn sent_bytes(&self, stage: Stage, party: Party) -> usize {
        let frames = self.frames.iter().filter(|frame| frame.time.stage() == stage && frame.sender == party);
        frames.map(|frame| frame.bytes + HEADER_BYTES).sum()
    }

    /// Payload bytes of both parties and stages.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.bytes).sum()
    }

    /// Flights of the online stage, counted from its start to the arrival of the last frame.
    #[must_use]
    pub fn flights(&self) -> u32 {
        self.flights_of(Stage::Online)
    }

    /// Flights of `stage`, counted from its start to the arrival of the last frame.
    #[must_use]
    pub fn flights_of(&self, stage: Stage) -> u32 {
        let flights = self.frames.iter().map(|frame| match (stage, frame.time) {
            (Stage::Offline, Time::Offline(flight)) | (Stage::Online, Time::Online(flight)) => flight + 1,
            _ => 0,
        });
        flights.max().unwrap_or(0)
    }
}

/// Flights until a frame has arrived; those sent offline take none of the online stage.
fn flights_to_arrival(time: Time) -> u32 {
    match time {
        Time::Online(flight) => flight + 1,
        Time::Prepared | Time::Offline(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlation::ot::OtCount;

    #[test]
    fn tally_groups_messages_into_frames() {
        let mut tally = Tally::default();
        tally.message(Party::Client, 3, Time::OFFLINE);
        tally.message(Party::Client, 2, Time::START);
        tally.message(Party::Server, 4, Time::START);
        tally.message(Party::Client, 5, Time::START);
        tally.message(Party::Client, 0, Time::Online(9));
        tally.demand = OtCount { client_receives: 1, server_receives: 2 }.into();
        assert_eq!(tally.frames().count(), 3);
        assert_eq!(tally.bits(Stage::Online, Party::Client), 7);
        assert_eq!(tally.bits(Stage::Offline, Party::Client), 3);
        assert!((tally.price(0.5) - 15.5).abs() < 1e-9);
    }
}
