//! Both ends against each other: never two running guests, and never none that could run.

use proptest::prelude::*;
use sealift_session::control::{ErrorKind, RunState};
use sealift_session::handoff::{
    receiver::{self, Outcome as AtReceiver},
    source::{self, Completion, Outcome as AtSourceEnd},
};

use super::world::{AtDestination, AtSource, DEADLINE, Faults, Plan, World};

fn plan(managed: bool, verify: bool) -> Plan {
    Plan {
        source: source::Terms {
            managed,
            verify,
            keep: false,
            completion: Completion::ByQmp,
        },
        receiver: receiver::Terms { managed, verify },
        run_state: RunState::Running,
        takes: vec![10],
        repeats: false,
        faults: Faults::default(),
    }
}

fn run(plan: &Plan) -> World {
    let mut world = World::new(plan.clone());
    world.run();
    world
}

#[test]
fn with_nothing_in_the_way_the_guest_moves() {
    for (managed, verify) in [(true, false), (true, true), (false, false)] {
        let world = run(&plan(managed, verify));
        assert_eq!(world.at_source, AtSource::Ended);
        assert_eq!(world.at_destination, AtDestination::Live);
        assert!(matches!(
            world.source_outcome,
            Some(AtSourceEnd::Moved { managed: said, .. }) if said == managed
        ));
        assert!(matches!(
            world.receiver_outcome,
            Some(AtReceiver::Moved { .. })
        ));
    }
}

#[test]
fn a_guest_that_was_paused_stays_paused_and_one_that_slept_sleeps() {
    for run_state in [RunState::Paused, RunState::Suspended] {
        for completion in [Completion::ByQmp, Completion::ByClose] {
            for managed in [true, false] {
                let mut plan = Plan {
                    run_state,
                    ..plan(managed, false)
                };
                plan.source.completion = completion;
                let world = run(&plan);
                // Without QMP the stream's last byte makes it live as it was. A guest that slept sleeps on once it is let go of.
                let expected = match (managed, run_state) {
                    (true, RunState::Paused) => AtDestination::Loaded,
                    _ => AtDestination::Live,
                };
                assert_eq!(world.at_destination, expected);
                assert!(matches!(
                    world.receiver_outcome,
                    Some(AtReceiver::Moved { resumed_ns: 0, run_state: said, .. }) if said == run_state
                ));
            }
        }
    }
}

#[test]
fn a_link_cut_at_any_moment_leaves_one_guest() {
    for (managed, verify) in [(true, false), (true, true), (false, false)] {
        let whole = run(&plan(managed, verify)).happenings * 10;
        let mut moved = 0;
        for cut in 0..whole {
            let mut plan = plan(managed, verify);
            plan.faults.cut = Some(cut);
            let world = run(&plan);
            settled(&plan, &world);
            moved += u32::from(world.at_destination == AtDestination::Live);
        }
        assert!(moved > 0, "no cut came after Commit");
    }
}

#[test]
fn a_cancel_before_shut_keeps_the_guest_and_a_later_one_is_refused() {
    let whole = run(&plan(true, false)).happenings * 10;
    let mut kept = [false; 2];
    for time in 0..whole {
        let mut plan = plan(true, false);
        plan.faults.cancel_at_source = Some(time);
        let world = run(&plan);
        settled(&plan, &world);
        match world.source_outcome {
            Some(AtSourceEnd::StillAtSource { why, .. }) => {
                assert_eq!(why.kind, ErrorKind::Cancelled);
                assert_eq!(world.at_source, AtSource::Live);
                kept[0] = true;
            }
            _ => {
                assert_eq!(world.at_destination, AtDestination::Live);
                kept[1] = true;
            }
        }
    }
    assert_eq!(kept, [true; 2]);
}

#[test]
fn what_fails_before_shut_leaves_the_guest_running_at_the_source() {
    let faults: [fn(&mut Faults); 4] = [
        |faults| faults.load_fails = true,
        |faults| faults.pages_missing = true,
        |faults| faults.memory_differs = true,
        |faults| faults.source_fails = true,
    ];
    for fault in faults {
        let mut plan = plan(true, true);
        fault(&mut plan.faults);
        let world = run(&plan);
        settled(&plan, &world);
        assert_eq!(world.at_source, AtSource::Live, "{:?}", plan.faults);
        assert_eq!(world.at_destination, AtDestination::Dead);
        assert!(matches!(
            world.receiver_outcome,
            Some(AtReceiver::Aborted {
                confirmed: true,
                ..
            })
        ));
    }
}

#[test]
fn a_qemu_that_completes_on_its_own_keeps_the_guest() {
    let mut plan = plan(true, false);
    plan.faults.completes_early = true;
    // It completes at once, and the receiver takes its time.
    let world = run(&plan);
    assert_eq!(world.at_source, AtSource::Completed);
    assert!(matches!(
        world.source_outcome,
        Some(AtSourceEnd::StillAtSource { stopped: true, .. })
    ));
    assert_eq!(world.at_destination, AtDestination::Dead);
}

#[test]
fn a_destination_that_never_says_that_it_runs_leaves_both_ends_in_doubt_and_says_where_to_look() {
    for managed in [true, false] {
        let mut plan = plan(managed, false);
        plan.faults.never_continues = true;
        let world = run(&plan);
        settled(&plan, &world);
        assert_eq!(world.at_source, AtSource::Completed);
        let Some(AtReceiver::InDoubt { why }) = &world.receiver_outcome else {
            panic!("{:?}", world.receiver_outcome);
        };
        assert_eq!(why.kind, ErrorKind::Timeout);
        assert!(why.message.as_str().contains("info status"), "{why}");
        assert!(matches!(
            world.source_outcome,
            Some(AtSourceEnd::InDoubt { .. })
        ));
    }
}

#[test]
fn a_disk_that_fails_before_intent_keeps_the_guest_and_a_later_one_does_not_hold_it_back() {
    // Prepared, Intent, Completed, Commit, Active, Done.
    for (write, moves) in [
        (1, false),
        (2, false),
        (3, true),
        (4, true),
        (5, true),
        (6, true),
    ] {
        let mut plan = plan(true, false);
        plan.faults.journal_fails = Some(write);
        let world = run(&plan);
        settled(&plan, &world);
        assert_eq!(
            world.at_destination == AtDestination::Live,
            moves,
            "write {write}"
        );
    }
}

#[test]
fn without_qmp_at_the_source_its_channels_close_is_the_word() {
    let mut plan = plan(false, false);
    plan.source.completion = Completion::ByClose;
    let world = run(&plan);
    assert_eq!(world.at_destination, AtDestination::Live);
    assert!(matches!(
        world.source_outcome,
        Some(AtSourceEnd::Moved { .. })
    ));
}

fn faults() -> impl Strategy<Value = Faults> {
    let time = || prop::option::weighted(0.25, 0..400u64);
    let seldom = || prop::bool::weighted(0.06);
    let times = (time(), time(), time(), time(), time());
    let flags = (
        seldom(),
        seldom(),
        seldom(),
        seldom(),
        seldom(),
        seldom(),
        seldom(),
    );
    (times, flags, prop::option::weighted(0.15, 1..8usize)).prop_map(
        |(
            (cut, cancel_at_source, cancel_at_receiver, source_dies, destination_dies),
            flags,
            journal_fails,
        )| {
            let (
                source_fails,
                completes_early,
                load_fails,
                continue_fails,
                never_continues,
                pages_missing,
                memory_differs,
            ) = flags;
            Faults {
                cut,
                cancel_at_source,
                cancel_at_receiver,
                source_dies,
                destination_dies,
                source_fails,
                completes_early,
                load_fails,
                continue_fails,
                never_continues,
                journal_fails,
                pages_missing,
                memory_differs,
            }
        },
    )
}

fn plans() -> impl Strategy<Value = Plan> {
    let kinds = prop::sample::select(vec![(true, false), (true, true), (false, false)]);
    let run_states = prop::sample::select(RunState::ALL.to_vec());
    // Now and then something takes longer than any deadline.
    let takes = prop_oneof![30 => 0..40u64, 1 => Just(3 * DEADLINE)];
    (
        kinds,
        run_states,
        prop::collection::vec(takes, 1..40),
        any::<[bool; 3]>(),
        faults(),
    )
        .prop_map(
            |((managed, verify), run_state, takes, [keep, by_close, repeats], faults)| {
                let mut plan = plan(managed, verify);
                plan.source.keep = keep;
                if by_close {
                    plan.source.completion = Completion::ByClose;
                }
                Plan {
                    run_state,
                    takes,
                    repeats,
                    faults,
                    ..plan
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_happens_in_whatever_order_there_is_one_guest(plan in plans()) {
        let world = run(&plan);
        settled(&plan, &world);
    }
}

/// What holds in the end, whatever happened on the way.
fn settled(plan: &Plan, world: &World) {
    let source = world.source_outcome.as_ref().unwrap();
    let receiver = world.receiver_outcome.as_ref().unwrap();
    let said = format!(
        "{source:?}, {receiver:?}, {:?}, {:?}",
        world.at_source, world.at_destination
    );

    let at_source = !matches!(world.at_source, AtSource::Ended | AtSource::Dead);
    let at_destination = matches!(
        world.at_destination,
        AtDestination::Loaded | AtDestination::Live
    );
    if plan.faults.spares_the_qemus() {
        assert!(at_source || at_destination, "nobody has the guest: {said}");
    }
    match source {
        AtSourceEnd::Moved { .. } => {
            assert!(matches!(receiver, AtReceiver::Moved { .. }), "{said}");
            assert!(
                matches!(
                    world.at_source,
                    AtSource::Ended | AtSource::Completed | AtSource::Dead
                ),
                "{said}"
            );
        }
        AtSourceEnd::StillAtSource { stopped, .. } => {
            assert!(!matches!(receiver, AtReceiver::Moved { .. }), "{said}");
            assert_ne!(world.at_destination, AtDestination::Live, "{said}");
            match world.at_source {
                // Only one that does not wait for SHUT completes before the move is decided.
                AtSource::Completed => assert!(*stopped || plan.faults.completes_early, "{said}"),
                AtSource::Dead => assert!(plan.faults.source_dies.is_some(), "{said}"),
                other => assert_eq!((other, *stopped), (AtSource::Live, false), "{said}"),
            }
        }
        AtSourceEnd::InDoubt { .. } => {
            // Nothing that could run it was destroyed by either end.
            if plan.faults.spares_the_qemus() {
                assert!(at_source, "{said}");
            }
        }
        AtSourceEnd::Gone { .. } => assert_eq!(world.at_source, AtSource::Dead, "{said}"),
    }
    match receiver {
        AtReceiver::Moved { .. } => {
            assert_ne!(world.at_source, AtSource::Live, "{said}");
        }
        AtReceiver::Aborted { confirmed, .. } => {
            assert_ne!(world.at_destination, AtDestination::Live, "{said}");
            assert!(
                !confirmed || world.at_destination == AtDestination::Dead,
                "{said}"
            );
        }
        AtReceiver::InDoubt { .. } => {}
    }
}
