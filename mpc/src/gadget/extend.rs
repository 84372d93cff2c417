//! y mod 2^k as shares in a larger ring, and on to y - xhat: how a small result reaches the next layer.
//!
//! *Extend.* The top bit of y is known to be zero, so the two shares wrap iff the top bit of either is one:
//! y = y_c + y_s - 2^k (alpha OR beta), alpha and beta the top bits [RRG+21], alpha OR beta = alpha + beta (1 - alpha): one
//! OLE of ring - k bits, in which the server receives.
//!
//! *Upload.* The next linear layer takes x = xhat + m, xhat fixed by the client before the input is known:
//!
//! ```text
//! client    d = y_c - xhat mod 2^ring                             -> server    m = y_s + d
//! ```
//!
//! [RRG+21]: crate#references

use crate::program::{Builder, Share, Word};
pub use crate::spec::{Finish, small_width};

/// Shares of y modulo 2^ring from shares modulo 2^k, where y < 2^(k-1). If ring is at most k, nothing is sent.
pub(crate) fn extend(b: &mut Builder, y: &Share, ring: usize) -> Share {
    let k = y.server.width();
    let low = Share { client: b.resize(&y.client, ring), server: b.resize(&y.server, ring) };
    if ring <= k {
        return low;
    }
    let alpha = b.slice(&y.client, k - 1, 1);
    let beta = b.half(y.server.party, y.server.planes[k - 1], y.server.time);
    let alpha = b.resize(&alpha, ring - k);
    let one = b.constant(alpha.party, 1, ring - k);
    let not_alpha = b.sub(&one, &alpha);
    let (server, client) = b.ole(beta, &not_alpha);
    let client = b.add(&client, &alpha);
    let wrap = Share { client: b.shift_left(&client, k, ring), server: b.shift_left(&server, k, ring) };
    b.sub_shares(&low, &wrap)
}

/// [`extend`] for a signed y, -2^(k-2) <= y < 2^(k-2): 2^(k-2) is added before and subtracted after.
pub(crate) fn extend_signed(b: &mut Builder, y: &Share, ring: usize) -> Share {
    let (party, k) = (y.server.party, y.server.width());
    let offset = 1 << (k - 2);
    let up = b.constant(party, offset, k);
    let raised = Share { client: y.client.clone(), server: b.add(&y.server, &up) };
    let wide = extend(b, &raised, ring);
    let down = b.constant(party, offset, ring);
    Share { client: wide.client, server: b.sub(&wide.server, &down) }
}

/// The server's m = y - xhat, from shares of y in the ring of xhat.
pub(crate) fn upload(b: &mut Builder, y: &Share, xhat: &Word) -> Word {
    let d = b.sub(&y.client, xhat);
    let d = b.send(&d);
    b.add(&y.server, &d)
}

/// Makes the outputs: `y` in the ring of `finish` (for [`Finish::Small`], as it is). `xhat` is the client's input if
/// the finish uploads.
pub(crate) fn finish_in_ring(b: &mut Builder, y: &Share, xhat: Option<&Word>) {
    match xhat {
        Some(xhat) => {
            let m = upload(b, y, xhat);
            b.output(&m);
        }
        None => b.output_share(y),
    }
}

/// Makes the outputs from shares of y modulo 2^k, y < 2^(k-1).
pub(crate) fn finish(b: &mut Builder, small: &Share, finish: Finish, xhat: Option<&Word>) {
    match finish {
        Finish::Small => b.output_share(small),
        Finish::Share { ring } | Finish::Upload { ring } => {
            let y = extend(b, small, usize::from(ring));
            finish_in_ring(b, &y, xhat);
        }
    }
}
