//! Flights against bits, found with the protocol as its own cost function: a dynamic programme over carry chains.

use crate::gadget::carry::{Pair, carry};
use crate::gadget::compare;
use crate::party::Party;
use crate::program::{Bit, Builder, Time};
use crate::protocol::maxpool;
use crate::protocol::requantise;
use crate::protocol::rescale;
use crate::protocol::truncate;
use crate::spec::{
    Clip, Finish, HighBits, Layout, LayoutError, MAX_DIGIT, MAX_TABLE, Part, Spec, check_clip, check_ring, check_size,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// One way to do a step: more flights or more bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice<L> {
    /// One-way latencies from the start of the online stage to the last arrival.
    pub flights: u32,
    /// Bits per lane, random OTs included at their price.
    pub price: f64,
    /// The digits.
    pub layout: L,
}

/// The cheapest of all for each number of flights, fewest flights first; each is cheaper than those before it.
pub(crate) fn frontier<L>(all: impl IntoIterator<Item = Choice<L>>) -> Vec<Choice<L>> {
    let mut best: BTreeMap<u32, Choice<L>> = BTreeMap::new();
    for choice in all {
        if best.get(&choice.flights).is_none_or(|known| choice.price < known.price) {
            best.insert(choice.flights, choice);
        }
    }
    let mut least = f64::INFINITY;
    best.into_values()
        .filter(|choice| {
            let cheaper = choice.price < least;
            least = least.min(choice.price);
            cheaper
        })
        .collect()
}

/// A carry chain whose cost is known.
#[derive(Clone, Debug)]
struct Plan {
    price: f64,
    server: Time,
    client: Time,
    parts: Vec<Part>,
}

/// Where a carry chain starts: when each party knows its number, and whether a carry comes in at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Start {
    pub server: Time,
    pub client: Time,
    pub carry_in: bool,
}

impl Start {
    /// Both parties know their numbers when the online stage starts, and no carry comes in.
    pub fn online() -> Self {
        Self { server: Time::START, client: Time::START, carry_in: false }
    }
}

/// One part, where its chain starts, and when the server and the client know the carry that comes in.
type Link = (Part, Start, Option<(Time, Time)>);

/// Layouts of a requantisation, fewest flights first.
type Layouts = Arc<Vec<Choice<Layout>>>;

/// Searches layouts for one price of a random OT, in bits per OT. Keeps what it has found.
#[derive(Debug)]
pub struct Search {
    ot_price: f64,
    plans: HashMap<(usize, Start), Arc<Vec<Plan>>>,
    links: HashMap<Link, Plan>,
    found: HashMap<(Spec, Clip, Finish, Start), Layouts>,
    rescaled: HashMap<(Spec, Clip, Finish), Layouts>,
}

/// Digits below a table of one to three bits: as many equal ones as fit, the rest before them.
fn high_digits(high: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for left in (1..=MOST_EQUAL).filter(|left| high >= FEW_HIGH && *left < high) {
        for m in 1..=MOST_EQUAL {
            let (rest, equal) = ((high - left) % m, (high - left) / m);
            let first = (rest > 0).then_some(rest as u8);
            let digits: Vec<u8> = first.into_iter().chain(std::iter::repeat_n(m as u8, equal)).collect();
            if !all.contains(&digits) {
                all.push(digits);
            }
        }
    }
    all
}

/// Digits of at most three bits that cover `bits`: all ways if they are few, else one bit and then equal digits, the rest
/// before these.
fn compositions(bits: usize) -> Vec<Vec<u8>> {
    const FEW: usize = 4;
    let digits = 1..=bits.min(MOST_EQUAL);
    if bits == 0 {
        return vec![Vec::new()];
    }
    if bits <= FEW {
        let with = |m: usize| compositions(bits - m).into_iter().map(move |rest| [vec![m as u8], rest].concat());
        return digits.flat_map(with).collect();
    }
    let equal = |m: usize| {
        let (rest, equal) = ((bits - 1) % m, (bits - 1) / m);
        let first = (rest > 0).then_some(rest as u8);
        [1].into_iter().chain(first).chain(std::iter::repeat_n(m as u8, equal)).collect()
    };
    digits.map(equal).collect()
}

/// Blocks of one or two digits that cover `m` bits.
fn blocks(m: usize) -> Vec<Vec<u8>> {
    let digit = |m: usize| (1..=MAX_DIGIT).contains(&m).then_some(m as u8);
    let one = digit(m).map(|m| vec![m]);
    let two = (1..m).filter_map(|low| Some(vec![digit(low)?, digit(m - low)?]));
    one.into_iter().chain(two).collect()
}

impl Search {
    /// A search at this price.
    #[must_use]
    pub fn new(ot_price: f64) -> Self {
        Self { ot_price, plans: HashMap::new(), links: HashMap::new(), found: HashMap::new(), rescaled: HashMap::new() }
    }

    /// The price of a random OT in bits.
    #[must_use]
    pub fn ot_price(&self) -> f64 {
        self.ot_price
    }

    /// All layouts of a requantisation worth considering: the cheapest for each number of flights, fewest flights
    /// first, each cheaper than those before it.
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no layout.
    pub fn requantise(&mut self, spec: Spec, finish: Finish) -> Result<Layouts, LayoutError> {
        self.requantise_at(spec, finish, Time::OFFLINE, Time::START)
    }

    /// [`Search::requantise`] for [`requantise::program_at`]: the client knows c at one time, the server v at another.
    ///
    /// # Errors
    /// As [`Search::requantise`].
    pub fn requantise_at(&mut self, spec: Spec, finish: Finish, c: Time, v: Time) -> Result<Layouts, LayoutError> {
        self.requantise_clipped(spec, Clip::default(), finish, c, v)
    }

    /// [`Search::requantise`] for [`requantise::program_clipped`].
    ///
    /// # Errors
    /// As [`Search::requantise`], and [`LayoutError::Size`] if the clip's top is below 2^(a-1).
    pub fn requantise_clipped(
        &mut self,
        spec: Spec,
        clip: Clip,
        finish: Finish,
        c: Time,
        v: Time,
    ) -> Result<Layouts, LayoutError> {
        let start = Start { server: v, client: c, carry_in: false };
        if let Some(known) = self.found.get(&(spec, clip, finish, start)) {
            return Ok(Arc::clone(known));
        }
        let candidates = self.candidates(spec, clip, finish, start)?;
        let costs = candidates.into_iter().map(|layout| self.cost(spec, clip, layout, finish, start));
        let found = Arc::new(frontier(costs.collect::<Result<Vec<_>, _>>()?));
        self.found.insert((spec, clip, finish, start), Arc::clone(&found));
        Ok(found)
    }

    /// Layouts for [`rescale::program`], as [`Search::requantise`] lists them.
    ///
    /// # Errors
    /// As [`Search::requantise_clipped`].
    pub fn rescale(&mut self, spec: Spec, clip: Clip, finish: Finish) -> Result<Layouts, LayoutError> {
        if let Some(known) = self.rescaled.get(&(spec, clip, finish)) {
            return Ok(Arc::clone(known));
        }
        let start = Start { server: Time::START, client: rescale::CLIENT, carry_in: false };
        let price = self.ot_price;
        let cost = |layout: Layout| {
            let mut b = Builder::counting();
            rescale::record(&mut b, spec, clip, &layout, finish)?;
            Ok(Choice { flights: b.flights(), price: b.tally().price(price), layout })
        };
        let candidates = self.candidates(spec, clip, finish, start)?;
        let costs: Result<Vec<_>, LayoutError> = candidates.into_iter().map(cost).collect();
        let found = Arc::new(frontier(costs?));
        self.rescaled.insert((spec, clip, finish), Arc::clone(&found));
        Ok(found)
    }

    /// What a layout costs: the protocol is its own cost function.
    pub(crate) fn cost(
        &self,
        spec: Spec,
        clip: Clip,
        layout: Layout,
        finish: Finish,
        start: Start,
    ) -> Result<Choice<Layout>, LayoutError> {
        let mut b = Builder::counting();
        requantise::record(&mut b, spec, clip, &layout, finish, start.client, start.server)?;
        Ok(Choice { flights: b.flights(), price: b.tally().price(self.ot_price), layout })
    }

    /// Every layout that combines undominated chains for its parts.
    ///
    /// # Errors
    /// As [`Search::requantise`].
    pub(crate) fn candidates(
        &mut self,
        spec: Spec,
        clip: Clip,
        finish: Finish,
        start: Start,
    ) -> Result<Vec<Layout>, LayoutError> {
        let (low, a, high) = spec.cuts()?;
        check_ring(finish, a)?;
        if a == 1 {
            let lows = self.chains(spec.width() - 1, start);
            return Ok(lows.into_iter().map(Layout::of_sign).collect());
        }
        check_clip(clip, a)?;
        let lows = self.chains(low, start);
        let clamps = self.clamps(a, high, clip, Start { carry_in: low > 0, ..start });
        let both = lows.iter().flat_map(|low| clamps.iter().map(move |clamp| (low, clamp)));
        Ok(both.map(|(low, clamp)| Layout { low: low.clone(), ..clamp.clone() }).collect())
    }

    /// Every way to clamp that combines undominated chains; no low digits.
    pub(crate) fn clamps(&mut self, a: usize, high: usize, clip: Clip, start: Start) -> Vec<Layout> {
        let plain = |mid: &[Part], high: Vec<u8>, high_bits| {
            let mid = mid.to_vec();
            Layout { low: Vec::new(), mid, high, high_bits, joined: false }
        };
        let mut found = Vec::new();
        for mid in self.chains(a, start) {
            found.extend(compositions(high - 1).into_iter().map(|digits| plain(&mid, digits, HighBits::Chain)));
            if high <= MAX_TABLE {
                found.push(plain(&mid, Vec::new(), HighBits::Table));
            }
            found.extend(high_digits(high).into_iter().map(|digits| plain(&mid, digits, HighBits::Table)));
        }
        if high <= MAX_TABLE {
            found.extend(blocks(a).into_iter().map(|widths| plain(&[Part::Block(widths)], Vec::new(), HighBits::Skip)));
        }
        if clip.is_low(a) {
            found.retain(|layout| layout.high_bits == HighBits::Chain);
        } else if start.carry_in && high > 1 {
            let joined: Vec<Layout> = found.iter().map(|layout| Layout { joined: true, ..layout.clone() }).collect();
            found.extend(joined);
        }
        found
    }

    /// Chains for a comparison of numbers of `width` bits ([`compare::program`]), as [`Search::requantise`] lists layouts.
    ///
    /// # Errors
    /// [`LayoutError`] if the width is out of bounds.
    pub fn compare(&mut self, width: usize, client: Time, server: Time) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        check_size("the width of a comparison", width, 2, compare::MAX_WIDTH)?;
        self.choose(width - 1, client, server, |b, chain| compare::record(b, width, chain, client, server))
    }

    /// Chains for [`truncate::program`].
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn truncate(
        &mut self,
        spec: truncate::Spec,
        finish: Finish,
        server: Time,
    ) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        let shift = usize::from(spec.shift);
        spec.check(&vec![Part::Digit(1); shift], finish)?;
        self.choose(shift, Time::OFFLINE, server, |b, chain| truncate::record(b, spec, chain, finish, server))
    }

    /// Chains for the comparisons of [`maxpool::program`].
    ///
    /// # Errors
    /// [`LayoutError`] if the specification has no program.
    pub fn max_pool(&mut self, spec: maxpool::Spec, finish: Finish) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        spec.check(&vec![Part::Digit(1); spec.compared()], finish)?;
        self.choose(spec.compared(), spec.client, spec.server, |b, chain| maxpool::record(b, spec, chain, finish))
    }

    /// The frontier of a protocol that depends on one chain.
    pub(crate) fn choose(
        &mut self,
        bits: usize,
        client: Time,
        server: Time,
        record: impl Fn(&mut Builder, &[Part]),
    ) -> Result<Vec<Choice<Vec<Part>>>, LayoutError> {
        let chains = self.chains(bits, Start { server, client, carry_in: false });
        let ot_price = self.ot_price;
        Ok(frontier(chains.into_iter().map(|layout| {
            let mut b = Builder::counting();
            record(&mut b, &layout);
            Choice { flights: b.flights(), price: b.tally().price(ot_price), layout }
        })))
    }

    /// Undominated chains for `bits` bits: no other is cheaper and has both halves of the carry earlier.
    pub(crate) fn chains(&mut self, bits: usize, start: Start) -> Vec<Vec<Part>> {
        self.plans(bits, start).iter().map(|plan| plan.parts.clone()).collect()
    }

    fn plans(&mut self, bits: usize, start: Start) -> Arc<Vec<Plan>> {
        if let Some(known) = self.plans.get(&(bits, start)) {
            return Arc::clone(known);
        }
        let plans = if bits == 0 {
            vec![Plan { price: 0.0, server: start.server, client: start.client, parts: Vec::new() }]
        } else {
            self.extended_plans(bits, start)
        };
        let plans = Arc::new(plans);
        self.plans.insert((bits, start), Arc::clone(&plans));
        plans
    }

    /// The dynamic programme: a chain is a shorter one and one part more.
    fn extended_plans(&mut self, bits: usize, start: Start) -> Vec<Plan> {
        let mut found = Vec::new();
        for m in 1..=bits.min(MAX_PART) {
            for shorter in self.plans(bits - m, start).iter() {
                let digit = (m <= MAX_DIGIT).then_some(Part::Digit(m as u8));
                let inner = if shorter.parts.is_empty() { Vec::new() } else { blocks(m) };
                for part in digit.into_iter().chain(inner.into_iter().map(Part::Block)) {
                    let has_carry = start.carry_in || !shorter.parts.is_empty();
                    let link = self.link(&part, start, has_carry.then_some((shorter.server, shorter.client)));
                    let mut parts = shorter.parts.clone();
                    parts.push(part);
                    found.push(Plan { price: shorter.price + link.price, parts, ..link });
                }
            }
        }
        let order = |plan: &Plan| plan.server.flights() + plan.client.flights();
        found.sort_by(|a, b| a.price.total_cmp(&b.price).then_with(|| order(a).cmp(&order(b))));
        let mut best: Vec<Plan> = Vec::new();
        for plan in found {
            if !best.iter().any(|other| other.server <= plan.server && other.client <= plan.client) {
                best.push(plan);
            }
        }
        best
    }

    /// The cost of one part, given when the halves of its carry are known, and when those of its output are.
    fn link(&mut self, part: &Part, start: Start, known: Option<(Time, Time)>) -> Plan {
        let key = (part.clone(), start, known);
        if let Some(plan) = self.links.get(&key) {
            return plan.clone();
        }
        let mut b = Builder::counting();
        let carry_in = known.map(|(server, client)| shared_bit(&mut b, server, client));
        let v = b.input(Party::Server, part.bits(), start.server);
        let c = b.input(Party::Client, part.bits(), start.client);
        let pair = Pair::new(&mut b, &v, &c);
        let out = carry(&mut b, std::slice::from_ref(part), &pair, carry_in).expect("a part has bits");
        let (server, client) = out.both();
        let price = b.tally().price(self.ot_price);
        let plan = Plan { price, server: server.time, client: client.time, parts: Vec::new() };
        self.links.insert(key, plan.clone());
        plan
    }
}

/// With fewer high bits, digits below the table gain nothing.
const FEW_HIGH: usize = 3;

/// Most bits of a digit below the table, and of the table above such digits, that the search tries.
const MOST_EQUAL: usize = 3;

/// Most bits of one part that the search tries.
const MAX_PART: usize = 6;

fn shared_bit(b: &mut Builder, server: Time, client: Time) -> Bit {
    let [s, c] = [(Party::Server, server), (Party::Client, client)].map(|(party, time)| {
        let word = b.input(party, 1, time);
        b.half(party, word.planes[0], time)
    });
    b.bit(s, c)
}
