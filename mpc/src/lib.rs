//! Two-party computation from silent oblivious transfer, for small integers.
//!
//! # References
//!
//! | key | source |
//! |---|---|
//! | \[Bea95\] | Beaver: Precomputing oblivious transfer. Crypto 1995 |
//! | \[GGM86\] | Goldreich, Goldwasser, Micali: How to construct random functions. J. ACM 33(4) |
//! | \[Gil99\] | Gilboa: Two party RSA key generation. Crypto 1999 |
//! | \[GKW+20\] | Guo, Katz, Wang, Weng, Yu: Better concrete security for half-gates garbling (in the multi-instance setting). CRYPTO 2020, ePrint 2019/1168 |
//! | \[GKWY20\] | Guo, Katz, Wang, Yu: Efficient and secure multiparty computation from fixed-key block ciphers. IEEE S&P 2020, ePrint 2019/074 |
//! | \[GYW+23\] | Guo, Yang, Wang, Zhang, Xie, Zhang, Liu: Half-tree: halving the cost of tree expansion in COT and DPF. Eurocrypt 2023, ePrint 2022/1431 |
//! | \[MR19\] | Masny, Rindal: Endemic oblivious transfer. CCS 2019, ePrint 2019/706 |
//! | \[NP99\] | Naor, Pinkas: Oblivious transfer and polynomial evaluation. STOC 1999 |
//! | \[Roy22\] | Roy: SoftSpokenOT: quieter OT extension from small-field silent VOLE. Crypto 2022, ePrint 2022/192 |
//! | \[RRG+21\] | Rathee, Rathee, Goli, Gupta, Sharma, Chandran, Rastogi: SiRnn: a math library for secure RNN inference. IEEE S&P 2021, ePrint 2021/459 |
//! | \[War12\] | Warren: Hacker's delight, second edition |
//! | \[YWLZW20\] | Yang, Weng, Lan, Zhang, Wang: Ferret: fast extension for correlated OT with small communication. CCS 2020, ePrint 2020/924 |

pub mod argmax;
pub mod bits;
pub mod block;
pub mod carry;
pub mod channel;
pub mod clamp;
pub mod compare;
pub mod convert;
pub mod erasing;
pub mod error;
pub mod extend;
pub mod hash;
pub mod layout;
pub mod maxpool;
pub mod ot;
pub mod output;
pub mod party;
pub mod pooled;
pub mod prg;
pub mod program;
pub mod requantise;
pub mod rescale;
pub mod select;
pub mod table;
pub mod truncate;
mod vectorise;
pub mod widen;
pub mod wire;
