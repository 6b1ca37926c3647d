//! Who comes in at the receiver's port, and who does not.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sealift_identity::peer_of;
use sealift_net::Error;
use sealift_net::control::HANDSHAKE_WITHIN;
use sealift_net::door::{Caller, Door};
use sealift_net::lane;
use sealift_session::lane::LaneHello;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::hosts::{Hosts, connect};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Where a TLS client's first byte differs from a lane's.
const TLS: u8 = 0x16;
/// What a stranger from one address may have open at once.
const AT_ONCE: usize = 16;

async fn open(hosts: &Hosts) -> (SocketAddr, mpsc::Receiver<Caller>) {
    let door = Door::open(&[LOOPBACK]).await.unwrap();
    let address = door.address();
    let (callers, calling) = mpsc::channel(1);
    tokio::spawn(door.serve(hosts.receiver().server_config().unwrap(), callers));
    (address, calling)
}

#[tokio::test]
async fn a_lane_is_handed_over_with_its_hello_and_what_follows_it() {
    let (address, mut calling) = open(&Hosts::new()).await;
    let hello = [0x4c; LaneHello::LENGTH];
    let lane = lane::open(address, &hello).await.unwrap();
    std::io::Write::write_all(&mut &lane, b"batches").unwrap();
    match calling.recv().await.unwrap() {
        Caller::Lane {
            mut stream,
            hello: said,
        } => {
            assert_eq!(said, hello);
            let mut rest = [0; 7];
            stream.read_exact(&mut rest).await.unwrap();
            assert_eq!(&rest, b"batches");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_with_a_certificate_comes_in_by_its_name() {
    let hosts = Hosts::new();
    let (address, mut calling) = open(&hosts).await;
    let source = hosts.source();
    let (connected, called) = tokio::join!(connect(address, &source), calling.recv());
    connected.unwrap();
    match called.unwrap() {
        Caller::Control { connection, .. } => {
            let peer = peer_of(connection.tls()).unwrap();
            assert!(peer.to_string().contains("beta.example.org"), "{peer}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whoever_tls_refuses_is_reported_and_others_still_come_in() {
    let hosts = Hosts::new();
    let (address, mut calling) = open(&hosts).await;
    let stranger = hosts.stranger();
    let (connected, called) = tokio::join!(connect(address, &stranger), calling.recv());
    assert!(matches!(connected, Err(Error::Tls(_))), "{connected:?}");
    assert!(
        matches!(
            called,
            Some(Caller::Refused {
                error: Error::Tls(_),
                ..
            })
        ),
        "{called:?}"
    );

    let mut garbage = TcpStream::connect(address).await.unwrap();
    garbage.write_all(&[TLS; 100]).await.unwrap();
    let called = calling.recv().await;
    assert!(
        matches!(
            called,
            Some(Caller::Refused {
                error: Error::Tls(_),
                ..
            })
        ),
        "{called:?}"
    );

    let source = hosts.source();
    let (connected, called) = tokio::join!(connect(address, &source), calling.recv());
    connected.unwrap();
    assert!(matches!(called, Some(Caller::Control { .. })), "{called:?}");
}

/// Reads until the other end has closed the connection.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_get_to_the_point_is_shown_the_door() {
    let (address, mut calling) = open(&Hosts::new()).await;
    for said in [&[][..], &[0x73], &[0x73; LaneHello::LENGTH - 1], &[TLS]] {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(said).await.unwrap();
        if said == [TLS] {
            let called = calling.recv().await;
            assert!(
                matches!(
                    called,
                    Some(Caller::Refused {
                        error: Error::Silent(_),
                        ..
                    })
                ),
                "{called:?}"
            );
        }
        closed(stream).await;
        let waited = start.elapsed();
        let most = HANDSHAKE_WITHIN + Duration::from_secs(1);
        assert!((HANDSHAKE_WITHIN..most).contains(&waited), "{waited:?}");
    }
    assert!(calling.try_recv().is_err(), "nobody hears of the others");
}

#[tokio::test]
async fn an_address_with_too_many_strangers_is_not_let_in_until_one_has_gone() {
    let (address, mut calling) = open(&Hosts::new()).await;
    let mut strangers = Vec::new();
    for _ in 0..AT_ONCE {
        strangers.push(TcpStream::connect(address).await.unwrap());
    }
    // They are taken in turn, so by now all of those before it are in.
    closed(TcpStream::connect(address).await.unwrap()).await;
    drop(strangers.pop());
    // As soon as the door has noticed.
    let hello = [0x4c; LaneHello::LENGTH];
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Fails where it was closed already.
        let _ = stream.write_all(&hello).await;
        tokio::select! {
            called = calling.recv() => {
                assert!(matches!(called, Some(Caller::Lane { .. })), "{called:?}");
                break;
            }
            () = closed(stream) => {}
        }
    }
}

#[tokio::test]
async fn callers_who_are_not_taken_in_are_still_strangers() {
    let (address, mut calling) = open(&Hosts::new()).await;
    let hello = [0x4c; LaneHello::LENGTH];
    let mut lanes = Vec::new();
    // One waits to be taken, and the others behind it.
    for _ in 0..=AT_ONCE {
        lanes.push(lane::open(address, &hello).await.unwrap());
    }
    closed(TcpStream::connect(address).await.unwrap()).await;
    for _ in 0..=AT_ONCE {
        let called = calling.recv().await;
        assert!(matches!(called, Some(Caller::Lane { .. })), "{called:?}");
    }
}
