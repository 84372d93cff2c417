//! Channels that go ways of their own: rising and falling ones, and those that one or two lines suffice for.

use ndarray::Axis;

use super::requantise::has_lines;
use super::{Builder, Obstacle, Sum};
use crate::network::{Op, TensorId, Term};
use crate::rescale::Steps;

/// Bytes of a requantisation, and of an element of an input that one more linear node reads, about.
const BYTES: [usize; 2] = [40, 3];

impl Builder {
    /// Requantises groups of channels, which are all channels together, for themselves; `None` if a convolution of groups makes them.
    pub(super) fn in_groups(
        &mut self,
        name: &str,
        sum: &Sum,
        groups: &[Vec<usize>],
        mut requantise: impl FnMut(&mut Builder, Sum, &[usize]) -> Result<TensorId, Obstacle>,
    ) -> Result<Option<TensorId>, Obstacle> {
        let mut inputs = Vec::new();
        for channels in groups {
            let Some(part) = self.channels_of(name, sum, channels)? else { return Ok(None) };
            inputs.push(requantise(self, part, channels)?);
        }
        let input = self.node(&format!("{name}/concat"), Op::Concat { inputs }, None)?;
        let mut places = vec![0; sum.bias.len()];
        groups.iter().flatten().enumerate().for_each(|(place, &channel)| places[channel] = place);
        self.channels(&format!("{name}/order"), input, &places).map(Some)
    }

    /// Some channels of a sum; `None` if a convolution of groups makes them.
    fn channels_of(&mut self, name: &str, sum: &Sum, channels: &[usize]) -> Result<Option<Sum>, Obstacle> {
        let mut terms = Vec::new();
        for (term, array) in &sum.terms {
            let mut term = term.clone();
            let count = sum.bias.len();
            match &mut term {
                Term::Conv { input, out_channels, groups, .. } if *groups > 1 => {
                    if *groups != count || self.tensor(*input).shape[0] != count {
                        return Ok(None);
                    }
                    *input = self.channels(&format!("{name}/channels"), *input, channels)?;
                    (*out_channels, *groups) = (channels.len(), channels.len());
                }
                Term::Conv { out_channels: outputs, .. } | Term::Dense { outputs, .. } => *outputs = channels.len(),
                Term::Identity { input, .. } => {
                    *input = self.channels(&format!("{name}/channels"), *input, channels)?;
                }
            }
            terms.push((term, array.as_ref().map(|array| array.select(Axis(0), channels))));
        }
        Ok(Some(Sum { terms, bias: channels.iter().map(|&c| sum.bias[c]).collect() }))
    }

    /// Channels that need fewer lines than others, and these, where that saves more than one more linear node costs: those that have one
    /// line, else those whose even and odd thresholds have one each.
    pub(super) fn groups(&self, sum: &Sum, steps: &[Steps]) -> Option<[Vec<usize>; 2]> {
        let one = |steps: &Steps| has_lines(std::slice::from_ref(steps));
        let two = |steps: &Steps| steps.split(2).iter().all(|part| has_lines(std::slice::from_ref(part)));
        let split = |suffices: &dyn Fn(&Steps) -> bool| {
            let (few, many): (Vec<usize>, Vec<usize>) = (0..steps.len()).partition(|&c| suffices(&steps[c]));
            (!few.is_empty() && !many.is_empty()).then_some([few, many])
        };
        let groups = split(&one).or_else(|| split(&two))?;
        let pixels = sum.terms.iter().find_map(|(term, _)| self.shape_of(term)).map_or(1, |[_, h, w]| h * w);
        let read: usize = sum.terms.iter().map(|(term, _)| self.tensor(term.input()).elements()).sum();
        let [saved, spent] = BYTES;
        // At least one requantisation less, and the one that adds up the parts.
        (groups[0].len() * pixels * 2 * saved > read * spent).then_some(groups)
    }
}
