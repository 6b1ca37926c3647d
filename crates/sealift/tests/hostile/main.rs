//! A receiver in the hands of those who mean it no good: strangers, and sources that may bring guests and bring something else. It says what
//! they did, takes the next guest, and its memory stays within bounds.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod peer;
mod victim;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use sealift_session::control::{
    Direction, Epoch, Frame, Message, SessionId, StageChange, wire::Ping,
};
use sealift_session::lane::LaneHello;

use peer::{Admitted, Peer, admission, blocks, run};
use victim::{MIB, Victim};

/// A receiver's threads, queues and buffers before it has a guest, and as much again: what it has without any attack is half of this.
const IDLE_MAX: u64 = 48 * MIB;

/// Strangers who connect and say nothing, or a byte now and then.
#[test]
fn strangers_without_end_keep_nobody_out_and_take_no_memory() {
    let victim = Victim::new();
    let mut strangers = Vec::new();
    for number in 0..2_000_u32 {
        // More than the receiver keeps are closed at once; whoever floods it goes on.
        let Ok(mut stranger) = TcpStream::connect(victim.address()) else {
            continue;
        };
        let hello = [0x16, 0x03, 0x01];
        let _ = stranger.write_all(&hello[..(number % 4) as usize]);
        strangers.push(stranger);
    }
    // From another address, since strangers of one share their places.
    run(async { Peer::greet(&victim, 1).await.unwrap() });
    assert!(victim.peak() < IDLE_MAX, "{} MiB", victim.peak() / MIB);
    drop(strangers);
    victim.ends();
}

/// What comes before, or in place of, a hello.
#[test]
fn a_peer_that_does_not_say_hello_is_told_so() {
    let victim = Victim::new();
    run(async {
        for message in [
            Message::Ping(Ping {
                id: 1,
                ..Ping::default()
            }),
            Message::StageChange(StageChange::Done),
            Message::Confirmation([0; 32]),
        ] {
            let mut peer = Peer::secured(&victim, 1).await;
            peer.say(message);
            peer.is_ended().await;
        }
        // And who has said hello, but knows no order.
        for message in [
            Message::StageChange(StageChange::Intent),
            Message::Confirmation([0; 32]),
            Message::Admission(admission(blocks(&[("pc.ram", 8 * MIB)]))),
        ] {
            let mut peer = Peer::hello(&victim, 1).await;
            peer.say(message);
            peer.is_ended().await;
        }
        Peer::greet(&victim, 1).await.unwrap();
    });
    assert!(victim.peak() < IDLE_MAX, "{} MiB", victim.peak() / MIB);
    victim.ends();
}

/// A guest that is larger than anything, or comes in as many pieces as can be said.
#[test]
fn a_guest_beyond_all_measure_is_refused_before_memory_is_taken() {
    let victim = Victim::new();
    let names: Vec<_> = (0..1024).map(|number| format!("block-{number}")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), 1 << 41)).collect();
    run(async {
        for claimed in [blocks(&[("pc.ram", 1 << 51)]), blocks(&many)] {
            let peer = Peer::greet(&victim, 1).await.unwrap();
            let refused = peer.admit(admission(claimed)).await.err().unwrap();
            assert!(refused.contains("of memory"), "{refused}");
        }
        // Whatever it says that it needs, what it sends counts.
        let mut modest = admission(blocks(&[("pc.ram", 1 << 51)]));
        modest.memory_needed = 0;
        let peer = Peer::greet(&victim, 1).await.unwrap();
        assert!(peer.admit(modest).await.is_err());
        Peer::greet(&victim, 1).await.unwrap();
    });
    assert!(victim.peak() < IDLE_MAX, "{} MiB", victim.peak() / MIB);
    victim.ends();
}

/// Lanes of nobody's, of another session, and by the hundred.
#[test]
fn lanes_that_prove_nothing_displace_none() {
    let victim = Victim::new();
    run(async {
        let peer = Peer::greet(&victim, 1).await.unwrap();
        let admitted = peer.admit(admission(blocks(&[("pc.ram", 8 * MIB)]))).await;
        let mut admitted = admitted.unwrap();
        let tokens = admitted.tokens().await;
        let token = tokens.as_slice()[0].clone();
        let key = admitted.agreed.keyed.lane_hello_key().unwrap();
        let ours = admitted.agreed.session;
        for session in [ours, SessionId([7; 16])] {
            for _ in 0..300 {
                let lane = LaneHello::new(Direction::SourceToReceiver, session, token.clone());
                let mut bytes = lane.encode(&key).to_vec();
                // Another MAC; of another session even the right one is wrong.
                if session == ours {
                    *bytes.last_mut().unwrap() ^= 1;
                }
                let mut stream = TcpStream::connect(victim.address()).unwrap();
                let _ = stream.write_all(&bytes);
                // Until it was looked at: more strangers at once are not let in, and a true lane would be one of them.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
        // The true ones still find their places.
        let lanes = admitted.open_lanes(&victim, &tokens);
        admitted
            .peer
            .say(Message::StageChange(StageChange::PreCopy));
        victim.qemu_is_connected();
        // And then carry what nobody has sealed.
        for mut lane in lanes {
            let _ = lane.write_all(&[0x5a; 4096]);
            let mut rest = Vec::new();
            let _ = lane.read_to_end(&mut rest);
        }
        admitted.peer.is_ended().await;
        // An acknowledgement or a word out of turn would have ended it as well; the next one is welcome.
        Peer::greet(&victim, 1).await.unwrap();
    });
    assert!(victim.peak() < 2 * IDLE_MAX, "{} MiB", victim.peak() / MIB);
    victim.ends();
}

/// A guest was admitted, its lanes are open, and its pages could flow.
async fn begun(victim: &Victim) -> (Admitted, Vec<TcpStream>) {
    let peer = Peer::greet(victim, 1).await.unwrap();
    let admitted = peer.admit(admission(blocks(&[("pc.ram", 8 * MIB)]))).await;
    let mut admitted = admitted.unwrap();
    let tokens = admitted.tokens().await;
    let lanes = admitted.open_lanes(victim, &tokens);
    admitted
        .peer
        .say(Message::StageChange(StageChange::PreCopy));
    victim.qemu_is_connected();
    (admitted, lanes)
}

/// Stages that are not its to say, once pages could flow.
#[test]
fn a_source_that_hands_over_what_it_has_not_sent_is_ended() {
    for change in [
        StageChange::Commit {
            run_state: sealift_session::control::RunState::Running,
        },
        StageChange::Intent,
        StageChange::Done,
        StageChange::Prepared {
            batches: 0,
            version_map: [0; 32],
        },
    ] {
        let victim = Victim::new();
        run(async {
            let (mut admitted, lanes) = begun(&victim).await;
            admitted.peer.say(Message::StageChange(change));
            admitted.peer.is_ended().await;
            drop(lanes);
            // QEMU was given nothing that could run.
            assert_eq!(victim.qemu_got(), b"");
        });
        victim.ends();
    }
}

/// Epochs by the thousand, of lanes that are there and of lanes that are not.
#[test]
fn announcements_without_end_take_no_memory() {
    let victim = Victim::new();
    run(async {
        let (admitted, _lanes) = begun(&victim).await;
        for epoch in 10..200_000 {
            let epoch = Epoch::new(0, Direction::SourceToReceiver, epoch, 0).unwrap();
            if !admitted
                .peer
                .try_say(Frame::of(Message::Epoch(epoch)))
                .await
            {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
    assert!(victim.peak() < 2 * IDLE_MAX, "{} MiB", victim.peak() / MIB);
    victim.ends();
}
