//! Fixed point on shares, as training needs it: values are integers that stand for x / 2^f, rounded at random without bias.
//!
//! A value of width ell is shared modulo 2^ell, c at the client and v at the server; words hold shares in their low bits, and are read as
//! signed where a value is meant.
//!
//! | module | y = | flights |
//! |---|---|---|
//! | [`refresh`] | x, under shares that both parties move by one pseudo-random number | none |
//! | [`join`] | the sum of lattice products, exactly: their guard bits removed | 1 |
//! | [`truncate`] | x / 2^s, rounded up or down by a coin, in a smaller ring | none |
//! | [`extend`] | x in a larger ring, where it is known to leave two bits free | 1 |
//! | [`relu`] | max(z, 0) in a larger ring, its bit kept; and the bit times a gradient | by chain; 2 |
//! | [`pool`] | max(z_1, .., z_n, 0) in a larger ring, its choices kept; and the gradient to the value taken | by chain |
//! | [`multiply`] | x y for several x and a short y | 3 |
//! | [`softmax`] | probabilities of logits: tournament, two tables, a product | by chain |
//! | [`score`] | whether a sample is right, and its loss | by chain |
//!
//! Every protocol is exact given its coins, and a coin is the low half of the client's share: `ideal` versions take coins as arguments, so
//! that a plaintext twin that replays them agrees with shares bit for bit.
//!
//! # What is claimed
//! Truncation sends nothing, so it reveals nothing. The client knows the coins; the server does not, unless it knows low bits of the client's
//! share: of shares that were dealt from a public stream, of multiples of a power of two, or by a value opened to it (`docs/training.md` says
//! where training has such). Coins of truncations of one share, or
//! of shares that are local functions of each other, differ by numbers that both parties know ([`refresh`]): each is uniform and
//! independent of every value, together they are those of public differences around secret coins. The function that is computed is
//! defined with such coins.

pub mod extend;
pub mod join;
pub mod multiply;
pub mod pool;
pub mod refresh;
pub mod relu;
pub mod score;
pub mod softmax;
pub mod truncate;
