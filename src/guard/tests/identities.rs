//! Who is shut out, for how long, and what becomes of its sessions.

use super::*;

#[tokio::test]
async fn a_failure_ends_the_sessions_that_run_beside_it() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let [cheating, beside, other] = ["mallory", "mallory", "alice"].map(|name| registry.enter(&client(name)).unwrap());
    let forever = || std::future::pending::<Result<()>>();
    let sent = send(Deviation::Body, 0, &mut rng(6));
    let audit = sent.audit(&cheating).await;
    let usable = Undecided::new(sent.arrived.clone(), MODEL.clone(), ([0; 32], "prepared before"));
    let mut coin = rng(7);
    let (failed, ended, waiting) = tokio::join!(
        async { cheating.run(audit.answer(given(sent.answer()))).await },
        beside.run(forever()),
        // A coin that would fall in the session beside it waits, and falls no more.
        usable.decide(&beside, AuditRate::default(), &mut coin, open),
    );
    // Its own session ends with the verdict, or with the word that all end.
    assert!(matches!(failed, Err(Denied::Failed(_) | Denied::ShutOut { .. })), "{failed:?}");
    assert!(matches!(ended, Err(Denied::ShutOut { .. })), "{ended:?}");
    assert!(matches!(waiting.err(), Some(Denied::ShutOut { .. })));
    assert!(matches!(beside.begin_slot(), Err(Denied::ShutOut { .. })));
    let alone = tokio::time::timeout(Duration::from_millis(50), other.run(forever())).await;
    assert!(alone.is_err(), "others go on");
}

/// An honest client with several sessions: others begin, prepare and wait while one is asked.
#[tokio::test]
async fn an_open_audit_holds_the_coins_of_other_sessions_and_nothing_else() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let [asked, beside] = [(); 2].map(|()| registry.enter(&client("alice")).unwrap());
    let mut coin = rng(15);
    let [first, second] = [0, 1].map(|number| send(Deviation::None, number, &mut coin));
    let audit = first.audit(&asked).await;
    beside.begin_slot().unwrap();
    let third = registry.enter(&client("alice")).unwrap();
    third.begin_slot().unwrap();
    let mut waits = Box::pin(second.undecided().decide(&beside, AuditRate::default(), &mut coin, open));
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut waits).await.is_err());
    audit.answer(given(first.answer())).await.unwrap();
    if let Verdict::Audit(audit, ()) = waits.await.unwrap() {
        audit.answer(given(second.answer())).await.unwrap();
    }
    // With the audit lost, all of them end.
    drop(second.audit(&third).await);
    for presence in [&asked, &beside, &third] {
        assert!(matches!(presence.begin_slot(), Err(Denied::ShutOut { .. })));
    }
}

/// What was prepared and not used before an audit is not used while it is open, nor after it failed.
#[tokio::test]
async fn silence_is_no_time_to_harvest() {
    let limits = IdentityLimits { answer: Duration::from_millis(200), ..IdentityLimits::default() };
    let (_folder, store, registry) = registry(limits);
    let mut beside = registry.enter(&client("mallory")).unwrap();
    let mut coin = rng(8);
    let prepared = loop {
        let sent = send(Deviation::Body, 0, &mut coin);
        match sent.undecided().decide(&beside, AuditRate::default(), &mut coin, open).await.unwrap() {
            Verdict::Use(usable) => break usable,
            // Not this time.
            Verdict::Audit(audit, ()) => {
                drop(audit);
                registry.owed(&client("mallory")).await.unwrap();
                store.change_offences(|all| all.pardon("mallory")).unwrap();
                beside = registry.enter(&client("mallory")).unwrap();
            }
        }
    };
    let silent = registry.enter(&client("mallory")).unwrap();
    let audit = send(Deviation::Body, 1, &mut coin).audit(&silent).await;
    let begun = std::time::Instant::now();
    let (answered, used) = tokio::join!(audit.answer(std::future::pending()), prepared.begin(&beside));
    assert!(matches!(answered, Err(Denied::Silent { .. })), "{answered:?}");
    assert!(matches!(used, Err(Denied::ShutOut { .. })), "{used:?}");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(offence(&registry, "mallory"), Some(Offence::Unanswered));
}

/// Shut out by one server, also before the next one of the same folder, and after all have ended.
#[tokio::test]
async fn it_survives_a_restart_and_a_pardon_ends_it() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let second = Registry::open(store.clone(), IdentityLimits::default()).unwrap();
    let elsewhere = second.enter(&client("mallory")).unwrap();
    let sent = send(Deviation::Share, 0, &mut rng(9));
    let presence = registry.enter(&client("mallory")).unwrap();
    sent.audit(&presence).await.answer(given(sent.answer())).await.unwrap_err();
    let corrections = Some(Offence::Differs(SlotPart::Corrections));
    assert_eq!(offence(&second, "mallory"), corrections);
    assert!(matches!(elsewhere.begin_slot(), Err(Denied::ShutOut { .. })), "at its next slot");
    drop((presence, elsewhere, registry, second));
    let restarted = Registry::open(store.clone(), IdentityLimits::default()).unwrap();
    assert_eq!(offence(&restarted, "mallory"), corrections);
    assert_eq!(offence(&restarted, "alice"), None);
    store.change_offences(|all| all.pardon("mallory")).unwrap();
    assert_eq!(offence(&restarted, "mallory"), None);
}

/// A server that stops while an audit is open, without a chance to do anything.
#[tokio::test]
async fn a_server_that_is_killed_has_not_forgotten() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("mallory")).unwrap();
    std::mem::forget(send(Deviation::Body, 0, &mut rng(10)).audit(&presence).await);
    let restarted = Registry::open(store, IdentityLimits::default()).unwrap();
    assert_eq!(offence(&restarted, "mallory"), Some(Offence::Unanswered));
    assert!(restarted.owed(&client("mallory")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_lost_line_can_be_made_good() {
    let (_folder, store, registry) = registry(IdentityLimits::default());
    let sent = send(Deviation::None, 0, &mut rng(11));
    let presence = registry.enter(&client("alice")).unwrap();
    let beside = registry.enter(&client("alice")).unwrap();
    let lost_now = sent.audit(&presence).await.answer(lost()).await;
    assert!(matches!(lost_now, Err(Denied::Other(Error::Session(_)))), "{lost_now:?}");
    assert!(*beside.ended().borrow() && *presence.ended().borrow());
    assert_eq!(offence(&registry, "alice"), Some(Offence::Unanswered));

    // Lost again, and then answered. Nobody else can answer for it, and a session is had after that only.
    assert!(registry.owed(&client("bob")).await.unwrap().is_none());
    drop(registry.owed(&client("alice")).await.unwrap().unwrap());
    assert_eq!(offence(&registry, "alice"), Some(Offence::Unanswered));
    let audit = registry.owed(&client("alice")).await.unwrap().unwrap();
    assert_eq!(audit.slot(), sent.promise.slot());
    audit.answer(given(sent.answer())).await.unwrap();
    let presence = registry.enter(&client("alice")).unwrap();
    assert!(!*presence.ended().borrow(), "sessions of before have ended, this one has not");
    assert!(registry.owed(&client("alice")).await.unwrap().is_none());
    assert_eq!(store.offences().unwrap().iter().count(), 0);
}

/// Who is back before the lost line was noticed waits for the end of the audit, and may answer then.
#[tokio::test]
async fn a_client_may_be_back_before_it_is_missed() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let sent = send(Deviation::None, 0, &mut rng(15));
    let presence = registry.enter(&client("alice")).unwrap();
    let audit = sent.audit(&presence).await;
    let back = tokio::spawn({
        let registry = registry.clone();
        async move { registry.owed(&client("alice")).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!back.is_finished());
    drop(audit);
    back.await.unwrap().unwrap().unwrap().answer(given(sent.answer())).await.unwrap();
    registry.enter(&client("alice")).unwrap();
}

/// The line is lost a second time, while the answer is given, and nobody has noticed: a third connection is no stranger that is shut out, but
/// waits for the end of the second, and may answer then. The time of grace is the first one's.
#[tokio::test]
async fn a_line_may_be_lost_again_while_the_answer_is_given() {
    let limits = IdentityLimits { answer: Duration::from_millis(300), ..IdentityLimits::default() };
    let (_folder, _store, registry) = registry(limits);
    let sent = send(Deviation::None, 0, &mut rng(16));
    let presence = registry.enter(&client("alice")).unwrap();
    drop(sent.audit(&presence).await);
    registry.admit(&client("alice")).unwrap();
    let second = registry.owed(&client("alice")).await.unwrap().unwrap();
    // There is no session meanwhile, but a connection.
    registry.admit(&client("alice")).unwrap();
    assert_eq!(offence(&registry, "alice"), Some(Offence::Unanswered));
    let third = tokio::spawn({
        let registry = registry.clone();
        async move { registry.owed(&client("alice")).await }
    });
    let silent = second.answer(std::future::pending()).await;
    assert!(matches!(silent, Err(Denied::Silent { .. })), "{silent:?}");
    third.await.unwrap().unwrap().expect("it may still answer").answer(given(sent.answer())).await.unwrap();
    registry.enter(&client("alice")).unwrap();

    // Who was found out owes nothing, and has no way back.
    let presence = registry.enter(&client("mallory")).unwrap();
    let wrong = send(Deviation::Body, 0, &mut rng(17));
    drop(wrong.audit(&presence).await);
    let again = registry.owed(&client("mallory")).await.unwrap().unwrap();
    again.answer(given(wrong.answer())).await.unwrap_err();
    assert!(matches!(registry.admit(&client("mallory")), Err(Denied::ShutOut { .. })));
    assert!(registry.owed(&client("mallory")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_cheat_that_loses_its_line_gains_nothing() {
    let limits = IdentityLimits { grace: Duration::from_millis(300), ..IdentityLimits::default() };
    let (_folder, _store, registry) = registry(limits);
    let sent = send(Deviation::LargeSecret, 0, &mut rng(12));
    let presence = registry.enter(&client("mallory")).unwrap();
    drop(sent.audit(&presence).await);
    assert!(matches!(presence.begin_slot(), Err(Denied::ShutOut { .. })));
    let audit = registry.owed(&client("mallory")).await.unwrap().unwrap();
    let outcome = audit.answer(given(sent.answer())).await;
    assert!(matches!(outcome, Err(Denied::Failed(SlotPart::Keys))), "{outcome:?}");
    assert_eq!(offence(&registry, "mallory"), Some(Offence::Differs(SlotPart::Keys)));

    // When the time is over, a pardon is left.
    let presence = registry.enter(&client("late")).unwrap();
    drop(sent.audit(&presence).await);
    tokio::time::sleep(Duration::from_millis(310)).await;
    assert!(registry.owed(&client("late")).await.unwrap().is_none());
    assert_eq!(offence(&registry, "late"), Some(Offence::Unanswered));
}

#[tokio::test]
async fn a_session_that_is_cut_within_an_audit_is_a_failure() {
    let (_folder, _store, registry) = registry(IdentityLimits::default());
    let presence = registry.enter(&client("mallory")).unwrap();
    let audit = send(Deviation::Body, 0, &mut rng(13)).audit(&presence).await;
    let session = tokio::spawn(async move { audit.answer(std::future::pending()).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    session.abort();
    assert!(session.await.unwrap_err().is_cancelled());
    assert_eq!(offence(&registry, "mallory"), Some(Offence::Unanswered));
}

#[tokio::test]
async fn who_may_begin_a_slot() {
    let limits = IdentityLimits { slots_per_hour: std::num::NonZeroU32::new(3).unwrap(), ..IdentityLimits::default() };
    let (_folder, store, registry) = registry(limits);
    assert!(matches!(registry.enter(&Identity::default()), Err(Denied::Nameless)));
    let sessions = [(); 2].map(|()| registry.enter(&client("alice")).unwrap());
    (0..3).for_each(|n| sessions[n % 2].begin_slot().unwrap());
    assert!(matches!(sessions[1].begin_slot(), Err(Denied::Refused(Refusal::Quota { .. }))));
    registry.enter(&client("bob")).unwrap().begin_slot().unwrap();
    // Where it cannot be written who is asked, nobody is asked and nothing is used.
    std::fs::write(store.offences_path(), "damaged").unwrap();
    assert!(matches!(sessions[0].begin_slot(), Err(Denied::Other(Error::Store(_)))));
    let sent = send(Deviation::None, 0, &mut rng(14));
    let decided = sent.undecided().decide(&sessions[0], AuditRate::default(), &mut rng(1), open).await;
    assert!(matches!(decided.err(), Some(Denied::Other(Error::Store(_)))));
    assert!(Registry::open(store, IdentityLimits::default()).is_err());
}
