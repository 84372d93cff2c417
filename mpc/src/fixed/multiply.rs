//! x y modulo 2^n for shared numbers x of n bits and y of k - 1 bits, k <= n: several x by one y.
//!
//! y = y_c + y_v - 2^k w, where w says whether its shares wrap: as the top bit of y is zero, w is the OR of their top bits. Then
//!
//! ```text
//! x y = x_c y_c + x_v y_v + x_v y_c + x_c y_v - 2^k w x          mod 2^n
//! ```
//!
//! For k = n the last term is zero. The first two are local. A cross term takes the bits of one party's share of y as choices: 2^i times an OLE of n - i bits for bit i
//! [Gil99]. w x counts modulo 2^(n-k). The bits of y pay for their OTs once, however many x there are.
//!
//! [Gil99]: crate#references

use crate::gadget::carry::{Pair, gate};
use crate::gadget::select::multiply_bit;
use crate::program::{Bit, Builder, Gate, Half, Program, Share, Time, Word};
use crate::spec::{LayoutError, check_size};

/// The ideal version.
#[must_use]
pub fn ideal(n: usize, x: u64, y: u64) -> u64 {
    x.wrapping_mul(y) & (u64::MAX >> (64 - n))
}

/// The program. Inputs: both shares of y, k bits, then both shares of each x, n bits, at these times. Outputs: both shares of each product.
///
/// # Errors
/// [`LayoutError::Size`] unless k is from 2 to n and n at most 64.
pub fn program(n: usize, k: usize, factors: usize, client: Time, server: Time) -> Result<Program, LayoutError> {
    check_size("the ring of a product", n, 2, 64)?;
    check_size("the ring of a factor", k, 2, n)?;
    let mut b = Builder::new();
    let y = b.input_share(k, client, server);
    let xs: Vec<Share> = (0..factors).map(|_| b.input_share(n, client, server)).collect();
    for product in record(&mut b, &xs, &y) {
        b.output_share(&product);
    }
    Ok(b.finish())
}

/// Records products within a program.
pub(crate) fn record(b: &mut Builder, xs: &[Share], y: &Share) -> Vec<Share> {
    let pair = Pair::new(b, &y.server, &y.client);
    let k = y.client.width();
    let wrap = xs.iter().any(|x| x.client.width() > k).then(|| either(b, &pair.slice(k - 1..k)));
    xs.iter().map(|x| product(b, x, y, &pair, wrap)).collect()
}

fn product(b: &mut Builder, x: &Share, y: &Share, pair: &Pair, wrap: Option<Bit>) -> Share {
    let (n, k) = (x.client.width(), y.client.width());
    let mut client = by_own_bits(b, &x.client, &y.client);
    let mut server = by_own_bits(b, &x.server, &y.server);
    for (halves, word) in [(&pair.client, &x.server), (&pair.server, &x.client)] {
        let [mine, theirs] = by_their_bits(b, halves, word);
        let (to_client, to_server) = if halves[0].party == client.party { (mine, theirs) } else { (theirs, mine) };
        client = b.add(&client, &to_client);
        server = b.add(&server, &to_server);
    }
    let Some(wrap) = wrap else { return Share { client, server } };
    let low = Share { client: b.resize(&x.client, n - k), server: b.resize(&x.server, n - k) };
    let wrapped = multiply_bit(b, wrap, &low);
    let wrapped = Share { client: b.shift_left(&wrapped.client, k, n), server: b.shift_left(&wrapped.server, k, n) };
    b.sub_shares(&Share { client, server }, &wrapped)
}

/// The OR of a bit of either party.
fn either(b: &mut Builder, pair: &Pair) -> Bit {
    let both = gate(b, Gate::First(1), pair, None)[0];
    let one = pair.bit(b, 0);
    b.xor_bits(both, one)
}

/// word * bits, both of one party, modulo the word's ring.
fn by_own_bits(b: &mut Builder, word: &Word, bits: &Word) -> Word {
    let mut sum = b.constant(word.party, 0, word.width());
    for (i, bit) in bits.planes.iter().enumerate() {
        let term = b.shift_left(word, i, word.width());
        let term = b.and_bit(&term, *bit, bits.time);
        sum = b.add(&sum, &term);
    }
    sum
}

/// Shares of word * bits, the bits of the other party: that of the bits' owner, and that of the word's.
fn by_their_bits(b: &mut Builder, bits: &[Half], word: &Word) -> [Word; 2] {
    let n = word.width();
    let mut sums = [bits[0].party, word.party].map(|party| b.constant(party, 0, n));
    for (i, bit) in bits.iter().enumerate() {
        let part = b.resize(word, n - i);
        let (mine, theirs) = b.ole(*bit, &part);
        for (sum, term) in sums.iter_mut().zip([mine, theirs]) {
            let term = b.shift_left(&term, i, n);
            *sum = b.add(sum, &term);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, open, run, share};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    const AT: Time = Time::START;

    #[test]
    fn every_pair_of_shares_of_small_rings() {
        for (n, k) in [(3, 2), (3, 3), (4, 3)] {
            let program = Arc::new(program(n, k, 1, AT, AT).unwrap());
            let of = |bits: usize| 0..1_u64 << bits;
            let all: Vec<[u64; 4]> = of(k - 1)
                .flat_map(|y| of(k).flat_map(move |yc| of(n).flat_map(move |x| of(n).map(move |xc| [y, yc, x, xc]))))
                .collect();
            let lanes = |f: &dyn Fn(&[u64; 4]) -> u64, width| {
                Planes::from_lanes(&all.iter().map(f).collect::<Vec<u64>>(), width)
            };
            let inputs = [
                lanes(&|case| case[1], k),
                lanes(&|case| case[0].wrapping_sub(case[1]), k),
                lanes(&|case| case[3], n),
                lanes(&|case| case[2].wrapping_sub(case[3]), n),
            ];
            let outcome = run(&program, all.len(), &inputs, 1);
            for (got, [y, _, x, _]) in open(&outcome.client[0], &outcome.server[0]).into_iter().zip(&all) {
                assert_eq!(got, ideal(n, *x, *y), "n {n} k {k}: {x} * {y}");
            }
        }
    }

    #[test]
    fn several_factors_and_any_lanes() {
        for (seed, lanes) in ODD_LANES.into_iter().enumerate() {
            let (n, k) = [(24, 13), (64, 20), (9, 9)][seed % 3];
            let program = Arc::new(program(n, k, 3, AT, AT).unwrap());
            assert_eq!(program.cost(1).flights(), if k < n { 3 } else { 1 });
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let y: Vec<u64> = (0..lanes).map(|_| rng.next_u64() >> (65 - k)).collect();
            let xs = [(); 3].map(|()| (0..lanes).map(|_| rng.next_u64()).collect::<Vec<u64>>());
            let mut inputs = share(&y, k, &mut rng).to_vec();
            xs.iter().for_each(|x| inputs.extend(share(x, n, &mut rng)));
            let outcome = run(&program, lanes, &inputs, seed as u64);
            for (i, x) in xs.iter().enumerate() {
                let want: Vec<u64> = x.iter().zip(&y).map(|(x, y)| ideal(n, *x, *y)).collect();
                assert_eq!(open(&outcome.client[i], &outcome.server[i]), want, "factor {i} seed {seed}");
            }
        }
    }

    /// Two cross terms, w times an x of n - k bits, and the corrections of y and w once.
    #[test]
    fn costs_what_the_formula_says() {
        let (n, k) = (24, 13);
        let bits = |factors| program(n, k, factors, AT, AT).unwrap().tally().price(0.0) as usize;
        let each = 2 * (0..k).map(|i| n - i).sum::<usize>() + 2 * (n - k);
        assert_eq!(bits(2) - bits(1), each);
        assert_eq!(bits(1) - each, 2 * k + 1 + 2);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert!(
            program(4, 5, 1, AT, AT).is_err()
                && program(4, 1, 1, AT, AT).is_err()
                && program(65, 5, 1, AT, AT).is_err()
        );
    }
}
