//! Ends that speak an older TLS. This build has none, so their bytes are here.

use rustls::{ClientConnection, ServerConnection};

use super::{Ca, RECEIVER, SOURCE, receiver, source};
use crate::{Fault, Kind, explain};

/// A fatal alert, `protocol_version`, as a record.
const PROTOCOL_VERSION: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46];

/// What `openssl s_client -tls1_2` (OpenSSL 3.0) begins with.
const CLIENT_HELLO: &str = "16030100b7010000b303036f29ecf6256660ab3835884c011aa250e3c650feecb6089f995614a25fc079ca000038c02cc030\
    009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff01000052000b00040300\
    0102000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b08040805080604010501\
    0601030303010302040205020602";

/// A TLS 1.2 server's answer: version, random, no session, `ECDHE_RSA_WITH_AES_128_GCM_SHA256`, no compression, no extensions.
fn server_hello() -> Vec<u8> {
    let mut hello = vec![
        0x16, 0x03, 0x03, 0x00, 0x2a, 0x02, 0x00, 0x00, 0x26, 0x03, 0x03,
    ];
    hello.extend([0x5a; 32]);
    hello.extend([0x00, 0xc0, 0x2f, 0x00]);
    hello
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn a_source_with_an_older_tls_is_refused() {
    let alpha = receiver(&Ca::new("CA").host(RECEIVER));
    let mut server = ServerConnection::new(alpha.server_config().unwrap()).unwrap();
    server.read_tls(&mut &bytes(CLIENT_HELLO)[..]).unwrap();
    let error = server.process_new_packets().unwrap_err();
    let reason = explain(&error, &alpha, "198.51.100.9:40000");
    assert_eq!(
        reason.to_string(),
        "the source at 198.51.100.9:40000 speaks only a TLS older than 1.3, which sealift does not: upgrade it"
    );
    assert_eq!((reason.fault, reason.kind), (Fault::Peer, Kind::Protocol));
    let mut answer = Vec::new();
    server.write_tls(&mut answer).unwrap();
    assert_eq!(answer, PROTOCOL_VERSION);
}

#[test]
fn a_receiver_with_an_older_tls_is_refused() {
    let beta = source(&Ca::new("CA").host(SOURCE));
    let name = RECEIVER.try_into().unwrap();
    let mut client = ClientConnection::new(beta.client_config().unwrap(), name).unwrap();
    client.write_tls(&mut Vec::new()).unwrap();
    client.read_tls(&mut &server_hello()[..]).unwrap();
    let error = client.process_new_packets().unwrap_err();
    let reason = explain(&error, &beta, "192.0.2.7:7325");
    assert_eq!(
        reason.to_string(),
        "the receiver at 192.0.2.7:7325 speaks only a TLS older than 1.3, which sealift does not: upgrade it"
    );
    let mut answer = Vec::new();
    client.write_tls(&mut answer).unwrap();
    assert!(answer.ends_with(&PROTOCOL_VERSION));
}

#[test]
fn a_source_that_is_told_of_the_receivers_older_tls_says_so() {
    let beta = source(&Ca::new("CA").host(SOURCE));
    let name = RECEIVER.try_into().unwrap();
    let mut client = ClientConnection::new(beta.client_config().unwrap(), name).unwrap();
    client.write_tls(&mut Vec::new()).unwrap();
    client.read_tls(&mut &PROTOCOL_VERSION[..]).unwrap();
    let error = client.process_new_packets().unwrap_err();
    let reason = explain(&error, &beta, "192.0.2.7:7325");
    assert!(
        reason.to_string().contains("only a TLS older than 1.3"),
        "{reason}"
    );
}

#[test]
fn what_is_not_tls_is_called_so() {
    let beta = source(&Ca::new("CA").host(SOURCE));
    let name = RECEIVER.try_into().unwrap();
    let mut client = ClientConnection::new(beta.client_config().unwrap(), name).unwrap();
    client
        .read_tls(&mut &b"SSH-2.0-OpenSSH_9.2\r\n"[..])
        .unwrap();
    let error = client.process_new_packets().unwrap_err();
    let reason = explain(&error, &beta, "192.0.2.7:22");
    assert!(
        reason
            .to_string()
            .contains("what 192.0.2.7:22 sends is not TLS"),
        "{reason}"
    );
}
