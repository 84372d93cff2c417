//! The authenticated bits of a slot, real ones.

use lowkey_mpc::bits::Planes;
use lowkey_mpc::channel::Channel;
use lowkey_mpc::erasing::Erasing;
use lowkey_mpc::guard::{Bits, Guard, apply, correct};
use lowkey_mpc::ot::{Correlations, OtCount};

use super::*;
use crate::plan::TensorId;

/// A session's OTs at both ends.
async fn session() -> (Correlations, Correlations) {
    let (mut to_server, mut to_client) = Channel::pair();
    let [mut own, mut theirs] = [1, 2].map(|seed| Erasing::new([seed; 32]));
    let (rng_c, rng_s) = (&mut own.next_rng(), &mut theirs.next_rng());
    let (client, server) =
        tokio::join!(Correlations::setup(&mut to_server, rng_c), Correlations::setup(&mut to_client, rng_s));
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    let need = OtCount { client_receives: 1 << 18, ..OtCount::ZERO };
    let both = tokio::join!(client.ensure(&mut to_server, need), server.ensure(&mut to_client, need));
    both.0.and(both.1).unwrap();
    (client, server)
}

/// What a client authenticates: its values, or with one bit changed.
#[derive(Clone, Copy)]
enum Claim {
    True,
    Pad,
    Share,
}

/// xhat of the input and c of the first layer, corrected over real OTs.
fn corrected(
    (client, server): &mut (Correlations, Correlations),
    half: &ClientHalf,
    claim: Claim,
) -> (Authenticated, Authenticated) {
    let plan = &MODEL.plan;
    let (input, node) = (TensorId::INPUT, plan.linear[0].node);
    let (ring, _) = plan.shared(input).unwrap();
    let mut parts = [
        (Of::Pad(input), half.pads[input].to_vec(), ring as usize),
        (Of::Share(node), half.shares[node].to_vec(), plan.linear[0].ell as usize + 1),
    ];
    match claim {
        Claim::True => {}
        Claim::Pad => parts[0].1[3] ^= 1,
        Claim::Share => parts[1].1[5] ^= 1 << 2,
    }
    let none = (client.take(OtCount::ZERO).unwrap(), server.take(OtCount::ZERO).unwrap());
    let guards = (Guard::new(&none.0), Guard::new(&none.1));
    let (mut own, mut theirs) = (Authenticated::new(&guards.0), Authenticated::new(&guards.1));
    for (of, values, width) in parts {
        let need = OtCount { client_receives: values.len() * width, ..OtCount::ZERO };
        let random = Bits::random(values.len(), client.take(need).unwrap());
        let keys = Bits::random(values.len(), server.take(need).unwrap());
        let (bits, message) = correct(random, &Planes::from_lanes(&values, width));
        own.add(of, &bits);
        theirs.add(of, &apply(&guards.1, keys, &message).unwrap());
    }
    (own, theirs)
}

/// Bits that are those of the seed agree; with one bit that is not, or another hash, they do not.
#[tokio::test]
async fn bits_of_the_seed_agree_and_no_others() {
    let mut ots = session().await;
    let half = send(Deviation::None, 0, &mut rng(40)).half();
    for (claim, agrees) in [(Claim::True, true), (Claim::Pad, false), (Claim::Share, false), (Claim::True, true)] {
        let (own, theirs) = corrected(&mut ots, &half, claim);
        let macs = own.macs();
        assert_eq!(theirs.agree(&half, &macs), agrees);
        let other = send(Deviation::None, 1, &mut rng(41)).half();
        assert!(!theirs.agree(&other, &macs), "of another seed");
        let mut wrong = macs;
        wrong[0] ^= 1;
        assert!(!theirs.agree(&half, &wrong));
    }
}

/// A whole audit with real bits: one changed bit shuts its client out.
#[tokio::test]
async fn an_audit_of_real_bits() {
    let mut ots = session().await;
    let (_folder, _store, registry) = registry(Limits::default());
    for (name, claim) in [("alice", Claim::True), ("mallory", Claim::Share)] {
        let presence = registry.enter(&client(name)).unwrap();
        let sent = send(Deviation::None, 2, &mut rng(42));
        let outcome = loop {
            let (own, theirs) = corrected(&mut ots, &sent.half(), claim);
            let undecided = Undecided::new(sent.arrived.clone(), Box::new(theirs), MODEL.clone(), ());
            if let Verdict::Audit(audit) =
                undecided.decide(&presence, AuditRate::default(), &mut fresh()).await.unwrap()
            {
                break audit.answer(given(sent.promise.answer(own.macs()))).await;
            }
        };
        match claim {
            Claim::True => outcome.unwrap(),
            _ => assert!(matches!(outcome, Err(Denied::Failed(Part::Corrections))), "{outcome:?}"),
        }
    }
}
