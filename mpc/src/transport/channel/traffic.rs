//! What went over a channel: bytes and frames per stage, scope and kind, and flights per stage.

use super::frame::{FrameKind, HEADER_BYTES};
use crate::party::Stage;
use std::ops::{Add, AddAssign, Sub};
use std::sync::Arc;

/// Bytes (headers included) and frames, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
}

impl Count {
    /// Bytes of both directions together.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.bytes_sent + self.bytes_received
    }
}

impl Add for Count {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent + other.bytes_sent,
            bytes_received: self.bytes_received + other.bytes_received,
            frames_sent: self.frames_sent + other.frames_sent,
            frames_received: self.frames_received + other.frames_received,
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Count {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self {
            bytes_sent: self.bytes_sent - other.bytes_sent,
            bytes_received: self.bytes_received - other.bytes_received,
            frames_sent: self.frames_sent - other.frames_sent,
            frames_received: self.frames_received - other.frames_received,
        }
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

/// What one scope of one stage cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeTraffic {
    /// The stage.
    pub stage: Stage,
    /// The label given to [`super::Channel::scope`]; empty before the first call in a stage.
    pub label: Arc<str>,
    kinds: [Count; FrameKind::ALL.len()],
}

impl ScopeTraffic {
    /// Frames of one kind.
    #[must_use]
    pub fn kind(&self, kind: FrameKind) -> Count {
        self.kinds[usize::from(kind.code())]
    }

    /// Frames of all kinds.
    #[must_use]
    pub fn total(&self) -> Count {
        self.kinds.into_iter().sum()
    }
}

/// The totals of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTraffic {
    /// Frames of kind [`FrameKind::OtBatch`], which are shared between inferences.
    pub ot_batches: Count,
    /// All other frames.
    pub other: Count,
    /// One-way latencies on the critical path, summed over the visits of the stage.
    pub flights: u64,
}

impl StageTraffic {
    /// All frames of the stage.
    #[must_use]
    pub fn total(self) -> Count {
        self.ot_batches + self.other
    }
}

/// A snapshot of the counters of a channel.
///
/// A frame has depth 1 + the largest depth that its sender had received in the stage; the flights of a visit
/// to a stage are the largest depth sent or received in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    scopes: Vec<ScopeTraffic>,
    flights: [u64; Stage::ALL.len()],
}

impl Traffic {
    /// The scopes of all stages, in the order in which they were first entered.
    #[must_use]
    pub fn scopes(&self) -> &[ScopeTraffic] {
        &self.scopes
    }

    /// The totals of one stage.
    #[must_use]
    pub fn stage(&self, stage: Stage) -> StageTraffic {
        let mut sum = StageTraffic { flights: self.flights[usize::from(stage.code())], ..StageTraffic::default() };
        for scope in self.scopes.iter().filter(|scope| scope.stage == stage) {
            let ot_batches = scope.kind(FrameKind::OtBatch);
            sum.ot_batches += ot_batches;
            sum.other += scope.total() - ot_batches;
        }
        sum
    }

    /// Everything.
    #[must_use]
    pub fn total(&self) -> Count {
        self.scopes.iter().map(ScopeTraffic::total).sum()
    }

    /// What was added since an `earlier` snapshot of the same channel. Scopes without new frames are left out.
    ///
    /// # Panics
    /// If `earlier` is not an earlier snapshot of the same channel.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        for (now, then) in difference.scopes.iter_mut().zip(&earlier.scopes) {
            assert!(now.stage == then.stage && now.label == then.label, "both snapshots come from one channel");
            for (now, then) in now.kinds.iter_mut().zip(then.kinds) {
                *now = *now - then;
            }
        }
        difference.scopes.retain(|scope| scope.total() != Count::default());
        for (now, then) in difference.flights.iter_mut().zip(earlier.flights) {
            *now -= then;
        }
        difference
    }
}

/// The counters behind [`Traffic`], and the depth of the current visit to a stage.
#[derive(Debug)]
pub(super) struct Meter {
    traffic: Traffic,
    /// Index of the current scope in `traffic.scopes`.
    current: usize,
    stage: Stage,
    depth_sent: u16,
    depth_received: u16,
}

impl Meter {
    pub fn new() -> Self {
        let mut meter =
            Self { traffic: Traffic::default(), current: 0, stage: Stage::Setup, depth_sent: 0, depth_received: 0 };
        meter.scope("".into());
        meter
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Starts a visit to a stage: depths start at zero, the scope is the stage itself.
    pub fn enter(&mut self, stage: Stage) {
        self.traffic.flights[usize::from(self.stage.code())] += self.flights();
        self.stage = stage;
        self.depth_sent = 0;
        self.depth_received = 0;
        self.scope("".into());
    }

    pub fn scope(&mut self, label: Arc<str>) {
        let known = |scope: &ScopeTraffic| scope.stage == self.stage && scope.label == label;
        self.current = self.traffic.scopes.iter().position(known).unwrap_or_else(|| {
            self.traffic.scopes.push(ScopeTraffic { stage: self.stage, label, kinds: Default::default() });
            self.traffic.scopes.len() - 1
        });
    }

    /// The depth of the next frame to be sent.
    pub fn next_depth(&self) -> u16 {
        self.depth_received.saturating_add(1)
    }

    /// The largest depth that a frame of an honest peer can have now.
    pub fn largest_depth(&self) -> u16 {
        self.depth_sent.saturating_add(1)
    }

    pub fn sent(&mut self, kind: FrameKind, payload: usize) {
        self.depth_sent = self.depth_sent.max(self.next_depth());
        let count = self.count(kind);
        count.bytes_sent += (HEADER_BYTES + payload) as u64;
        count.frames_sent += 1;
    }

    pub fn received(&mut self, kind: FrameKind, payload: usize, depth: u16) {
        self.depth_received = self.depth_received.max(depth);
        let count = self.count(kind);
        count.bytes_received += (HEADER_BYTES + payload) as u64;
        count.frames_received += 1;
    }

    pub fn snapshot(&self) -> Traffic {
        let mut traffic = self.traffic.clone();
        traffic.flights[usize::from(self.stage.code())] += self.flights();
        traffic
    }

    fn flights(&self) -> u64 {
        u64::from(self.depth_sent.max(self.depth_received))
    }

    fn count(&mut self, kind: FrameKind) -> &mut Count {
        &mut self.traffic.scopes[self.current].kinds[usize::from(kind.code())]
    }
}
