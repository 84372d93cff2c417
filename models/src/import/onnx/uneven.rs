//! Averages whose windows have different numbers of elements: where padding does not count, or the last windows leave the image.
//!
//! Windows of one size are read from a copy of their elements, laid out so that they do not overlap; their averages are put together.

use std::rc::Rc;

use super::graph::Node;
use super::quantiser::Quantiser;
use super::stop::Stop;
use super::value::{Mean, Origin, Real, Scale};
use super::walk::Walk;
use crate::check::MAX_ELEMENTS;
use crate::network::{Op, TensorId, Window};

/// Windows of one size along an axis: which they are, and the elements that they read, one window after the other.
struct Alike {
    size: usize,
    windows: Vec<usize>,
    elements: Vec<usize>,
}

/// The windows of an axis by their size, those within the image; `None` if one is empty.
fn by_size(window: &Window, axis: usize, length: usize, count: usize) -> Option<Vec<Alike>> {
    let mut all: Vec<Alike> = Vec::new();
    for at in 0..count {
        let start = (at * window.stride[axis]) as i64 - window.padding[axis] as i64;
        let end = (start + window.kernel[axis] as i64).min(length as i64);
        let elements: Vec<usize> = (start.max(0)..end).map(|index| index as usize).collect();
        let size = elements.len();
        if size == 0 {
            return None;
        }
        let alike = all.iter().position(|alike| alike.size == size).unwrap_or_else(|| {
            all.push(Alike { size, windows: vec![], elements: vec![] });
            all.len() - 1
        });
        all[alike].windows.push(at);
        all[alike].elements.extend(elements);
    }
    Some(all)
}

impl<'m> Walk<'m> {
    /// The averages of `input` over the elements of each window that lie within the image: in pieces, unless all have one size.
    pub(super) fn uneven_average(
        &mut self,
        node: Node<'m>,
        input: Scale,
        window: Window,
        real: &Real<'m>,
    ) -> Result<Origin<'m>, Stop> {
        let mean = Mean::Windows;
        let [channels, height, width] = self.builder.tensor(input.id).shape;
        let wrong = || Stop::new("a window that does not fit", "the file is not consistent");
        let [rows, columns] = window.output([height, width]).ok_or_else(wrong)?;
        let most = |axis: usize, count: usize, length: usize| count * window.kernel[axis].min(length);
        if most(0, rows, height).saturating_mul(most(1, columns, width)) > MAX_ELEMENTS {
            return Err(Stop::new("windows of too many elements", "use smaller windows"));
        }
        let empty = || Stop::new("a window of nothing but padding", "use less padding");
        let down = by_size(&window, 0, height, rows).ok_or_else(empty)?;
        let right = by_size(&window, 1, width, columns).ok_or_else(empty)?;
        if let ([one], [other]) = (&down[..], &right[..])
            && [one.size, other.size] == window.kernel
        {
            return Ok(Origin::Average { input, window: Window { padding: [0; 4], ..window }, mean });
        }
        let (mut parts, mut places) = (Vec::new(), vec![0; rows * columns]);
        let mut next = 0;
        for a in &down {
            for b in &right {
                let offsets = |list: &[usize], stride: usize| list.iter().map(|&i| (i * stride) as i64).collect();
                let axes = vec![
                    (0..channels).map(|c| (c * height * width) as i64).collect(),
                    offsets(&a.elements, width),
                    offsets(&b.elements, 1),
                ];
                let shape = [channels, a.elements.len(), b.elements.len()];
                let id = self.builder.select(&format!("{}/windows", node.name()), input.id, shape, axes)?;
                let kernel = [a.size, b.size];
                let window = Window { kernel, stride: kernel, ..Window::POINT };
                let source = Origin::Average { input: Scale { id, ..input }, window, mean };
                parts.push(Rc::new(Real { source, post: vec![], later: vec![], fused: None, ..real.clone() }));
                for &row in &a.windows {
                    for &column in &b.windows {
                        places[row * columns + column] = next;
                        next += 1;
                    }
                }
            }
        }
        Ok(Origin::Pieces { parts, shape: [channels, rows, columns], places: Rc::new(places) })
    }

    /// Pieces that are quantised, by `each`, as one tensor.
    pub(super) fn pieces(
        &mut self,
        node: Node<'m>,
        (parts, shape, places): (&[Rc<Real<'m>>], [usize; 3], &[usize]),
        mut each: impl FnMut(&mut Self, &Real<'m>) -> Result<TensorId, Stop>,
    ) -> Result<TensorId, Stop> {
        let name = node.name();
        let mut inputs = Vec::new();
        for part in parts {
            let id = each(self, part)?;
            let [channels, height, width] = self.builder.tensor(id).shape;
            let size = height * width;
            // Places first, so that pieces of any size follow each other.
            let axes = vec![(0..size as i64).collect(), (0..channels).map(|c| (c * size) as i64).collect()];
            inputs.push(self.builder.select(&format!("{name}/piece"), id, [size, 1, channels], axes)?);
        }
        let id = match inputs[..] {
            [id] => id,
            _ => self.builder.node(&format!("{name}/pieces"), Op::Concat { inputs }, None)?,
        };
        let channels = shape[0];
        let axes = vec![(0..channels as i64).collect(), places.iter().map(|&at| (at * channels) as i64).collect()];
        Ok(self.builder.select(&format!("{name}/places"), id, shape, axes)?)
    }

    /// ONNX Runtime's averages of integers, piece by piece; `None` if these are none.
    pub(super) fn integer_pieces(
        &mut self,
        node: Node<'m>,
        source: &Origin<'m>,
        (quantiser, more): (&Quantiser, i64),
        typed: impl Fn(&Scale) -> bool,
    ) -> Result<Option<TensorId>, Stop> {
        let average = |part: &Real<'m>| match part.source {
            Origin::Average { input, window, .. } if typed(&input) => Some((input, window)),
            _ => None,
        };
        let Origin::Pieces { parts, shape, places } = source else { return Ok(None) };
        if parts.iter().any(|part| average(part).is_none()) {
            return Ok(None);
        }
        let id = self.pieces(node, (parts, *shape, places), |walk, part| {
            let (input, window) = average(part).expect("all are averages");
            walk.integer_average(node, input, &window, false, quantiser, more)
        })?;
        Ok(Some(id))
    }
}
