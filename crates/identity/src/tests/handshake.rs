//! Who is let in, and what both ends say when somebody is not.

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, date_time_ymd};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::version::TLS13;
use std::sync::Arc;

use super::wire::{Outcome, connect, pump};
use super::{Ca, RECEIVER, SOURCE, careless, receiver, source};
use crate::{Fault, Kind, NoPeer, Reason, Side, explain};

/// What both ends say of a connection that neither took.
fn refusals(outcome: Outcome) -> (Reason, Reason) {
    let source = outcome.source.expect_err("the source went on");
    let receiver = outcome.receiver.expect_err("the receiver went on");
    assert_eq!(
        (source.kind, receiver.kind),
        (Kind::Identity, Kind::Identity)
    );
    (source, receiver)
}

/// The source took the receiver for good and is told afterwards: TLS 1.3's handshake is over for it before its own certificate is
/// looked at.
fn assert_says(reason: &Reason, fault: Fault, parts: &[&str]) {
    let text = reason.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert_eq!(reason.fault, fault, "{text}");
}

#[test]
fn two_hosts_of_one_ca_know_each_other() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (ca.host(RECEIVER), ca.host(SOURCE));
    let outcome = connect(&source(&beta), &receiver(&alpha), RECEIVER);
    let at_source = outcome.source.unwrap();
    let at_receiver = outcome.receiver.unwrap();
    assert_eq!(at_source.names, [RECEIVER]);
    assert_eq!(at_receiver.names, [SOURCE]);
    assert_eq!(at_source.certificate, receiver(&alpha).own_certificate());
    assert_eq!(at_source.fingerprint.len(), 64);
    assert_eq!(at_receiver.to_string(), SOURCE);
}

#[test]
fn a_receiver_may_be_called_by_its_address() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (ca.host("2001:db8::7"), ca.host(SOURCE));
    let outcome = connect(&source(&beta), &receiver(&alpha), "2001:db8::7");
    assert_eq!(outcome.source.unwrap().names, ["2001:db8::7"]);
    outcome.receiver.unwrap();
}

#[test]
fn certificates_without_extended_usages_serve_for_everything() {
    let ca = Ca::new("CA");
    let plain = |name| ca.odd_host(name, |params| params.extended_key_usages.clear());
    let (alpha, beta) = (plain(RECEIVER), plain(SOURCE));
    let outcome = connect(&source(&beta), &receiver(&alpha), RECEIVER);
    outcome.source.unwrap();
    outcome.receiver.unwrap();
}

#[test]
fn a_receiver_of_another_ca_is_refused() {
    let (ours, theirs) = (Ca::new("Ours"), Ca::new("Theirs"));
    let (alpha, beta) = (theirs.host(RECEIVER), ours.host(SOURCE));
    let (source, receiver) = refusals(connect(&source(&beta), &receiver(&alpha), RECEIVER));
    assert_says(
        &source,
        Fault::Peer,
        &[
            "the certificate of the receiver at 192.0.2.7:7325 is not signed by a CA that this host knows",
            "ca-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::ThisHost,
        &[
            "the source at 198.51.100.9:40000 refused this host's certificate: it knows no CA CN=Theirs",
            "server-cert.pem",
        ],
    );
}

#[test]
fn a_source_of_another_ca_is_refused() {
    let (ours, theirs) = (Ca::new("Ours"), Ca::new("Theirs"));
    let (alpha, beta) = (ours.host(RECEIVER), theirs.host(SOURCE));
    ours.trust_in(&beta);
    let beta = careless(&beta, Side::Source);
    let (source, receiver) = refusals(connect(&beta, &receiver(&alpha), RECEIVER));
    assert_says(
        &source,
        Fault::ThisHost,
        &[
            "the receiver at 192.0.2.7:7325 refused this host's certificate: it knows no CA CN=Theirs",
            "client-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::Peer,
        &[
            "the certificate of the source at 198.51.100.9:40000 is not signed by a CA that this host knows",
        ],
    );
}

#[test]
fn a_ca_of_the_same_name_with_another_key_is_another_ca() {
    let (ours, theirs) = (Ca::new("CA"), Ca::new("CA"));
    assert_eq!(ours.name, theirs.name);
    let (alpha, beta) = (theirs.host(RECEIVER), ours.host(SOURCE));
    let (source, receiver) = refusals(connect(&source(&beta), &receiver(&alpha), RECEIVER));
    assert_says(
        &source,
        Fault::Peer,
        &["is not signed by a CA that this host knows"],
    );
    assert_says(
        &receiver,
        Fault::ThisHost,
        &["refused this host's certificate", "of one CA"],
    );
}

#[test]
fn a_receiver_called_by_a_name_that_is_not_its_own_is_refused() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (ca.host(RECEIVER), ca.host(SOURCE));
    let (source, receiver) = refusals(connect(
        &source(&beta),
        &receiver(&alpha),
        "gamma.example.org",
    ));
    assert_says(
        &source,
        Fault::Peer,
        &[
            "is for alpha.example.org, not for gamma.example.org",
            "server-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::ThisHost,
        &[
            "by a name that",
            "does not have: it is for alpha.example.org",
        ],
    );
}

#[test]
fn the_common_name_does_not_count_beside_alternative_names() {
    let ca = Ca::new("CA");
    let alpha = ca.odd_host(RECEIVER, |params| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "gamma.example.org");
    });
    let beta = ca.host(SOURCE);
    let outcome = connect(&source(&beta), &receiver(&alpha), "gamma.example.org");
    assert_says(
        &outcome.source.unwrap_err(),
        Fault::Peer,
        &["is for alpha.example.org"],
    );
}

#[test]
fn an_expired_receiver_is_refused() {
    let ca = Ca::new("CA");
    let alpha = ca.odd_host(RECEIVER, |params| {
        params.not_after = date_time_ymd(2020, 2, 3);
    });
    let alpha = careless(&alpha, Side::Receiver);
    let (source, receiver) = refusals(connect(&source(&ca.host(SOURCE)), &alpha, RECEIVER));
    assert_says(
        &source,
        Fault::Peer,
        &[
            "the certificate of the receiver",
            "expired on 2020-02-03 00:00 UTC",
            "renew its server-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::ThisHost,
        &[
            "refused this host's certificate as expired",
            "to 2020-02-03 00:00 UTC; renew",
            "server-cert.pem",
        ],
    );
}

#[test]
fn an_expired_source_is_refused() {
    let ca = Ca::new("CA");
    let beta = ca.odd_host(SOURCE, |params| {
        params.not_after = date_time_ymd(2020, 2, 3);
    });
    let beta = careless(&beta, Side::Source);
    let (source, receiver) = refusals(connect(&beta, &receiver(&ca.host(RECEIVER)), RECEIVER));
    assert_says(
        &source,
        Fault::ThisHost,
        &[
            "refused this host's certificate as expired",
            "to 2020-02-03 00:00 UTC; renew",
            "client-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::Peer,
        &[
            "the certificate of the source",
            "expired on 2020-02-03 00:00 UTC",
            "renew its client-cert.pem",
        ],
    );
}

#[test]
fn certificates_from_the_future_are_refused() {
    let ca = Ca::new("CA");
    let future = |name| ca.odd_host(name, |params| params.not_before = date_time_ymd(2090, 1, 1));
    let alpha = careless(&future(RECEIVER), Side::Receiver);
    let (at_source, at_receiver) = refusals(connect(&source(&ca.host(SOURCE)), &alpha, RECEIVER));
    let ours = [
        "is not valid before 2090-01-01 00:00 UTC",
        "check both clocks",
    ];
    let theirs = ["as expired or not yet valid: it is valid from 2090-01-01 00:00 UTC"];
    assert_says(&at_source, Fault::Peer, &ours);
    assert_says(&at_receiver, Fault::ThisHost, &theirs);

    let beta = careless(&future(SOURCE), Side::Source);
    let (at_source, at_receiver) =
        refusals(connect(&beta, &receiver(&ca.host(RECEIVER)), RECEIVER));
    assert_says(&at_source, Fault::ThisHost, &theirs);
    assert_says(&at_receiver, Fault::Peer, &ours);
}

#[test]
fn an_end_that_is_called_expired_and_is_not_points_at_the_clocks() {
    let ca = Ca::new("CA");
    let beta = source(&ca.host(SOURCE));
    let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
    let reason = explain(&alert, &beta, "192.0.2.7:7325");
    assert_says(&reason, Fault::Peer, &["compare the clocks of both hosts"]);
}

#[test]
fn a_revoked_receiver_is_refused() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (
        ca.host(RECEIVER),
        ca.odd_host(SOURCE, |params| params.serial_number = None),
    );
    ca.revoke_all_in(&beta, 2090);
    let (source, receiver) = refusals(connect(&source(&beta), &receiver(&alpha), RECEIVER));
    assert_says(
        &source,
        Fault::Peer,
        &["the certificate of the receiver", "has been revoked"],
    );
    assert_says(
        &receiver,
        Fault::ThisHost,
        &[
            "refused this host's certificate as revoked",
            "server-cert.pem",
        ],
    );
}

#[test]
fn a_revoked_source_is_refused() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (
        ca.odd_host(RECEIVER, |params| params.serial_number = None),
        ca.host(SOURCE),
    );
    ca.revoke_all_in(&alpha, 2090);
    let (source, receiver) = refusals(connect(&source(&beta), &receiver(&alpha), RECEIVER));
    assert_says(
        &source,
        Fault::ThisHost,
        &[
            "refused this host's certificate as revoked",
            "client-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::Peer,
        &["the certificate of the source", "has been revoked"],
    );
}

#[test]
fn a_list_of_revoked_certificates_lets_others_in() {
    let ca = Ca::new("CA");
    let fresh = |name| ca.odd_host(name, |params| params.serial_number = None);
    let (alpha, beta) = (fresh(RECEIVER), fresh(SOURCE));
    ca.revoke_all_in(&alpha, 2090);
    ca.revoke_all_in(&beta, 2090);
    let outcome = connect(&source(&beta), &receiver(&alpha), RECEIVER);
    outcome.source.unwrap();
    outcome.receiver.unwrap();
}

#[test]
fn a_list_that_went_stale_while_the_receiver_ran_is_this_hosts_fault() {
    let ca = Ca::new("CA");
    let alpha = ca.host(RECEIVER);
    ca.revoke_all_in(&alpha, 2020);
    let alpha = careless(&alpha, Side::Receiver);
    let outcome = connect(
        &source(&ca.odd_host(SOURCE, |params| params.serial_number = None)),
        &alpha,
        RECEIVER,
    );
    assert_says(
        &outcome.receiver.unwrap_err(),
        Fault::ThisHost,
        &["list of revoked certificates is out of date"],
    );
    assert_says(
        &outcome.source.unwrap_err(),
        Fault::ThisHost,
        &["list of revoked certificates is out of date"],
    );
}

#[test]
fn a_source_with_a_servers_certificate_is_refused() {
    let ca = Ca::new("CA");
    let beta = ca.odd_host(SOURCE, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let beta = careless(&beta, Side::Source);
    let (source, receiver) = refusals(connect(&beta, &receiver(&ca.host(RECEIVER)), RECEIVER));
    assert_says(
        &source,
        Fault::ThisHost,
        &[
            "because of its usage",
            "clientAuth (tls_www_client",
            "client-cert.pem",
        ],
    );
    assert_says(
        &receiver,
        Fault::Peer,
        &[
            "may not be shown by a source",
            "lack clientAuth (tls_www_client",
        ],
    );
}

#[test]
fn a_receiver_with_a_clients_certificate_is_refused() {
    let ca = Ca::new("CA");
    let alpha = ca.odd_host(RECEIVER, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let alpha = careless(&alpha, Side::Receiver);
    let (source, receiver) = refusals(connect(&source(&ca.host(SOURCE)), &alpha, RECEIVER));
    assert_says(
        &source,
        Fault::Peer,
        &[
            "may not be shown by a receiver",
            "lack serverAuth (tls_www_server",
        ],
    );
    assert_says(
        &receiver,
        Fault::ThisHost,
        &[
            "because of its usage",
            "serverAuth (tls_www_server",
            "server-cert.pem",
        ],
    );
}

/// A client of the receiver's CA with these protocols, and without a certificate.
fn anonymous(like: &crate::Pki, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for authority in crate::pem::certificates(like.authority_file()).unwrap() {
        roots.add(authority.der).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

#[test]
fn a_source_without_certificate_is_refused() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (receiver(&ca.host(RECEIVER)), ca.host(SOURCE));
    let beta = source(&beta);
    let alpha_files = ca.host(RECEIVER);
    let stranger = anonymous(&receiver(&alpha_files), &[crate::ALPN]);
    let (at_source, at_receiver) = pump(stranger, alpha.server_config().unwrap(), RECEIVER);
    let reason = explain(&at_source.unwrap_err(), &beta, "192.0.2.7:7325");
    assert_says(
        &reason,
        Fault::ThisHost,
        &["got no certificate from this host, and takes nobody without"],
    );
    let reason = explain(&at_receiver.unwrap_err(), &alpha, "198.51.100.9:40000");
    assert_says(
        &reason,
        Fault::Peer,
        &[
            "the source at 198.51.100.9:40000 showed no certificate",
            "client-cert.pem",
        ],
    );
}

#[test]
fn ends_that_speak_another_protocol_are_refused() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (receiver(&ca.host(RECEIVER)), source(&ca.host(SOURCE)));
    let mut newer = ClientConfig::clone(&beta.client_config().unwrap());
    newer.alpn_protocols = vec![b"sealift/2".to_vec()];
    let (at_source, at_receiver) = pump(Arc::new(newer), alpha.server_config().unwrap(), RECEIVER);
    for (end, pki) in [(at_source, &beta), (at_receiver, &alpha)] {
        let reason = explain(&end.unwrap_err(), pki, "192.0.2.7:7325");
        assert_says(
            &reason,
            Fault::Peer,
            &["not this version of sealift's protocol"],
        );
        assert_eq!(reason.kind, Kind::Protocol);
    }
}

#[test]
fn an_end_that_names_no_protocol_is_no_peer() {
    let ca = Ca::new("CA");
    let (alpha, beta) = (receiver(&ca.host(RECEIVER)), source(&ca.host(SOURCE)));
    let mut silent = ClientConfig::clone(&beta.client_config().unwrap());
    silent.alpn_protocols.clear();
    let (_, at_receiver) = pump(Arc::new(silent), alpha.server_config().unwrap(), RECEIVER);
    assert_eq!(at_receiver.unwrap().unwrap_err(), NoPeer::NotSealift);
}

#[test]
fn a_connection_that_breaks_is_the_networks_fault() {
    let beta = source(&Ca::new("CA").host(SOURCE));
    let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let reason = crate::explain_io(&closed, &beta, "192.0.2.7:7325");
    assert_says(
        &reason,
        Fault::Network,
        &["the connection with 192.0.2.7:7325 was closed"],
    );
    assert_eq!(reason.kind, Kind::Connection);
}

#[test]
fn a_sockets_error_with_tls_in_it_is_tlss() {
    let beta = source(&Ca::new("CA").host(SOURCE));
    let revoked = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
    let wrapped = std::io::Error::new(std::io::ErrorKind::InvalidData, revoked.clone());
    assert_eq!(
        crate::explain_io(&wrapped, &beta, "192.0.2.7:7325"),
        explain(&revoked, &beta, "192.0.2.7:7325")
    );
}
