//! Guests move.

use crate::guest::Guest;
use crate::world::{Link, World};

#[test]
fn explore() {
    type Make = fn() -> Guest;
    let guests: [(&str, Make); 9] = [
        ("idle", Guest::idle),
        ("uniform 5000", || Guest::uniform(5000, 65_536)),
        ("uniform 20000", || Guest::uniform(20_000, 65_536)),
        ("zipf 5000", || Guest::zipf(5000, 65_536)),
        ("zipf 20000", || Guest::zipf(20_000, 65_536)),
        ("hot 1000 3000", || Guest::database(1000, 3000)),
        ("hot 1000 6000", || Guest::database(1000, 6000)),
        ("churn 2000", || Guest {
            change: 4096,
            ..Guest::uniform(2000, 65_536)
        }),
        ("churn zipf 5000", || Guest {
            change: 4096,
            ..Guest::zipf(5000, 65_536)
        }),
    ];
    for (name, make) in guests
        .into_iter()
        .filter(|(name, _)| std::env::var("ONLY").map_or(true, |only| only == *name))
    {
        for (mbit, latency) in [(1000, 0), (200, 0), (100, 0), (200, 80)] {
            for patient in [true, false] {
                let mut world = World::new(make(), Link::mbit(mbit, latency), 300);
                world.patient = patient;
                print!("{name:16} {mbit:5} {latency:3} {patient:5} ");
                if world.run(60_000).is_none() {
                    println!("never: {:?} {:?}", world.decision, world.engine.dirty());
                }
            }
        }
    }
}
