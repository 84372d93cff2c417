//! Arrays in memory, of one input or a batch: read as a file of the same elements would be.

use super::npy::{self, byte};
use super::{DataProblem, Inputs, Misfit, quantised, sizes};
use crate::coding::Dtype;
use crate::network::Input;

impl Inputs {
    /// Real numbers in the shape and order of the model's file, quantised as the file does it.
    ///
    /// # Errors
    /// When they are not as many as one input has or a multiple, one of them is no number, or nothing says how they are quantised.
    pub fn from_reals(values: &[f32], input: &Input) -> Result<Inputs, DataProblem> {
        check_count(values.len(), input)?;
        let Some(coding) = &input.coding else { return Err(npy::no_reals("float32", input)) };
        let stored = npy::quantised_reals(values.iter().copied(), "float32", input, coding)?;
        Ok(Inputs::of(npy::ordered(&stored, input, coding), input, false))
    }

    /// The file's own quantised tensor, or the integers that it casts, in its shape and order; the values y where the network comes from no file.
    ///
    /// # Errors
    /// When they are not as many as one input has or a multiple, or the tensor is of another type or range.
    pub fn from_quantised<T: Byte>(values: &[T], input: &Input) -> Result<Inputs, DataProblem> {
        check_count(values.len(), input)?;
        let integers = values.iter().map(|&value| value.into());
        let stored = match &input.coding {
            None => integers.map(|value| byte(value, (1 << input.bits) - 1)).collect::<Result<_, _>>()?,
            Some(coding) => {
                let stored = npy::own_tensor(integers, T::NAME, T::DTYPE.range(), input, coding)?;
                npy::ordered(&stored, input, coding)
            }
        };
        Ok(Inputs::of(stored, input, false))
    }

    /// Pixels of 8 bits, row by row with the channels of a pixel side by side, as libraries for pictures have them.
    ///
    /// # Errors
    /// When they are not as many as one input has or a multiple.
    pub fn from_pixels(pixels: &[u8], input: &Input) -> Result<Inputs, DataProblem> {
        check_count(pixels.len(), input)?;
        let [channels, height, width] = input.shape;
        let plane = |picture: &'_ [u8], channel: usize| -> Vec<u8> {
            picture.iter().skip(channel).step_by(channels).map(|&pixel| quantised(pixel, channel, input)).collect()
        };
        let pictures = pixels.chunks(channels * height * width);
        let stored = pictures.flat_map(|picture| (0..channels).flat_map(move |channel| plane(picture, channel)));
        Ok(Inputs::of(stored.collect(), input, true))
    }

    fn of(values: Vec<u8>, input: &Input, pictures: bool) -> Inputs {
        Inputs { input: input.clone(), values, pictures, note: None }
    }
}

/// A type of the bytes of a quantised tensor.
pub trait Byte: Copy + Into<i64> {
    /// For messages.
    const NAME: &'static str;
    /// Its values.
    const DTYPE: Dtype;
}

impl Byte for u8 {
    const NAME: &'static str = "uint8";
    const DTYPE: Dtype = Dtype::Uint(8);
}

impl Byte for i8 {
    const NAME: &'static str = "int8";
    const DTYPE: Dtype = Dtype::Int(8);
}

fn check_count(found: usize, input: &Input) -> Result<(), DataProblem> {
    let elements: usize = input.shape.iter().product();
    if found > 0 && found.is_multiple_of(elements) {
        return Ok(());
    }
    let dims = input.coding.as_ref().map_or(&input.shape[..], |coding| &coding.dims);
    let wanted = format!("{elements} for each input ({})", sizes(dims));
    Err(DataProblem::Size { found: format!("{found} values"), wanted, misfit: Misfit::Other })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::{Coding, Order, Rule};

    /// 1 x 2 x 2 of int8 at scale 1/2, channels last and so in the order of the network.
    fn coded() -> Input {
        let coding = Coding {
            dims: vec![2, 1, 2],
            order: Order::ChannelsLast,
            dtype: Dtype::Int(8),
            lowest: -128,
            highest: 127,
            scale: Some(0.5),
            zero_point: -128,
            steps: vec![],
            rule: Rule::Onnx,
            integers: false,
        };
        Input { shape: [2, 2, 1], bits: 8, zero_point: 0, pixels: None, coding: Some(coding) }
    }

    fn plain() -> Input {
        Input { shape: [2, 1, 2], bits: 4, zero_point: 1, pixels: None, coding: None }
    }

    fn stored(inputs: &Inputs) -> Vec<Vec<u8>> {
        inputs.stored().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn reals_are_quantised_and_put_in_order() {
        let inputs = Inputs::from_reals(&[0.0, 0.5, 1.0, 1.5, 9.0, 9.0, 9.0, 9.0], &coded()).unwrap();
        assert_eq!(stored(&inputs), [[0, 2, 1, 3], [18; 4]]);
        assert!(matches!(Inputs::from_reals(&[f32::NAN; 4], &coded()), Err(DataProblem::NotANumber)));
        assert!(matches!(Inputs::from_reals(&[0.0; 4], &plain()), Err(DataProblem::Type { .. })));
    }

    #[test]
    fn bytes_are_the_files_own_tensor() {
        let inputs = Inputs::from_quantised(&[-128i8, -127, -126, -125], &coded()).unwrap();
        assert_eq!(stored(&inputs), [[0, 2, 1, 3]]);
        assert!(matches!(Inputs::from_quantised(&[1u8; 4], &coded()), Err(DataProblem::Type { .. })));
        let inputs = Inputs::from_quantised(&[0u8, 5, 10, 15], &plain()).unwrap();
        assert_eq!(inputs.get(0).unwrap().iter().copied().collect::<Vec<_>>(), [-1, 4, 9, 14]);
        assert!(matches!(Inputs::from_quantised(&[16u8; 4], &plain()), Err(DataProblem::Value { value: 16, .. })));
    }

    #[test]
    fn pixels_of_a_picture_come_side_by_side() {
        let inputs = Inputs::from_pixels(&[16, 32, 48, 64], &plain()).unwrap();
        assert_eq!((stored(&inputs), inputs.are_pictures()), (vec![vec![1, 3, 2, 4]], true));
    }

    #[test]
    fn counts_that_do_not_fit_are_refused() {
        for count in [0, 3, 5] {
            let text = Inputs::from_pixels(&vec![0; count], &plain()).unwrap_err().to_string();
            assert_eq!(text, format!("it holds {count} values, the network reads 4 for each input (2 x 1 x 2)"));
        }
    }
}
