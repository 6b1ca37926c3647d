//! Guests move, each in its own way. Whenever one has, every page was found to be at the receiver as it was last written.

use sealift_precopy::{Convergence, Decision, IfNotConverging, Remedy, Why};

use crate::guest::Guest;
use crate::world::{Link, Moved, World};

/// Milliseconds that a guest may stand still: QEMU's default.
const ASKED: u64 = 300;
/// Longer than any of these takes that ends.
const MOST: u64 = 40_000;

fn moved(guest: Guest, link: Link) -> Moved {
    World::new(guest, link, ASKED).run(MOST).unwrap()
}

/// The same, but with hot pages sent as often as QEMU hands them over.
fn moved_in_order(guest: Guest, link: Link) -> Option<Moved> {
    let mut world = World::new(guest, link, ASKED);
    world.patient = false;
    world.run(MOST)
}

#[test]
fn a_guest_that_writes_nothing_takes_as_long_as_its_memory() {
    let idle = moved(Guest::idle(), Link::mbit(200, 0));
    // 49,152 pages at 1,400 bytes.
    assert_eq!(idle.sends, 49_152);
    assert!(idle.time < 2753 + 100, "{idle:?}");
    assert!(idle.blackout < 30, "{idle:?}");
}

#[test]
fn a_guest_whose_changes_fit_the_link_moves_although_its_pages_do_not() {
    // 28 MB/s of compressed pages, 2 MB/s of changes, a link of 12.5 MB/s.
    let moved = moved(Guest::uniform(20_000, 65_536), Link::mbit(100, 0));
    let idle = 5507;
    assert!(moved.time < idle * 11 / 10, "{moved:?}");
    assert!(moved.blackout < 50, "{moved:?}");
}

#[test]
fn pages_that_are_always_rewritten_are_sent_less_often_when_they_wait() {
    // A thousand pages that are written anew every 20 ms, others now and then.
    let make = || Guest::database(1000, 3000);
    for mbit in [100, 200] {
        let waiting = moved(make(), Link::mbit(mbit, 0));
        let in_order = moved_in_order(make(), Link::mbit(mbit, 0)).unwrap();
        assert!(
            waiting.wire * 100 < in_order.wire * 95,
            "{waiting:?} {in_order:?}"
        );
        assert!(waiting.time < in_order.time, "{waiting:?} {in_order:?}");
        assert!(
            waiting.blackout * 100 < in_order.blackout * 75,
            "{waiting:?} {in_order:?}"
        );
    }
}

#[test]
fn a_guest_without_such_pages_moves_as_well_as_in_order() {
    let zipf = || Guest::zipf(5000, 65_536);
    let churn = || Guest {
        change: 4096,
        ..Guest::zipf(5000, 65_536)
    };
    for make in [zipf, churn] {
        let waiting = moved(make(), Link::mbit(200, 0));
        let in_order = moved_in_order(make(), Link::mbit(200, 0)).unwrap();
        assert!(
            waiting.wire * 100 < in_order.wire * 101,
            "{waiting:?} {in_order:?}"
        );
        assert!(
            waiting.time * 100 < in_order.time * 102,
            "{waiting:?} {in_order:?}"
        );
        assert!(
            waiting.blackout < in_order.blackout + 10,
            "{waiting:?} {in_order:?}"
        );
    }
}

#[test]
fn a_guest_moves_only_because_its_hot_pages_wait() {
    // They take 112 ms of the link; sent in each round they leave too little of it for the others.
    let make = || Guest::database(1000, 7000);
    let waiting = moved(make(), Link::mbit(100, 0));
    assert!(waiting.blackout <= ASKED, "{waiting:?}");
    let in_order = moved_in_order(make(), Link::mbit(100, 0));
    assert!(
        in_order.as_ref().is_none_or(|moved| moved.blackout > ASKED),
        "{in_order:?}"
    );
}

#[test]
fn sections_from_before_qemu_looked_do_not_say_that_the_guest_writes_nothing() {
    // As many as fit into a socket.
    let mut world = World::new(Guest::database(500, 2000), Link::mbit(200, 0), 100);
    world.blind = 500;
    let moved = world.run(MOST).unwrap();
    assert!(moved.blackout <= 100, "{moved:?}");
    // A guest that never converges.
    let mut world = World::new(Guest::database(4000, 0), Link::mbit(20, 0), ASKED);
    world.blind = 500;
    world.run(MOST).ok_or("it never ends").unwrap_err();
    assert_ne!(world.decision, Decision::Open);
}

#[test]
fn the_guest_stands_still_for_no_longer_than_asked() {
    type Make = fn() -> Guest;
    let guests: [(Make, u64); 4] = [
        (|| Guest::uniform(20_000, 65_536), 60),
        (|| Guest::zipf(20_000, 65_536), 60),
        (|| Guest::database(500, 2000), 100),
        (
            || Guest {
                change: 4096,
                ..Guest::uniform(2000, 65_536)
            },
            60,
        ),
    ];
    for (make, asked) in guests {
        let moved = World::new(make(), Link::mbit(200, 0), asked)
            .run(MOST)
            .unwrap();
        assert!(moved.blackout <= asked, "{asked}: {moved:?}");
    }
}

#[test]
fn a_long_way_adds_nothing_to_the_blackout_but_itself() {
    let make = || Guest::uniform(5000, 65_536);
    let near = moved(make(), Link::mbit(200, 0));
    let far = moved(make(), Link::mbit(200, 80));
    assert!(far.blackout <= near.blackout + 80 + 10, "{far:?} {near:?}");
    assert!(far.time <= near.time + 160 + 100, "{far:?} {near:?}");
}

/// Of 32 MiB, with 15,000 pages of new content in a second: all of its memory twice.
fn too_fast() -> Guest {
    Guest {
        pages: 8192,
        change: 4096,
        ..Guest::uniform(15_000, 8192)
    }
}

/// A link that takes 3 MB/s.
fn too_slow() -> Link {
    Link::mbit(25, 0)
}

#[test]
fn a_guest_that_cannot_converge_is_said_to() {
    let mut world = World::new(too_fast(), too_slow(), ASKED);
    assert!(world.run(20_000).is_none());
    let Decision::Hold {
        why:
            Why::NotConverging {
                dirty_rate,
                delivered_rate,
                blackout,
                ..
            },
    } = world.decision
    else {
        panic!("{:?}", world.decision);
    };
    assert!(
        delivered_rate.abs_diff(3_125_000) < 500_000,
        "{delivered_rate}"
    );
    // Much more, but what is written twice in a round is sent once.
    assert!(dirty_rate > delivered_rate / 2, "{dirty_rate}");
    assert!(blackout.as_millis() > ASKED.into(), "{blackout:?}");
    assert_eq!(world.remedy, Remedy::None, "unless something is asked for");
}

#[test]
fn such_a_guest_is_let_be_after_a_while_where_that_is_asked_for() {
    let mut world = World::new(too_fast(), too_slow(), ASKED);
    world.convergence = Convergence::new(IfNotConverging::Abort);
    while world.remedy == Remedy::None {
        world.step();
        assert!(world.now < MOST);
    }
    assert!(matches!(
        world.remedy,
        Remedy::Abort {
            why: Why::NotConverging { .. }
        }
    ));
    // The first pass takes three seconds, the others nearly as long, and it must be stuck for five.
    assert!(world.now > 10_000, "{}", world.now);
}

#[test]
fn such_a_guest_moves_when_it_is_slowed() {
    let mut world = World::new(too_fast(), too_slow(), ASKED);
    world.convergence = Convergence::new(IfNotConverging::Throttle);
    let mut steps = vec![];
    while world.decision != Decision::Open || world.now < 100 {
        world.step();
        if let Remedy::Throttle { percent } = world.remedy
            && steps.last() != Some(&percent)
        {
            steps.push(percent);
        }
        assert!(world.now < 2 * MOST, "{steps:?} {:?}", world.decision);
    }
    assert!(steps.is_sorted() && !steps.is_empty(), "{steps:?}");
    let moved = world.run(2 * MOST).unwrap();
    assert!(moved.blackout <= ASKED, "{moved:?}");
}

#[test]
fn a_burst_ends_nothing() {
    // Two seconds in which it writes too fast, of every four.
    let mut fast = too_fast();
    let mut writes = std::mem::replace(&mut fast.writes, Box::new(|_| vec![]));
    let guest = Guest {
        writes: Box::new(move |now| {
            let pages = writes(now);
            if now % 4000 < 2000 { pages } else { vec![] }
        }),
        ..fast
    };
    let mut world = World::new(guest, Link::mbit(80, 0), ASKED);
    world.convergence = Convergence::new(IfNotConverging::Abort);
    let moved = world.run(MOST).unwrap();
    assert!(moved.blackout <= ASKED, "{moved:?}");
}
