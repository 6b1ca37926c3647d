//! Two ends of TLS and the bytes between them.

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

use crate::{NoPeer, Peer, Pki, Reason, explain, peer_of};

/// How a connection came out at one end.
pub(super) type End = Result<Result<Peer, NoPeer>, rustls::Error>;

/// How it came out at both, as people would read it.
pub(super) struct Outcome {
    pub(super) source: Result<Peer, Reason>,
    pub(super) receiver: Result<Peer, Reason>,
}

/// A source calls a receiver by `name`.
pub(super) fn connect(source: &Pki, receiver: &Pki, name: &str) -> Outcome {
    let (at_source, at_receiver) = pump(
        source.client_config().unwrap(),
        receiver.server_config().unwrap(),
        name,
    );
    let told = |end: End, pki, peer: &str| {
        end.map(Result::unwrap)
            .map_err(|error| explain(&error, pki, peer))
    };
    Outcome {
        source: told(at_source, source, "192.0.2.7:7325"),
        receiver: told(at_receiver, receiver, "198.51.100.9:40000"),
    }
}

/// Carries bytes until neither end has any; the alert of an end that failed is carried too.
pub(super) fn pump(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> (End, End) {
    let name = name.to_owned().try_into().unwrap();
    let mut client = Connection::from(ClientConnection::new(client, name).unwrap());
    let mut server = Connection::from(ServerConnection::new(server).unwrap());
    let (mut at_client, mut at_server) = (Ok(()), Ok(()));
    loop {
        let to_server = carry(&mut client, &mut server, &mut at_server);
        let to_client = carry(&mut server, &mut client, &mut at_client);
        if to_server + to_client == 0 {
            break;
        }
    }
    if let Connection::Client(client) = &client {
        assert_eq!(client.tls13_tickets_received(), 0);
    }
    (
        at_client.map(|()| peer_of(&client)),
        at_server.map(|()| peer_of(&server)),
    )
}

fn carry(from: &mut Connection, to: &mut Connection, at: &mut Result<(), rustls::Error>) -> usize {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() && at.is_ok() {
        to.read_tls(&mut rest).unwrap();
        *at = to.process_new_packets().map(|_| ());
    }
    bytes.len()
}
