//! What both parties know of an encrypted linear layer: its terms, their packing, and which bodies travel whole.

use lowkey_he::pack;

use super::packing::{Packing, Tile};
use crate::parameters::LayerParameters;

/// When the body of a ciphertext is cut (`docs/protocol.md`, "Two schedules of one layer").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// Low bits before the input is known; the top bits become a pad. The default.
    Prepared,
    /// The whole body when the client's share exists; no offline stage.
    Direct,
}

/// One tile of a term.
#[derive(Clone, Debug)]
pub struct TilePlan {
    /// Bodies in the order in which they travel, and their places.
    pub tile: Tile,
    /// For each body: true if its top bits are the pad itself, so that only its low bits are sent.
    pub own_pad: Vec<bool>,
    /// Useful outputs: (row-major pixel of the layer's output, row-major pixel of the tile's output, coefficient).
    outputs: Vec<(usize, usize, usize)>,
}

/// One encrypted term of a linear layer.
#[derive(Clone, Debug)]
pub struct TermPlan {
    /// The term's number among all encrypted terms of the network: the domain of its masks.
    pub layer: u32,
    /// Where everything sits.
    pub packing: Packing,
    /// One per secret.
    pub tiles: Vec<TilePlan>,
}

/// One linear layer with at least one encrypted term.
#[derive(Clone, Debug)]
pub struct LayerPlan {
    /// Which secret of its set its first tile is under; the next tiles are under the next ones. Layers of one inference share none:
    /// see [`SetPlan`](crate::SetPlan).
    pub first_secret: usize,
    /// Ring, torus, noise and widths, the same for all terms.
    pub parameters: LayerParameters,
    /// Channels, height, width of the result.
    pub output: [usize; 3],
    /// The terms that are added up.
    pub terms: Vec<TermPlan>,
}

impl TermPlan {
    /// Plans one term. `claim(element)` is asked once per body of an element, in order, and says whether this body defines the
    /// element's pad.
    pub fn new(layer: u32, packing: Packing, mut claim: impl FnMut(u32) -> bool) -> Self {
        let width = packing.shape().output().1;
        let tile_width = packing.tile_output()[1];
        let tiles = (0..packing.tiles())
            .map(|index| {
                let tile = packing.tile(index);
                let own_pad = tile.bodies.iter().map(|body| body.element.is_some_and(&mut claim)).collect();
                let pixels = tile.rows.clone().flat_map(|y| tile.columns.clone().map(move |x| (y, x)));
                let outputs = pixels
                    .map(|(y, x)| {
                        let (i, j) = (y - tile.rows.start, x - tile.columns.start);
                        (y * width + x, i * tile_width + j, packing.output_coefficient(i, j))
                    })
                    .collect();
                TilePlan { tile, own_pad, outputs }
            })
            .collect();
        Self { layer, packing, tiles }
    }

    /// Bytes that carry the term's bodies.
    pub fn message_len(&self, parameters: &LayerParameters, schedule: Schedule) -> usize {
        self.tiles.iter().map(|tile| tile.low_len(parameters, schedule) + tile.full_len(parameters, schedule)).sum()
    }

    /// Bodies of input elements and of padding.
    pub fn bodies(&self) -> usize {
        self.tiles.iter().map(|tile| tile.own_pad.len()).sum()
    }
}

impl TilePlan {
    pub(crate) fn outputs(&self) -> &[(usize, usize, usize)] {
        &self.outputs
    }

    /// Whether body `index` travels as low bits only.
    pub(crate) fn is_low(&self, index: usize, schedule: Schedule) -> bool {
        schedule == Schedule::Prepared && self.own_pad[index]
    }

    pub(crate) fn low_count(&self, schedule: Schedule) -> usize {
        match schedule {
            Schedule::Prepared => self.own_pad.iter().filter(|&&own| own).count(),
            Schedule::Direct => 0,
        }
    }

    pub(crate) fn low_len(&self, parameters: &LayerParameters, schedule: Schedule) -> usize {
        pack::packed_len(self.low_count(schedule), parameters.low_width())
    }

    pub(crate) fn full_len(&self, parameters: &LayerParameters, schedule: Schedule) -> usize {
        pack::packed_len(self.own_pad.len() - self.low_count(schedule), parameters.full_width())
    }
}

impl LayerPlan {
    /// Values of the result.
    pub fn outputs(&self) -> usize {
        self.output.iter().product()
    }

    /// Pixels of one output channel.
    pub fn pixels(&self) -> usize {
        self.output[1] * self.output[2]
    }

    /// Tiles of the term that has most.
    pub fn secrets(&self) -> usize {
        self.terms.iter().map(|term| term.tiles.len()).max().unwrap_or(0)
    }

    /// Bytes of one output ciphertext's hint.
    pub(crate) fn one_hint_len(&self) -> usize {
        pack::packed_len(self.parameters.set.degree, self.parameters.hint_width())
    }

    /// Bytes of the published hint: one polynomial per term and output channel.
    pub fn hint_len(&self) -> usize {
        self.terms.len() * self.output[0] * self.one_hint_len()
    }
}
