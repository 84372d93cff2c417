//! Scales that multiply, truncate and add ([`lowkey_mpc::rescale`]): how many bits they can drop, what the server adds, and the proof.
//!
//! A channel's line (M z + b) / 2^s stays some way from every threshold, on each of its reachable accumulators ([`Affine::room`]). As
//! long as the errors of the parties' truncations are shorter than that, no result changes ([`Factor::offset`]). The most bits that all
//! channels of a layer can drop are found from its bounds; nothing is left to chance.

use lowkey_models::rescale::Affine;
use lowkey_models::{LinearBounds, Network, Op, Range};
use lowkey_mpc::rescale::{Factor, check_factor};

use crate::node::{self, Choices, Chosen, NodeId, ScaleChoice, clipped_bits};
use crate::plan::WIDTHS;
use crate::plan::truncation::{Reader, factors_of, reader, scaled};

/// What becomes of a scale whose products are truncated.
pub(super) struct Truncation {
    /// Width of the sums, and the bits dropped.
    pub choice: ScaleChoice,
    /// The sums, in units of 2^dropped.
    pub sums: LinearBounds,
}

/// The truncation of scale `node` that drops the most bits, where its linear node has a ring of `ell` bits; `None` if it has other readers
/// than one requantisation, or the sums have no ring.
pub(super) fn widest(network: &Network, bounds: &[Option<LinearBounds>], node: NodeId, ell: u32) -> Option<Truncation> {
    let line = Lines::new(network, bounds, node, ell)?;
    (1..=line.reader.shift).rev().find_map(|dropped| line.offsets(dropped)).and_then(|offsets| line.with(offsets))
}

/// What the server adds to its products, by channel, of each requantisation that reads a truncated scale.
pub(crate) fn offsets(network: &Network, choices: &Choices) -> Vec<(NodeId, Vec<i64>)> {
    let (architecture, bounds) = (network.architecture(), network.bounds());
    let chosen = Chosen::new(architecture, choices);
    let of = |node: NodeId| {
        let dropped = chosen.dropped(node)?;
        let ell = chosen.ell(scaled(architecture, node));
        let (_, offsets) = Lines::new(network, &bounds, node, ell)?.offsets(dropped)?;
        Some((NodeId::new(architecture.consumers(node.output().index()).next()?), offsets))
    };
    (0..architecture.nodes.len()).map(NodeId::new).filter_map(of).collect()
}

/// The lines of all channels of one scale.
struct Lines<'a> {
    network: &'a Network,
    node: NodeId,
    ell: u32,
    reader: Reader,
    /// Multiplier and offset, reachable accumulators, and the room of each channel.
    channels: Vec<(Affine, Range, [i128; 2])>,
}

impl<'a> Lines<'a> {
    fn new(network: &'a Network, bounds: &[Option<LinearBounds>], node: NodeId, ell: u32) -> Option<Self> {
        let architecture = network.architecture();
        let reader = reader(architecture, node)?;
        let Op::Scale { input, multiplier } = &architecture.nodes[node.index()].op else { return None };
        let source = bounds[*input - 1].as_ref()?;
        let bias = &network.weights().linear[node.index()].as_ref()?.bias;
        let channel = |(channel, (&domain, &offset)): (usize, (&Range, &i64))| {
            let multiplier = multiplier[if multiplier.len() == 1 { 0 } else { channel }];
            let line = Affine { multiplier, offset, shift: reader.shift };
            (line, domain, line.room(domain, reader.largest()))
        };
        let channels = source.channels.iter().zip(bias).enumerate().map(channel).collect();
        Some(Self { network, node, ell, reader, channels })
    }

    fn factor(&self, line: &Affine, dropped: u32) -> Factor {
        Factor { multiplier: line.multiplier, ell: self.ell, dropped }
    }

    /// The offsets of all channels, where each has room for the errors.
    fn offsets(&self, dropped: u32) -> Option<(u32, Vec<i64>)> {
        let offset = |(line, _, [above, below]): &(Affine, Range, [i128; 2])| {
            let more = self.factor(line, dropped).offset(*above, *below)?;
            i64::try_from(i128::from(line.offset) + more).ok()
        };
        Some((dropped, self.channels.iter().map(offset).collect::<Option<_>>()?))
    }

    fn with(&self, (dropped, offsets): (u32, Vec<i64>)) -> Option<Truncation> {
        let sum = |((line, domain, _), &offset): (&(Affine, Range, [i128; 2]), &i64)| {
            let [least, most] = self.factor(line, dropped).errors();
            let end = |z: i64, error: i128| {
                let product = i128::from(line.multiplier) * i128::from(z) + i128::from(offset) + error;
                i64::try_from(product >> dropped).ok()
            };
            Some(Range { lo: end(domain.lo, least)?, hi: end(domain.hi, most)? })
        };
        let sums = LinearBounds { channels: self.channels.iter().zip(&offsets).map(sum).collect::<Option<_>>()? };
        let Reader { bits, shift, top } = self.reader;
        let ell = node::least_ring(sums.range(), clipped_bits(bits, top), shift - dropped);
        let factors = factors_of(self.network.architecture(), self.node, self.ell, dropped);
        let fits = WIDTHS.contains(&ell) && factors.into_iter().all(|factor| check_factor(factor, ell).is_ok());
        fits.then_some(Truncation { choice: ScaleChoice::Truncated { ell, dropped }, sums })
    }
}
