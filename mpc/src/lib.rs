//! Two-party computation from silent oblivious transfer, for small integers.
//!
//! # Map
//!
//! Words are in `docs/words.md`. Paths of the crate are flat (`lowkey_mpc::requantise`); its files lie in folders, each of which uses those
//! above it and no other.
//!
//! | folder | modules | what |
//! |---|---|---|
//! | `.` | [`party`], [`error`] | who takes part and when; what can go wrong, and whose fault it is |
//! | `primitive/` | [`bits`], [`block`], [`hash`], [`prg`], [`erasing`] | bit planes, blocks of 128 bits, hashes and generators on AES, a generator that forgets |
//! | `transport/` | [`channel`], [`wire`], [`runtime`] | frames of a stage over any stream, counted and summed up; control messages |
//! | `correlation/` | [`ot`], [`demand`] | what is spent: silent oblivious transfer, in both directions; how much of each kind |
//! | `spec/` | re-exported where it is used | public numbers of protocols: sizes, digits, forms of a result; what of them is valid, and [`layout::LayoutError`] |
//! | `program/` | [`program`] | protocols recorded once for both roles, compiled, run on bit planes |
//! | `gadget/` | [`carry`], [`clamp`], [`compare`], [`convert`], [`extend`], [`select`], [`widen`] | what protocols are recorded from |
//! | `protocol/` | [`requantise`], [`dither`], [`rescale`], [`maxpool`], [`pooled`], [`patch`], [`truncate`], [`average`], [`table`], [`argmax`], [`output`] | whole protocols: specification, ideal version, program |
//! | `guard/` | [`guard`] | authenticated bits, triples and circuits against a client that deviates |
//! | `fixed/` | [`fixed`] | fixed point on shares, for training: refresh, truncation by a coin, extension, rectifiers and their way back |
//! | `layout/` | [`layout`] | the search for digits, with the protocols as its cost functions |
//!
//! # References
//!
//! | key | source |
//! |---|---|
//! | \[Bea95\] | Beaver: Precomputing oblivious transfer. Crypto 1995 |
//! | \[GGM86\] | Goldreich, Goldwasser, Micali: How to construct random functions. J. ACM 33(4) |
//! | \[Gil99\] | Gilboa: Two party RSA key generation. Crypto 1999 |
//! | \[GJA23\] | Gorski, Jevnisek, Avidan: Securing neural networks with knapsack optimization. 2023 |
//! | \[GKW+20\] | Guo, Katz, Wang, Weng, Yu: Better concrete security for half-gates garbling (in the multi-instance setting). CRYPTO 2020, ePrint 2019/1168 |
//! | \[GKWY20\] | Guo, Katz, Wang, Yu: Efficient and secure multiparty computation from fixed-key block ciphers. IEEE S&P 2020, ePrint 2019/074 |
//! | \[GYW+23\] | Guo, Yang, Wang, Zhang, Xie, Zhang, Liu: Half-tree: halving the cost of tree expansion in COT and DPF. Eurocrypt 2023, ePrint 2022/1431 |
//! | \[MR19\] | Masny, Rindal: Endemic oblivious transfer. CCS 2019, ePrint 2019/706 |
//! | \[NP99\] | Naor, Pinkas: Oblivious transfer and polynomial evaluation. STOC 1999 |
//! | \[Roy22\] | Roy: SoftSpokenOT: quieter OT extension from small-field silent VOLE. Crypto 2022, ePrint 2022/192 |
//! | \[RRG+21\] | Rathee, Rathee, Goli, Gupta, Sharma, Chandran, Rastogi: SiRnn: a math library for secure RNN inference. IEEE S&P 2021, ePrint 2021/459 |
//! | \[Skl60\] | Sklansky: Conditional-sum addition logic. IRE Transactions on Electronic Computers 9(2), 1960 |
//! | \[War12\] | Warren: Hacker's delight, second edition |
//! | \[YSWW21\] | Yang, Sarkar, Weng, Wang: QuickSilver: efficient and affordable zero-knowledge proofs for circuits and polynomials over any field. CCS 2021, ePrint 2021/076 |
//! | \[YWLZW20\] | Yang, Weng, Lan, Zhang, Wang: Ferret: fast extension for correlated OT with small communication. CCS 2020, ePrint 2020/924 |

pub mod error;
pub mod fixed;
pub mod guard;
pub mod layout;
pub mod party;
pub mod program;

mod correlation;
mod gadget;
mod primitive;
mod protocol;
mod spec;
mod transport;

pub use correlation::{demand, ot};
pub use gadget::{carry, clamp, compare, convert, extend, select, widen};
pub use primitive::{bits, block, erasing, hash, prg};
pub use protocol::{argmax, average, dither, maxpool, output, patch, pooled, requantise, rescale, table, truncate};
pub use transport::{channel, runtime, wire};
