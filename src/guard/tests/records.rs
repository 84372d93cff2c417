//! What stands on disk of an audit: with several servers, pardons in between, and a record that cannot be written.

use super::*;
use crate::store::SlotPart;

/// Another server of the same folder.
fn second(store: &Store) -> Arc<Registry> {
    Registry::open(store.clone(), IdentityLimits::default()).unwrap()
}

fn pardon(store: &Store, name: &str) {
    assert!(store.change_offences(|all| all.pardon(name)).unwrap());
}

fn written(store: &Store, name: &str) -> Option<Offence> {
    store.offences().unwrap().shut(name).map(|shut| shut.offence.clone())
}

/// A slot that waits for its coin while another server asks has no coin: who passes there has not passed here.
#[tokio::test]
async fn one_server_of_a_folder_asks_at_a_time() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let others = second(&store);
    let [here, there] = [&registry, &others].map(|one| one.enter(&client("mallory")).unwrap());
    let (honest, malformed) = (send(Deviation::None, 0, &mut rng(50)), send(Deviation::Body, 1, &mut rng(51)));
    // Let in there before the audit is begun here.
    let turn = there.turn().await.unwrap();
    let audit = honest.audit(&here).await;
    let mut fell = false;
    let begun = turn.begin(|| {
        fell = true;
        true
    });
    assert!(matches!(begun, Err(Denied::ShutOut { .. })) && !fell, "{begun:?}");
    drop(turn);
    audit.answer(given(honest.answer())).await.unwrap();
    assert_eq!(written(&store, "mallory"), None);

    // With a pardon in between both are open; the pass of one leaves the other as it is, and so does its failure.
    for fails in [false, true] {
        let [here, there] = [&registry, &others].map(|one| one.enter(&client("mallory")).unwrap());
        let first = honest.audit(&here).await;
        pardon(&store, "mallory");
        let other = malformed.audit(&there).await;
        if fails {
            other.answer(given(malformed.answer())).await.unwrap_err();
            first.answer(given(honest.answer())).await.unwrap();
            assert!(matches!(written(&store, "mallory"), Some(Offence::Differs(SlotPart::Bodies { .. }))));
        } else {
            first.answer(given(honest.answer())).await.unwrap();
            assert_eq!(written(&store, "mallory"), Some(Offence::Unanswered));
            drop(other);
        }
        assert!(offence(&registry, "mallory").is_some() && offence(&others, "mallory").is_some());
        pardon(&store, "mallory");
    }
}

#[tokio::test]
async fn a_pardon_within_an_audit_is_of_nothing_that_comes_after() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let sent = send(Deviation::Body, 0, &mut rng(52));
    let presence = registry.enter(&client("mallory")).unwrap();
    let audit = sent.audit(&presence).await;
    pardon(&store, "mallory");
    drop(audit);
    assert_eq!(written(&store, "mallory"), Some(Offence::Unanswered));
    // What is owed from before a pardon is asked no more, and clears nothing.
    pardon(&store, "mallory");
    assert!(registry.owed(&client("mallory")).await.unwrap().is_none());
    assert_eq!(offence(&registry, "mallory"), None);
}

/// Silent about an honest slot, pardoned, and then caught: the honest slot answers for nothing any more.
#[tokio::test]
async fn an_old_debt_pays_for_nothing_new() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let honest = send(Deviation::None, 0, &mut rng(53));
    let debts = |many: usize| format!("{registry:?}").ends_with(&format!("debts: {many} }}"));
    drop(honest.audit(&registry.enter(&client("mallory")).unwrap()).await);
    assert!(debts(1));
    pardon(&store, "mallory");
    let presence = registry.enter(&client("mallory")).unwrap();
    let sent = send(Deviation::Body, 1, &mut rng(54));
    let audit = sent.audit(&presence).await;
    assert!(debts(0), "while another is open");
    audit.answer(given(sent.answer())).await.unwrap_err();
    assert!(registry.owed(&client("mallory")).await.unwrap().is_none());
    assert!(matches!(offence(&registry, "mallory"), Some(Offence::Differs(_))));
}

/// Fills the record, so that nobody else fits: 4 MiB are the most.
fn fill(store: &Store) -> Vec<String> {
    let shut = || Shut::new(Offence::Unanswered, std::time::SystemTime::now());
    let name = |n: usize, long: usize| format!("{n:06}{}", "n".repeat(long - 6));
    let len = |names: &[String]| {
        let mut all = store.offences().unwrap();
        names.iter().for_each(|name| all.shut_out(name, shut()));
        all.to_bytes().len()
    };
    let [one, two] = [1, 2].map(|many| len(&(0..many).map(|n| name(n, 255)).collect::<Vec<_>>()));
    let (each, rest) = (two - one, (4 << 20) - (one - (two - one)));
    let other = each - 255;
    let many = (rest - other - 6) / each;
    let mut names: Vec<_> = (0..many).map(|n| name(n, 255)).collect();
    names.push(name(many, (rest - many * each - other).min(255)));
    store.change_offences(|all| names.iter().for_each(|name| all.shut_out(name, shut()))).unwrap();
    names
}

/// Makes room for a few.
fn empty(store: &Store, names: &[String]) {
    store.change_offences(|all| names.iter().take(20).for_each(|name| assert!(all.pardon(name)))).unwrap();
}

/// An audit whose line cannot be written is one without an answer, though the client was not asked.
#[tokio::test]
async fn no_room_for_a_line_is_no_free_try() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let names = fill(&store);
    let [presence, beside] = [(); 2].map(|()| registry.enter(&client("alice")).unwrap());
    let sent = send(Deviation::None, 0, &mut rng(55));
    let refused = loop {
        match sent.undecided().decide(&presence, AuditRate::default(), &mut fresh(), open).await {
            Ok(verdict) => assert!(matches!(verdict, Verdict::Use(_))),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Denied::Other(Error::Store(_))), "{refused:?}");
    assert_eq!(written(&store, "alice"), None);
    assert!(*beside.ended().borrow() && *presence.ended().borrow());
    assert_eq!(offence(&registry, "alice"), Some(Offence::Unanswered), "in memory");
    assert_eq!(offence(&registry, "bob"), None);
    // It may answer, and is let in again.
    let audit = registry.owed(&client("alice")).await.unwrap().unwrap();
    audit.answer(given(sent.answer())).await.unwrap();
    assert_eq!(offence(&registry, "alice"), None);

    // What is found is written as soon as there is room, and pardoned as all.
    let presence = registry.enter(&client("mallory")).unwrap();
    presence.cheated().unwrap_err();
    assert!(*presence.ended().borrow());
    assert_eq!((offence(&registry, "mallory"), written(&store, "mallory")), (Some(Offence::Cheated), None));
    empty(&store, &names);
    assert_eq!(offence(&registry, "mallory"), Some(Offence::Cheated));
    assert_eq!(written(&store, "mallory"), Some(Offence::Cheated));
    pardon(&store, "mallory");
    assert_eq!(offence(&registry, "mallory"), None);
}

#[tokio::test]
async fn who_cheats_in_the_computation_is_shut_out() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let [cheating, beside, other] = ["mallory", "mallory", "alice"].map(|name| registry.enter(&client(name)).unwrap());
    let audit = send(Deviation::None, 0, &mut rng(56));
    let open = audit.audit(&beside).await;
    cheating.cheated().unwrap();
    assert!(*beside.ended().borrow() && !*other.ended().borrow());
    // An audit that is passed beside it changes nothing.
    open.answer(given(audit.answer())).await.unwrap();
    assert_eq!(offence(&registry, "mallory"), Some(Offence::Cheated));
    assert_eq!(offence(&second(&store), "mallory"), Some(Offence::Cheated));
    assert_eq!(offence(&registry, "alice"), None);
    pardon(&store, "mallory");
    assert_eq!(offence(&registry, "mallory"), None);
}

/// Sessions come in while audits of others are begun and passed: none is told that it is shut out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_comes_while_an_audit_is_begun() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("alice")).unwrap();
    let comes = registry.clone();
    let (done, told) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let stop = done.clone();
    let coming = std::thread::spawn(move || {
        while !stop.load(told) {
            comes.enter(&client("alice")).unwrap();
        }
    });
    for _ in 0..300 {
        let turn = presence.turn().await.unwrap();
        turn.begin(|| true).unwrap();
        turn.passed().unwrap();
    }
    done.store(true, told);
    coming.join().unwrap();
}

/// A slot is computed again under its own model, whatever else is published by then.
#[tokio::test]
async fn a_slot_of_another_model_is_no_verdict() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let sent = send(Deviation::None, 0, &mut rng(57));
    let network = zoo::find("digits").unwrap().network();
    let other = ServerModel::publish(&network, Link::default(), &Key::from([8; 32]), &|_, _| ()).unwrap();
    let presence = registry.enter(&client("alice")).unwrap();
    let audit = loop {
        let slot = (sent.announced, ());
        let undecided = Undecided::new(sent.arrived.clone(), other.client_half().unwrap(), slot);
        if let Verdict::Audit(audit, ()) =
            undecided.decide(&presence, AuditRate::default(), &mut fresh(), open).await.unwrap()
        {
            break audit;
        }
    };
    let bug = audit.answer(given(sent.answer())).await;
    assert!(matches!(&bug, Err(Denied::Other(Error::Internal(_)))), "{bug:?}");
    assert_eq!(offence(&registry, "alice"), Some(Offence::Unanswered), "nothing was found");
    assert!(registry.owed(&client("alice")).await.unwrap().is_some());
}

/// Of what is owed the latest is kept, up to a number and a size; whoever is forgotten stays shut out.
#[tokio::test]
async fn debts_are_bounded() {
    struct Large(usize);
    impl Corrections for Large {
        fn agree(&self, _: &ClientModel, _: &ClientHalf, _: &[u8; 32]) -> bool {
            true
        }

        fn bytes(&self) -> usize {
            self.0
        }
    }
    let sent = send(Deviation::None, 0, &mut rng(58));
    let cases: [(usize, usize, usize); 4] = [(100, 18, 16), (200 << 20, 4, 2), (600 << 20, 2, 0), (400 << 20, 3, 1)];
    for (bytes, begun, kept) in cases {
        let (_folder, _store, registry) = registry(IdentityLimits::default());
        for n in 0..begun {
            let presence = registry.enter(&client(&n.to_string())).unwrap();
            loop {
                let undecided = Undecided::new(sent.arrived.clone(), MODEL.clone(), bytes);
                let open = |bytes| -> (Box<dyn Corrections>, ()) { (Box::new(Large(bytes)), ()) };
                if let Verdict::Audit(audit, ()) =
                    undecided.decide(&presence, AuditRate::default(), &mut fresh(), open).await.unwrap()
                {
                    break drop(audit);
                }
            }
        }
        for n in 0..begun {
            let name = n.to_string();
            assert_eq!(offence(&registry, &name), Some(Offence::Unanswered));
            let owed = registry.owed(&client(&name)).await.unwrap();
            assert_eq!(owed.is_some(), n >= begun - kept, "{bytes}, {n}");
            // Forgotten here, so that it is not owed again.
            std::mem::forget(owed);
        }
    }
}
