//! Behaviour of the forecast.

use super::*;

const MIB: u64 = 1 << 20;

fn forecast() -> Forecast {
    Forecast::new(512 * MIB, PageSize::new(4096).unwrap())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn the_rate_is_that_of_the_last_200_ms() {
    let mut forecast = forecast();
    assert_eq!(forecast.delivered_rate(), None);
    let mut delivered = 0;
    for step in 0..100 {
        // 100 MiB/s, then 10.
        delivered += if step < 50 { MIB } else { MIB / 10 };
        let sample = Sample {
            delivered_raw: delivered,
            delivered_wire: delivered / 4,
            in_flight: MIB,
            waiting: true,
        };
        forecast.sample(ms(step * 10), sample);
        assert!(forecast.busy.len() <= 21);
        if step == 49 {
            assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
        }
    }
    let rate = forecast.delivered_rate().unwrap();
    assert!(rate.abs_diff(10 * MIB) < 100, "{rate}");
    assert!(forecast.wire_rate().unwrap().abs_diff(rate / 4) < 100);
}

#[test]
fn a_slow_link_that_delivers_in_lumps_is_not_a_fast_one() {
    let mut forecast = forecast();
    let mut sample = Sample {
        in_flight: MIB,
        ..Sample::default()
    };
    // 800 KB/s: two lanes bring a batch each, nearly at once.
    let lump = 160_000;
    for step in 0..400 {
        if matches!(step % 40, 19 | 21) {
            sample.delivered_raw += 4 * lump;
            sample.delivered_wire += lump;
        }
        // For something to wait is new.
        sample.waiting = step > 370;
        forecast.sample(ms(step * 10), sample);
        if step > 100 {
            let rate = forecast.wire_rate().unwrap();
            assert!((600_000..1_100_000).contains(&rate), "{step}: {rate}");
        }
    }
}

#[test]
fn an_idle_link_is_not_a_slow_one() {
    let mut forecast = forecast();
    let mut sample = Sample::default();
    for step in 0..20 {
        forecast.sample(ms(step * 10), sample);
        sample.in_flight = MIB;
        sample.delivered_raw += MIB;
    }
    sample.in_flight = 0;
    forecast.sample(ms(200), sample);
    let before = forecast.delivered_rate();
    for step in 21..500 {
        forecast.sample(ms(step * 10), sample);
    }
    assert_eq!(forecast.delivered_rate(), before);
}

#[test]
fn a_link_with_little_to_do_is_not_a_slow_one_either() {
    let mut forecast = forecast();
    let mut sample = Sample {
        in_flight: MIB,
        waiting: true,
        ..Sample::default()
    };
    for step in 0..30 {
        sample.delivered_raw += MIB;
        forecast.sample(ms(step * 10), sample);
    }
    sample.waiting = false;
    for step in 30..500 {
        sample.delivered_raw += 4096;
        forecast.sample(ms(step * 10), sample);
    }
    assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
    // Until it is slow with something waiting.
    sample.waiting = true;
    for step in 500..530 {
        sample.delivered_raw += 4096;
        forecast.sample(ms(step * 10), sample);
    }
    assert_eq!(forecast.delivered_rate(), Some(409_600));
}

#[test]
fn a_long_line_answers_for_what_it_was_given_a_round_trip_ago() {
    let mut forecast = forecast();
    forecast.round_trip(ms(160));
    let mut sample = Sample {
        in_flight: MIB,
        waiting: true,
        ..Sample::default()
    };
    let mut step = 0;
    let mut go_on = |forecast: &mut Forecast, steps: u64, delivered: u64, waiting: bool| {
        sample.waiting = waiting;
        for _ in 0..steps {
            sample.delivered_raw += delivered;
            step += 1;
            forecast.sample(ms(step * 10), sample);
        }
    };
    go_on(&mut forecast, 60, MIB, true);
    // Rounds with little in them: there is much to do again, and for a round trip what comes back is still the little.
    for _ in 0..10 {
        go_on(&mut forecast, 16, 4096, false);
        go_on(&mut forecast, 16, 4096, true);
        assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
    }
    go_on(&mut forecast, 60, MIB / 2, true);
    assert_eq!(forecast.delivered_rate(), Some(50 * MIB));
}

#[test]
fn what_a_round_holds_was_dirtied_during_the_one_before() {
    let mut forecast = forecast();
    let round = |number, normal| Round {
        number,
        zero: 0,
        normal,
    };
    forecast.round(ms(2000), round(0, 131_072));
    assert_eq!(forecast.dirty_rate(), 0, "the first pass is all of memory");
    forecast.round(ms(2500), round(1, 25_600));
    assert_eq!(forecast.dirty_rate(), 50 * MIB);
    forecast.round(ms(2600), round(2, 2560));
    assert_eq!(forecast.dirty_rate(), 20 * MIB);
    let view = QemuView {
        remaining: 3 * MIB,
        dirty_pages_rate: 1000,
    };
    forecast.qemu(ms(2650), view);
    assert_eq!(forecast.dirty_rate(), 4_096_000);
    assert_eq!(forecast.remaining(ms(2700)), 3 * MIB + 409_600);
}

#[test]
fn the_end_is_never_when_the_guest_is_faster_than_the_link() {
    let mut forecast = forecast();
    let mut sample = Sample {
        in_flight: MIB,
        ..Sample::default()
    };
    forecast.sample(ms(0), sample);
    sample.delivered_raw = 10 * MIB;
    forecast.sample(ms(100), sample);
    assert_eq!(forecast.delivered_rate(), Some(100 * MIB));
    // Five seconds of memory, one MiB on its way, and the switch.
    let end = forecast.time_to_end(ms(100)).unwrap();
    assert_eq!(end, ms(5130) + ms(10));
    let view = QemuView {
        remaining: 0,
        dirty_pages_rate: 25_600,
    };
    forecast.qemu(ms(100), view);
    assert_eq!(forecast.time_to_end(ms(100)), None);
}

#[test]
fn what_is_on_a_long_line_is_in_front_of_nothing() {
    let mut forecast = forecast();
    forecast.round(ms(0), Round::default());
    for step in 0..60 {
        let sample = Sample {
            delivered_raw: step * MIB,
            // 100 MiB/s, and acknowledged 160 ms later.
            in_flight: 16 * MIB,
            waiting: true,
            ..Sample::default()
        };
        forecast.sample(ms(step * 10), sample);
    }
    let now = ms(600);
    assert!(forecast.blackout(now).unwrap() > ms(160));
    forecast.round_trip(ms(160));
    assert!(forecast.blackout(now).unwrap() < ms(20));
}
