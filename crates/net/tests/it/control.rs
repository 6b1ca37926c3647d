//! The control channel over real TLS.

use std::time::Duration;

use sealift_net::Error;
use sealift_net::control::{Receiver, Secured, Sender};
use sealift_session::control::{Bytes, Frame, Message, wire};
use tokio::net::TcpListener;

use crate::hosts::{Hosts, connect};

/// Both ends: the source's, then the receiver's.
async fn channel(hosts: &Hosts) -> [(Sender, Receiver); 2] {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = hosts.receiver().server_config().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        Secured::accept(stream, config).await
    };
    let source = hosts.source();
    let (source, receiver) = tokio::join!(connect(address, &source), accepting);
    [source, receiver].map(|end| {
        let (sender, mut receiver) = end.unwrap().split();
        // What the peer is to say first is the handshake's business.
        receiver.accept_hello();
        (sender, receiver)
    })
}

fn ping(id: u64) -> Frame {
    Frame::of(Message::Ping(wire::Ping {
        id,
        sent_ns: 0,
        heard: 0,
    }))
}

async fn expect_ping(receiver: &mut Receiver, id: u64) {
    match receiver.receive().await.unwrap().message {
        Message::Ping(ping) => assert_eq!(ping.id, id),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_pass_both_ways_whole_and_in_order() {
    const FRAMES: u64 = 3000;
    let [source, receiver] = channel(&Hosts::new()).await;
    let end = |(sender, mut receiver): (Sender, Receiver)| {
        let sending = async move {
            for id in 0..FRAMES {
                sender.send(ping(id)).unwrap();
                // So that whoever writes keeps up.
                tokio::task::yield_now().await;
            }
            sender
        };
        let receiving = async move {
            for id in 0..FRAMES {
                expect_ping(&mut receiver, id).await;
            }
            receiver
        };
        async { tokio::join!(sending, receiving) }
    };
    tokio::join!(end(source), end(receiver));
}

#[tokio::test]
async fn a_receive_that_is_given_up_loses_nothing() {
    let [(source, _unread), (_sender, mut receiver)] = channel(&Hosts::new()).await;
    for id in 0..50 {
        // Nothing has come yet: given up after one look.
        tokio::select! {
            biased;
            received = receiver.receive() => panic!("{received:?}"),
            () = std::future::ready(()) => {}
        }
        source.send(ping(id)).unwrap();
        expect_ping(&mut receiver, id).await;
    }
}

#[tokio::test]
async fn what_was_said_last_arrives_whatever_the_peer_said_meanwhile() {
    for _ in 0..20 {
        let [(source, unread), (sender, mut receiver)] = channel(&Hosts::new()).await;
        // Nobody reads these.
        for id in 0..100 {
            sender.send(ping(id)).unwrap();
            source.send(ping(id)).unwrap();
        }
        drop(unread);
        let peer = async move {
            for id in 0..100 {
                expect_ping(&mut receiver, id).await;
            }
            let end = receiver.receive().await;
            assert!(matches!(end, Err(Error::Closed)), "{end:?}");
            drop(sender);
        };
        tokio::join!(source.close(Duration::from_secs(20)), peer);
    }
}

#[tokio::test]
async fn a_peer_that_never_closes_is_not_waited_for_forever() {
    let [(source, _unread), _peer] = channel(&Hosts::new()).await;
    tokio::time::pause();
    source.close(Duration::from_secs(20)).await;
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_found_out() {
    let [(source, _unread), silent] = channel(&Hosts::new()).await;
    let stuck = loop {
        let data = Bytes::new("ReturnPath.data", vec![7; 4 << 10]).unwrap();
        if let Err(error) = source.send(Frame::of(Message::ReturnPath(data))) {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(stuck, Error::Stuck), "{stuck:?}");
    // Nor does the farewell wait for it longer than it was told to.
    tokio::time::pause();
    source.close(Duration::from_secs(20)).await;
    drop(silent);
}

#[tokio::test]
async fn whoever_writes_to_a_peer_that_is_gone_is_told() {
    let [(source, mut from_receiver), receiver] = channel(&Hosts::new()).await;
    drop(receiver);
    let end = from_receiver.receive().await;
    assert!(matches!(end, Err(Error::Closed)), "{end:?}");
    let gone = loop {
        if let Err(error) = source.send(ping(0)) {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(gone, Error::Closed), "{gone:?}");
}

#[tokio::test]
async fn the_end_is_told_once_and_keeps_nobody_from_other_things() {
    let [(_source, mut from_receiver), receiver] = channel(&Hosts::new()).await;
    drop(receiver);
    let mut ends = 0;
    // The channel comes first, as it does where a session waits for all that may happen.
    for _ in 0..3 {
        tokio::select! {
            biased;
            end = from_receiver.receive() => {
                assert!(matches!(end, Err(Error::Closed)), "{end:?}");
                ends += 1;
            }
            () = async { tokio::task::yield_now().await }, if ends > 0 => {}
        }
    }
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_waited_for_only_so_long() {
    let [_source, (_sender, mut receiver)] = channel(&Hosts::new()).await;
    tokio::time::pause();
    let within = Duration::from_secs(60);
    let end = receiver.receive_within(within).await;
    assert!(
        matches!(end, Err(Error::Silent(waited)) if waited == within),
        "{end:?}"
    );
}
