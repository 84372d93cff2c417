//! `y = table[x]`, where x = xhat + m mod 2^a: any function of a small activation.
//!
//! One 1-of-2^a OT [NP99]. The client receives; its choice is xhat, so its a corrections d go offline. Wire i has one pad word
//! for every index, under either key; the pad of index w, in terms of the wires' random choices, is the XOR over i of
//! pad word w of wire i under choice w_i, and the client can compute it for its own choice only. With z = w xor d:
//!
//! ```text
//! offline   client    d                                                          -> server
//! online    server    e_z = T(z) - pad(z) - (T(0) - pad(0)), z = 1 .. 2^a - 1    -> client       T(z) = table[z + m]
//!           client    pad(xhat) + e_xhat                      server    T(0) - pad(0)            sum = table[x]
//! ```
//!
//! The server must not look up by m, nor the client by xhat: tables are rotated and read by multiplexers, one level
//! for each bit. Where it saves bits, the entries, less their minimum, are shared in the smallest ring that leaves
//! their top bit zero, and the result is extended ([`crate::extend`]).
//!
//! [NP99]: crate#references

use crate::gadget::extend::{extend, finish_in_ring};
use crate::party::Party;
use crate::program::{Builder, Half, Label, Plane, Program, Share, Tap, Time, Word};
use crate::spec::{Finish, LayoutError, MAX_BITS, check_ring, check_size};

/// The ideal version.
#[must_use]
pub fn ideal(table: &[i64], xhat: u64, m: u64) -> i64 {
    table[(xhat.wrapping_add(m) % table.len() as u64) as usize]
}

/// The program. The table has 2^a entries, public numbers modulo the ring of `form`. Inputs: the client's xhat (a
/// bits, offline), with [`Finish::Upload`] the client's xhat of the result (ring bits, offline), the server's m (a bits).
/// Outputs: both shares, or the server's m of the result.
///
/// # Errors
/// [`LayoutError`] unless a is from 1 to [`MAX_BITS`], the table has 2^a entries, and `form` names a ring that holds
/// their range; [`Finish::Small`] is refused.
pub fn program(a: usize, table: &[i64], form: Finish) -> Result<Program, LayoutError> {
    check_size("bits of a table index", a, 1, MAX_BITS.into())?;
    check_size("entries of a table", table.len(), 1 << a, 1 << a)?;
    let least = table.iter().copied().min().unwrap_or(0);
    let span = table.iter().map(|entry| entry.abs_diff(least)).max().unwrap_or(0);
    let bits = (u64::BITS - span.leading_zeros()).max(1) as usize;
    if form == Finish::Small {
        return Err(LayoutError::Ring { bits, finish: form });
    }
    check_ring(form, bits)?;
    let ring = form.ring(bits);
    // Extending costs a flight, ring - k bits, a correction and an OT, and saves ring - k bits in every entry.
    let small = bits + 1;
    let k = if a > 1 && small + 2 <= ring { small } else { ring };

    let mut b = Builder::new();
    let xhat = b.input(Party::Client, a, Time::OFFLINE);
    let next = form.uploads().then(|| b.input(Party::Client, ring, Time::OFFLINE));
    let m = b.input(Party::Server, a, Time::START);
    let entries = table.iter().map(|entry| b.constant(Party::Server, entry.abs_diff(least), k)).collect();
    let y = look_up(&mut b, entries, &xhat, &m);
    let mut y = extend(&mut b, &y, ring);
    let least = b.constant(Party::Server, least as u64, ring);
    y.server = b.add(&y.server, &least);
    finish_in_ring(&mut b, &y, next.as_ref());
    Ok(b.finish())
}

/// Shares of entry xhat + m, modulo 2^k, where every entry has k bits: xhat and m may be any additive shares of an index.
pub(crate) fn look_up(b: &mut Builder, entries: Vec<Word>, xhat: &Word, m: &Word) -> Share {
    let k = entries[0].width();
    let bits = b.halves(xhat);
    let taps: Vec<(Tap, Time)> = bits.iter().map(|bit| b.tap(*bit)).collect();
    let (pads, held) = pads(b, &bits, &taps, k);
    let mut masked = Vec::new();
    for (entry, pad) in rotate(b, entries, m).iter().zip(&pads) {
        masked.push(b.sub(entry, pad));
    }
    let server = masked[0].clone();
    let mut received = vec![b.constant(xhat.party, 0, k)];
    for entry in &masked[1..] {
        let e = b.sub(entry, &server);
        received.push(b.send(&e));
    }
    let e = read(b, received, xhat);
    let client = b.add(&held, &e);
    Share { client, server }
}

/// Entry z of the result is entry z + m of the table.
fn rotate(b: &mut Builder, mut entries: Vec<Word>, m: &Word) -> Vec<Word> {
    let size = entries.len();
    for (i, bit) in m.planes.iter().enumerate() {
        entries = (0..size).map(|z| b.mux(*bit, m.time, &entries[z], &entries[(z + (1 << i)) % size])).collect();
    }
    entries
}

/// The entry at `index`, whose bits are the client's.
fn read(b: &mut Builder, mut entries: Vec<Word>, index: &Word) -> Word {
    for bit in index.planes.iter().rev() {
        let high = entries.split_off(entries.len() / 2);
        entries = entries.iter().zip(&high).map(|(low, high)| b.mux(*bit, index.time, low, high)).collect();
    }
    entries.swap_remove(0)
}

/// The pad words of every index (the server's), and that of xhat (the client's).
fn pads(b: &mut Builder, bits: &[Half], taps: &[(Tap, Time)], k: usize) -> (Vec<Word>, Word) {
    let size = 1 << bits.len();
    let word = |b: &mut Builder, party: Party, w: usize, label: &dyn Fn(usize) -> Label| {
        let planes = (0..k).map(|j| {
            let bits = taps.iter().enumerate().map(|(i, (tap, _))| b.pad(*tap, label(i), w * k + j));
            let bits: Vec<Plane> = bits.collect();
            b.xor_all(&bits)
        });
        Word { party, planes: planes.collect(), time: Time::Prepared }
    };
    let chosen = |w: usize| move |i: usize| if w >> i & 1 == 1 { Label::One } else { Label::Zero };
    let mut table: Vec<Word> = (0..size).map(|w| word(b, Party::Server, w, &chosen(w))).collect();
    for (i, (bit, (tap, arrival))) in bits.iter().zip(taps).enumerate() {
        let d = b.correction(*tap, *bit)[1];
        table = (0..size).map(|z| b.mux(d, *arrival, &table[z], &table[z ^ 1 << i])).collect();
    }
    let held = (0..size).map(|w| word(b, Party::Client, w, &|_| Label::Held)).collect();
    let planes = taps.iter().map(|(tap, _)| b.choice_of(*tap)).collect();
    let choices = Word { party: Party::Client, planes, time: Time::Prepared };
    (table, read(b, held, &choices))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::party::Stage;
    use crate::primitive::bits::Planes;
    use crate::program::testing::{ODD_LANES, opened, run};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha20Rng;
    use std::sync::Arc;

    fn check(a: usize, table: &[i64], form: Finish, xhat: &[u64], m: &[u64], seed: u64) {
        let (program, lanes) = (Arc::new(program(a, table, form).unwrap()), xhat.len());
        let ring = form.ring(0);
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let next = Planes::random(lanes, ring, &mut rng);
        let [x, y] = [xhat, m].map(|values| Planes::from_lanes(values, a));
        let inputs = if form.uploads() { vec![x, next.clone(), y] } else { vec![x, y] };
        let got = opened(form, &next, &run(&program, lanes, &inputs, seed));
        for (lane, y) in got.into_iter().enumerate() {
            let want = ideal(table, xhat[lane], m[lane]) as u64 & (u64::MAX >> (64 - ring));
            assert_eq!(y, want, "a = {a} {form:?} {} {} seed {seed}", xhat[lane], m[lane]);
        }
    }

    #[test]
    fn every_index_of_random_tables() {
        for a in 1..=5 {
            let mut rng = ChaCha20Rng::seed_from_u64(a as u64);
            let table: Vec<i64> = (0..1 << a).map(|_| i64::from(rng.next_u32() % 64) - 32).collect();
            let (xhat, m): (Vec<u64>, Vec<u64>) = (0..1 << a).flat_map(|x| (0..1 << a).map(move |m| (x, m))).unzip();
            for form in [Finish::Share { ring: 6 }, Finish::Share { ring: 12 }, Finish::Upload { ring: 13 }] {
                check(a, &table, form, &xhat, &m, 1);
            }
        }
    }

    #[test]
    fn eight_bits_and_any_lanes() {
        let table: Vec<i64> = (0..256).map(|x| (x * x * 7) % 251 - 100).collect();
        for (seed, lanes) in ODD_LANES.into_iter().enumerate().step_by(2) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed as u64);
            let [xhat, m] = [(); 2].map(|()| (0..lanes).map(|_| rng.next_u64() % 256).collect::<Vec<u64>>());
            check(8, &table, Finish::Upload { ring: 14 }, &xhat, &m, seed as u64);
        }
    }

    #[test]
    fn costs_what_the_formula_says() {
        let table: Vec<i64> = (0..16).map(|x| -x).collect();
        let program = program(4, &table, Finish::Upload { ring: 13 }).unwrap();
        let bits = |stage, party| program.tally().bits(stage, party);
        assert_eq!(bits(Stage::Offline, Party::Client), 4);
        assert_eq!(bits(Stage::Online, Party::Server), 15 * 5 + 1);
        assert_eq!(bits(Stage::Online, Party::Client), (13 - 5) + 13);
        assert_eq!(program.cost(1).flights(), 2);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let form = Finish::Share { ring: 8 };
        assert!(program(0, &[0], form).is_err());
        assert!(program(2, &[0; 3], form).is_err());
        assert!(program(9, &[0; 512], form).is_err());
        assert!(program(1, &[0, 256], form).is_err());
        assert!(program(1, &[0, 1], Finish::Small).is_err());
        assert!(program(1, &[i64::MIN, i64::MAX], Finish::Share { ring: 64 }).is_ok());
    }
}
