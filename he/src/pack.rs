//! Fields of a fixed width, 1 to 64 bits, packed without gaps: bodies and hints on the wire.
//!
//! Field i occupies bits i*width .. (i+1)*width of the byte string, counted from the least significant bit of the first
//! byte. The last byte is filled up with zero bits. The length is exact and the filling is checked, so every list of
//! fields has one encoding.

use crate::error::HeError;
use crate::word::TorusWord;

/// Bytes that `count` fields of `width` bits take.
pub fn packed_len(count: usize, width: u32) -> usize {
    (count as u128 * u128::from(width)).div_ceil(8) as usize
}

/// Appends the low `width` bits of each value to `out`: [`packed_len`] bytes.
///
/// # Panics
/// If `width` is not in 1..=64.
pub fn append<W: TorusWord>(out: &mut Vec<u8>, values: &[W], width: u32) {
    let mask = field_mask(width);
    out.reserve(packed_len(values.len(), width));
    // The low `filled` < 64 bits of `pending` are not yet in `out`.
    let (mut pending, mut filled) = (0u128, 0);
    for value in values {
        pending |= u128::from(value.to_u64() & mask) << filled;
        filled += width;
        if filled >= 64 {
            out.extend_from_slice(&(pending as u64).to_le_bytes());
            pending >>= 64;
            filled -= 64;
        }
    }
    out.extend_from_slice(&(pending as u64).to_le_bytes()[..filled.div_ceil(8) as usize]);
}

/// The `count` fields of `width` bits that `bytes` consists of.
///
/// # Errors
/// [`HeError::Length`] if there are not exactly [`packed_len`] bytes, checked before anything is allocated;
/// [`HeError::Padding`] if the filling is not zero.
///
/// # Panics
/// If `width` is not in 1..=64.
pub fn read<W: TorusWord>(bytes: &[u8], count: usize, width: u32) -> Result<Vec<W>, HeError> {
    let expected = packed_len(count, width);
    if bytes.len() != expected {
        return Err(HeError::Length { expected, found: bytes.len() });
    }
    let mut out = vec![W::default(); count];
    read_into(bytes, width, &mut out)?;
    Ok(out)
}

/// [`read`] into `out`, one field per word, for as many fields as `out` has words.
pub fn read_into<W: TorusWord>(bytes: &[u8], width: u32, out: &mut [W]) -> Result<(), HeError> {
    let mask = field_mask(width);
    let expected = packed_len(out.len(), width);
    if bytes.len() != expected {
        return Err(HeError::Length { expected, found: bytes.len() });
    }
    if let Some(last) = bytes.last() {
        let used = (out.len() * width as usize - 1) % 8 + 1;
        if u32::from(*last) >> used != 0 {
            return Err(HeError::Padding);
        }
    }
    // The field that starts at bit `at` lies within the 16 bytes from byte at / 8, up to 57 bits within the first 8.
    let wide = |bytes: &[u8], at: usize| {
        let word = u128::from_le_bytes(*bytes[at / 8..].first_chunk().expect("16 bytes follow"));
        W::from_u64((word >> (at % 8)) as u64 & mask)
    };
    let narrow = |bytes: &[u8], at: usize| {
        let word = u64::from_le_bytes(*bytes[at / 8..].first_chunk().expect("16 bytes follow"));
        W::from_u64((word >> (at % 8)) & mask)
    };
    // Fields that 16 bytes follow; the rest start within the last 16 bytes.
    let width = width as usize;
    let inner = bytes.len().checked_sub(16).map_or(0, |starts| (starts * 8 / width + 1).min(out.len()));
    let (head, tail) = out.split_at_mut(inner);
    match width <= 57 {
        true => head.iter_mut().enumerate().for_each(|(i, value)| *value = narrow(bytes, i * width)),
        false => head.iter_mut().enumerate().for_each(|(i, value)| *value = wide(bytes, i * width)),
    }
    let rest = &bytes[(inner * width / 8).min(bytes.len())..];
    let mut padded = [0; 32];
    padded[..rest.len()].copy_from_slice(rest);
    for (i, value) in tail.iter_mut().enumerate() {
        *value = wide(&padded, inner * width % 8 + i * width);
    }
    Ok(())
}

fn field_mask(width: u32) -> u64 {
    assert!((1..=64).contains(&width), "fields of {width} bits");
    u64::MAX >> (64 - width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, bit by bit.
    fn reference(values: &[u64], width: u32) -> Vec<u8> {
        let mut bytes = vec![0; packed_len(values.len(), width)];
        for (i, value) in values.iter().enumerate() {
            for bit in 0..width as usize {
                let at = i * width as usize + bit;
                bytes[at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
            }
        }
        bytes
    }

    #[test]
    fn the_layout_is_pinned() {
        let mut bytes = vec![0xee];
        append(&mut bytes, &[1u32, 2, 0x7ff, 0x400], 11);
        assert_eq!(bytes, [0xee, 0x01, 0x10, 0xc0, 0xff, 0x01, 0x08]);
    }

    #[test]
    fn no_fields_are_no_bytes() {
        let mut bytes = vec![];
        append::<u64>(&mut bytes, &[], 64);
        assert!(bytes.is_empty());
        assert_eq!(read::<u64>(&[], 0, 64), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn fields_come_back(values in prop::collection::vec(any::<u64>(), 0..200), width in 1u32..=64) {
            let mut bytes = vec![];
            append(&mut bytes, &values, width);
            prop_assert_eq!(&bytes, &reference(&values, width));
            let masked: Vec<u64> = values.iter().map(|v| v & field_mask(width)).collect();
            prop_assert_eq!(read::<u64>(&bytes, values.len(), width).unwrap(), masked);
            if width <= 32 {
                let narrow: Vec<u32> = values.iter().map(|&v| v as u32).collect();
                let mut same = vec![];
                append(&mut same, &narrow, width);
                prop_assert_eq!(&same, &bytes);
                let masked: Vec<u32> = narrow.iter().map(|v| v & field_mask(width) as u32).collect();
                prop_assert_eq!(read::<u32>(&bytes, values.len(), width).unwrap(), masked);
            }
        }

        #[test]
        fn wrong_lengths_and_dirty_filling_are_refused(count in 0usize..40, width in 1u32..=64, byte: u8) {
            let mut bytes = vec![];
            append(&mut bytes, &vec![u64::MAX; count], width);
            let expected = bytes.len();
            let error = |found| Err(HeError::Length { expected, found });
            if let Some(shorter) = bytes.get(1..) {
                prop_assert_eq!(read::<u64>(shorter, count, width), error(expected - 1));
            }
            bytes.push(byte);
            prop_assert_eq!(read::<u64>(&bytes, count, width), error(expected + 1));
            bytes.pop();
            let used = count * width as usize % 8;
            if used != 0 {
                *bytes.last_mut().unwrap() |= 1 << used;
                prop_assert_eq!(read::<u64>(&bytes, count, width), Err(HeError::Padding));
            }
        }
    }
}
